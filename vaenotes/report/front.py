"""The figures of the front page: the finding in one picture, and a small curve for each of the
notes' three questions."""

from collections.abc import Mapping

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vaenotes.lab.measures import values_of
from vaenotes.lab.summary import alive, median_interval
from vaenotes.style import COLOURS, figure

KINDS = {"used": ("in use", COLOURS["posterior"], "-"), "unused": ("not in use", "#6f7f8f", "--")}
"""Dims by use: words, colour, style of line."""


@figure
def finding(runs: xr.Dataset, shown: xr.Dataset, node: str) -> Figure:
    """Why a variance does not tell and a ratio does. Of one replica, in one node, over epochs: the
    posterior variances, and their ratios to the prior; of all replicas (dots, and their median):
    what is lost when a dim is fixed at its mean."""
    one, used = shown.isel(replica=0).sel(node=node), alive(shown).isel(replica=0).sel(node=node)
    drawn = Figure(figsize=(6.2, 2.2))
    left, middle, right = drawn.subplots(1, 3)
    for ax, name, label in (
        (left, "posterior_variance", "posterior variance (z²)"),
        (middle, "ratio", "posterior std / prior std"),
    ):
        for dim in one.dim.values:
            words, colour, style = KINDS["used" if used.sel(dim=dim) else "unused"]
            line = one[name].sel(dim=dim)
            ax.plot(one.epoch, line, style, color=colour, lw=1.8)
            if ax is middle:
                end = (float(one.epoch[-1]), float(line[-1]))
                ax.annotate(words, end, (0, 6), textcoords="offset points", ha="right",
                            color=colour)  # fmt: skip
        ax.set(xlabel="epoch", ylabel=label, ylim=(0, None))
    middle.set_ylim(0, 1.25)
    for place, (kind, (_, colour, _)) in enumerate(KINDS.items()):
        values = values_of(f"knockout_{kind}", runs).values
        shift = np.random.default_rng(0).uniform(-0.15, 0.15, len(values))
        right.scatter(place + shift, values, s=10, color=colour, alpha=0.5, lw=0)
        level = median_interval(values).value
        right.plot([place - 0.25, place + 0.25], [level, level], color="black", lw=1.8)
        right.annotate(f"{round(level, 1) + 0:.1f}", (place + 0.28, level), va="center")
    right.set(xlim=(-0.5, 1.7), ylabel="reconstruction lost (nats)")
    right.set_xticks([0, 1], [words for words, _, _ in KINDS.values()])
    titles = ("Both variances fall", "Their ratios part", "One is missed")
    for ax, title in zip((left, middle, right), titles, strict=True):
        ax.set_title(title, loc="left", weight="bold")
    return drawn


@figure
def second_moment(runs: xr.Dataset) -> Figure:
    """The prior's std in dims in use, beside the root of the codes' second moment that it has to
    cover: medians over replicas, by epoch."""
    codes = runs.posterior_spread**2 + runs.posterior_variance
    lines = {"prior std": (runs.prior_variance, "prior", "-"),
             "spread of codes": (codes, "posterior", ":")}  # fmt: skip
    return _curves({label: (_median(values, alive(runs)) ** 0.5, COLOURS[side], style)
                    for label, (values, side, style) in lines.items()}, "std (z)")  # fmt: skip


@figure
def unused_variance(learned: xr.Dataset, fixed: xr.Dataset) -> Figure:
    """The posterior variance of dims that are not in use at the end, under a learned prior and
    under one that is fixed: medians over replicas, by epoch."""
    lines = {"fixed prior": (fixed, "#6f7f8f"), "learned prior": (learned, COLOURS["prior"])}
    return _curves({label: (_median(runs.posterior_variance, ~alive(runs)), colour, "--")
                    for label, (runs, colour) in lines.items()},
                   "variance (z²)")  # fmt: skip


@figure
def spreads(runs: xr.Dataset) -> Figure:
    """How far the means of posterior and prior spread in dims in use: medians over replicas, by
    epoch."""
    return _curves({f"{side} means": (_median(runs[f"{side}_spread"], alive(runs)), colour, "-")
                    for side, colour in COLOURS.items()}, "std of means (z)")  # fmt: skip


def _median(values: xr.DataArray, chosen: xr.DataArray) -> xr.DataArray:
    """Over the chosen dims of all replicas, by epoch."""
    return values.where(chosen).median(("replica", "node", "dim"))


def _curves(lines: Mapping[str, tuple[xr.DataArray, str, str]], ylabel: str) -> Figure:
    """Curves over epochs, small."""
    drawn = Figure(figsize=(2.9, 1.8))
    ax: Axes = drawn.subplots()
    for label, (line, colour, style) in lines.items():
        ax.plot(line.epoch, line, style, color=colour, lw=1.8, label=label)
    ax.set(xlabel="epoch", ylabel=ylabel)
    ax.set_ylim(0, 1.15 * ax.get_ylim()[1])
    ax.legend(loc="upper right", borderaxespad=0)
    return drawn
