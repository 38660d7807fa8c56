"""From traces to the numbers that the book states: what became of dims, epochs, lags, intervals."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import ArrayLike
from scipy import stats

from vaenotes.diagnosis.status import ACTIVE_VARIANCE, ALIVE_NATS
from vaenotes.errors import check

ALIVE_RATIO = 0.5
"""A quick screen for dims in use, where the prior is blind to the image: in the end their ratios,
std_q / std_p, lie far below this, and those of others near 1. `alive` is what decides.
"""
SMALL = 0.05
"""What "falls to zero" means: below this share of where it started."""
OUTCOMES = ("collapsed", "one per node", "mixed", "all", "diverged")
"""What may become of a replica; `outcome` says what each means."""
LEAST_REPLICAS = 6
"""Fewer decide nothing: no two of five values enclose the median in 95% of cases (6: 97%)."""


class Interval(NamedTuple):
    """An estimate, its 95% interval, and the number of replicas behind it."""

    value: float
    low: float
    high: float
    replicas: int

    @property
    def decides(self) -> bool:
        """Whether enough replicas stand behind it for the interval to cover 95%."""
        return self.replicas >= LEAST_REPLICAS


def spread(findings: Mapping[str, Interval], prefix: str = "") -> dict[str, float]:
    """Intervals as plain numbers: each value by its name, its ends by NAME_low and NAME_high, and
    the replicas behind it by NAME_n."""
    found: dict[str, float] = {}
    for key, interval in findings.items():
        name = prefix + key
        found[name], found[f"{name}_low"], found[f"{name}_high"], found[f"{name}_n"] = interval
    return found


def alive(runs: xr.Dataset) -> xr.DataArray:
    """Whether each dim is in use at the end: it says more than ALIVE_NATS of the image, as in a
    report of `diagnose`, which takes off what a prior that sees the image knew; by the estimate
    itself, where a report may be unsure. (replica, node, dim) of bool; diverged: False."""
    return runs.information_nats > ALIVE_NATS


def diverged(runs: xr.Dataset) -> xr.DataArray:
    """Whether each replica stopped as its numbers were no longer finite: (replica,) of bool."""
    return (runs.diverged >= 0) | runs.ratio.isel(epoch=-1).isnull().any(("node", "dim"))


def outcome(runs: xr.Dataset) -> xr.DataArray:
    """What became of each replica, one of OUTCOMES: (replica,).

    collapsed: no dim alive; one per node: some, and no node has more than one; all: every dim;
    mixed: anything else; diverged: stopped as its numbers were no longer finite.
    """
    living = alive(runs).sum("dim")
    kinds = {
        "diverged": diverged(runs),
        "collapsed": (living == 0).all("node"),
        "one per node": (living <= 1).all("node"),
        "all": (living == runs.sizes["dim"]).all("node"),
    }
    return xr.DataArray(np.select(list(kinds.values()), list(kinds), "mixed"), dims="replica")


def survivors(runs: xr.Dataset) -> xr.Dataset:
    """The runs without the replicas that diverged; there may be none."""
    return runs.isel(replica=~diverged(runs).values)


def counts(runs: xr.Dataset) -> dict[str, int]:
    """How many replicas there are of each of OUTCOMES."""
    found = outcome(runs).values
    return {name: int((found == name).sum()) for name in OUTCOMES}


def outcomes_table(arms: Mapping[str, xr.Dataset]) -> pd.DataFrame:
    """What became of every replica, a row per arm: counts by outcome, and who diverged where, if
    any did."""
    rows = {}
    for name, runs in arms.items():
        gone = runs.isel(replica=runs.diverged.values >= 0)
        where = zip(gone.seed.values, gone.diverged.values, gone.diverged_step.values, strict=True)
        places = [f"seed {seed}: epoch {epoch}, step {step}" for seed, epoch, step in where]
        about = {"replicas": runs.sizes["replica"], **counts(runs)}
        rows[name] = about | ({"diverged at": "; ".join(places)} if places else {})
    return pd.DataFrame.from_dict(rows, orient="index").fillna({"diverged at": ""})


def totals_table(arms: Mapping[str, xr.Dataset]) -> pd.DataFrame:
    """The same of many arms at once: the rows of those in which any diverged, and their sum."""
    every = outcomes_table(arms)
    total = every[["replicas", *OUTCOMES]].sum().to_frame(f"all {len(arms)} arms").T
    return pd.concat([every[every["diverged"] > 0], total]).fillna({"diverged at": ""})


def dims_table(measured: Mapping[str, ArrayLike], nodes: Sequence[str]) -> pd.DataFrame:
    """Each dim of one model, from what trace.measure gives and its information_nats: four columns
    that depend on its units, then six that do not. "active" is the usual criterion of units,
    "active by t" the same after dividing by the prior's variance; "in use" is as in `alive`."""
    of = {name: np.asarray(values, dtype=float) for name, values in measured.items()}
    spread, ratio = of["posterior_spread"], of["ratio"]
    in_prior_units = spread / np.sqrt(of["prior_variance"])
    columns = {
        "s²": of["posterior_variance"],
        "t²": of["prior_variance"],
        "spread": spread,
        "active": spread**2 > ACTIVE_VARIANCE,
        "s/t": ratio,
        "spread/t": in_prior_units,
        "KL": of["kl_nats"],
        "information": of["information_nats"],
        "active by t": in_prior_units**2 > ACTIVE_VARIANCE,
        "in use": of["information_nats"] > ALIVE_NATS,
    }
    rows = [f"{node} {dim + 1}" for node in nodes for dim in range(ratio.shape[-1])]
    return pd.DataFrame({name: values.ravel() for name, values in columns.items()}, index=rows)


def representative(runs: xr.Dataset) -> int:
    """The replica to show: of the most frequent outcome, the one with the median final KL.

    Ties go to the earlier one in OUTCOMES and to the lower of two medians. A diverged replica is
    shown only if there is no other.
    """
    found, outcomes = counts(runs), outcome(runs).values
    usual = max(OUTCOMES, key=lambda name: (found[name] > 0, name != "diverged", found[name]))
    candidates = np.flatnonzero(outcomes == usual)
    kl = runs.kl_nats.isel(epoch=-1).sum(("node", "dim")).values[candidates]
    return int(candidates[np.argsort(kl, kind="stable")[(len(candidates) - 1) // 2]])


def most_and_least_used(replica: xr.Dataset) -> tuple[xr.DataArray, xr.DataArray]:
    """Of one replica, the place (from 0) of each node's most used dim and of its least used one by
    their final ratio, both (node,); the first dim in both where it diverged."""
    ratio = replica.ratio.isel(epoch=-1, drop=True).fillna(1)
    return ratio.argmin("dim"), ratio.argmax("dim")


def weaker_first(runs: xr.Dataset) -> xr.Dataset:
    """The same runs with every node's dims sorted by their final ratio, the least used first.

    Which dim of a node is used is a coin flip of the seed; sorted, replicas can be averaged.
    """
    unnamed = runs.drop_vars("dim")
    order = (-unnamed.ratio.isel(epoch=-1, drop=True)).argsort(axis=-1)
    ordered = unnamed.isel(dim=order).transpose("replica", "epoch", ..., "node", "dim")
    count = runs.sizes["dim"]
    names = [f"use rank {count - i}" for i in range(count)]  # rank 1: the most used
    return ordered.assign_coords(dim=["less used", "more used"] if count == 2 else names)


def epoch_below(quantity: xr.DataArray) -> xr.DataArray:
    """The first epoch from which a quantity stays below SMALL of its start; NaN: never.

    The epoch is the place on the epoch axis, which starts with 0: before training.
    """
    above = ~(quantity < SMALL * quantity.isel(epoch=0))
    stays = above.isel(epoch=slice(None, None, -1)).argmax("epoch")  # for so many epochs
    return (quantity.sizes["epoch"] - stays).where(stays > 0)


def median_interval(values: xr.DataArray | np.ndarray) -> Interval:
    """Median of the replicas' values, between the narrowest pair of order statistics, equally far
    from both ends, that encloses the true median in 95% of cases or more, whatever the distribution
    (David & Nagaraja 2003, 7.1). What is NaN, infinite or masked is left out, and not counted
    among the replicas.

    With fewer than LEAST_REPLICAS no pair does: it is their range, and does not decide.
    """
    check(np.ndim(values) == 1, "values must be one of each replica", np.shape(values))
    sample: np.ndarray = np.ma.array(values, dtype=float).filled(np.nan)
    sample = np.sort(sample[np.isfinite(sample)])
    count = len(sample)
    if count == 0:
        return Interval(np.nan, np.nan, np.nan, 0)
    # so many values may lie below the median in 2.5% of cases or less
    outside = max(int(stats.binom.ppf(0.025, count, 0.5)), 1)
    ends = float(sample[outside - 1]), float(sample[-outside])
    return Interval(float(np.median(sample)), *ends, count)


def binomial_interval(successes: int, trials: int) -> Interval:
    """A share with its exact 95% interval (Clopper & Pearson 1934)."""
    if trials == 0:
        return Interval(np.nan, 0.0, 1.0, 0)
    interval = stats.binomtest(successes, trials).proportion_ci(0.95, method="exact")
    return Interval(successes / trials, float(interval.low), float(interval.high), trials)
