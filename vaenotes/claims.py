"""What the notes observed, measured: each observation's quantities with 95% intervals.

A function per chapter turns runs into Measures. Every interval is over replicas: first the median
over a replica's dims of one kind is taken, then the median over replicas with a bootstrap
interval; shares of replicas get an exact binomial interval. Diverged replicas have no numbers and
are left out; so are replicas without a dim of the kind in question. Each Measure says how many
replicas are behind it.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import xarray as xr
from pandas.io.formats.style import Styler
from scipy import spatial, stats

from vaenotes.summary import (
    Interval,
    alive,
    binomial_interval,
    epoch_below,
    fate,
    median_interval,
)

# A number in these units changes when a dim is rescaled, which the loss cannot feel.
UNITS_OF_CODE = ("z", "z^2")


class Measure(NamedTuple):
    """One measured quantity behind one observation of the notes."""

    claim: str  # V1 ... M5
    key: str  # the number's name in the prose
    what: str
    unit: str
    interval: Interval


def table(measures: Sequence[Measure]) -> Styler:
    """Measures as a table for reading, with a column that says what is a matter of units."""
    frame = pd.DataFrame(
        {
            "claim": [m.claim for m in measures],
            "quantity": [m.what for m in measures],
            "median or share": [f"{m.interval.value:.3g}" for m in measures],
            "95% interval": [f"{m.interval.low:.3g} to {m.interval.high:.3g}" for m in measures],
            "replicas": [m.interval.replicas for m in measures],
            "unit": [m.unit for m in measures],
            "matter of units?": ["yes" if m.unit in UNITS_OF_CODE else "no" for m in measures],
        }
    )
    # pandas' own class, so that a page's theme, light or dark, styles it like any other table
    return frame.style.hide(axis="index").set_table_attributes('class="dataframe"')


def numbers(measures: Sequence[Measure]) -> dict[str, float]:
    """The measures' numbers by key, with _low and _high for the interval's ends."""
    found: dict[str, float] = {}
    for m in measures:
        found |= {m.key: m.interval.value, f"{m.key}_low": m.interval.low}
        found[f"{m.key}_high"] = m.interval.high
    return found


def posterior_variance(runs: xr.Dataset, factors: np.ndarray) -> list[Measure]:
    """V1-V5. `factors`: the standardised factors of the snapshots' images, (image, node)."""
    runs = _finite(runs)
    final = runs.isel(epoch=-1)
    used, unused = alive(runs), ~alive(runs)
    below = epoch_below(runs.posterior_variance)
    nails = final.posterior_spread / np.sqrt(final.posterior_variance)
    return [
        _median("V1", "fallen", "share of dims whose posterior variance fell below 5% of its start",
                "1", below.notnull().mean(("node", "dim"))),
        _median("V1", "posterior_epoch_used", "epoch of that fall, dims in use that fell", "epoch",
                _within(below, used)),
        _median("V1", "posterior_epoch_unused", "epoch of that fall, dims not in use that fell",
                "epoch", _within(below, unused)),
        _median("V1", "posterior_variance_used", "posterior variance at the end, dims in use",
                "z^2", _within(final.posterior_variance, used)),
        _median("V1", "posterior_variance_unused",
                "posterior variance at the end, dims not in use", "z^2",
                _within(final.posterior_variance, unused)),
        _median("V2", "nails", "spread of the posterior means / posterior std, dims in use", "1",
                _within(nails, used)),
        _median("V3", "matched_back", "share of samples nearer to their own image's mean than to "
                "any other", "1", matched_back(runs)),
        _median("V4", "neighbours", "rank correlation of distances between codes and factors",
                "1", neighbours(runs, factors)),
        _median("V5", "ratio_used", "posterior std / prior std, dims in use", "1",
                _within(final.ratio, used)),
        _median("V5", "ratio_unused", "posterior std / prior std, dims not in use", "1",
                _within(final.ratio, unused)),
        _median("V5", "kl_unused", "KL of a dim not in use", "nats",
                _within(final.kl_nats, unused)),
    ]  # fmt: skip


def prior_variance(runs: xr.Dataset) -> list[Measure]:
    """P1-P4."""
    runs = _finite(runs)
    final = runs.isel(epoch=-1)
    used, unused = alive(runs), ~alive(runs)
    posterior, prior = epoch_below(runs.posterior_variance), epoch_below(runs.prior_variance)
    second_moment = final.posterior_spread**2 + final.posterior_variance
    return [
        _median("P1", "prior_fallen", "share of dims not in use whose prior variance fell below 5% "
                "of its start", "1", _share_within(prior.notnull(), unused)),
        _median("P1", "prior_epoch_unused", "epoch of that fall, dims not in use that fell",
                "epoch", _within(prior, unused)),
        _median("P1", "lag", "epochs by which the prior's fall comes after the posterior's, dims "
                "not in use", "epoch", _within(prior - posterior, unused)),
        _median("P1", "behind", "share of the epochs of training at whose end the posterior is "
                "narrower than the prior, dims not in use", "1",
                _within((runs.ratio < 1).isel(epoch=slice(1, None)).mean("epoch"), unused)),
        _median("P1", "gap", "prior std / posterior std - 1, dims not in use", "1",
                _within(1 / final.ratio - 1, unused)),
        _median("P1", "prior_variance_unused", "prior variance at the end, dims not in use",
                "z^2", _within(final.prior_variance, unused)),
        _median("P2", "prior_variance_used", "prior variance at the end, dims in use", "z^2",
                _within(final.prior_variance, used)),
        _median("P2", "prior_std_used", "prior std at the end, dims in use", "z",
                _within(final.prior_variance, used) ** 0.5),
        _median("P2", "matching", "prior variance / second moment of the posterior around its "
                "mean, dims in use", "1", _within(final.prior_variance / second_moment, used)),
        *_agreement(runs),
        _median("P4", "kl_share_used", "share of the KL that the dims in use carry", "1",
                (final.kl_nats * used).sum(("node", "dim")) / final.kl_nats.sum(("node", "dim"))),
        _median("P4", "kl_total", "KL, all nodes and dims", "nats",
                final.kl_nats.sum(("node", "dim"))),
    ]  # fmt: skip


def both_shrink(runs: xr.Dataset) -> list[Measure]:
    """The earlier note's regime: what the replicas look like in which no dim is in use."""
    final = runs.isel(epoch=-1, replica=np.flatnonzero(fate(runs) == "collapsed"))

    def per_replica(name: str) -> xr.DataArray:
        return final[name].median(("node", "dim"))

    return [
        _median("earlier", "early_prior_variance", "prior variance at the end", "z^2",
                per_replica("prior_variance")),
        _median("earlier", "early_posterior_variance", "posterior variance at the end", "z^2",
                per_replica("posterior_variance")),
        _median("earlier", "early_ratio", "posterior std / prior std", "1", per_replica("ratio")),
        _median("earlier", "early_kl", "KL of a dim", "nats", per_replica("kl_nats")),
    ]  # fmt: skip


def fit(runs: xr.Dataset) -> list[Measure]:
    """How well the regressions and the decoder do; no claim of the notes."""
    final = _finite(runs).isel(epoch=-1)
    nodes = [str(node) for node in runs.node.values]
    r2 = [_median("-", f"r2_{n}", f"R² of {n}", "1", final.r2.sel(node=n)) for n in nodes]
    nats = final.reconstruction_nats
    return [*r2, _median("-", "reconstruction", "reconstruction, per image", "nats", nats)]


def means(runs: xr.Dataset) -> list[Measure]:
    """M1-M5."""
    runs = _finite(runs)
    final = runs.isel(epoch=-1)
    used, unused = alive(runs), ~alive(runs)

    def reach(side: str) -> xr.DataArray:  # half the distance between the extremes
        quantiles = final[f"{side}_quantiles"]
        return (quantiles.isel(quantile=-1) - quantiles.isel(quantile=0)) / 2

    between = final.prior_mean.std("node")
    within = final.prior_spread
    carrier = final.kl_mean_nats.where(used).sum(("node", "dim"))
    return [
        _median("M1", "posterior_spread_unused", "spread of the posterior means, dims not in use",
                "z", _within(final.posterior_spread, unused)),
        _median("M1", "prior_mean_unused", "size of the prior mean, dims not in use", "z",
                _within(abs(final.prior_mean), unused)),
        _median("M1", "offset_unused", "KL that a constant shift of the prior would save, dims "
                "not in use", "nats", _within(final.kl_offset_nats, unused)),
        _median("M2", "prior_reach", "half the range of the prior means, dims in use", "z",
                _within(reach("prior"), used)),
        _median("M3", "posterior_reach", "half the range of the posterior means, dims in use",
                "z", _within(reach("posterior"), used)),
        _median("M3", "reach_ratio", "the first of these / the second", "1",
                _within(reach("prior") / reach("posterior"), used)),
        _median("M2", "within", "spread of the prior means over noise / prior std, dims in use",
                "1", _within(within / np.sqrt(final.prior_variance), used)),
        _median("M2", "between", "spread of the prior means between nodes / prior std, all dims",
                "1", (between / np.sqrt(final.prior_variance.mean("node"))).median("dim")),
        *_agreement(runs),
        _median("M5", "kl_used", "KL of a dim in use", "nats", _within(final.kl_nats, used)),
        _median("M5", "kl_unused", "KL of a dim not in use", "nats",
                _within(final.kl_nats, unused)),
        _median("M5", "kl_mean_share", "share of the KL that comes from the varying means of the "
                "dims in use", "1", carrier / final.kl_nats.sum(("node", "dim"))),
    ]  # fmt: skip


def matched_back(runs: xr.Dataset) -> xr.DataArray:
    """Share of images whose posterior sample lies nearer to their own mean than to any other's.

    One sample per image of the last snapshot; distances in units of the image's posterior std,
    over all nodes and dims: (replica,). V3, bed of nails.
    """
    mean, logvar = (
        runs[f"image_posterior_{name}"].isel(snapshot=-1).stack(code=("node", "dim")).values
        for name in ("mean", "logvar")
    )
    noise = np.random.default_rng(0).standard_normal(mean.shape[1:])
    shares = []
    for m, s in zip(mean, np.exp(logvar / 2), strict=True):
        distances = (((m + s * noise)[:, None] - m[None]) / s[:, None]) ** 2
        nearest = distances.sum(-1).argmin(1)
        share = float((nearest == np.arange(len(m))).mean())
        shares.append(share if np.isfinite(m).all() else np.nan)
    return xr.DataArray(shares, dims="replica")


def neighbours(runs: xr.Dataset, factors: np.ndarray) -> xr.DataArray:
    """Spearman correlation, over pairs of images, of distance in code and in factors: (replica,).

    Codes are the posterior means of the last snapshot in units of the prior's std. V4.
    """
    std = np.sqrt(runs.prior_variance.isel(epoch=-1))
    codes = (runs.image_posterior_mean.isel(snapshot=-1) / std).stack(code=("node", "dim"))
    between_factors = spatial.distance.pdist(factors)
    correlations = [
        stats.spearmanr(spatial.distance.pdist(code), between_factors).statistic
        for code in codes.transpose("replica", "image", "code").values
    ]
    return xr.DataArray(correlations, dims="replica")


def _finite(runs: xr.Dataset) -> xr.Dataset:
    return runs.isel(replica=np.flatnonzero(fate(runs) != "diverged"))


def _agreement(runs: xr.Dataset) -> list[Measure]:
    """P3 and M4: whether the nodes choose the same dim, where no node uses more than one."""
    used = alive(runs)
    nodes = used.any("dim").sum("node")  # how many nodes use a dim
    comparable = (fate(runs) == "one per node").values & (nodes > 1).values
    used, nodes = used.isel(replica=comparable), nodes.isel(replica=comparable)
    agree = (used.any("node").sum("dim") == 1).values  # all of them the same one
    chance = runs.sizes["dim"] ** (1.0 - nodes)
    second = used.isel(replica=agree).any("node").isel(dim=1 % runs.sizes["dim"])
    return [
        _share("P3, M4", "agree", "share of replicas, where no node uses more than one dim, in "
               "which all nodes in use choose the same dim", agree),
        _median("P3, M4", "chance", "the same, if nodes chose independently", "1", chance),
        _share("P3, M4", "second", "share of those that agree in which it is the second dim",
               second.values),
    ]  # fmt: skip


def _within(values: xr.DataArray, mask: xr.DataArray) -> xr.DataArray:
    """Each replica's median over its masked dims: (replica,); NaN where it has none."""
    return values.where(mask).median(("node", "dim"))


def _share_within(happened: xr.DataArray, mask: xr.DataArray) -> xr.DataArray:
    """The share of each replica's masked dims: (replica,); NaN where it has none."""
    return happened.where(mask).mean(("node", "dim"))


def _median(claim: str, key: str, what: str, unit: str, values: xr.DataArray) -> Measure:
    return Measure(claim, key, what, unit, median_interval(values))


def _share(claim: str, key: str, what: str, happened: np.ndarray) -> Measure:
    interval = binomial_interval(int(happened.sum()), happened.size)
    return Measure(claim, key, what, "1", interval)
