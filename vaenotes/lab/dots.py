"""Panels and rows, of which the figures of plots.py are made."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import EllipseCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Ellipse

from vaenotes.lab.measures import Measure
from vaenotes.lab.summary import ALIVE_RATIO, median_interval
from vaenotes.style import (
    COLOURS,
    REFERENCE,
    WIDTH,
    greyed,
    line,
    literal,
    marks,
    plain,
    plain_numbers,
)

LETTERS = 14.5
"""Of 9 points, about as many stand beside each other on an inch."""


class Row(NamedTuple):
    """Values per replica, (replica,), and whether they are of dims in use."""

    values: np.ndarray
    used: bool = True
    colour: str = "black"


def panels(count: int, height: float, shared: bool = True) -> tuple[Figure, list[Axes]]:
    """A figure of as many panels, two a row, each of such a height in inches."""
    rows, columns = -(-count // 2), min(count, 2)
    drawn = Figure(figsize=(WIDTH if columns > 1 else 0.6 * WIDTH, height * rows + 0.3))
    axes = drawn.subplots(rows, columns, sharex=shared, sharey=shared, squeeze=False)
    for ax in axes.flat[count:]:
        ax.axis("off")
    return drawn, list(axes.flat[:count])


def name_panels(drawn: Figure, xlabel: str, ylabel: str) -> None:
    """Names the axes of `panels`, once a row and column."""
    for ax in drawn.axes:
        place = ax.get_subplotspec()
        if place is not None and place.is_last_row():
            ax.set_xlabel(xlabel)
        if place is not None and place.is_first_col():
            ax.set_ylabel(ylabel)


def name_rows(ax: Axes, names: Sequence[Any], letters: int = 30) -> None:
    """A row per name, from the top; long names are broken."""
    ax.set_yticks(range(len(names)), [broken(literal(name), letters) for name in names])
    ax.tick_params(axis="y", length=0)
    ax.set_ylim(len(names) - 0.5, -0.5)


def broken(text: str, letters: int) -> str:
    """A text in lines of at most so many letters, as few and as even as can be."""

    def lines(width: int) -> list[str]:
        return textwrap.wrap(text, width, break_on_hyphens=False, break_long_words=False)

    even = next(
        width for width in range(1, letters + 1) if len(lines(width)) <= len(lines(letters))
    )
    return "\n".join(lines(even))


def lines_of(names: Sequence[str], letters: int) -> int:
    """How many lines the longest of the names takes, broken as in `name_rows`."""
    return max(broken(name, letters).count("\n") + 1 for name in names)


def rows_of_dots(measured: Mapping[Measure, Mapping[str, Sequence[Row]]]) -> Figure:
    """A panel per measure, which names its axis, two beside each other, or all of an odd number
    below each other; a row per name, the same in every panel, in which values lie below each
    other."""
    names = list(next(iter(measured.values())))
    columns = 2 - len(measured) % 2
    letters = 22 if columns > 1 else 30
    lines = -(-len(measured) // columns)
    each = max(len(rows) for rows in measured[next(iter(measured))].values())
    height = max(0.17 * lines_of(names, letters), 0.2 * each) + 0.1
    width = (WIDTH - letters / LETTERS) / columns
    labels = [broken(one.label, int(0.9 * width * LETTERS)) for one in measured]
    breaks = 0.15 * max(label.count("\n") for label in labels)
    drawn = Figure(figsize=(WIDTH, lines * (height * len(names) + breaks + 0.5) + 0.1))
    drawn.set_layout_engine("constrained", wspace=0.06)  # so that labels of ticks do not meet
    axes = drawn.subplots(lines, columns, sharey=True, squeeze=False)
    for ax, label, (measure, rows) in zip(axes.flat, labels, measured.items(), strict=True):
        for place, row in enumerate(rows.values()):
            for one, shift in zip(row, (np.arange(len(row)) + 0.5) / len(row) - 0.5, strict=True):
                _dots(ax, place + 0.9 * shift, one, 0.18 / len(row))
        ax.set_xlabel(label)
        ax.tick_params(axis="y", length=0)
        _scale(ax, measure.scale)
    name_rows(axes[0, 0], names, letters)
    return drawn


def _scale(ax: Axes, scale: str) -> None:
    if scale == "log":
        ax.set_xscale("log")
        plain_numbers(ax.xaxis)
    elif scale == "symlog":
        ax.set_xscale("symlog", linthresh=1)  # straight within +-1
        low, high = ax.get_xlim()
        ax.set_xticks([x for x in (-100, -10, -1, 0, 1, 10, 100, 1000) if low <= x <= high])
        ax.xaxis.set_major_formatter(plain)
        ax.minorticks_off()


def _dots(ax: Axes, place: float, row: Row, spread: float) -> None:
    finite = row.values[np.isfinite(row.values)]
    if not len(finite):
        inside = ax.get_yaxis_transform()
        ax.annotate("none", (0.02, place), xycoords=inside, va="center")
        return
    shift = np.random.default_rng(0).uniform(-spread, spread, len(finite))
    look = marks(np.full(len(finite), row.used), row.colour)
    ax.scatter(finite, place + shift, s=13, alpha=0.6 if row.used else 0.9, lw=0.8, **look)
    interval = median_interval(finite)
    bar = line(row.used)["color"]
    ax.plot([interval.low, interval.high], [place, place], color=bar, lw=2.2)
    ax.plot(interval.value, place, "|", color=bar, ms=9, mew=2)


def bed_of_nails(
    ax: Axes,
    mean: np.ndarray,
    width: np.ndarray,
    centre: np.ndarray,
    reach: np.ndarray,
    colours: np.ndarray,
    used: bool,
) -> None:
    """Ellipses in two dims: of each image with its mean, width and colour, and of the prior with
    its centre and reach, dashed and greyed where the dims are not in use."""
    faces = np.copy(colours)
    faces[:, 3] = 0.15 if used else 0.03
    across, up = 2 * width.T
    of_images = EllipseCollection(
        across, up, np.zeros(len(mean)), units="xy", offsets=mean, offset_transform=ax.transData,
        fc=faces, ec=colours, lw=0.6,
    )  # fmt: skip
    ax.add_collection(of_images)
    ax.scatter(mean[:, 0], mean[:, 1], s=4, c=colours, zorder=3)
    outline = line(used, COLOURS["prior"])
    edge: dict[str, Any] = {"fill": False, "ec": outline["color"], "ls": outline["ls"]}
    ax.add_patch(Ellipse(tuple(centre), *(2 * reach), lw=1.8, zorder=4, **edge))
    if not np.isfinite(mean).all():
        ax.text(0.5, 0.5, "diverged", transform=ax.transAxes, ha="center")


def colour_of(name: str) -> str:
    """Of a quantity of either side its colour, of any other black."""
    return COLOURS.get(name.split("_")[0], "black")


def use_marks() -> list[Line2D]:
    """What a legend says of marks."""
    return [
        Line2D([], [], ls="", marker="o", ms=4, mfc=face, mec=edge, label=label)
        for face, edge, label in (
            ("black", "black", "dims in use"),
            ("white", greyed("black"), "dims not in use"),
        )
    ]


def ratio_axis(ax: Axes) -> None:
    """The x axis of ratios, with the line of the quick screen."""
    ax.axvline(ALIVE_RATIO, **REFERENCE)
    ax.set(xscale="log", xlabel="posterior std / prior std at the end (filled: in use)")
    plain_numbers(ax.xaxis)


def dim_name(dim: Any) -> str:
    return dim if isinstance(dim, str) else f"dim {dim}"
