"""The notes' system at its own sizes: runs that were made once, what was expected of them, and what
came of them.

`benchmarks/full_size.py` made them, on a GPU and on a CPU, and keeps their traces in
results/full_size.npz; full_size.toml was written before. A group is an arm; or an arm and a title,
where some replicas were trained on for longer.
"""

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import xarray as xr
from IPython.display import Markdown
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from pandas.io.formats.style import Styler

from vaenotes import trace
from vaenotes.data.load import FACTORS
from vaenotes.diagnosis.status import ALIVE_NATS
from vaenotes.lab.measures import difference, median_of
from vaenotes.lab.summary import Interval
from vaenotes.report import ledger
from vaenotes.report.ledger import Findings, Prediction, claims, is_right, text
from vaenotes.report.notes_figures import TAIL, bands, facts, notes
from vaenotes.style import COLOURS, STYLE

FOLDER = Path(__file__).parent
TITLES = {
    "supervised_repeated": "term on, batches repeated",
    "unsupervised_repeated": "term off, batches repeated",
    "supervised_fresh": "term on, fresh images",
    "unsupervised_fresh": "term off, fresh images",
    "supervised_few": "term on, few images, shuffled",
    "supervised_blocks": "term on, repeated, new every epoch",
    "supervised_repeated_slow": "term on, repeated, rate 1e-5",
    "unsupervised_repeated_costly": "term off, repeated, KL weight 0.2",
    "supervised_repeated long": "term on, batches repeated, longer",
    "unsupervised_repeated long": "term off, batches repeated, longer",
    "unsupervised_repeated_costly long": "term off, repeated, KL weight 0.2, seed 1",
}
"""Every group that there may be, by name, in the order of tables."""
MAIN = ("unsupervised_repeated", "supervised_repeated")
"""The groups on which claims are judged: what the notes' run is likely to have been, either way."""


@cache
def _kept() -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    with np.load(FOLDER / "results" / "full_size.npz", allow_pickle=False) as kept:
        arrays = {name: kept[name] for name in kept.files}
    return json.loads(str(arrays.pop("about"))), arrays


def commit() -> str:
    """The commit of the code that made the runs."""
    return str(_kept()[0]["commit"])


@cache
def groups() -> tuple[str, ...]:
    """Those that were run."""
    there = {one["group"] for one in _kept()[0]["replicas"]}
    return tuple(name for name in TITLES if name in there)


@cache
def runs(group: str, images: str = "held_out") -> xr.Dataset:
    """A group's replicas, over (replica, epoch, node, dim), as vaenotes.run returns them, measured
    on `images`: "held_out", or "seen", of which less is kept. What `run` measures at the end alone
    is here as it was at the end of the last epoch; quantiles are those of all draws of an epoch,
    from the first on, and NaN before it."""
    facts, arrays = _kept()
    found = []
    for number, one in enumerate(facts["replicas"]):
        if one["group"] == group:
            own = {
                name.removeprefix(f"{number}/"): values
                for name, values in arrays.items()
                if name.startswith(f"{number}/")
            }
            found.append(_dataset(one, own, images))
    factors = arrays["factors"]
    standard = (factors - factors.mean(0)) / factors.std(0)
    whole = xr.concat(found, dim="replica", join="exact")
    return whole.assign_coords(factors=(("image", "node"), standard))


def _dataset(facts: dict[str, Any], arrays: dict[str, np.ndarray], images: str) -> xr.Dataset:
    variables: dict[str, Any] = {}
    for name, (axes, unit, meaning) in trace.QUANTITIES.items():
        values = arrays.get(f"{images}/{name}")
        if (drawn := arrays.get(f"bands/{_as_drawn(name)}")) is not None:
            values = np.concatenate([np.full_like(drawn[:1], np.nan), drawn])
        if values is not None:
            about = {"units": unit, "long_name": meaning}
            variables[name] = (("replica", "epoch", *axes), values[None], about)
    for name, (axes, unit, meaning) in trace.FINAL_QUANTITIES.items():
        values = arrays.get(f"last/{images}/{name}")
        if values is not None:
            about = {"units": unit, "long_name": meaning}
            variables[name] = (("replica", *axes), values[None], about)
    config = facts["config"]
    return xr.Dataset(
        variables,
        coords={
            "epoch": np.arange(facts["epochs"] + 1),
            "quantile": list(trace.QUANTILES),
            "node": list(FACTORS),
            "dim": np.arange(1, config["dims"] + 1),
            "seed": ("replica", [config["seed"]]),
            "kl_weight": ("replica", [config["kl_weight"]]),
            "diverged": ("replica", [-1]),
            "diverged_step": ("replica", [-1]),
        },
    )


def _as_drawn(quantity: str) -> str:
    """The name of a quantity's bands over all draws of an epoch."""
    side, _, rest = quantity.partition("_")
    return {"quantiles": f"{side}_mean", "std_quantiles": f"{side}_std"}.get(rest, "")


def predictions() -> tuple[Prediction, ...]:
    """What was expected, by epoch."""
    return ledger.predictions("full_size")


def finding(prediction: Prediction) -> Interval | None:
    """What came of it, at the epoch that it names; None if no run has got there."""
    arms, _, measure = prediction.finding.rpartition(".")
    epoch = int(prediction.experiment.removeprefix("epoch_"))
    names = arms.split("-")
    found = [one for name in names if (one := _at(name, epoch)) is not None]
    if len(found) < len(names):
        return None
    one, *reference = found
    return difference(measure, one, *reference) if reference else median_of(measure, one)


def _at(arm: str, epoch: int) -> xr.Dataset | None:
    """An arm's replicas that ended at an epoch."""
    for group in groups():
        if group.split()[0] == arm and runs(group).sizes["epoch"] - 1 == epoch:
            return runs(group)
    return None


def predictions_table() -> Styler:
    """Every prediction beside what came of it."""
    rows = []
    for row in predictions():
        found = finding(row)
        right = "not reached" if found is None else _judged(row, found)
        rows.append(
            {
                "number": row.finding + (" (seen)" if row.seen else ""),
                "epoch": row.experiment.removeprefix("epoch_"),
                "because": row.because,
                "predicted": f"{row.low:g} to {row.high:g}",
                "measured": text(found),
                "right?": right,
            }
        )
    return pd.DataFrame(rows).style.hide(axis="index").set_table_attributes('class="dataframe"')


def _judged(row: Prediction, found: Interval) -> str:
    if not found.replicas:
        return "no: there is none"
    return "yes" if is_right(row, {row.finding: found}) else "no"


def counts() -> dict[str, int]:
    """How many predictions were right, wrong, and not reached."""
    found = [(row, finding(row)) for row in predictions()]
    judged = [_judged(row, one) for row, one in found if one is not None]
    right = judged.count("yes")
    return {"right": right, "wrong": len(judged) - right, "not reached": len(found) - len(judged)}


def findings(group: str) -> Findings:
    """The measures that the ledger's rules ask of the notes' own arm, of one group."""
    asked = {
        word
        for claim in claims()
        for rule in (*claim.rules.values(), [claim.effect])
        for condition in rule
        for word in condition.split()
        if word.startswith("notes.")
    }
    return {name: median_of(name.removeprefix("notes."), runs(group)) for name in sorted(asked)}


def main() -> dict[str, Findings]:
    """The findings of the groups of MAIN, by the title of a table's column."""
    return {f"full size, {TITLES[group]}": findings(group) for group in MAIN}


def groups_table() -> Styler:
    """What was run, how far it got, and what became of the dims."""
    rows = []
    for group in groups():
        found = runs(group)
        rows.append(
            {
                "run": TITLES[group],
                "seeds": ", ".join(map(str, found.seed.values)),
                "epochs": found.sizes["epoch"] - 1,
                **{
                    title: text(median_of(measure, found))
                    for title, measure in (
                        ("dims in use per node", "dims_used"),
                        ("KL, nats", "kl_total"),
                        ("posterior std / prior std, dims in use", "ratio_used"),
                        ("reconstruction, nats", "reconstruction"),
                    )
                },
            }
        )
    return pd.DataFrame(rows).style.hide(axis="index").set_table_attributes('class="dataframe"')


def provenance() -> Markdown:
    """Where the runs were made, and by which commit: a line under a table."""
    replicas = _kept()[0]["replicas"]
    where = sorted({f"{one['device']}, torch {one['torch']}" for one in replicas})
    steps = sum(one["epochs"] for one in replicas)
    return Markdown(
        f"*{len(replicas)} traces, {steps} epochs of 11,520 steps, on {' and '.join(where)}; "
        f"commit {commit()}. On a GPU convolutions round their inputs (TF32), on a CPU they are in "
        "bfloat16. Weights are not kept.*"
    )


def weaker(chosen: Sequence[str]) -> Figure:
    """KL of the weaker dim of a node over epochs, median over nodes: a line for each replica, a
    colour for the supervised term on or off, dashed where images are fresh."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 3.2))
        ax = figure.subplots()
        drawn: dict[str, Line2D] = {}
        for group in chosen:
            title = TITLES[group].partition(",")[0]
            colour = COLOURS["posterior" if title == "term on" else "prior"]
            kl = runs(group).kl_nats.min("dim").median("node").isel(epoch=slice(1, None))
            for replica in kl.transpose("replica", "epoch"):
                style = "--" if "fresh" in group else "-"
                (line,) = ax.plot(kl.epoch - 1, replica, color=colour, ls=style, lw=1.2)
                drawn.setdefault(title, line)
        ax.axhline(ALIVE_NATS, color="grey", lw=0.8, ls=":")
        ax.set(xlabel="epoch, from 0 as in the notes", ylabel="KL of the weaker dim (nats)")
        ax.set_ylim(bottom=0)
        ax.legend(drawn.values(), drawn.keys(), loc="upper left", bbox_to_anchor=(1, 1))
        return figure


def losing(found: xr.Dataset, epochs: int = 3) -> tuple[int, int]:
    """In how many replicas the weaker dim's KL, median over nodes, has fallen over the last
    `epochs`; and of how many."""
    kl = found.kl_nats.min("dim").median("node")
    fell = kl.isel(epoch=-1) < kl.isel(epoch=-1 - epochs)
    return int(fell.sum()), fell.size


def tails(chosen: Sequence[str]) -> pd.DataFrame:
    """How far the extremes of the posterior means of the node y reach, as a multiple of the range
    from 7 to 93 %, in the dim that carries more; in the notes' figure, and in each replica of some
    groups. A code that is linear in an evenly spread factor has 1.2."""
    rows = {"the notes": [facts(notes("std"), notes("mean"))[TAIL]]}
    for group in chosen:
        found = runs(group)
        rows[TITLES[group]] = [
            facts(bands(one, "std", "y"), bands(one, "mean", "y"))[TAIL]
            for _, one in found.groupby("seed")
        ]
    return pd.DataFrame(
        {title: {"least": min(row), "most": max(row), "replicas": len(row)}
         for title, row in rows.items()}
    ).T  # fmt: skip
