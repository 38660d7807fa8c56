"""What only this book draws: its ledger, its costs, the notes' own figures. Every function returns
a matplotlib Figure, which a notebook shows."""

import re
import textwrap
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import matplotlib as mpl
import numpy as np
import xarray as xr
from IPython.core.getipython import get_ipython
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib_inline.backend_inline import set_matplotlib_formats

from vaenotes.diagnosis.status import ALIVE_NATS
from vaenotes.lab.dots import LETTERS, broken, panels
from vaenotes.lab.summary import alive
from vaenotes.report import results
from vaenotes.report.claims import NOT_RUN, OPEN, OUTCOMES, Findings, Prediction, judged
from vaenotes.report.results import (
    FIGURES,
    NAMES,
    READ,
    bands,
    digitised,
    notes_bands,
    shown_node,
)
from vaenotes.style import COLOURS, REFERENCE, WIDTH, figure, legend_of, line

COLOUR_OF = dict(zip(OUTCOMES, ("#009E73", "#CC79A7", "#888888"), strict=True))
VERDICTS = {  # letter and colour; each colour light enough for black letters
    "reproduced": ("R", "#44BB99"),
    "reproduced up to units": ("U", "#99DDFF"),
    "answered": ("A", "#EEDD88"),
    "refuted": ("X", "#EE8866"),
    OPEN: ("?", "#DDDDDD"),
    NOT_RUN: ("–", "#FFFFFF"),
}


LOSSES = {"term on": "#CC79A7", "term off, 0.15": "#009E73", "term off, 0.2": "black"}
"""Colours of runs with the supervised term, and without."""


def use_svg() -> None:
    """Let a notebook show figures as SVG, sharp at any size, and as large as they are drawn; equal
    figures are equal bytes, whatever the reader's own matplotlibrc says."""
    mpl.rcdefaults()
    mpl.rcParams["svg.hashsalt"] = "vaenotes"
    if get_ipython() is not None:
        set_matplotlib_formats("svg", metadata={"Date": None}, bbox_inches=None)


@figure
def predictions(rows: Sequence[Prediction], findings: Findings) -> Figure:
    """Every prediction against what came of it, in units of its own predicted range (the grey
    band): a row per experiment, a mark and its 95% interval per prediction, hollow where trial runs
    had shown about this, a cross where there was nothing to measure. What lies far outside is
    drawn at the edge."""
    named = list(dict.fromkeys(prediction.experiment for prediction in rows))
    ordered = sorted(rows, key=lambda prediction: named.index(prediction.experiment))
    drawn = Figure(figsize=(WIDTH, 0.052 * (len(rows) + 1.5 * len(named)) + 1.0))
    ax = drawn.subplots()
    ax.axvspan(0, 1, color="#EEEEEE", lw=0)
    places: dict[str, list[float]] = {name: [] for name in named}
    for number, prediction in enumerate(ordered):
        place = number + 1.5 * named.index(prediction.experiment)
        places[prediction.experiment].append(place)
        interval = findings[prediction.finding]
        if interval.replicas == 0:
            ax.plot(0.5, place, "x", color="grey", ms=4)
            continue
        low, middle, high = (
            np.clip((x - prediction.low) / (prediction.high - prediction.low), -0.5, 1.5)
            for x in (interval.low, interval.value, interval.high)
        )
        colour = COLOUR_OF[judged(prediction, interval)]
        ax.plot([low, high], [place, place], color=colour, lw=1.2)
        face = "white" if prediction.seen else colour
        ax.plot(middle, place, "o", ms=3.4, color=colour, mfc=face, mew=0.9)
    ax.set(xlim=(-0.55, 1.55), ylim=(len(rows) + 1.5 * len(named) - 1.5, -1))
    ax.set_xticks([0, 1], ["lowest\npredicted", "highest\npredicted"])
    words = [broken(name.replace("_", " "), 20) for name in named]
    ax.set_yticks([np.mean(place) for place in places.values()], words)
    for above, below in pairwise(places.values()):
        ax.axhline((above[-1] + below[0]) / 2, color="#CCCCCC", lw=0.6)
    ax.tick_params(axis="y", length=0)
    handles: list[Artist] = [Patch(color=colour, label=how) for how, colour in COLOUR_OF.items()]
    mark: dict[str, Any] = {"ls": "", "marker": "o", "ms": 4, "color": "black"}
    handles.append(Line2D([], [], **mark, mfc="white", label="seen in trials"))
    drawn.legend(handles=handles, loc="outside lower center", ncols=4)
    return drawn


@figure
def verdicts(rows: Mapping[str, Mapping[str, str]]) -> Figure:
    """A matrix of verdicts: a row per label (long ones are cut), a column per run's title, each
    cell with a colour and a letter."""
    titles = list(next(iter(rows.values())))
    kinds = list(VERDICTS)
    numbers = [[kinds.index(row[title]) for title in titles] for row in rows.values()]
    drawn = Figure(figsize=(WIDTH, 0.22 * len(rows) + 1.5))
    ax = drawn.subplots()
    ax.imshow(
        numbers, cmap=ListedColormap([colour for _, colour in VERDICTS.values()]),
        vmin=-0.5, vmax=len(kinds) - 0.5, aspect="auto", interpolation="nearest",
    )  # fmt: skip
    for (row, column), kind in np.ndenumerate(numbers):
        letter = VERDICTS[kinds[kind]][0]
        ax.text(column, row, letter, ha="center", va="center", weight="bold")
    ax.set_xticks(range(len(titles)), [broken(title, 11) for title in titles])
    room = int((WIDTH - 0.7 * len(titles)) * LETTERS)
    labels = [textwrap.shorten(label, max(room, 12), placeholder=" …") for label in rows]
    ax.set_yticks(range(len(rows)), labels)
    ax.tick_params(length=0, top=False, labeltop=True, labelbottom=False)
    ax.set_xticks(np.arange(len(titles) - 1) + 0.5, minor=True)
    ax.set_yticks(np.arange(len(rows) - 1) + 0.5, minor=True)
    ax.grid(which="minor", color="white", lw=2)
    ax.tick_params(which="minor", length=0)
    for side in ("left", "bottom"):
        ax.spines[side].set_visible(False)
    handles = [
        Patch(fc=colour, ec="grey", lw=0.5, label=f"{letter}  {name}")
        for name, (letter, colour) in VERDICTS.items()
    ]
    drawn.legend(handles=handles, loc="outside lower center", ncols=3)
    return drawn


@figure
def cost(rows: Mapping[str, Mapping[str, Any]]) -> Figure:
    """What an image and a replica cost, against the number of replicas and of images: the rows of
    results.cost("scaling") by their names. Others' costs, which do neither, are level lines."""
    unit = "µs an image and replica"
    ours: dict[tuple[int, int], Mapping[str, Any]] = {}
    others: dict[str, float] = {}
    for name, row in rows.items():
        if row["unit"] == unit and (sizes := re.findall(r"[\d,]+(?= replicas| images)", name)):
            replicas, images = (int(size.replace(",", "")) for size in sizes)
            ours[replicas, images] = row
        elif row["unit"] == unit:
            others[name] = row["median"]
    base = min(ours)
    drawn = Figure(figsize=(WIDTH, 3.0))
    axes = drawn.subplots(1, 2, sharey=True)
    for ax, place, name in zip(axes, (0, 1), ("replicas", "images"), strict=True):
        shown = sorted(size for size in ours if size[1 - place] == base[1 - place])
        x = [size[place] for size in shown]
        y, low, high = (
            np.array([ours[size][end] for size in shown]) for end in ("median", "low", "high")
        )
        ax.errorbar(x, y, [y - low, high - y], fmt="o-", color="black", capsize=3, markersize=4)
        ax.set(xlabel=name, xscale="log", xticks=x)
        ax.set_xticklabels([f"{value:,}" for value in x])
        ax.minorticks_off()
        for label, level in others.items():
            ax.axhline(level, **REFERENCE)
            if place == 0:
                ax.annotate(label, (1, level), (0, 2), ("axes fraction", "data"), ha="right",
                            textcoords="offset points")  # fmt: skip
    axes[0].set(ylabel=unit.replace(" and", "\nand"), ylim=(0, None))
    axes[1].annotate("ours", (x[-1], y[-1]), (0, 8), textcoords="offset points", ha="right")
    return drawn


@figure
def elbo(arms: Mapping[str, xr.Dataset], best: float, halfway: int) -> Figure:
    """ELBO by epoch (median over replicas, and their range), below the largest likelihood `best`;
    `halfway`: the epoch at whose end some arms changed their units."""
    colours = [*mpl.colormaps["viridis"](np.linspace(0, 0.85, len(arms)))]
    drawn = Figure(figsize=(WIDTH, 3.9))
    ax = drawn.subplots()
    for (title, runs), colour in zip(arms.items(), colours, strict=True):
        value = -(runs.reconstruction_nats + runs.kl_nats.sum(("node", "dim")))
        low, high = value.min("replica"), value.max("replica")
        ax.fill_between(runs.epoch, low, high, color=colour, alpha=0.2, lw=0)
        ax.plot(runs.epoch, value.median("replica"), color=colour, label=title)
    ax.axhline(best, **REFERENCE, label="largest likelihood")
    ax.axvline(halfway, color="grey", lw=0.8)
    ax.set(xlabel="epoch", ylabel="ELBO (nats per image)", ylim=(best - 30, best + 2))
    drawn.legend(loc="outside lower center", ncols=2)
    return drawn


@figure
def against(
    series_of: Mapping[str, Mapping[str, tuple[np.ndarray, np.ndarray]]],
    *,
    xlabel: str,
    ylabel: str,
) -> Figure:
    """Measured against expected, panel by panel and series by series: each (point,), on the line
    where they are equal. Of two series the first is drawn as crosses and a little to the left, the
    second as dots and to the right."""
    looks: Any = ({"marker": "x", "color": "black"}, {"marker": "o", "color": COLOURS["posterior"]})
    drawn, axes = panels(len(series_of), 2.7, shared=False)
    for ax, (title, series) in zip(axes, series_of.items(), strict=True):
        every = np.concatenate([expected for expected, _ in series.values()])
        ends = [every.min(), every.max()] if len(every) else []
        shown = looks[-len(series) :]
        for side, look, (name, (expected, measured)) in zip(
            (-1, 1), shown, series.items(), strict=False
        ):
            width = 0.02 * ((len(expected) and np.ptp(expected)) or 1)
            shift = side * np.random.default_rng(0).uniform(0, width, len(expected))
            ax.scatter(expected + shift, measured, s=14, lw=0.7, alpha=0.7, label=name, **look)
        ax.plot(ends, ends, **REFERENCE)
        ax.set(xlabel=xlabel, title=title)
        if len(series) > 1:
            ax.legend(loc="upper left", handletextpad=0.1, borderaxespad=0)
    axes[0].set_ylabel(ylabel)
    return drawn


@figure
def notes_figure(runs: xr.Dataset, what: str, width: float = WIDTH) -> Figure:
    """The notes' figure of one replica: a row per dim of the node that they show, the one given up
    on top, posterior and prior side by side; the median and bands between quantiles of all draws of
    an epoch, greyed where the dim is not in use. In black the notes' own curves, if it has their
    node: at 7 and 93 % and, thinner, at the extremes. `what`: "std" or "mean"; width in inches."""
    shown, theirs = bands(runs, what), notes_bands(what)
    node = shown_node(runs, what)
    one = runs.isel(replica=[0]).sel(node=[node])
    used = np.sort(alive(one).values.ravel())  # a dim that is given up comes first
    has_node = FIGURES[what][1] == node
    drawn = Figure(figsize=(width, 0.55 * width + 1.2))
    axes = drawn.subplots(2, 2, sharex=True, sharey="all" if what == "std" else "row")
    for (place, column), ax in np.ndenumerate(axes):
        side = list(COLOURS)[column]
        style = line(used[place], COLOURS[side])
        _bands(ax, shown[NAMES[what, side]].isel(place=place), style)
        curves = theirs[NAMES[what, side]].isel(place=place).dropna("epoch")
        for level, lw in zip(READ.values(), (0.5, 1.1, 1.1, 0.5), strict=True):
            if has_node:
                own = curves.sel(quantile=level)
                ax.plot(own.epoch, own, color="black", lw=lw)
        ax.set_title(f"{side}, {('weaker dim', 'stronger dim')[place]}", color=COLOURS[side])
    for ax in axes[:, 0]:
        ax.set_ylabel(f"{what} (z)")
    for ax in axes[-1]:
        ax.set_xlabel("epoch, from 0")
    handles: list[Artist] = [Patch(color="#BBBBBB", label="here: median and bands")]
    if not used.all():
        handles.append(Line2D([], [], **line(False), label="dim not in use"))
    if has_node:
        handles.append(Line2D([], [], color="black", lw=1.1, label="the notes’ own curves"))
    drawn.legend(handles=handles, loc="outside lower center", ncols=3 if width > 5.5 else 2)
    return drawn


def _bands(ax: Axes, values: xr.DataArray, style: Mapping[str, Any]) -> None:
    """Nested bands from the extremes inwards, and the median: values (epoch, quantile)."""
    levels = values["quantile"].values
    for outer in range(len(levels) // 2):
        low, high = values.isel(quantile=outer), values.isel(quantile=-1 - outer)
        alpha = 0.15 + 0.1 * outer
        ax.fill_between(values.epoch, low, high, color=style["color"], alpha=alpha, lw=0)
    ax.plot(values.epoch, values.isel(quantile=len(levels) // 2), lw=1.4, **style)


@figure
def mistaken(runs: xr.Dataset) -> Figure:
    """Averages of the stds of one replica in the node of std_behaviour: on the left as the notes'
    first panel drew them, with the prior's average taken of the posterior's numbers, on the right
    as they are; dashed and greyed the dim that is not in use. Black: the notes' own curves."""
    node = shown_node(runs, "std")
    one = runs.isel(replica=0, epoch=slice(1, None)).sel(node=node)
    order = one.ratio.isel(epoch=-1).argsort().values[::-1]
    used = alive(runs).isel(replica=0).sel(node=node).isel(dim=order)
    average = {side: one[f"{side}_variance"].isel(dim=order) ** 0.5 for side in COLOURS}
    theirs = digitised().query("figure == 'scalars of 22 July'")
    drawn = Figure(figsize=(WIDTH, 3.0))
    left, right = drawn.subplots(1, 2, sharex=True)
    for ax, prior in ((left, average["posterior"]), (right, average["prior"])):
        for side, values in (("posterior", average["posterior"]), ("prior", prior)):
            for place in (0, 1):
                style = line(used.isel(dim=place), COLOURS[side])
                width = 3.5 if side == "posterior" else 1.3
                ax.plot(one.epoch - 1, values.isel(dim=place), lw=width, alpha=0.9, **style)
    for dim in (0, 1):
        own = theirs[theirs.dim == dim]
        left.plot(own.epoch, own["max"], color="black", lw=0.9)
    if np.isfinite(top := float(average["posterior"].max())):  # else it diverged
        left.set_ylim(0, 1.2 * top)
    left.set_title("as they were drawn")
    right.set_title("as they are")
    left.set_ylabel("average std (z)")
    for ax in (left, right):
        ax.set_xlabel("epoch, from 0")
    handles = legend_of(COLOURS, not used.all())
    handles.append(Line2D([], [], color="black", lw=0.9, label="the notes’ own"))
    drawn.legend(handles=handles, loc="outside lower center", ncols=4)
    return drawn


@figure
def weaker(chosen: Sequence[str]) -> Figure:
    """KL of the weaker dim of a node over epochs, median over nodes: a line per replica at the
    notes' own sizes, pale where images are fresh, a colour for what the loss is made of."""
    drawn = Figure(figsize=(WIDTH, 3.4))
    ax = drawn.subplots()
    for group in chosen:
        runs, fresh = results.full_size(group), "fresh" in group
        weight = float(runs.kl_weight[0])
        loss = "term on" if results.TITLES[group].startswith("term on") else f"term off, {weight:g}"
        kl = results.weaker_kl(runs).isel(epoch=slice(1, None))
        label = f"{loss}, {'fresh images' if fresh else 'batches repeated'}"
        for replica in kl:
            ax.plot(kl.epoch - 1, replica, color=LOSSES[loss], alpha=0.45 if fresh else 1,
                    lw=2.5 if fresh else 1.2, label=label)  # fmt: skip
    ax.axhline(ALIVE_NATS, **REFERENCE)
    ax.set(xlabel="epoch, from 0", ylabel="KL of the weaker dim (nats)")
    ax.set_ylim(bottom=0)
    handles = {artist.get_label(): artist for artist in ax.lines[:-1]}
    drawn.legend(handles=handles.values(), loc="outside lower center", ncols=2)
    return drawn
