"""What makes a figure hard to read, in the units that it is drawn in."""

from matplotlib.figure import Figure
from matplotlib.text import Text

WIDEST = 6.2  # inches
SMALLEST = 9  # points
MOST_LABELS = 12  # on an axis; more is a table


def complaints(drawn: Figure, most: int = MOST_LABELS) -> list[str]:
    """Of a figure that is drawn: its width, its letters, what is cut off, crowded axes."""
    drawn.draw_without_rendering()
    width, height = drawn.get_size_inches()
    found = [f"{width} inches wide"] if width > WIDEST else []
    shown = [text for text in drawn.findobj(Text) if text.get_visible() and text.get_text().strip()]
    for text in shown:
        words = text.get_text()
        if text.get_fontsize() < SMALLEST:
            found.append(f"{text.get_fontsize()} points: {words}")
        if "$" in words:  # mathematics has smaller letters in it
            found.append(f"mathematics: {words}")
    box = drawn.get_tightbbox()
    if box.x0 < -0.06 or box.y0 < -0.06 or box.x1 > width + 0.06 or box.y1 > height + 0.06:
        found.append(f"cut off: {box.extents.round(2)} of {width} by {height}")
    for axis in (axis for ax in drawn.axes for axis in (ax.xaxis, ax.yaxis)):
        low, high = sorted(axis.get_view_interval())
        labels = [
            label
            for place, label in zip(axis.get_ticklocs(), axis.get_ticklabels(), strict=False)
            if low <= place <= high and label.get_text().strip()
        ]
        if len(labels) > most:
            found.append(f"{len(labels)} labels on an axis")
    return found
