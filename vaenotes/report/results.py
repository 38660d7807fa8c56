"""What was made once and is kept in results/: runs at the notes' own sizes, the notes' figures as
they were digitised, and what training costs.

`benchmarks/full_size.py` made the runs, on a GPU and on a CPU; full_size.toml was written before. A
group is an arm; or an arm and a title, where some replicas were trained on for longer. The notes'
figures, std_behaviour and mu_behaviour, show how stds and means of posterior and prior are
distributed over all draws of an epoch, for one node; epochs count from 0.
"""

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import xarray as xr

from vaenotes.data.sprites import FACTORS, render
from vaenotes.diagnosis.status import ALIVE_NATS
from vaenotes.kl import Diagonal, dim_information, sample
from vaenotes.lab import runs
from vaenotes.lab.measures import MEASURES, difference, median_of, pooled
from vaenotes.lab.store import Entry
from vaenotes.lab.summary import Interval
from vaenotes.report.claims import (
    RIGHT,
    WRONG,
    Findings,
    Prediction,
    claims,
    in_range,
    judged,
)
from vaenotes.style import COLOURS

FOLDER = Path(__file__).parent / "results"
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
    "unsupervised_repeated_costly long": "term off, repeated, KL weight 0.2, longer",
}
"""Every group that there may be, by name, in the order of tables."""
COLUMNS = {
    "full size, KL weight 0.2": ("unsupervised_repeated_costly long",),
    "full size at 0.15, term on or off": ("unsupervised_repeated", "supervised_repeated"),
}
"""The groups on which claims are judged, by title: what the notes' run may have been."""
FIGURES = {"std": ("std_behaviour", "shape"), "mean": ("mu_behaviour", "y")}
"""By what a figure shows: its name in the notes, and the one node that they show."""
NAMES = {
    ("std", "posterior"): "posterior_std_quantiles",
    ("std", "prior"): "prior_std_quantiles",
    ("mean", "posterior"): "posterior_quantiles",
    ("mean", "prior"): "prior_quantiles",
}
READ = {"min": 0.0, "p7": 0.07, "p93": 0.93, "max": 1.0}
"""The quantiles that were read off the notes' figures, by column."""
NOT_REACHED = "not reached"
"""What came of a prediction of an epoch to which no run got."""
TAIL = "posterior means, other dim: extremes / (7 to 93 %)"


@cache
def _kept() -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    with np.load(FOLDER / "full_size.npz", allow_pickle=False) as kept:
        arrays = {name: kept[name] for name in kept.files}
    return json.loads(str(arrays.pop("about"))), arrays


def provenance() -> str:
    """Where the runs at the notes' own sizes were made, and by which commit."""
    about, _ = _kept()
    replicas = about["replicas"]
    where = sorted({f"{one['device']}, torch {one['torch']}" for one in replicas})
    commits = " and ".join(dict.fromkeys(one["commit"] for one in replicas))
    steps = sum(one["epochs"] for one in replicas)
    return (
        f"{len(replicas)} traces, {steps} epochs of 11,520 steps, on {' and '.join(where)}; "
        f"commit {commits}. On a GPU convolutions round their inputs (TF32), on a CPU they "
        "are in bfloat16. Weights are not kept."
    )


@cache
def groups() -> tuple[str, ...]:
    """Those that were run."""
    there = {one["group"] for one in _kept()[0]["replicas"]}
    return tuple(name for name in TITLES if name in there)


@cache
def full_size(group: str, images: str = "held_out") -> xr.Dataset:
    """A group's replicas, over (replica, epoch, node, dim), as lab.run returns them, measured
    on `images`: "held_out", or "seen", of which less is kept. What is measured at the end alone
    is here as it was at the end of the last epoch; quantiles are those of all draws of an epoch,
    from the first on, and NaN before it."""
    about, arrays = _kept()
    found = []
    for number, one in enumerate(about["replicas"]):
        if one["group"] == group:
            own = {
                name.removeprefix(f"{number}/"): values
                for name, values in arrays.items()
                if name.startswith(f"{number}/")
            }
            traced = {
                f"trace/{name.removeprefix('last/').removeprefix(f'{images}/')}": values
                for name, values in own.items()
                if images in name
            }
            for (what, side), name in NAMES.items():
                drawn = own[f"bands/{side}_{what}"]
                traced[f"trace/{name}"] = np.concatenate([np.full_like(drawn[:1], np.nan), drawn])
            if images == "held_out":
                traced |= _derived(traced)
            config = one["config"] | {"epochs": one["epochs"]}
            meta = {"config": config, "diverged": None, "seconds": np.nan}
            found.append(Entry(traced, meta))
    factors = arrays["factors"]
    standard = (factors - factors.mean(0)) / factors.std(0)
    whole = runs.with_axes(found, FACTORS)
    drawn = render(factors.astype(int), config["size"]).reshape(len(factors), -1)
    return whole.assign_coords(
        factors=(("image", "node"), standard), pictures=(("image", "pixel"), drawn)
    )


def _derived(traced: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What was not yet recorded when these runs were made, of the images kept: information_nats,
    squared_ratio. Their noise_force, too, is of images held out."""
    parts = ("posterior_mean", "posterior_logvar", "prior_logvar")
    mean, logvar, prior = (torch.from_numpy(traced[f"trace/image_{name}"]) for name in parts)
    q = Diagonal(mean, logvar)
    noise = torch.randn(mean.shape, generator=torch.Generator().manual_seed(0))
    return {
        "trace/information_nats": dim_information(q, sample(q, noise)).numpy(),
        "trace/squared_ratio": (logvar - prior).exp().mean(0).numpy(),
    }


def ends() -> dict[str, xr.Dataset]:
    """The replicas of every group as they ended: those that were trained on are in the longer group
    alone."""
    found = {}
    for group in groups():
        runs, longer = full_size(group), f"{group} long"
        gone = full_size(longer).seed.values if longer in groups() else []
        kept = runs.isel(replica=~np.isin(runs.seed, gone))
        if kept.sizes["replica"]:
            found[group] = kept
    return found


@cache
def closest() -> xr.Dataset:
    """Of all replicas the one whose prior std, in the dim that ends less used, is closest to the
    notes' curve of the dim that they gave up: by how far their logs are apart in the middle of the
    band, mean over the epochs that both have."""
    theirs = _middle(notes_bands("std"), "prior").isel(place=0).dropna("epoch")

    def apart(one: xr.Dataset) -> float:
        own = _middle(bands(one, "std"), "prior").isel(place=0)
        return float(np.abs(np.log((own / theirs).values)).mean())  # of the epochs that both have

    every = [
        runs.isel(replica=[number])
        for runs in ends().values()
        for number in range(runs.sizes["replica"])
    ]
    return min(every, key=apart)


def finding(prediction: Prediction) -> Interval | None:
    """What came of it, at the epoch that it names; None if no run has got there."""
    arms, _, measure = prediction.finding.rpartition(".")
    epoch = int(prediction.experiment.removeprefix("epoch_"))
    ended = {(group.split()[0], full_size(group).sizes["epoch"] - 1): group for group in groups()}
    found = [ended.get((arm, epoch)) for arm in arms.split("-")]
    if None in found:
        return None
    one, *reference = (full_size(str(group)) for group in found)
    return difference(measure, one, reference[0]) if reference else median_of(measure, one)


def outcome(row: Prediction) -> str:
    """What came of a prediction: one of claims.OUTCOMES, or "not reached" by any run."""
    found = finding(row)
    return NOT_REACHED if found is None else judged(row, found)


def outcome_at_first(row: Prediction) -> str:
    """The same by the rule that held when it was written: RIGHT or WRONG by the median alone."""
    found = finding(row)
    if found is None:
        return NOT_REACHED
    return RIGHT if in_range(row, found) else WRONG


@cache
def full_size_findings() -> dict[str, Findings]:
    """What the ledger's rules ask of the notes' own arm, measured of the groups of COLUMNS, those
    of one column together, by the title of a table's column."""
    rules = [rule for claim in claims() for rule in (*claim.rules.values(), [claim.effect])]
    words = {word for rule in rules for condition in rule for word in condition.split()}
    asked = sorted({word for word in words if word.startswith("notes.")} | {"notes.at_rest"})
    names = [word.removeprefix("notes.") for word in asked]
    found: dict[str, Findings] = {}
    for title, members in COLUMNS.items():
        several = [full_size(group) for group in members]
        count = sum(runs.sizes["replica"] for runs in several)
        found[f"{title}, n = {count}"] = {
            f"notes.{name}": pooled(name, several) for name in names if name in MEASURES
        }  # no weights are kept, so no beds
    return found


def weaker_kl(runs: xr.Dataset) -> xr.DataArray:
    """Of the weaker dim of a node, median over nodes, in nats: (replica, epoch)."""
    return runs.kl_nats.min("dim").median("node").transpose("replica", "epoch")


def given_up(runs: xr.Dataset) -> list[int]:
    """Of the replicas whose weaker dim was in use and is not at the end: the epochs, counted from 0
    as the notes do, at whose end its KL fell below ALIVE_NATS for good."""
    below = (weaker_kl(runs).isel(epoch=slice(1, None)) < ALIVE_NATS).values
    since = np.logical_and.accumulate(below[:, ::-1], axis=1).sum(1)
    found = below.shape[1] - since
    return sorted(found[(since > 0) & (found > 0)].tolist())


def losing(found: xr.Dataset, epochs: int = 3) -> tuple[int, int]:
    """In how many replicas the weaker dim's KL has fallen over the last `epochs`; and of how
    many."""
    kl = weaker_kl(found)
    fell = kl.isel(epoch=-1) < kl.isel(epoch=-1 - epochs)
    return int(fell.sum()), fell.size


@cache
def digitised() -> pd.DataFrame:
    """What was read off: columns figure, quantity, node, dim, epoch (all counted as in the notes)
    and min, p7, p93, max. A batch mean stands under max alone."""
    return pd.read_csv(FOLDER / "notes_figures.csv", comment="#")


def notes_bands(what: str) -> xr.Dataset:
    """One of the notes' figures as bands: variables NAMES over (epoch, quantile, place)."""
    table = digitised()
    rows = table[table.figure == FIGURES[what][0]]
    found = {}
    for side in COLOURS:
        chosen = rows[rows.quantity == f"{side} {what}"]
        table = chosen.set_index(["epoch", "dim"])[list(READ)].to_xarray().to_dataarray("quantile")
        found[NAMES[what, side]] = table.assign_coords(quantile=list(READ.values()))
    return xr.Dataset(found).rename({"dim": "place"})


def bands(runs: xr.Dataset, what: str, node: str | None = None) -> xr.Dataset:
    """One replica as the notes drew theirs, in their node or another: variables NAMES over
    (epoch, quantile, place).

    Epochs count from 0, as each shows what its end has left. Places order the dims of the node:
    first the one whose ratio ends nearer to 1, as the notes' run gave up their first.
    """
    one = runs.isel(replica=0).sel(node=node or shown_node(runs, what))
    order = one.ratio.isel(epoch=-1).argsort().values[::-1]
    kept = one[[NAMES[what, side] for side in COLOURS]].isel(epoch=slice(1, None), dim=order)
    numbered = kept.assign_coords(epoch=kept.epoch - 1)
    return numbered.drop_vars("dim").rename({"dim": "place"})


def shown_node(runs: xr.Dataset, what: str) -> str:
    """The notes' own node; of other data's nodes the one in its place, or the last."""
    nodes, own = runs.node.values.tolist(), FIGURES[what][1]
    return str(own if own in nodes else nodes[: FACTORS.index(own) + 1][-1])


def _middle(std: xr.Dataset, side: str) -> xr.DataArray:
    """Halfway between 7 and 93 %, of bands of stds: (epoch, place)."""
    return std[NAMES["std", side]].sel(quantile=[0.07, 0.93], method="nearest").mean("quantile")


def facts_of(std: xr.Dataset, mean: xr.Dataset) -> dict[str, float]:
    """Numbers that tell one figure from another, from the bands of stds and of means; none of a
    replica that diverged. The middle of a band is halfway between 7 and 93 %. NaN where a fall was
    never seen."""
    middle = {side: _middle(std, side) for side in COLOURS}
    given_up, other = (middle["prior"].isel(place=place).dropna("epoch") for place in (0, 1))
    if not given_up.size:
        return {}
    below = given_up < given_up.max() / 2
    halved = below.where(given_up.epoch > given_up.idxmax("epoch"), False)
    spread = mean[NAMES["mean", "posterior"]].isel(place=1).dropna("epoch").isel(epoch=-1)
    low, p7, p93, high = (float(spread.sel(quantile=q, method="nearest")) for q in READ.values())
    constant = mean[NAMES["mean", "prior"]].isel(place=0).dropna("epoch").isel(epoch=-1)
    posterior = middle["posterior"].isel(place=1).dropna("epoch")
    fell = float(halved.idxmax("epoch")) if halved.any() else np.nan
    return {
        "epochs seen": float(given_up.epoch[-1]) + 1,
        "prior std, dim given up: epoch in which it falls below half": fell,
        "prior std, dim given up, at the end": float(given_up[-1]),
        "prior std, other dim, at the end": float(other[-1]),
        "posterior std, other dim, at the end": float(posterior[-1]),
        "posterior means, other dim: 7 to 93 %": p93 - p7,
        TAIL: (high - low) / (p93 - p7),
        "prior mean, dim given up, at the end": float(constant.mean("quantile")),
    }


def comparison(runs: Mapping[str, xr.Dataset]) -> pd.DataFrame:
    """`facts_of` the notes' figures and of some replicas, one of each, by title."""
    columns = {"the notes": facts_of(notes_bands("std"), notes_bands("mean"))}
    for title, one in runs.items():
        columns[title] = facts_of(bands(one, "std"), bands(one, "mean"))
    return pd.DataFrame(columns)


@cache
def tails() -> pd.DataFrame:
    """How far the extremes of the posterior means of the node y reach, as a multiple of the range
    from 7 to 93 %, in the dim that carries more: in the notes' figure, and in each replica of the
    groups at the notes' rate. A code that is linear in an evenly spread factor has 1.2."""
    rows = {"the notes": [facts_of(notes_bands("std"), notes_bands("mean"))[TAIL]]}
    for group, ended in ends().items():
        if "slow" not in group:
            rows[TITLES[group]] = [
                facts_of(bands(one, "std", "y"), bands(one, "mean", "y"))[TAIL]
                for _, one in ended.groupby("seed")
            ]
    found = {
        title: {"least": min(row), "most": max(row), "replicas": len(row)}
        for title, row in rows.items()
    }
    return pd.DataFrame(found).T


def cost(name: str) -> dict[str, Any]:
    """What a benchmark stored: its setting, commit, hardware, versions and rows."""
    return json.loads((FOLDER / f"cost_{name}.json").read_text())
