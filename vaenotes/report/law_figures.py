"""Figures of the page on laws: predicted and measured. Every function returns a matplotlib Figure,
which a notebook shows."""

from collections.abc import Mapping

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from vaenotes.lab.measures import median_of
from vaenotes.lab.quantities import total
from vaenotes.report import laws, results
from vaenotes.report.claims import RIGHT, WRONG, at_rest
from vaenotes.report.figures import COLOUR_OF
from vaenotes.style import figure, plain_numbers

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
PRICES = {"dear": "16 times the notes' price", "cheap": "the notes' price"}
ARM_COLOURS = dict(zip(ARMS, ("#000000", *COLOURS.values(), *OTHER[1:]), strict=False))


@figure
def price() -> Figure:
    """Dims in use per node against the price of a nat per pixel: the predicted curve with its
    range, and medians with intervals; hollow where runs are not at rest. Left: sizes; right: the
    same at 16 x 16 with other units, or supervised."""
    law, rows = laws.expected()["price"], laws.price()
    prices = laws.NOTES_PRICE * np.array(law["times"])
    curve = np.array(law["dims_per_node"])
    drawn = Figure(figsize=(8.6, 3.4))
    axes = drawn.subplots(1, 2, sharey=True)
    lines = {name: [r for r in rows if r.point.startswith(f"{name} |")] for name in law["lines"]}
    run = {name: [r for r in points if r.measured.replicas] for name, points in lines.items()}
    found = {name: points for name, points in run.items() if points}
    for ax, names in zip(axes, (laws.SIZES, list(NAMES)), strict=True):
        ax.fill_between(
            prices,
            curve - law["within"],
            np.minimum(curve + law["within"], 2),
            color="#EEEEEE",
            lw=0,
        )
        ax.plot(prices, curve, color="grey", lw=1, ls="--")
        there = [name for name in names if name in found]
        for place, name in enumerate(there):
            shift = 1.08 ** (place - (len(there) - 1) / 2)
            colour = COLOURS.get(name) or OTHER[list(NAMES).index(name)]
            for row in found[name]:
                cost = laws.NOTES_PRICE * float(row.point.split(" | ")[1])
                fill = colour if laws.at_rest(row) else "white"
                low, high = row.measured.low, row.measured.high
                ax.plot([cost * shift] * 2, [low, high], color=colour, lw=1.4)
                ax.plot(cost * shift, row.measured.value, "o", color=colour, mfc=fill, ms=5)
        ax.set(xscale="log", xlabel="w_KL / (w_rec × pixels)", ylim=(-0.05, 2.05))
        titles = [NAMES.get(name, f"{name} × {name} pixels") for name in there]
        handles = [
            Line2D([], [], color=COLOURS.get(name) or OTHER[list(NAMES).index(name)], marker="o")
            for name in there
        ]
        ax.legend(handles, titles, loc="upper right", fontsize=7)
    full = [results.full_size(group).pipe(_used) for group in results.MAIN]
    axes[0].plot([laws.NOTES_PRICE] * len(full), full, "*", color="black", ms=9, zorder=3)
    axes[0].set_ylabel("dims in use per node")
    return drawn


def _used(runs: xr.Dataset) -> float:
    """Dims in use per node, median over replicas."""
    return median_of("dims_used", runs).value


@figure
def hysteresis() -> Figure:
    """Left: dims in use per node over epochs, means over replicas, by where they started, a panel
    for each price. Right: differences of the training loss at the end, seed by seed."""
    drawn = Figure(figsize=(8.6, 3.2))
    axes = drawn.subplots(1, 3, width_ratios=[1, 1, 1.1])
    for ax, which in zip(axes, ("dear", "cheap"), strict=False):
        for name, colour in ARM_COLOURS.items():
            if not (found := laws.path(arm) if (arm := f"{which}.{name}") in laws.PARTS else {}):
                continue
            used = laws.dims_used(found["information_nats"]).mean(0)
            ax.plot(laws.shown_epochs(arm), used, "o-", ms=3, color=colour, label=ARMS[name])
        ax.set_xscale("symlog", linthresh=5)
        ax.set_xticks([0, 5, 10, 30, 60, 300], ["0", "5", "10", "30", "60", "300"])
        ax.set(xlabel="epoch", ylim=(0, 2.05), title=PRICES[which])
    axes[0].set_ylabel("dims in use per node")
    _losses(axes[2])
    handles = {h.get_label(): h for ax in axes[:2] for h in ax.get_lines()}
    drawn.legend(handles=list(handles.values()), loc="outside lower center", ncols=4, fontsize=8)
    return drawn


def _losses(ax: Axes) -> None:
    every = (row for row in laws.hysteresis() if row.point.endswith(".loss"))
    rows = [row for row in every if row.measured.replicas]
    names = []
    for place, row in enumerate(rows):
        pair = row.point.removesuffix(".loss")
        names.append(pair.replace(".", ": ").replace("-", " less "))
        colour = ARM_COLOURS[pair.partition(".")[2].split("-")[0]]
        low, high = row.prediction.low, row.prediction.high
        ax.plot([low, high], [place] * 2, color="#DDDDDD", lw=8, solid_capstyle="butt")
        ax.plot([row.measured.low, row.measured.high], [place] * 2, color=colour, lw=2)
        ax.plot(row.measured.value, place, "o", color=colour)
    ax.set_yticks(range(len(rows)), names, fontsize=7)
    ax.axvline(0, color="grey", lw=0.8, ls=":")
    ax.invert_yaxis()
    ax.set(xlabel="difference of losses (nats)", title="grey: predicted")


@figure
def selection() -> Figure:
    """Every dim that was deleted: the reconstruction that is lost against its price, both in nats;
    full dots after retraining, hollow by a knock-out; where a dim was given up later, crosses.
    Above the line a dim is worth its price."""
    kinds = {"dear": "own price, dear", "cheap": "own price, cheap", "switched": "made dear"}
    drawn = Figure(figsize=(8.6, 3.0))
    for ax, (kind, title) in zip(drawn.subplots(1, 3), kinds.items(), strict=True):
        dims = laws.selection_of(kind)
        ax.set(title=title, xlabel="price (nats)", xscale="log", yscale="symlog")
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
        ax.plot(ends, ends, color="grey", lw=0.8, ls=":")
        plain_numbers(ax.xaxis)
    drawn.axes[0].set_ylabel("reconstruction lost (nats)")
    handles, labels = drawn.axes[0].get_legend_handles_labels()
    drawn.legend(handles, labels, loc="outside lower center", ncols=4, fontsize=8)
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
    drawn = Figure(figsize=(6.4, 2.3))
    ax = drawn.subplots()
    for place, row in enumerate(rows):
        ax.plot(
            [row.prediction.low, row.prediction.high],
            [place] * 2,
            color="#DDDDDD",
            lw=9,
            solid_capstyle="butt",
        )
        ax.plot([row.measured.low, row.measured.high], [place] * 2, color="black", lw=1.8)
        ax.plot(row.measured.value, place, "o", color="black")
        ax.plot(
            [chance[row.point]] * 2, [place - 0.35, place + 0.35], color=COLOUR_OF[RIGHT], ls=":"
        )
    ax.set_yticks(range(len(rows)), [names[row.point] for row in rows])
    ax.invert_yaxis()
    ax.set(
        xlabel="share (grey: predicted; dotted: one coin per replica, or per piece)", xlim=(0, 1.02)
    )
    return drawn


@figure
def rest(arms: Mapping[str, xr.Dataset]) -> Figure:
    """The equation of state in every replica of some arms, by title: the push of the data on the
    widths against that of the KL, each summed over dims. Dotted: they are equal; grey band: within
    a tenth. Arms that are not at rest have colours of their own."""
    drawn = Figure(figsize=(8.6, 3.8))
    ax = drawn.subplots()
    ends: list[float] = []
    colours = iter((*COLOURS.values(), *OTHER[1:]))
    for title, runs in arms.items():
        law = total(runs.kl_weight * (1 - runs.squared_ratio))
        still = at_rest(median_of("at_rest", runs))
        colour, label = ("#999999", None) if still else (next(colours, "black"), title)
        ax.plot(law, total(runs.noise_force), "o", ms=3, alpha=0.7, color=colour, label=label)
        ends += [float(law.min()), float(law.max())]
    line = np.geomspace(np.nanmin(ends), np.nanmax(ends), 50)
    ax.plot(line, line, color="black", lw=0.8, ls=":")
    ax.fill_between(line, 0.9 * line, 1.1 * line, color="#EEEEEE", lw=0, zorder=0)
    ax.set(xscale="log", yscale="log", xlabel="w_KL × sum of (1 − s²/t²) (nats)")
    ax.set_ylabel("push of the data on the widths (nats)")
    drawn.legend(loc="outside right upper", title="not at rest", fontsize=7)
    return drawn


def resting(arms: Mapping[str, xr.Dataset]) -> dict[str, int | str]:
    """How many arms there are, how many are at rest by `claims.at_rest`, and which are not."""
    moving = [title for title, runs in arms.items() if not at_rest(median_of("at_rest", runs))]
    found = {"arms": len(arms), "resting": len(arms) - len(moving)}
    return found | {"moving": "; ".join(moving) or "none"}
