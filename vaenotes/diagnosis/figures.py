"""Figures of what `diagnose` found: a row or line per dim. One that is alive is drawn full, any
other hollow or dashed, and greyed."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator

from vaenotes.diagnosis.printed import SHOWN, ranked
from vaenotes.diagnosis.status import ALIVE_NATS, DEVIATIONS
from vaenotes.style import (
    COLOURS,
    PARTS,
    REFERENCE,
    WIDTH,
    figure,
    greyed,
    line,
    literal,
    marks,
    plain_numbers,
)

BLUE, ORANGE = COLOURS["posterior"], COLOURS["prior"]


@figure
def report(dims: pd.DataFrame, sees: bool = False) -> Figure:
    """A row per dim, of the SHOWN that add most: what it adds about the sample, with its 95%
    interval; its KL in parts; posterior std / prior std; and the two variances.

    dims, sees: as in `Report`.
    """
    left = len(dims) - SHOWN
    dims = ranked(dims).iloc[:SHOWN]
    rows = np.arange(len(dims))
    fig = Figure(figsize=(WIDTH, 0.4 * len(rows) + 2.6))
    axes = fig.subplots(2, 2, sharey=True)
    adds, kl, ratio, variance = axes.flat

    error = DEVIATIONS * dims["added_error"]
    adds.errorbar(dims["added_nats"], rows, xerr=error, fmt="none", ecolor="black", lw=1.2)
    _dots(adds, dims, "added_nats", "black")
    adds.axvline(ALIVE_NATS, **REFERENCE)
    _stacked_parts(kl, dims)
    _dots(ratio, dims, "ratio", "black")
    ratio.axvline(1, **REFERENCE)
    _dots(variance, dims, "prior_variance", ORANGE, size=44)  # a ring where they are equal
    _dots(variance, dims, "posterior_variance", BLUE)

    adds.set(xlabel=f"adds{sees * ' at most'} (nats)", ylim=(len(rows) - 0.4, -0.6))
    adds.set_yticks(rows, [literal(name) for name in dims.index])
    for ax in axes[:, 0]:
        ax.set_ylabel(f"dim ({left:,} more are not drawn)" if left > 0 else "dim")
    ratio.set(xlabel="posterior std / prior std")
    variance.set(xlabel="variances (z²)")
    _logarithmic(ratio, dims[["ratio"]].assign(one=1.0))
    _logarithmic(variance, dims[["posterior_variance", "prior_variance"]])
    handles = [Line2D([], [], lw=5, color=c, label=f"KL: {title}") for title, c in PARTS.values()]
    for edge, face, label in (
        ("black", "black", "alive"), (greyed("black"), "white", "not alive"),
        (BLUE, BLUE, "posterior"), (ORANGE, ORANGE, "prior"),
    ):  # fmt: skip
        handles.append(Line2D([], [], ls="none", marker="o", ms=4, mec=edge, mfc=face, label=label))
    fig.legend(handles=handles, loc="outside lower center", ncols=3)
    return fig


@figure
def history(table: pd.DataFrame) -> Figure:
    """Over epochs, a line per dim, of the SHOWN that add most: both variances, posterior std /
    prior std, and what it adds.

    table: as `Recorder` has it, by (epoch, dim). Dims that are alive at the end are full.
    """
    panels = {
        "posterior_variance": ("posterior variance (z²)", BLUE),
        "prior_variance": ("prior variance (z²)", ORANGE),
        "ratio": ("posterior std / prior std", "black"),
        "added_nats": ("adds (nats)", "black"),
    }
    epochs = table.index.unique("epoch")
    last = ranked(table.loc[epochs[-1]]).iloc[:SHOWN]  # the dims that add most
    alive = last["status"] == "alive"
    marker = "." if len(epochs) <= 20 else ""  # more would hide the dashes
    fig = Figure(figsize=(WIDTH, 4.6))
    axes = fig.subplots(2, 2)
    for ax, (name, (title, colour)) in zip(axes.flat, panels.items(), strict=True):
        for dim, values in table[name].unstack("dim")[last.index].items():
            ax.plot(
                epochs, values, lw=1, alpha=0.7, marker=marker, ms=3, **line(alive[dim], colour)
            )
        ax.set(xlabel="epoch", title=title)
        if name != "added_nats":
            ax.set_yscale("log")
            plain_numbers(ax.yaxis)
    axes[1, 1].axhline(ALIVE_NATS, **REFERENCE)
    words = {True: "alive at the end", False: "not alive"}
    handles = [Line2D([], [], **line(used), label=label) for used, label in words.items()]
    fig.legend(handles=handles, loc="outside lower center", ncols=2)
    return fig


@figure
def counts(scales: np.ndarray, lines: Mapping[str, Sequence[int]], dims: int) -> Figure:
    """How many of `dims` dims each criterion of `lines` calls active, against the units of the
    code: one model, its code multiplied by each of `scales`."""
    fig = Figure(figsize=(WIDTH, 3.0))
    ax = fig.subplots()
    for (title, found), style in zip(lines.items(), ("s--", "o-", "^:"), strict=False):
        ax.plot(scales, found, style, color=BLUE if style == "o-" else "black", ms=5, label=title)
    ax.axhline(dims, **REFERENCE)
    ax.annotate(f"all {dims}", (scales[0], dims), xytext=(0, 3), textcoords="offset points")
    ax.set(xscale="log", xlabel="the code in other units: multiplied by", ylabel="dims")
    ax.set(ylim=(-0.5, 1.15 * dims))
    plain_numbers(ax.xaxis)
    fig.legend(loc="outside lower center", ncols=2)
    return fig


def _logarithmic(ax: Axes, values: pd.DataFrame) -> None:
    """An x axis with room for all marks, and few enough numbers to be read."""
    low, high = (np.log10(values.to_numpy()).min(), np.log10(values.to_numpy()).max())
    room = max(0.06 * (high - low), 0.35)
    ax.set(xscale="log", xlim=(10 ** (low - room), 10 ** (high + room)))
    plain_numbers(ax.xaxis)
    if high - low > 1:
        ax.xaxis.set_major_locator(LogLocator(numticks=4))


def _dots(ax: Axes, dims: pd.DataFrame, name: str, colour: str, size: int = 16) -> None:
    rows, look = range(len(dims)), marks(dims["status"] == "alive", colour)
    ax.scatter(dims[name], rows, s=size, lw=0.9, zorder=3, **look)


def _stacked_parts(ax: Axes, dims: pd.DataFrame) -> None:
    """The parts of the KL; of a mixture, which has none, only its mark."""
    rows, left = range(len(dims)), np.zeros(len(dims))
    for name, (_, colour) in PARTS.items():
        part = dims[name.removeprefix("kl_")].fillna(0).to_numpy()
        ax.barh(rows, part, left=left, height=0.7, color=colour)
        left += part
    ax.plot(dims["kl_nats"], rows, "|", color="black", ms=6)
    ax.set(xlabel="KL (nats)", xlim=(0, 1.08 * max(dims["kl_nats"].max(), ALIVE_NATS)))
