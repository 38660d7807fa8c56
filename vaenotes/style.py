"""One visual language for all figures, and the decorator that every function that draws one wears.

Prior orange, posterior blue (Okabe & Ito's palette, safe for the colour-blind), what belongs to
neither black; a dim in use is drawn full, a dim not in use dashed and greyed if it is a line,
hollow and grey if it is a mark; what to compare with is a dotted grey line; epochs on x. No figure
is wider than WIDTH and no text smaller than 9 points, so that a phone shows it in letters that can
be read. No figure goes through pyplot: nothing stays open, and nothing depends on a backend.
"""

from collections.abc import Callable, Collection
from functools import wraps
from typing import Any, ParamSpec

import matplotlib as mpl
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axis import Axis
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullFormatter

COLOURS = {"posterior": "#0072B2", "prior": "#D55E00"}
PARTS = {
    "kl_variance_nats": ("variances differ", "#009E73"),
    "kl_mean_nats": ("means vary", "#56B4E9"),
    "kl_offset_nats": ("constant offset", "#E69F00"),
}
WIDTH = 6.1
"""Of figures at most, in inches: on a phone that leaves 7 pixels for 9 points."""
REFERENCE: dict[str, Any] = {"color": "grey", "lw": 1.0, "ls": ":", "zorder": 1}
"""How a line is drawn that something is to be compared with."""
STYLE: dict[Any, Any] = {
    "figure.constrained_layout.use": True,
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#666666",
    "xtick.color": "#666666",
    "ytick.color": "#666666",
    "xtick.labelcolor": "#222222",
    "ytick.labelcolor": "#222222",
    "legend.frameon": False,
    "legend.handlelength": 1.8,
}
RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")

P = ParamSpec("P")


def figure(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Of a function that draws a figure: it does so in STYLE."""

    @wraps(draw)
    def styled(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with mpl.rc_context(STYLE):
            return draw(*args, **kwargs)

    return styled


def literal(name: object) -> str:
    """A name that anybody gave, for matplotlib, to which two $ enclose a formula."""
    return str(name).replace("$", r"\$")


def greyed(colour: str) -> str:
    """What a colour becomes for a dim that is not in use."""
    red, green, blue = (0.4 * part + 0.6 * 0.69 for part in to_rgb(colour))
    return to_hex((red, green, blue))


def line(used: Any, colour: str = "black") -> dict[str, Any]:
    """How the line of a dim is drawn: full if it is in use, else dashed and greyed."""
    if used:
        return {"color": colour, "ls": "-"}
    return {"color": greyed(colour), "ls": (0, (4, 2))}


def marks(used: Any, colour: str = "black") -> dict[str, Any]:
    """How the marks of dims are drawn: filled where they are in use, else hollow and grey."""
    used = np.asarray(used, dtype=bool)
    return {"c": np.where(used, colour, "white"),
            "edgecolors": np.where(used, colour, greyed(colour))}  # fmt: skip


def legend_of(sides: Collection[str], unused: Any = False) -> list[Artist]:
    """What a legend says of lines: the colours of the sides and, if there are any, of dims that
    are not in use."""
    handles: list[Artist] = [
        Line2D([], [], color=colour, label=side)
        for side, colour in COLOURS.items()
        if side in sides
    ]
    if unused:
        handles.append(Line2D([], [], **line(False), label="dim not in use"))
    return handles


def plain(number: float, place: float = 0) -> str:
    """A number on an axis as people write it, in letters of one size: 0.05, 20,000, 3×10⁻⁵."""
    if number == 0 or 1e-4 <= abs(number) < 1e6:
        return f"{number:,g}".replace("-", "−")
    digits, power = f"{number:.0e}".split("e")
    raised = "10" + str(int(power)).translate(RAISED)
    return raised if digits == "1" else f"{digits}×{raised}"


def plain_numbers(axis: Axis) -> None:
    """On a logarithmic axis, a few numbers as people write them, however short it is."""
    low, high = axis.get_view_interval()
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 30 * low else (1,), numticks=5))
    axis.set_major_formatter(plain)
    axis.set_minor_formatter(NullFormatter())
