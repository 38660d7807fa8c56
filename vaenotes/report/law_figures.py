"""Figures of the page on laws: predicted and measured. Every function returns a matplotlib Figure,
which a notebook shows."""

from collections.abc import Mapping

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from vaenotes.lab.dots import name_rows, panels
from vaenotes.lab.measures import median_of
from vaenotes.lab.quantities import total
from vaenotes.report import laws, results
from vaenotes.report.claims import WRONG, at_rest
from vaenotes.report.figures import COLOUR_OF
from vaenotes.style import REFERENCE, WIDTH, figure, plain_numbers

COLOURS = {"16": "#0072B2", "32": "#D55E00", "64": "#009E73"}
OTHER = ("#000000", "#E69F00", "#56B4E9", "#CC79A7")
NAMES = {
    "units 0.3": "start in units of 0.3",
    "units 3": "in units of 3",
    "raw": "supervised, indices",
    "standard": "supervised, standardised",
}
ARMS = {
    "scratch": "from scratch",
    "both": "from both dims",
    "one": "from one per node",
    "deleted": "one of both deleted",
    "embedded": "fresh dim beside one",
    "single": "only one per node",
    "long": "from scratch, long",
}
"""Titles of the starts, in the order of colours."""
PRICES = {
    "dear": "16 times the notes' price",
    "cheap": "the notes' price",
    "switched": "price raised to 16 times",
}
ARM_COLOURS = dict(zip(ARMS, ("#000000", *COLOURS.values(), *OTHER[1:]), strict=False))


@figure
def price() -> Figure:
    """Dims in use per node against the price of a nat per pixel: the predicted curve with its
    range, and medians with intervals; crosses where runs are not at rest. Left: sizes; right: the
    same at 16 x 16 with other units, or supervised. Stars: the runs at the notes' own size."""
    law, rows = laws.expected()["price"], laws.price()
    prices = laws.NOTES_PRICE * np.array(law["times"])
    curve = np.array(law["dims_per_node"])
    low, high = curve - law["within"], np.minimum(curve + law["within"], 2)
    drawn, axes = panels(2, 3.4)
    lines = {name: [r for r in rows if r.point.startswith(f"{name} |")] for name in law["lines"]}
    run = {name: [r for r in points if r.measured.replicas] for name, points in lines.items()}
    found = {name: points for name, points in run.items() if points}
    for ax, names in zip(axes, (laws.SIZES, list(NAMES)), strict=True):
        ax.fill_between(prices, low, high, color="#EEEEEE", lw=0)
        ax.plot(prices, curve, **REFERENCE)
        there = [name for name in names if name in found]
        for place, name in enumerate(there):
            shift = 1.08 ** (place - (len(there) - 1) / 2)
            for row in found[name]:
                cost = laws.NOTES_PRICE * float(row.point.split(" | ")[1])
                mark, interval = "o" if laws.at_rest(row) else "x", row.measured
                ax.plot([cost * shift] * 2, interval[1:3], color=_colour(name), lw=1.4)
                ax.plot(cost * shift, interval.value, mark, color=_colour(name), ms=5)
        ax.set(xscale="log", xlabel="w_KL / (w_rec × pixels)", ylim=(-0.05, 2.1))
        plain_numbers(ax.xaxis)
        handles = [
            Line2D(
                [],
                [],
                color=_colour(name),
                marker="o",
                label=NAMES.get(name, f"{name} × {name} pixels"),
            )
            for name in there
        ]
        ax.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, -0.2))
    for group in (group for members in results.COLUMNS.values() for group in members):
        runs = results.full_size(group)
        price = laws.NOTES_PRICE * float(runs.kl_weight[0]) / 0.15
        axes[0].plot(price, _used(runs), "*", color="black", ms=9, zorder=3)
    axes[0].set_ylabel("dims in use per node")
    return drawn


def _colour(name: str) -> str:
    return COLOURS.get(name) or OTHER[list(NAMES).index(name)]


def _used(runs: xr.Dataset) -> float:
    """Dims in use per node, median over replicas."""
    return median_of("dims_used", runs).value


@figure
def hysteresis() -> Figure:
    """Above: dims in use per node over epochs, means over replicas, by where they started, a panel
    for each price. Below: differences of the training loss at the end, seed by seed, what was
    predicted in grey."""
    drawn = Figure(figsize=(WIDTH, 6.6))
    above, below = drawn.subfigures(2, 1, height_ratios=[1.1, 1], squeeze=False)[:, 0]
    axes = above.subplots(1, 2)
    for ax, which in zip(axes, ("dear", "cheap"), strict=True):
        for name, colour in ARM_COLOURS.items():
            if not (found := laws.path(arm) if (arm := f"{which}.{name}") in laws.PARTS else {}):
                continue
            used = laws.dims_used(found["information_nats"]).mean(0)
            ax.plot(laws.shown_epochs(arm), used, "o-", ms=3, color=colour, label=ARMS[name])
        ax.set_xscale("symlog", linthresh=5)
        ax.set_xticks([0, 5, 10, 30, 60, 300], ["0", "5", "10", "30", "", "300"])
        ax.minorticks_off()
        ax.set(xlabel="epoch", ylim=(0, 2.1), title=PRICES[which])
    axes[0].set_ylabel("dims in use per node")
    _losses(below.subplots())
    handles = {h.get_label(): h for ax in axes for h in ax.get_lines()}
    above.legend(handles=list(handles.values()), loc="outside lower center", ncols=3)
    return drawn


def _losses(ax: Axes) -> None:
    every = (row for row in laws.hysteresis() if row.point.endswith(".loss"))
    rows = [row for row in every if row.measured.replicas]
    names = []
    for place, row in enumerate(rows):
        which, _, pair = row.point.removesuffix(".loss").partition(".")
        one, other = pair.split("-")
        times = "16 ×" if which == "dear" else "1 ×"
        names.append(f"{times}: {ARMS[one]} less {ARMS[other]}")
        colour = ARM_COLOURS[one]
        low, high = row.prediction.low, row.prediction.high
        ax.plot([low, high], [place] * 2, color="#DDDDDD", lw=8, solid_capstyle="butt")
        ax.plot([row.measured.low, row.measured.high], [place] * 2, color=colour, lw=2)
        ax.plot(row.measured.value, place, "o", color=colour)
    name_rows(ax, names, 30)
    ax.axvline(0, **REFERENCE)
    ax.set(xlabel="difference of losses at the end (nats; grey: predicted)")


@figure
def selection() -> Figure:
    """Every dim that was deleted: the reconstruction that is lost against its price, both in nats,
    after retraining and by a knock-out; where a dim was given up later, crosses. Above the line a
    dim is worth its price."""
    kinds = ("dear", "cheap", "switched")
    drawn, axes = panels(len(kinds) + 1, 2.3, shared=False)
    axes[-1].axis("off")
    for ax, kind in zip(axes, kinds, strict=False):
        dims = laws.selection_of(kind)
        ax.set(title=PRICES[kind], xlabel="price (nats)", xscale="log", yscale="symlog")
        if dims is None:
            continue
        for values, colour, label in (
            (dims.knockout, COLOUR_OF[WRONG], "knocked out"),
            (dims.lost, COLOURS["16"], "retrained without"),
        ):
            for kept, marker in ((True, "o"), (False, "x")):
                own = dims.kept == kept
                ax.plot(dims.price[own], values[own], marker, color=colour, ms=4, alpha=0.7,
                        label=f"{label}, {'kept' if kept else 'given up'}")  # fmt: skip
        ends = np.array([dims.price.min() / 1.3, dims.price.max() * 1.3])
        ax.plot(ends, ends, **REFERENCE)
        plain_numbers(ax.xaxis)
        ax.set_yticks([0, 1, 10, 100], ["0", "1", "10", "100"])
        ax.minorticks_off()
    for ax in (axes[0], axes[2]):
        ax.set_ylabel("reconstruction lost (nats)")
    axes[-1].legend(*axes[0].get_legend_handles_labels(), loc="center left")
    return drawn


@figure
def coin() -> Figure:
    """Shares with exact intervals: predicted ranges in grey, dotted what chance would give."""
    rows = laws.coin()
    chance = {"same_start": 0.5, "same_noise": 0.5, "1": 1.0, "2": 0.5, "5": 1 / 16}
    names = {
        "same_start": "same start, other noise: same dim",
        "same_noise": "same noise, other start: same dim",
        "1": "all nodes alike, graph in 1 piece",
        "2": "in 2 pieces",
        "5": "in 5 pieces",
    }
    drawn = Figure(figsize=(WIDTH, 2.5))
    ax = drawn.subplots()
    for place, row in enumerate(rows):
        expected, found = row.prediction, row.measured
        ax.plot(
            [expected.low, expected.high], [place] * 2, color="#DDDDDD", lw=9,
            solid_capstyle="butt",
        )  # fmt: skip
        ax.plot([found.low, found.high], [place] * 2, color="black", lw=1.8)
        ax.plot(found.value, place, "o", color="black")
        ax.plot([chance[row.point]] * 2, [place - 0.4, place + 0.4], **REFERENCE | {"lw": 2})
    name_rows(ax, [names[row.point] for row in rows], 24)
    ax.set(xlabel="share (grey: predicted; dotted: by chance)", xlim=(0, 1.03))
    return drawn


@figure
def rest(arms: Mapping[str, xr.Dataset]) -> Figure:
    """The equation of state in every replica of some arms, by title: the push of the data on the
    widths against that of the KL, each summed over dims. Dotted: they are equal; grey band: within
    a tenth. Arms that are not at rest are coloured."""
    drawn = Figure(figsize=(WIDTH, 4.2))
    ax = drawn.subplots()
    ends: list[float] = []
    still = {title: at_rest(median_of("at_rest", runs)) for title, runs in arms.items()}
    for title in sorted(arms, key=lambda title: not still[title]):  # those that move are on top
        law = total(arms[title].kl_weight * (1 - arms[title].squared_ratio))
        label = "arms at rest" if still[title] else "arms not at rest"
        colour, size = ("#777777", 3) if still[title] else (OTHER[-1], 4)
        ax.plot(
            law,
            total(arms[title].noise_force),
            "o",
            ms=size,
            alpha=0.6,
            lw=0,
            color=colour,
            label=label,
        )
        ends += law.values[law.values > 0].tolist()
    line = np.geomspace(min(ends), max(ends), 50)
    ax.plot(line, line, **REFERENCE)
    ax.fill_between(line, 0.9 * line, 1.1 * line, color="#EEEEEE", lw=0, zorder=0)
    ax.set(xscale="log", yscale="log", xlabel="w_KL × sum of (1 − s²/t²) (nats)")
    for axis in (ax.xaxis, ax.yaxis):
        plain_numbers(axis)
    ax.set_ylabel("push of the data on the widths (nats)")
    handles = {artist.get_label(): artist for artist in ax.lines[:-1]}
    ax.legend(handles=handles.values(), loc="upper left")
    return drawn


def resting(arms: Mapping[str, xr.Dataset]) -> dict[str, int | str]:
    """How many arms there are, how many are at rest by `claims.at_rest`, and which are not."""
    moving = [title for title, runs in arms.items() if not at_rest(median_of("at_rest", runs))]
    found = {"arms": len(arms), "resting": len(arms) - len(moving)}
    return found | {"moving": "; ".join(moving) or "none"}
