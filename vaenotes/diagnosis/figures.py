"""Figures of what `diagnose` found, in the same visual language as plots.py: a row or line per dim.

A dim that is alive is drawn full, any other hollow or dashed.
"""

from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from vaenotes.lab.summary import CARRIES
from vaenotes.style import COLOURS, PARTS, STYLE, plain_numbers

TALLEST = 12.0  # inches
LABELLED = 50  # rows that can be labelled one by one


def report(dims: pd.DataFrame) -> Figure:
    """A row per dim, the most telling first: what it says of the sample, with twice its standard
    error; its KL in parts; posterior std / prior std; and the two variances.

    dims: as in diagnosis.Report.
    """
    dims = dims.sort_values("information_nats", ascending=False, kind="stable")
    rows = np.arange(len(dims))
    alive = (dims["status"] == "alive").to_numpy()
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(8.6, min(0.2 * len(rows) + 1.3, TALLEST)))
        says, costs, ratio, variance = figure.subplots(1, 4, sharey=True)
        blue = COLOURS["posterior"]
        said, error = dims["information_nats"], 2 * dims["information_error"]
        says.errorbar(said, rows, xerr=error, fmt="none", ecolor="black", lw=1.2)
        for ax, values, colour, size in (
            (says, said, "black", 16),
            (ratio, dims["ratio"], "black", 16),
            (variance, dims["prior_variance"], COLOURS["prior"], 44),  # a ring where they are equal
            (variance, dims["posterior_variance"], blue, 16),
        ):
            faces = [colour if full else "white" for full in alive]
            ax.scatter(values, rows, s=size, facecolors=faces, edgecolors=colour, lw=0.9, zorder=3)
        says.axvline(CARRIES, color="grey", lw=0.8, ls=":")
        ratio.axvline(1, color="grey", lw=0.8, ls=":")
        left = np.zeros(len(rows))
        for name, (_, colour) in PARTS.items():
            part = dims[name.removeprefix("kl_")].fillna(0).to_numpy()
            costs.barh(rows, part, left=left, height=0.7, color=colour)
            left += part
        costs.plot(dims["kl_nats"], rows, "|", color="black", ms=6)
        says.set(xlabel="says (nats)", ylabel="dim")
        costs.set(xlabel="costs: KL (nats)")
        costs.margins(x=0.08)
        ratio.set(xlabel="posterior std / prior std", xscale="log")
        variance.set(xlabel="variances (z²)", xscale="log")
        plain_numbers(ratio.xaxis)
        plain_numbers(variance.xaxis)
        step = -(-len(rows) // LABELLED)
        says.set(yticks=rows[::step], ylim=(len(rows) - 0.4, -0.6))
        says.set_yticklabels(dims.index[::step], fontsize=7)
        bars = [
            Line2D([], [], lw=5, color=colour, label=f"KL: {title}")
            for title, colour in PARTS.values()
        ]
        kinds = [
            _dot("black", "black", "alive"), _dot("black", "white", "not alive"),
            _dot(blue, blue, "posterior"), _dot(COLOURS["prior"], COLOURS["prior"], "prior"),
        ]  # fmt: skip
        figure.legend(handles=[*bars, *kinds], loc="outside upper center", ncols=7, fontsize=7)
        return figure


def history(table: pd.DataFrame) -> Figure:
    """Over epochs, a line per dim: both variances, posterior std / prior std, and what it says.

    table: as diagnosis.Recorder has it, by (epoch, dim). Dims that are alive at the end are full.
    """
    panels = {
        "posterior_variance": ("posterior variance (z²)", COLOURS["posterior"]),
        "prior_variance": ("prior variance (z²)", COLOURS["prior"]),
        "ratio": ("posterior std / prior std", "black"),
        "information_nats": ("says of the sample (nats)", "black"),
    }
    epochs = table.index.unique("epoch")
    alive = table.loc[epochs[-1], "status"] == "alive"
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(8.6, 2.6))
        axes = figure.subplots(1, 4)
        for ax, (name, (label, colour)) in zip(axes, panels.items(), strict=True):
            for dim, values in table[name].unstack("dim").items():
                style = "-" if alive[dim] else "--"
                ax.plot(epochs, values, style, color=colour, lw=1, alpha=0.7, marker=".", ms=3)
            ax.set(xlabel="epoch", title=label)
            if name != "information_nats":
                ax.set_yscale("log")
                plain_numbers(ax.yaxis)
        axes[-1].axhline(CARRIES, color="grey", lw=0.8, ls=":")
        handles = [
            Line2D([], [], color="black", label="alive at the end"),
            Line2D([], [], color="black", ls="--", label="not"),
        ]
        figure.legend(handles=handles, loc="outside upper right", ncols=2)
        return figure


def counts(scales: np.ndarray, lines: Mapping[str, Sequence[int]], dims: int) -> Figure:
    """How many of `dims` dims each criterion of `lines` calls active, against the units of the
    code: one model, its code multiplied by each of `scales`."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(5.6, 2.6))
        ax = figure.subplots()
        for (title, found), style in zip(lines.items(), ("s--", "o-", "^:"), strict=False):
            colour = COLOURS["posterior"] if style == "o-" else "black"
            ax.plot(scales, found, style, color=colour, ms=5, label=title)
        ax.axhline(dims, color="grey", lw=0.8)
        ax.annotate(f"all {dims}", (scales[0], dims), xytext=(0, 3), textcoords="offset points")
        ax.set(xscale="log", xlabel="the code in other units: multiplied by", ylabel="dims")
        ax.set(ylim=(-0.5, 1.15 * dims))
        ax.legend(loc="upper left", bbox_to_anchor=(1, 1))
        return figure


def _dot(edge: str, face: str, label: str) -> Line2D:
    return Line2D([], [], ls="none", marker="o", ms=4, mec=edge, mfc=face, label=label)
