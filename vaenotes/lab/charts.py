"""Figures that compare arms, one call each, in the same visual language as plots.py.

Rows are arms, by title; dots are replicas; a bar is the median (or share) and its 95% interval.
"""

import re
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Ellipse, Patch
from matplotlib.ticker import NullFormatter

from vaenotes.lab.summary import (
    ALIVE_RATIO,
    Interval,
    alive,
    fate,
    median_interval,
    most_and_least_used,
)
from vaenotes.report.ledger import NOT_RUN, OPEN, Findings, Prediction, is_right
from vaenotes.style import COLOURS, STYLE
from vaenotes.theory.closed_forms import lag_share

DIMS = {"none": "#DDDDDD", "first": "#E69F00", "second": "#56B4E9", "several": "#999999"}
RIGHT, WRONG = "#009E73", "#CC79A7"
VERDICTS = {  # letter and colour; each colour light enough for black letters
    "reproduced": ("R", "#44BB99"),
    "reproduced up to units": ("U", "#99DDFF"),
    "answered": ("A", "#EEDD88"),
    "refuted": ("X", "#EE8866"),
    OPEN: ("?", "#DDDDDD"),
    NOT_RUN: ("–", "#FFFFFF"),
}


def by_arm(
    panels: Mapping[str, Mapping[str, xr.DataArray]],
    *,
    log: Sequence[str] = (),
    symlog: Sequence[str] = (),
    reference: Mapping[str, float] | None = None,
) -> Figure:
    """Values per replica, (replica,), by arm; a panel per axis label. `log` and `symlog` name the
    panels with such an axis (symlog: straight within +-1), `reference` gives some a dotted line."""
    rows = list(next(iter(panels.values())))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(8.6, 0.3 * len(rows) + 0.8))
        axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
        for ax, (label, arms) in zip(axes, panels.items(), strict=True):
            for row, values in enumerate(arms.values()):
                _dots(ax, row, values.values)
            if reference and label in reference:
                ax.axvline(reference[label], color="grey", lw=0.8, ls=":")
            ax.set(xlabel=label, yticks=range(len(rows)), yticklabels=rows)
            if label in log:
                ax.set_xscale("log")
                ax.xaxis.set_minor_formatter(NullFormatter())
            if label in symlog:
                ax.set_xscale("symlog", linthresh=1)
        axes[0].invert_yaxis()
        return figure


def _dots(ax: Axes, row: int, values: np.ndarray) -> None:
    finite = values[np.isfinite(values)]
    if not len(finite):
        ax.annotate(
            "no such dim", (0.02, row), xycoords=ax.get_yaxis_transform(), va="center", fontsize=7
        )
        return
    shift = np.random.default_rng(0).uniform(-0.18, 0.18, len(finite))
    ax.scatter(finite, row + shift, s=9, color=COLOURS["posterior"], alpha=0.35, lw=0)
    _bar(ax, row, median_interval(finite))


def _bar(ax: Axes, row: float, interval: Interval) -> None:
    ax.plot([interval.low, interval.high], [row, row], color="black", lw=2.2)
    ax.plot(interval.value, row, "|", color="black", ms=9, mew=2)


def choices(arms: Mapping[str, xr.Dataset]) -> Figure:
    """Which dim each node uses, in every replica: a panel per arm, a row per seed, a column per
    node. The row of a replica that diverged is empty."""
    with mpl.rc_context(STYLE):
        rows = max(runs.sizes["replica"] for runs in arms.values())
        figure = Figure(figsize=(1.15 * len(arms) + 1, 0.11 * rows + 1.6))
        axes = figure.subplots(1, len(arms), squeeze=False)[0]
        for ax, (title, runs) in zip(axes, arms.items(), strict=True):
            used = alive(runs).transpose("replica", "node", "dim").values
            kind = np.where(used.sum(-1) > 1, 3, np.where(used.any(-1), 1 + used.argmax(-1), 0))
            gone = np.repeat(fate(runs).values[:, None] == "diverged", kind.shape[1], axis=1)
            ax.imshow(
                np.ma.masked_where(gone, np.minimum(kind, 3)),
                cmap=ListedColormap(list(DIMS.values())), vmin=0, vmax=3,
                aspect="auto", interpolation="nearest",
            )  # fmt: skip
            nodes = runs.node.values
            ax.set_xticks(range(len(nodes)), nodes, rotation=60, fontsize=7)
            ax.set_yticks([])
            ax.set_title(textwrap.fill(title, 16), fontsize=8)
            for edge in np.arange(len(nodes) - 1) + 0.5:
                ax.axvline(edge, color="white", lw=1)
            for edge in np.arange(runs.sizes["replica"] - 1) + 0.5:
                ax.axhline(edge, color="white", lw=0.6)
        axes[0].set_ylabel("one row per seed")
        handles = [Patch(color=colour, label=name) for name, colour in DIMS.items()]
        figure.legend(handles=handles, loc="outside right upper", title="dim in use")
        return figure


def ratios(arms: Mapping[str, xr.Dataset | np.ndarray]) -> Figure:
    """The ratio s/t of every dim of every replica, by arm (runs, or the ratios themselves): in
    use to the left of the line."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 0.3 * len(arms) + 0.9))
        ax = figure.subplots()
        for row, arm in enumerate(arms.values()):
            values = arm if isinstance(arm, np.ndarray) else arm.ratio.isel(epoch=-1).values
            values = values[np.isfinite(values)]
            shift = np.random.default_rng(0).uniform(-0.3, 0.3, len(values))
            used = values < ALIVE_RATIO
            for chosen, face in ((used, COLOURS["posterior"]), (~used, "none")):
                ax.scatter(
                    values[chosen], (row + shift)[chosen], s=8, facecolors=face,
                    edgecolors=COLOURS["posterior"], lw=0.3, alpha=0.6,
                )  # fmt: skip
        ax.axvline(ALIVE_RATIO, color="grey", lw=0.8, ls=":")
        ax.set(
            xscale="log",
            xlabel="posterior std / prior std at the end (filled: in use)",
            yticks=range(len(arms)),
            yticklabels=list(arms),
        )
        ax.invert_yaxis()
        return figure


def beside_twin(runs: xr.Dataset, twins: xr.Dataset, node: str) -> Figure:
    """One replica (full) and its twin (dashed) over epochs, for the dims of one node: the prior's
    variance and what does not feel units."""
    panels = {
        "prior_variance": "prior variance (z²)",
        "ratio": "posterior std / prior std",
        "kl_nats": "KL (nats)",
    }
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(8.2, 2.4))
        for ax, (name, label) in zip(figure.subplots(1, 3), panels.items(), strict=True):
            for dim, colour in zip(runs.dim.values, list(DIMS.values())[1:], strict=False):
                for one, style in ((twins, "--"), (runs, "-")):
                    line = one[name].isel(replica=0).sel(node=node, dim=dim)
                    ax.plot(one.epoch, line, style, color=colour, label=f"dim {dim}")
            ax.set(xlabel="epoch", ylabel=label, yscale="log")
        handles = [
            Patch(color=colour, label=f"dim {dim}")
            for dim, colour in zip(runs.dim.values, list(DIMS.values())[1:], strict=False)
        ]
        figure.legend(handles=handles, loc="outside upper right", ncols=2)
        return figure


def lag(measured: Mapping[float, Interval]) -> Figure:
    """Push of the KL over push of the noise in unused dims, against how much faster the prior
    learns than the posterior; the line is theory.lag_share, the formula of gradient flow."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(4.6, 2.8))
        ax = figure.subplots()
        rates = np.geomspace(0.03, 30, 100)
        ax.plot(rates, [lag_share(r) for r in rates], color="grey", label="formula, gradient flow")
        for rate, interval in measured.items():
            ax.plot([rate, rate], [interval.low, interval.high], color="black", lw=2.2)
            ax.plot(rate, interval.value, "o", color="black", ms=5)
        ax.axhline(1, color="grey", lw=0.8, ls=":")
        ax.set(
            xscale="log",
            xlabel="prior's learning rate / posterior's",
            ylabel="KL's push / noise's push",
            ylim=(0, None),
        )
        ax.legend()
        return figure


def against(
    panels: Mapping[str, Mapping[str, tuple[np.ndarray, np.ndarray]]],
    *,
    xlabel: str,
    ylabel: str,
) -> Figure:
    """Measured against expected, panel by panel and series by series: each (point,), on the line
    where they are equal. The first series is drawn hollow and a little to the left, the
    second full and to the right."""
    sides = (("none", -1), (COLOURS["posterior"], 1))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(2.9 * len(panels) + 0.5, 3.1))
        axes = figure.subplots(1, len(panels), squeeze=False)[0]
        for ax, (title, series) in zip(axes, panels.items(), strict=True):
            every = np.concatenate([expected for expected, _ in series.values()])
            ends = [every.min(), every.max()] if len(every) else []
            for place, (name, (expected, measured)) in enumerate(series.items()):
                face, side = sides[place]
                width = 0.02 * ((len(expected) and np.ptp(expected)) or 1)
                shift = side * np.random.default_rng(0).uniform(0, width, len(expected))
                ax.scatter(
                    expected + shift, measured, s=14, facecolors=face, lw=0.7, alpha=0.7,
                    edgecolors=COLOURS["posterior"], label=name,
                )  # fmt: skip
            ax.plot(ends, ends, color="grey", lw=0.8, ls=":")
            ax.set(xlabel=xlabel, title=title)
            if len(series) > 1:
                ax.legend(loc="upper left")
        axes[0].set_ylabel(ylabel)
        return figure


def elbo(arms: Mapping[str, xr.Dataset], best: float, halfway: int | None = None) -> Figure:
    """ELBO by epoch (median over replicas, and their range), below the largest likelihood `best`;
    `halfway`: the epoch at whose end some arms changed their units."""
    colours = [*mpl.colormaps["viridis"](np.linspace(0, 0.85, len(arms)))]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 3.2))
        ax = figure.subplots()
        for (title, runs), colour in zip(arms.items(), colours, strict=True):
            value = -(runs.reconstruction_nats + runs.kl_nats.sum(("node", "dim")))
            low, high = value.min("replica"), value.max("replica")
            ax.fill_between(runs.epoch, low, high, color=colour, alpha=0.2, lw=0)
            ax.plot(runs.epoch, value.median("replica"), color=colour, label=title)
        ax.axhline(best, color="black", lw=0.8, ls=":", label="largest likelihood")
        if halfway is not None:
            ax.axvline(halfway, color="grey", lw=0.8)
        ax.set(xlabel="epoch", ylabel="ELBO (nats per image)", ylim=(best - 30, best + 2))
        ax.legend(loc="upper left", bbox_to_anchor=(1, 1))
        return figure


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
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(8.6, 4.1))
        for ax, dims, kind in zip(
            figure.subplots(1, 2),
            most_and_least_used(one),
            ("the most used dims", "the least used dims"),
            strict=True,
        ):
            panel = one.isel(dim=dims)  # (epoch, followed, node)
            mean = panel.followed_posterior_mean.transpose("epoch", "followed", "node").values
            logvar = panel.followed_posterior_logvar.transpose("epoch", "followed", "node").values
            width = 2 * np.exp(logvar / 2)
            centre, reach = panel.prior_mean.values, 2 * np.sqrt(panel.prior_variance.values)
            for spot, size, colour in zip(mean[epoch], width[epoch], colours, strict=True):
                ax.add_patch(Ellipse(spot, *(2 * size), fc=(*colour[:3], 0.15), ec=colour, lw=0.6))
            ax.scatter(*mean[epoch].T, s=4, c=colours, zorder=3)
            ax.add_patch(
                Ellipse(centre[epoch], *(2 * reach[epoch]), fill=False, ec=COLOURS["prior"], lw=1.5)
            )
            ends = (mean - width, mean + width, centre - reach, centre + reach)
            edges = np.concatenate([end.reshape(-1, 2) for end in ends])
            edges = edges[np.isfinite(edges).all(1)]
            if len(edges):
                low, high = edges.min(0), edges.max(0)
                margin = 0.02 * (high - low)
                (left, bottom), (right, top) = low - margin, high + margin
                ax.set(xlim=(left, right), ylim=(bottom, top))
            if not np.isfinite(mean[epoch]).all():
                ax.text(0.5, 0.5, "diverged", transform=ax.transAxes, ha="center")
            numbers = dims.values + 1
            ax.set(
                title=kind,
                xlabel=f"{nodes[0]}, dim {numbers[0]} (z)",
                ylabel=f"{nodes[1]}, dim {numbers[1]} (z)",
            )
        handles = [
            Patch(color=mpl.colormaps["viridis"](0.5), label="posterior of an image"),
            Patch(fill=False, ec=COLOURS["prior"], label="prior"),
        ]
        figure.legend(handles=handles, loc="outside upper right", ncols=2)
        figure.suptitle(f"epoch {epoch}", x=0.02, ha="left")
        return figure


def predictions(rows: Sequence[Prediction], findings: Findings) -> Figure:
    """Every prediction against what came of it, each in units of its own predicted range (the
    grey band); outcomes far outside are drawn at the edge."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(8.2, 0.17 * len(rows) + 0.9))
        ax = figure.subplots()
        ax.axvspan(0, 1, color="#EEEEEE", lw=0)
        for row, prediction in enumerate(rows):
            interval = findings[prediction.finding]
            if interval.replicas == 0:
                ax.text(0.5, row, "nothing to measure", va="center", ha="center", fontsize=6)
                continue
            low, middle, high = (
                np.clip((x - prediction.low) / (prediction.high - prediction.low), -0.5, 1.5)
                for x in (interval.low, interval.value, interval.high)
            )
            colour = RIGHT if is_right(prediction, findings) else WRONG
            ax.plot([low, high], [row, row], color=colour, lw=1.8)
            ax.plot(
                middle, row, "o" if prediction.seen else "D", ms=4, color=colour,
                mfc="white" if prediction.seen else colour,
            )  # fmt: skip
        ax.set(
            xlim=(-0.55, 1.55),
            xticks=[0, 1],
            xticklabels=["lowest predicted", "highest predicted"],
            yticks=range(len(rows)),
            ylim=(len(rows) - 0.5, -0.5),
        )
        ax.set_yticklabels([prediction.finding for prediction in rows], fontsize=6)
        handles = [
            Patch(color=RIGHT, label="right"),
            Patch(color=WRONG, label="wrong"),
        ]
        ax.legend(handles=handles, loc="upper left", bbox_to_anchor=(1, 1))
        return figure


def verdicts(rows: Mapping[str, Mapping[str, str]]) -> Figure:
    """A matrix of verdicts: a row per label (long ones are cut), a column per run's title, each
    cell with a colour and a letter."""
    titles = list(next(iter(rows.values())))
    kinds = list(VERDICTS)
    numbers = [[kinds.index(row[title]) for title in titles] for row in rows.values()]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(8.2, 0.21 * len(rows) + 1.3))
        ax = figure.subplots()
        ax.imshow(
            numbers, cmap=ListedColormap([colour for _, colour in VERDICTS.values()]),
            vmin=-0.5, vmax=len(kinds) - 0.5, aspect="auto", interpolation="nearest",
        )  # fmt: skip
        for (row, column), kind in np.ndenumerate(numbers):
            letter = VERDICTS[kinds[kind]][0]
            ax.text(column, row, letter, ha="center", va="center", weight="bold", fontsize=8)
        ax.set_xticks(range(len(titles)), [title.replace(", ", "\n") for title in titles])
        labels = [textwrap.shorten(label, 54, placeholder=" …") for label in rows]
        ax.set_yticks(range(len(rows)), labels, fontsize=8)
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
        figure.legend(handles=handles, loc="outside lower center", ncols=3)
        return figure


def cost(rows: Mapping[str, Mapping[str, Any]]) -> Figure:
    """What an image and a replica cost, against the number of replicas and of images: the rows of
    cost.stored("scaling") by their names. Others' costs, which do neither, are level lines."""
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
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.5, 2.8))
        axes = figure.subplots(1, 2, sharey=True)
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
            for level in others.values():
                ax.axhline(level, color="grey", linewidth=1, linestyle="--")
        axes[0].set(ylabel=unit.replace(" and", "\nand"), ylim=(0, None))
        for label, level in others.items():
            axes[1].annotate(
                label, (1.02, level), xycoords=("axes fraction", "data"), va="center", fontsize=8
            )
        axes[1].annotate("ours", (x[-1], y[-1]), xytext=(0, 8), textcoords="offset points")
        return figure
