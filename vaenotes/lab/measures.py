"""One number per replica: all that the book measures of its runs, each defined once.

MEASURES maps a name to a unit, a meaning and a function of the runs (an xarray.Dataset as `run`
returns it) that gives one value per replica: (replica,). Where a number belongs to dims of one
kind, it is the median over the replica's dims of that kind, NaN where the replica has none; of one
that diverged it may be anything, and `values_of` makes it NaN. PAIRED are measures of a replica and
its twin, which shares its seed.
"""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import xarray as xr

from vaenotes.errors import check
from vaenotes.lab import quantities as q
from vaenotes.lab.summary import (
    ALIVE_RATIO,
    SMALL,
    Interval,
    alive,
    binomial_interval,
    diverged,
    median_interval,
    outcome,
    survivors,
)
from vaenotes.trace import FINAL_QUANTITIES, QUANTITIES

SHARE = "share of replicas"
"""The unit of what is true or false of a replica."""
UNITS_OF_CODE = ("z", "z^2")
"""A number in these units changes when a dim is rescaled, which the loss cannot feel."""
SYMLOG = ("shuffle_cost",)
"""What is 0 in some arms and large in others."""


class Measure(NamedTuple):
    """What one number per replica means, and how it is computed."""

    unit: str
    meaning: str
    of: Callable[..., xr.DataArray]
    scale: str = "linear"  # of a figure's axis: linear, log or symlog

    @property
    def label(self) -> str:
        """Its meaning and unit, for an axis."""
        unit = self.unit.replace("^2", "²")
        return self.meaning if unit == "1" else f"{self.meaning} ({unit})"


# What is asked of measures


def values_of(name: str, runs: xr.Dataset) -> xr.DataArray:
    """A measure of every replica: (replica,), NaN where it diverged or the measure has no sense."""
    with np.errstate(invalid="ignore"):  # 0 / 0, where it has no sense
        values = MEASURES[name].of(runs).astype(float)
    return values.where(~diverged(runs).values)


Values = Callable[[str, xr.Dataset], xr.DataArray]
"""`values_of`, or what remembers its results."""


def median_of(name: str, runs: xr.Dataset, values: Values = values_of) -> Interval:
    """A measure's median over replicas (a share, if it is true or false) with its 95% interval.
    Raises ParameterError where a replica is among them twice."""
    _check_once(runs)
    return _interval(MEASURES[name].unit, values(name, runs))


def difference(
    name: str, runs: xr.Dataset, reference: xr.Dataset, values: Values = values_of
) -> Interval:
    """Median difference of a measure to the replica of the same seed in `reference`."""
    places, others = _same_seeds(runs, reference)
    ours, theirs = values(name, runs).values, values(name, reference).values
    return median_interval(ours[places] - theirs[others])


def paired(name: str, runs: xr.Dataset, twins: xr.Dataset) -> Interval:
    """A measure of PAIRED over the seeds that both have and of which neither diverged."""
    runs, twins = survivors(runs), survivors(twins)
    places, others = _same_seeds(runs, twins)
    found = PAIRED[name].of(runs.isel(replica=places), twins.isel(replica=others))
    return _interval(PAIRED[name].unit, found)


def pooled(name: str, groups: Sequence[xr.Dataset]) -> Interval:
    """`median_of` the replicas of several groups of runs together."""
    _check_once(*groups)
    values = xr.concat([values_of(name, runs) for runs in groups], "replica")
    return _interval(MEASURES[name].unit, values)


def _interval(unit: str, values: xr.DataArray) -> Interval:
    if unit != SHARE:
        return median_interval(values)
    known = values.values[~np.isnan(values.values)]
    return binomial_interval(int(known.sum()), known.size)


def _check_once(*groups: xr.Dataset) -> None:
    counted = Counter(config for runs in groups for config in runs.config.values)
    twice = [f"seed {json.loads(config)['seed']}" for config, n in counted.items() if n > 1]
    check(not twice, "runs must all differ, as a replica counts once", twice)


def _same_seeds(a: xr.Dataset, b: xr.Dataset) -> tuple[np.ndarray, np.ndarray]:
    """The places of the replicas whose seeds both have; raises ParameterError where one has a seed
    twice, as of other settings."""
    for runs in (a, b):
        seeds, counts = np.unique(runs.seed.values, return_counts=True)
        rule = "runs that are compared seed by seed must have each once"
        check(bool((counts < 2).all()), rule, seeds[counts > 1].tolist())
    _, in_a, in_b = np.intersect1d(a.seed.values, b.seed.values, return_indices=True)
    return in_a, in_b


# The tables: by name, a unit, a meaning, and a function of the runs

Row = tuple[str, str, Callable[[xr.Dataset], xr.DataArray]]

RECORDED = {
    "posterior_variance": "posterior_variance", "prior_variance": "prior_variance",
    "ratio": "ratio", "kl": "kl_nats", "knockout": "knockout_nats", "knockout_r2": "knockout_r2",
}  # fmt: skip
"""Quantities of trace.py that are measured at the end, by use."""

BY_USE: dict[str, Row] = {
    "posterior_std": ("z", "posterior std", lambda r: q.std("posterior", r)),
    "prior_std": ("z", "prior std", lambda r: q.std("prior", r)),
    "posterior_epoch": ("epoch", "epoch from which the posterior variance is below 5% of its start",
                        lambda r: q.fall("posterior", r)),
    "posterior_kept": ("1", "posterior variance at the end / at the start",
                       lambda r: q.kept("posterior", r)),
    "prior_kept": ("1", "prior variance at the end / at the start", lambda r: q.kept("prior", r)),
    "balance": ("1", "push of the KL / push of the decoder's noise", q.balance),
}  # fmt: skip
"""Medians over dims in use, as NAME_used, and over the others, as NAME_unused."""

USED: dict[str, Row] = {
    "nails": ("1", "spread of the posterior means / posterior std",
              lambda r: q.end(r).posterior_spread / q.std("posterior", r)),
    "matching": ("1", "prior variance / second moment of the codes", q.matching),
    "prior_reach": ("z", "half the range of the prior means", lambda r: q.reach("prior", r)),
    "posterior_reach": ("z", "half the range of the posterior means",
                        lambda r: q.reach("posterior", r)),
    "prior_reach_std": ("1", "half the range of the prior means / prior std",
                        lambda r: q.reach("prior", r) / q.std("prior", r)),
    "posterior_reach_std": ("1", "half the range of the posterior means / prior std",
                            lambda r: q.reach("posterior", r) / q.std("prior", r)),
    "within": ("1", "spread of the prior means within a node / prior std",
               lambda r: q.end(r).prior_spread / q.std("prior", r)),
    "between": ("1", "spread of the mean prior means between nodes / prior std",
                lambda r: q.end(r).prior_mean.std("node") / q.std("prior", r)),
    "spread_ratio": ("1", "spread of the prior means / spread of the posterior means",
                     q.spread_ratio),
    "seen": ("1", "correlation of prior and posterior mean over images", q.seen),
    "calibration": ("1", "spread of the prior means / what their correlation allows",
                    lambda r: q.spread_ratio(r) / q.seen(r).where(q.seen(r) > 0.1)),
    "kl_formula": ("1", "KL / the formula for the best prior that sees as much",
                   lambda r: q.end(r).kl_nats / q.kl_formula(r)),
}  # fmt: skip
"""Medians over the dims in use."""

UNUSED: dict[str, Row] = {
    "prior_epoch_unused": ("epoch", "epoch from which the prior variance is below 5% of its start",
                           lambda r: q.fall("prior", r)),
    "lag": ("epoch", "epochs by which the prior's fall comes after the posterior's",
            lambda r: q.fall("prior", r) - q.fall("posterior", r)),
    "behind": ("1", "share of epochs at whose end the posterior is the narrower",
               lambda r: (r.ratio < 1).isel(epoch=slice(1, None)).mean("epoch")),
    "gap": ("1", "log(prior std / posterior std)", lambda r: -np.log(q.end(r).ratio)),
    "halved": ("epoch", "epoch in which the prior's std fell below half of its largest", q.halved),
    "posterior_spread_unused": ("z", "spread of the posterior means",
                                lambda r: q.end(r).posterior_spread),
    "prior_mean_unused": ("z", "size of the prior mean", lambda r: abs(q.end(r).prior_mean)),
    "offset_unused": ("nats", "KL that a constant shift of the prior would save",
                      lambda r: q.end(r).kl_offset_nats),
}  # fmt: skip
"""Medians over the dims not in use."""

WHOLE: dict[str, Row] = {
    # what became of it
    "one_per_node": (SHARE, "no node uses more than one dim, and some use one",
                     lambda r: outcome(r) == "one per node"),
    "dims_used": ("dims", "dims in use per node, mean", lambda r: alive(r).sum("dim").mean("node")),
    "decided": ("1", "share of dims whose ratio is below 0.5 or above 0.9",
                lambda r: ((q.end(r).ratio < ALIVE_RATIO) | (q.end(r).ratio > 0.9))
                .mean(("node", "dim"))),
    "screened": ("1", "share of dims of which information and a ratio below 0.5 say the same",
                 lambda r: (alive(r) == (q.end(r).ratio < ALIVE_RATIO)).mean(("node", "dim"))),
    "agree": (SHARE, "all nodes in use choose the same dim, where none uses more than one",
              q.agree),
    "chance": ("1", "the same, if nodes chose independently", q.chance),
    "first": (SHARE, "it is the first dim, where all agree", q.index(0)),
    "second": (SHARE, "it is the second dim, where all agree", q.index(1)),
    # variances
    "fallen": ("1", "share of dims whose posterior variance fell below 5% of its start",
               lambda r: q.fall("posterior", r).notnull().mean(("node", "dim"))),
    "all_fallen": (SHARE, "every posterior variance ends below 5% of its start",
                   lambda r: (q.kept("posterior", r) < SMALL).all(("node", "dim"))),
    "settled_first": ("epoch", "epoch, of 30, from which the first posterior std stays within a"
                      " tenth of its fall of its end",
                      lambda r: q.settled(r).min(("node", "dim"))),
    "settled_last": ("epoch", "epoch, of 30, from which every posterior std stays within a tenth"
                     " of its fall of its end",
                     lambda r: q.settled(r).max(("node", "dim"))),
    "prior_gone": (SHARE, "in every node one dim's prior variance ends below 5% of its start",
                   lambda r: (q.kept("prior", r) < SMALL).any("dim").all("node")),
    "slower": (SHARE, "in every node one dim's prior std falls to half, later than its posterior's",
               q.slower),
    "prior_std_least": ("z", "prior std of a node's wider prior, least of the nodes",
                        lambda r: q.wider_prior_std(r).min("node")),
    "prior_std_most": ("z", "prior std of a node's wider prior, largest of the nodes",
                       lambda r: q.wider_prior_std(r).max("node")),
    "prior_std_between": ("1", "prior std of a node's wider prior, largest / least of the nodes",
                          lambda r: q.wider_prior_std(r).max("node")
                          / q.wider_prior_std(r).min("node")),
    "stays": ("1", "prior std of a node's wider prior, at the end / halfway through", q.stays),
    "prior_fallen": ("1",
                     "share of dims not in use whose prior variance fell below 5% of its start",
                     lambda r: q.fall("prior", r).notnull().where(q.unused(r))
                     .mean(("node", "dim"))),
    "halved_apart": ("epoch", "epochs from the first to the last node so halved, dims not in use",
                     lambda r: q.halved(r).max(("node", "dim")) - q.halved(r).min(("node", "dim"))),
    "peak_kl_unused": ("nats", "largest KL of a dim after any epoch, dims not in use at the end",
                       lambda r: r.kl_nats.where(r.epoch > 0).max("epoch")
                       .where(q.unused(r)).median(("node", "dim"))),
    "once_used": (SHARE, "some dim not in use at the end had a ratio below one half before",
                  lambda r: (q.least_ratio(r) < ALIVE_RATIO).any(("node", "dim"))
                  .where(q.unused(r).any(("node", "dim")))),
    "matching_all": ("1", "prior variance / second moment of the codes, all dims",
                     lambda r: q.matching(r).median(("node", "dim"))),
    # means of dims not in use
    "place_unused": ("1", "size of the prior mean, dims not in use / prior std, dims in use",
                     q.place),
    "shrunk": ("1", "spread of the posterior means, dims not in use / dims in use", q.shrunk),
    # nails
    "tips": ("1", "share of images whose posterior std is below a third of the spread of the means"
             " in every dim in use", q.tips),
    "nearest": ("posterior std", "distance to the nearest other image's mean, whole code",
                q.nearest),
    "matched_back": ("1", "share of samples nearer to their own image's mean than to any other",
                     q.matched_back),
    "neighbours": ("1", "rank correlation of distances between codes and between factors",
                   q.neighbours("factors")),
    "neighbours_pictures": ("1", "rank correlation of distances between codes and between pictures",
                            q.neighbours("pictures")),
    "sampling_cost": ("nats", "reconstruction from a sample less that from the mean",
                      lambda r: q.end(r).reconstruction_nats - r.mean_reconstruction_nats),
    # the KL, and how well it does
    "kl_total": ("nats", "KL, all nodes and dims", lambda r: q.total(q.end(r).kl_nats)),
    "kl_weaker": ("nats", "KL of the weaker dim of a node, median over nodes",
                  lambda r: q.end(r).kl_nats.min("dim").median("node")),
    "kl_share_used": ("1", "share of the KL that the dims in use carry",
                      lambda r: q.total(q.end(r).kl_nats * alive(r)) / q.total(q.end(r).kl_nats)),
    "kl_share_wide": ("1", "share of the KL in each node's dim of the wider prior",
                      q.kl_share_wide),
    "kl_share_one": ("1", "share of a node's KL in one and the same dim, least of the nodes",
                     q.kl_share_one),
    "knockout_weaker": ("nats", "reconstruction lost if a node's less missed dim is fixed at its"
                        " mean, median over nodes",
                        lambda r: r.knockout_nats.min("dim").median("node")),
    "kl_mean_share": ("1", "share of the KL that comes from the varying means of the dims in use",
                      lambda r: q.total(q.end(r).kl_mean_nats * alive(r))
                      / q.total(q.end(r).kl_nats)),
    "shuffle_cost": ("nats", "KL added when each node's prior is taken from another image",
                     lambda r: q.total(r.shuffled_kl_nats) - q.total(q.end(r).kl_nats)),
    "reconstruction": ("nats", "reconstruction, per image", lambda r: q.end(r).reconstruction_nats),
    "reconstruction_held_out": ("nats", "reconstruction, images held out less images trained on",
                                lambda r: q.end(r).reconstruction_nats
                                - r.training_reconstruction_nats),
    "kl_held_out": ("nats", "KL, all dims, images held out less images trained on",
                    lambda r: q.total(q.end(r).kl_nats - r.training_kl_nats)),
    "at_rest": ("1", "push of the data / push of the KL on the widths, all dims", q.at_rest),
    "r2": ("1", "R² of the regressions, mean over nodes whose factor varies",
           lambda r: q.end(r).r2.mean("node")),
}  # fmt: skip
"""One number per replica by themselves."""


def _among(title: str, chosen: Callable[[xr.Dataset], xr.DataArray], row: Row) -> Measure:
    """The median over some dims of each replica, of a quantity (replica, node, dim)."""
    unit, meaning, of = row

    def median(runs: xr.Dataset) -> xr.DataArray:
        return of(runs).where(chosen(runs)).median(("node", "dim"))

    return Measure(unit, f"{meaning}, {title}", median)


def _recorded(name: str) -> Row:
    _, unit, meaning = {**QUANTITIES, **FINAL_QUANTITIES}[name]
    return unit, meaning.partition(";")[0], lambda r: q.end(r)[name]


def _measures() -> dict[str, Measure]:
    by_use = BY_USE | {name: _recorded(quantity) for name, quantity in RECORDED.items()}
    groups: list[tuple[str, Callable[[xr.Dataset], xr.DataArray], dict[str, Row]]] = [
        ("dims in use", alive, USED | {f"{name}_used": row for name, row in by_use.items()}),
        ("dims not in use", q.unused, UNUSED | {f"{n}_unused": row for n, row in by_use.items()}),
    ]
    found = {name: Measure(*row) for name, row in WHOLE.items()}
    for title, chosen, rows in groups:
        found |= {name: _among(title, chosen, row) for name, row in rows.items()}
    logs = {name: "log" for name, one in found.items() if one.unit in UNITS_OF_CODE}
    scales = logs | dict.fromkeys(SYMLOG, "symlog")
    return found | {name: found[name]._replace(scale=scale) for name, scale in scales.items()}


MEASURES: dict[str, Measure] = _measures()
"""Every measure of a replica, by name."""

PAIRED: dict[str, Measure] = {
    "mirrored": Measure(SHARE, "the twin uses the mirrored dims in every node", q.mirrored),
    "ratio_jump": Measure("1", "largest change of a ratio when the units change", q.jump("ratio")),
    "kl_jump": Measure("nats", "largest change of a dim's KL when the units change",
                       q.jump("kl_nats")),
    "reconstruction_jump": Measure("nats", "change of the reconstruction when the units change",
                                   q.jump("reconstruction_nats")),
    "variance_jump": Measure("z^2", "largest change of a prior variance when the units change",
                             q.jump("prior_variance")),
}  # fmt: skip
"""Every measure of a replica and its twin, by name."""
