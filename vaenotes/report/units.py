"""Which units training ends in: what benchmarks/units.py stored, against what units.toml expected.

Names: "sgd_RATE" is plain gradient descent at that rate, "adam" the notes' optimiser; a start in
units of 3 has the usual start's weights with the code's units changed by 3 (book/theory.md, T10).
"""

import json
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator
from pandas.io.formats.style import Styler

from vaenotes.lab.dots import panels
from vaenotes.lab.summary import ALIVE_RATIO, Interval, median_interval, spread
from vaenotes.report import tables
from vaenotes.report.claims import predictions
from vaenotes.report.results import FOLDER
from vaenotes.style import REFERENCE, figure, plain

COLOURS = {"sgd_0.01": "#0072B2", "sgd_0.02": "#56B4E9", "sgd_0.04": "#009E73", "adam": "#D55E00"}
MARKS = {0.3: "v", 1.0: "o", 3.0: "^"}
"""Of starts."""
MEANINGS = {
    "drift": "drift of the charge over that of the other: sizes, summed over three starts",
    "own": "prior std predicted from the charge of the start, or measured, the larger over the "
    "smaller: the worst of three starts",
    "other_0.3": "the same for the start in units of 0.3, from the end of the usual start",
    "other_3": "the same for the start in units of 3",
    "ratio_0.3": "prior std at the end, started in units of 0.3 over usual",
    "ratio_3": "the same, started in units of 3",
    "dims_used": "dims in use per node, of two, with Adam",
    "prior_std_used": "prior std in dims in use, with Adam",
}


@cache
def _kept() -> dict[str, Any]:
    return json.loads((FOLDER / "units.json").read_text())


def title(name: str) -> str:
    return "Adam" if name == "adam" else f"descent, rate {name.removeprefix('sgd_')}"


@cache
def ends() -> pd.DataFrame:
    """A row per replica: name, start, seed, drift of its charge; its prior's std at the end (std,
    geometric mean over the nodes in use in all starts of its seed), and what that should be, from
    its own end (own) and from that of the usual start (other)."""
    found = []
    for name, rows in _kept()["charge"]["rows"].items():
        for seed in sorted({row["seed"] for row in rows}):
            same = [row for row in rows if row["seed"] == seed]
            used = np.all([np.array(row["ratio"]) < ALIVE_RATIO for row in same], axis=0)
            stds = [np.exp(np.log(np.array(row["prior_std"])[used]).mean()) for row in same]
            usual = next(std for std, row in zip(stds, same, strict=True) if row["start"] == 1)
            for std, row in zip(stds, same, strict=True):
                found.append({
                    "name": name, "start": row["start"], "seed": seed, "nodes": int(used.sum()),
                    "drift": abs(row["charge"][-1] - row["charge"][0]), "std": std,
                    "own": std * row["own"], "other": usual * row["other"],
                })  # fmt: skip
    return pd.DataFrame(found)


def apart(predicted: pd.Series, measured: pd.Series) -> pd.Series:
    """By what factor, from 1 on."""
    return np.exp(abs(np.log(predicted / measured)))


def findings() -> dict[str, Interval]:
    """Medians over seeds of all that units.toml names."""
    every = ends()
    drifts = every.groupby(["name", "seed"]).drift.sum()
    own = apart(every.own, every["std"]).groupby([every.name, every.seed]).max()
    found = {}
    for name in COLOURS:
        found[f"{name}.own"] = median_interval(own[name].values)
        of = every[every.name == name].set_index(["start", "seed"])
        for start in (0.3, 3.0):
            one, usual = of.loc[start], of.loc[1.0]
            worst = apart(one.other, one["std"])
            found[f"{name}.other_{start:g}"] = median_interval(worst.values)
            found[f"{name}.ratio_{start:g}"] = median_interval((one["std"] / usual["std"]).values)
    for name, other in (("sgd_0.04", "sgd_0.02"), ("sgd_0.02", "sgd_0.01"), ("adam", "sgd_0.01")):
        found[f"{name}/{other}.drift"] = median_interval((drifts[name] / drifts[other]).values)
    for start, measured in _kept()["dims"]["rows"].items():
        for what, values in measured.items():
            found[f"units_{start}.{what}"] = median_interval(np.array(values))
    return found


def glued() -> dict[str, float]:
    """The same for the prose: units.NAME, with _low, _high and _n; and units.seeds."""
    found = {name.replace("/", "_over_"): interval for name, interval in findings().items()}
    return spread(found, "units.") | {"units.seeds": ends().seed.nunique()}


def predictions_table() -> Styler:
    """What units.toml expected, beside what came of it."""
    made = tables.predictions_table(predictions("units"), findings(), MEANINGS)
    return made.set_caption(provenance())


def provenance() -> str:
    """By which commits the runs were made."""
    commits = sorted({part["commit"] for part in _kept().values()})
    return f"Stored runs, seeds apart from the book's; commit {' and '.join(commits)}."


@figure
def charge() -> Figure:
    """How far the charge has moved, over a training's length (lines: replicas). The prior's std
    that the charge of the start asks for, from each replica's own end, against the measured one;
    and the same from the end of the usual start. Marks: starts in units of 0.3, 1 and 3."""
    drawn, (moves, own, usual, words) = panels(4, 2.6, shared=False)
    for name, rows in _kept()["charge"]["rows"].items():
        for row in rows:
            done = np.array(row["epochs"]) / row["epochs"][-1]
            moved = np.array(row["charge"]) - row["charge"][0]
            moves.plot(done, moved, color=COLOURS[name], lw=0.8, alpha=0.6)
    moves.set(xlabel="share of the training", ylabel="charge less that of the start")
    moves.set_yscale("symlog", linthresh=1)
    moves.set_yticks([-10, -1, 0, 1, 10])
    moves.yaxis.set_major_formatter(plain)
    every = ends()
    for ax, what, of in ((own, "own", "its own"), (usual, "other", "the usual start's")):
        for (name, start), rows in every.groupby(["name", "start"]):
            if what == "other" and (start == 1 or name not in ("adam", "sgd_0.01")):
                continue
            ax.scatter(rows[what], rows["std"], s=14, marker=MARKS[float(str(start))], lw=0,
                       color=COLOURS[str(name)], alpha=0.7)  # fmt: skip
        line = every["std"].min(), every["std"].max()
        ax.plot(line, line, **REFERENCE)
        ax.set(xscale="log", yscale="log", xlabel=f"predicted from {of} end")
        ax.set_ylabel("measured prior std (z)")
        for axis in (ax.xaxis, ax.yaxis):
            axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.set_major_formatter(plain)
        ax.minorticks_off()
    handles = [Line2D([], [], color=colour, label=title(name)) for name, colour in COLOURS.items()]
    for start, mark in MARKS.items():
        label = f"start in units of {start:g}"
        handles.append(Line2D([], [], ls="", marker=mark, color="black", ms=5, label=label))
    words.axis("off")
    words.legend(handles=handles, loc="center left")
    return drawn
