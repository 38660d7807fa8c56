"""The figures of the front page: the finding in one picture, and a small curve for each of the
notes' three questions."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr
from IPython.display import HTML
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vaenotes.data.dataset import Dataset
from vaenotes.lab import pictures
from vaenotes.lab.measures import values_of
from vaenotes.lab.summary import alive, median_interval
from vaenotes.model import VAE
from vaenotes.report.sliders import film
from vaenotes.style import COLOURS, WIDTH, figure, legend_of, line, plain_numbers

KINDS = {"used": "in use", "unused": "not in use"}
ROWS = {
    "prior variance": ("prior_variance", 2, COLOURS["prior"]),
    "posterior variance": ("posterior_variance", 2, COLOURS["posterior"]),
    "posterior std / prior std": ("ratio", 0, "black"),
    "KL in nats": ("kl_nats", 0, "black"),
}
"""What is shown of a model in other units: a quantity, the power of the scale in it, a colour."""


@figure
def finding(runs: xr.Dataset, shown: xr.Dataset) -> Figure:
    """Why a narrow posterior does not tell and a ratio does. Of one replica, in its first node,
    over epochs: the stds of posterior and prior, and their ratios; of all replicas (dots, and their
    median): what is lost when a dim is fixed at its mean."""
    one, used = (of.isel(replica=0, node=0) for of in (shown, alive(shown)))
    drawn = Figure(figsize=(WIDTH, 2.9))
    left, middle, right = drawn.subplots(1, 3)
    for dim in one.dim.values:
        kind = "used" if used.sel(dim=dim) else "unused"
        for side, colour in COLOURS.items():
            std = one[f"{side}_variance"].sel(dim=dim) ** 0.5
            left.plot(one.epoch, std, lw=1.8, **line(kind == "used", colour))
        ratio = one.ratio.sel(dim=dim)
        middle.plot(one.epoch, ratio, lw=1.8, **line(kind == "used"))
        end = (float(one.epoch[-1]), float(ratio[-1]))
        apart = (0, 6 if kind == "used" else -17)  # between the lines
        middle.annotate(KINDS[kind], end, apart, textcoords="offset points", ha="right")
    left.set(xlabel="epoch", ylabel="std (z)", ylim=(0, None))
    middle.set(xlabel="epoch", ylabel="posterior std / prior std", ylim=(0, 1.25))
    for place, kind in enumerate(KINDS):
        lost = values_of(f"knockout_{kind}", runs).values
        shift = np.random.default_rng(0).uniform(-0.15, 0.15, len(lost))
        right.scatter(place + shift, lost, s=10, color="black", alpha=0.4, lw=0)
        level = median_interval(lost).value
        right.plot([place - 0.25, place + 0.25], [level, level], color="black", lw=1.8)
        right.annotate(f"{round(level, 1) + 0:.1f}", (place + 0.28, level), va="center")
    right.set(xlim=(-0.5, 1.7), ylabel="reconstruction lost (nats)")
    right.set_xticks([0, 1], list(KINDS.values()))
    titles = ("Both narrow", "Their ratios part", "One is needed")
    for ax, title in zip((left, middle, right), titles, strict=True):
        ax.set_title(title, loc="left", weight="bold")
    handles = legend_of(COLOURS, unused=True)
    drawn.legend(handles=handles, loc="outside lower left", ncols=3)
    return drawn


def units(model: VAE, dataset: Dataset, dim: int) -> HTML:
    """A film: a trained model with one dim of every node in other and other units; of the first
    node, the numbers that change and those that do not."""
    frames = {}
    for scale in pictures.SCALES:
        _, measured = pictures.in_units(model, dataset, dim, scale)
        values = {label: float(measured[name][0, dim - 1]) for label, (name, *_) in ROWS.items()}
        frames[f"× {scale:.2g}"] = _levels(values, scale)
    return film(
        frames, "× 1", "units",
        "both variances lie elsewhere in other units; the ratio and the KL stay where they are.",
    )  # fmt: skip


@figure
def _levels(values: Mapping[str, float], scale: float) -> Figure:
    """Numbers on one logarithmic axis, each with its name above it, in units multiplied by `scale`;
    the axis is the same for every scale."""
    drawn = Figure(figsize=(3.0, 2.45))
    ax = drawn.subplots()
    for row, (label, (_, power, colour)) in enumerate(ROWS.items()):
        ends = [values[label] * (end / scale) ** power for end in pictures.SCALES[[0, -1]]]
        ax.plot(ends, [row, row], color=colour, lw=6, alpha=0.15, solid_capstyle="round")
        ax.plot(values[label], row, "o", color=colour, ms=8)
        ax.annotate(f"{label}: {values[label]:.2g}", (0.01, row - 0.28), va="bottom",
                    xycoords=ax.get_yaxis_transform())  # fmt: skip
    ax.set(xscale="log", ylim=(len(ROWS) - 0.6, -0.95), yticks=[])
    plain_numbers(ax.xaxis)
    ax.set_title("One model, one dim in other units", weight="bold")
    ax.spines["left"].set_visible(False)
    return drawn


@figure
def second_moment(runs: xr.Dataset) -> Figure:
    """The prior's std in dims in use, beside the root of the codes' second moment that it has to
    cover: medians over replicas, by epoch."""
    codes = runs.posterior_spread**2 + runs.posterior_variance
    lines = {
        "prior std": (runs.prior_variance, line(True, COLOURS["prior"])),
        "std of all codes": (codes, {"color": "black", "ls": ":"}),
    }
    return _curves({label: (_median(values, alive(runs)) ** 0.5, style)
                    for label, (values, style) in lines.items()}, "std (z)")  # fmt: skip


@figure
def unused_variance(learned: xr.Dataset, fixed: xr.Dataset) -> Figure:
    """The posterior variance of dims that are not in use at the end, under a learned prior and
    under one that is fixed: medians over replicas, by epoch."""
    lines = {"prior fixed": (fixed, "black"), "prior learned": (learned, COLOURS["posterior"])}
    return _curves({label: (_median(runs.posterior_variance, ~alive(runs)), line(False, colour))
                    for label, (runs, colour) in lines.items()},
                   "variance (z²)")  # fmt: skip


@figure
def spreads(runs: xr.Dataset) -> Figure:
    """How far the means of posterior and prior spread in dims in use: medians over replicas, by
    epoch."""
    lines = {
        f"{side} means": (_median(runs[f"{side}_spread"], alive(runs)), line(True, colour))
        for side, colour in COLOURS.items()
    }
    return _curves(lines, "std of means (z)")


def _median(values: xr.DataArray, chosen: xr.DataArray) -> xr.DataArray:
    """Over the chosen dims of all replicas, by epoch."""
    return values.where(chosen).median(("replica", "node", "dim"))


def _curves(lines: Mapping[str, tuple[xr.DataArray, dict[str, Any]]], ylabel: str) -> Figure:
    """Curves over epochs, small."""
    drawn = Figure(figsize=(2.9, 1.8))
    ax: Axes = drawn.subplots()
    for label, (values, style) in lines.items():
        ax.plot(values.epoch, values, lw=1.8, label=label, **style)
    ax.set(xlabel="epoch", ylabel=ylabel)
    ax.set_ylim(0, 1.15 * ax.get_ylim()[1])
    ax.legend(loc="upper right", borderaxespad=0)
    return drawn
