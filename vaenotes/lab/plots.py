"""Figures of runs, one call each; every function returns a matplotlib Figure, which a notebook
shows. Pictures of images are in pictures.py; style.py says what colours and lines mean.

Where arms are compared, rows are arms, by title; dots are replicas; a bar is the median (or share)
and its 95% interval.
"""

import itertools
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Ellipse, Patch

from vaenotes.lab.measures import MEASURES, Measure, values_of
from vaenotes.lab.summary import (
    ALIVE_RATIO,
    alive,
    median_interval,
    most_and_least_used,
    outcome,
)
from vaenotes.style import COLOURS, PARTS, figure, plain_numbers

DIMS = {"none": "#DDDDDD", "first": "#E69F00", "second": "#56B4E9", "several": "#999999"}
"""Colours of the dim that a node uses."""


@figure
def over_epochs(
    runs: xr.Dataset, names: Sequence[str], ylabel: str, reference: float | None = None
) -> Figure:
    """Quantities over epochs, a panel per dim (row) and node (column).

    One replica is drawn as lines; of several, the median and the middle 95% as a band. Names
    begin with prior_ or posterior_. A line is dashed where no replica uses the dim.
    """

    def draw(ax: Axes, panel: xr.Dataset) -> None:
        used = alive(panel)
        for name in names:
            colour = COLOURS[name.split("_")[0]]
            low, middle, high = panel[name].quantile([0.025, 0.5, 0.975], "replica")
            ax.fill_between(panel.epoch, low, high, color=colour, alpha=0.25, lw=0)
            ax.plot(panel.epoch, middle, color=colour, ls="-" if used.any() else "--")
        ax.set_yscale("log")
        if reference is not None:
            ax.axhline(reference, color="grey", lw=0.8, ls=":")

    return _grid(runs, draw, ylabel, [name.split("_")[0] for name in names])


@figure
def means_over_epochs(runs: xr.Dataset) -> Figure:
    """How the means of one replica spread: over images (posterior) and over noise (prior).

    A panel per dim (row) and node (column): the median, bands from 31 to 69 and from 7 to 93 %
    and, as thin lines, the extremes.
    """

    def draw(ax: Axes, panel: xr.Dataset) -> None:
        for side, colour in COLOURS.items():
            q = panel[f"{side}_quantiles"].isel(replica=0).transpose("quantile", "epoch")
            for low, high, alpha in ((0.07, 0.93, 0.2), (0.31, 0.69, 0.35)):
                edges = q.sel(quantile=[low, high])
                ax.fill_between(panel.epoch, *edges, color=colour, alpha=alpha, lw=0)
            ax.plot(panel.epoch, q.sel(quantile=0.5), color=colour, label=side)
            for edge in (q[0], q[-1]):
                ax.plot(panel.epoch, edge, color=colour, lw=0.5)

    return _grid(runs, draw, "mean (z)", list(COLOURS))


@figure
def beside_twin(runs: xr.Dataset, twins: xr.Dataset, node: str) -> Figure:
    """One replica (full) and its twin (dashed) over epochs, for the dims of one node: the prior's
    variance and what does not feel units."""
    panels = {
        "prior_variance": "prior variance (z²)",
        "ratio": "posterior std / prior std",
        "kl_nats": "KL (nats)",
    }
    colours = dict(zip(runs.dim.values, list(DIMS.values())[1:], strict=False))
    drawn = Figure(figsize=(8.2, 2.4))
    for ax, (name, label) in zip(drawn.subplots(1, 3), panels.items(), strict=True):
        for dim, colour in colours.items():
            for one, style in ((twins, "--"), (runs, "-")):
                line = one[name].isel(replica=0).sel(node=node, dim=dim)
                ax.plot(one.epoch, line, style, color=colour)
        ax.set(xlabel="epoch", ylabel=label, yscale="log")
    handles = [Patch(color=colour, label=_dim_name(dim)) for dim, colour in colours.items()]
    drawn.legend(handles=handles, loc="outside upper right", ncols=2)
    return drawn


@figure
def nails(runs: xr.Dataset, nodes: Sequence[str], epoch: int) -> Figure:
    """One replica's bed of nails after an epoch, in two nodes: each followed image's posterior as
    an ellipse of two standard deviations around its mean, coloured by the first node's factor, and
    the prior's.

    A panel for the dims that are in use at the end, the most used of either node, and one for
    the least used. The axes are those of the whole run, so that epochs can be compared.
    """
    one = runs.isel(replica=0).sel(node=list(nodes))
    factor = one.factors.sel(node=nodes[0]).values[: runs.sizes["followed"]]
    colours = mpl.colormaps["viridis"]((factor - factor.min()) / (np.ptp(factor) or 1))
    drawn = Figure(figsize=(8.6, 4.1))
    outline: dict[str, Any] = {"fill": False, "ec": COLOURS["prior"]}
    sides = zip(drawn.subplots(1, 2), most_and_least_used(one), ("most", "least"), strict=True)
    for ax, dims, kind in sides:
        panel = one.isel(dim=dims).transpose("epoch", "followed", "node", ...)
        mean = panel.followed_posterior_mean.values
        width = 2 * np.exp(panel.followed_posterior_logvar.values / 2)
        centre, reach = panel.prior_mean.values, 2 * np.sqrt(panel.prior_variance.values)
        for spot, size, colour in zip(mean[epoch], width[epoch], colours, strict=True):
            ax.add_patch(Ellipse(spot, *(2 * size), fc=(*colour[:3], 0.15), ec=colour, lw=0.6))
        ax.scatter(*mean[epoch].T, s=4, c=colours, zorder=3)
        ax.add_patch(Ellipse(centre[epoch], *(2 * reach[epoch]), lw=1.5, **outline))
        ends = (mean - width, mean + width, centre - reach, centre + reach)
        ax.update_datalim(np.concatenate([end.reshape(-1, 2) for end in ends]))
        ax.margins(0.02)
        if not np.isfinite(mean[epoch]).all():
            ax.text(0.5, 0.5, "diverged", transform=ax.transAxes, ha="center")
        names = [f"{node}, dim {dim} (z)" for node, dim in zip(nodes, dims.values + 1, strict=True)]
        ax.set(title=f"the {kind} used dims", xlabel=names[0], ylabel=names[1])
    image = Patch(color=mpl.colormaps["viridis"](0.5), label="posterior of an image")
    handles = [image, Patch(label="prior", **outline)]
    drawn.legend(handles=handles, loc="outside upper right", ncols=2)
    drawn.suptitle(f"epoch {epoch}", x=0.02, ha="left")
    return drawn


@figure
def outcomes(runs: xr.Dataset) -> Figure:
    """Final std_q / std_p of every dim of every replica: near 0 in use, near 1 not in use."""
    ratio, used = runs.ratio.isel(epoch=-1), alive(runs)
    drawn = Figure(figsize=(7.2, 0.16 * runs.sizes["replica"] + 1.2))
    ax = drawn.subplots()
    for row, replica in enumerate(ratio):
        if replica.isnull().any():
            ax.text(ALIVE_RATIO, row, " diverged", va="center")
        for dim, marker in zip(replica.dim.values, itertools.cycle("osD^v<>P")):
            values, filled = replica.sel(dim=dim).values, used[row].sel(dim=dim).values
            place = np.full(len(values), row) + 0.12 * (2 * dim - 1 - ratio.sizes["dim"])
            label = _dim_name(dim) if row == 0 else None
            _marks(ax, values, place, filled, marker=marker, label=label, s=16, lw=0.8)
    _name_rows(ax, runs.seed.values)
    ax.set_ylabel("seed")
    ax.legend(loc="upper left", bbox_to_anchor=(1, 1))
    return drawn


@figure
def kl_parts(runs: xr.Dataset) -> Figure:
    """KL at the end by node, dim and part: means over replicas, stacked."""
    final = runs.isel(epoch=-1).mean("replica")
    nodes = final.node.values
    drawn = Figure(figsize=(3.6 * final.sizes["dim"], 2.4))
    axes = drawn.subplots(1, final.sizes["dim"], sharey=True, squeeze=False)
    for ax, dim in zip(axes.flat, final.dim.values, strict=True):
        bottom = np.zeros(len(nodes))
        for name, (label, colour) in PARTS.items():
            height = final[name].sel(dim=dim).values
            ax.bar(nodes, height, bottom=bottom, color=colour, label=label, width=0.7)
            bottom += height
        ax.set_title(_dim_name(dim))
        ax.tick_params(axis="x", rotation=30)
    axes[0, 0].set_ylabel("KL (nats)")
    axes[0, -1].legend(loc="upper left", bbox_to_anchor=(1, 1))
    return drawn


@figure
def by_arm(
    measures: Sequence[str], arms: Mapping[str, xr.Dataset], reference: Mapping[str, float] = {}
) -> Figure:
    """Measures of every replica, by name in MEASURES: a panel each, a row per arm, by title;
    `reference` gives some a dotted line."""
    panels = {
        MEASURES[name]: {title: values_of(name, runs) for title, runs in arms.items()}
        for name in measures
    }
    drawn = _rows_of_dots(panels)
    for ax, name in zip(drawn.axes, measures, strict=True):
        if name in reference:
            ax.axvline(reference[name], color="grey", lw=0.8, ls=":")
    return drawn


@figure
def by_use(names: Sequence[str], arms: Mapping[str, xr.Dataset]) -> Figure:
    """What is measured of dims in use, as NAME_used, beside the same of the others, NAME_unused: a
    panel per name, two rows per arm, by title."""
    panels = {}
    for name in names:
        measure = MEASURES[f"{name}_used"]
        both = measure._replace(meaning=measure.meaning.removesuffix(", dims in use"))
        panels[both] = {
            f"{title}, {words}": values_of(f"{name}_{kind}", runs)
            for title, runs in arms.items()
            for kind, words in (("used", "in use"), ("unused", "not in use"))
        }
    return _rows_of_dots(panels)


def _rows_of_dots(panels: Mapping[Measure, Mapping[str, xr.DataArray]]) -> Figure:
    """Values per replica, (replica,), by row; a panel per measure, which names its axis."""
    rows = list(next(iter(panels.values())))
    labels = [textwrap.fill(measure.label, 84 // len(panels)) for measure in panels]
    breaks = max(label.count("\n") for label in labels)
    drawn = Figure(figsize=(8.6, 0.3 * len(rows) + 0.15 * breaks + 0.8))
    axes = drawn.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for ax, label, (measure, values) in zip(axes, labels, panels.items(), strict=True):
        for row, one in enumerate(values.values()):
            _dots(ax, row, one.values)
        ax.set(xlabel=label, yticks=range(len(rows)), yticklabels=rows)
        if measure.scale == "log":
            ax.set_xscale("log")
            plain_numbers(ax.xaxis)
        elif measure.scale == "symlog":
            ax.set_xscale("symlog", linthresh=1)  # straight within +-1
            ax.xaxis.set_major_formatter("{x:g}")
    axes[0].invert_yaxis()
    return drawn


def _dots(ax: Axes, row: int, values: np.ndarray) -> None:
    finite = values[np.isfinite(values)]
    if not len(finite):
        place = ax.get_yaxis_transform()
        ax.annotate("none", (0.02, row), xycoords=place, va="center", fontsize=7)
        return
    shift = np.random.default_rng(0).uniform(-0.18, 0.18, len(finite))
    ax.scatter(finite, row + shift, s=9, color=COLOURS["posterior"], alpha=0.35, lw=0)
    interval = median_interval(finite)
    ax.plot([interval.low, interval.high], [row, row], color="black", lw=2.2)
    ax.plot(interval.value, row, "|", color="black", ms=9, mew=2)


@figure
def choices(arms: Mapping[str, xr.Dataset]) -> Figure:
    """Which dim each node uses, in every replica: a panel per arm, a row per seed, a column per
    node. The row of a replica that diverged is empty."""
    rows = max(runs.sizes["replica"] for runs in arms.values())
    drawn = Figure(figsize=(1.15 * len(arms) + 1, 0.11 * rows + 1.6))
    axes = drawn.subplots(1, len(arms), squeeze=False)[0]
    for ax, (title, runs) in zip(axes, arms.items(), strict=True):
        used = alive(runs).transpose("replica", "node", "dim").values
        kind = np.where(used.sum(-1) > 1, 3, np.where(used.any(-1), 1 + used.argmax(-1), 0))
        gone = np.repeat(outcome(runs).values[:, None] == "diverged", kind.shape[1], axis=1)
        ax.pcolormesh(
            np.ma.masked_where(gone, kind), cmap=ListedColormap(list(DIMS.values())),
            vmin=0, vmax=3, edgecolors="white", lw=0.6,
        )  # fmt: skip
        ax.invert_yaxis()
        ax.set_xticks(
            np.arange(runs.sizes["node"]) + 0.5, runs.node.values, rotation=60, fontsize=7
        )
        ax.set_yticks([])
        ax.set_title(textwrap.fill(title, 16), fontsize=8)
    axes[0].set_ylabel("one row per seed")
    handles = [Patch(color=colour, label=name) for name, colour in DIMS.items()]
    drawn.legend(handles=handles, loc="outside right upper", title="dim in use")
    return drawn


@figure
def ratios(arms: Mapping[str, xr.Dataset | np.ndarray]) -> Figure:
    """The ratio s/t of every dim of every replica, by arm: runs, whose dims in use are filled, or
    the ratios themselves, filled left of the line."""
    drawn = Figure(figsize=(7.2, 0.3 * len(arms) + 0.9))
    ax = drawn.subplots()
    for row, arm in enumerate(arms.values()):
        if isinstance(arm, np.ndarray):
            values, filled = arm, arm < ALIVE_RATIO
        else:
            values, filled = arm.ratio.isel(epoch=-1).values, alive(arm).values
        finite = np.isfinite(values)
        values, filled = values[finite], filled[finite]
        shift = np.random.default_rng(0).uniform(-0.3, 0.3, len(values))
        _marks(ax, values, row + shift, filled, s=8, lw=0.3, alpha=0.6)
    _name_rows(ax, list(arms))
    return drawn


def _marks(
    ax: Axes, ratio: np.ndarray, place: np.ndarray, filled: np.ndarray, **style: Any
) -> None:
    """Dims by their ratio, filled where they are in use."""
    colour = COLOURS["posterior"]
    faces = np.where(filled, colour, "white")
    ax.scatter(ratio, place, c=faces, edgecolors=colour, **style)


def _name_rows(ax: Axes, names: Sequence[Any]) -> None:
    """The axes of a figure of ratios, a row per name."""
    ax.axvline(ALIVE_RATIO, color="grey", lw=0.8, ls=":")
    ax.set(xscale="log", xlabel="posterior std / prior std at the end (filled: in use)")
    ax.set_yticks(range(len(names)), names)
    ax.invert_yaxis()


def _grid(
    runs: xr.Dataset, draw: Callable[[Axes, xr.Dataset], None], ylabel: str, sides: Sequence[str]
) -> Figure:
    """A panel per dim (row) and node (column), filled by draw(ax, panel); epochs on x."""
    nodes, dims = runs.node.values, runs.dim.values
    drawn = Figure(figsize=(1.75 * len(nodes), 1.75 * len(dims) + 0.4))
    axes = drawn.subplots(len(dims), len(nodes), sharex=True, sharey=True, squeeze=False)
    for row, dim in zip(axes, dims, strict=True):
        for ax, node in zip(row, nodes, strict=True):
            draw(ax, runs.sel(node=node, dim=dim))
        row[0].set_ylabel(f"{_dim_name(dim)}\n{ylabel}")
    for ax, node in zip(axes[0], nodes, strict=True):
        ax.set_title(node)
    for ax in axes[-1]:
        ax.set_xlabel("epoch")
    handles = [Patch(color=c, label=side) for side, c in COLOURS.items() if side in sides]
    drawn.legend(handles=handles, loc="outside upper right", ncols=2)
    return drawn


def _dim_name(dim: Any) -> str:
    return dim if isinstance(dim, str) else f"dim {dim}"
