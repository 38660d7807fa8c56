"""One number per replica: all that the book measures of its runs, each defined once.

MEASURES maps a name to a unit, a meaning and a function of the runs (an xarray.Dataset as `run`
returns it) that gives one value per replica: (replica,). Where a number belongs to dims of one
kind, it is the median over the replica's dims of that kind; NaN says that the replica has none, or
diverged. PAIRED are measures of a replica and its twin, which shares its seed.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import xarray as xr
from scipy import spatial, stats

from vaenotes.lab.summary import (
    Interval,
    alive,
    binomial_interval,
    epoch_below,
    fate,
    median_interval,
    survivors,
)
from vaenotes.schedule import halfway

SHARE = "share of replicas"  # the unit of what is true or false of a replica
# A number in these units changes when a dim is rescaled, which the loss cannot feel.
UNITS_OF_CODE = ("z", "z^2")
DECIDED = 0.9  # a dim whose ratio is above this carries next to nothing


class Measure(NamedTuple):
    """What one number per replica means, and how it is computed."""

    unit: str
    meaning: str
    of: Callable[..., xr.DataArray]


def median_of(name: str, runs: xr.Dataset) -> Interval:
    """A measure's median over replicas (a share, if it is true or false) with its 95% interval."""
    return _interval(MEASURES[name].unit, values_of(name, runs))


def difference(name: str, runs: xr.Dataset, reference: xr.Dataset) -> Interval:
    """Median difference of a measure to the replica of the same seed in `reference`."""
    runs, reference = _same_seeds(runs, reference)
    change = values_of(name, runs).values - values_of(name, reference).values
    return median_interval(change)


def paired(name: str, runs: xr.Dataset, twins: xr.Dataset) -> Interval:
    """A measure of PAIRED over the seeds that both have and of which neither diverged."""
    runs, twins = _same_seeds(survivors(runs), survivors(twins))
    return _interval(PAIRED[name].unit, PAIRED[name].of(runs, twins))


def values_of(name: str, runs: xr.Dataset) -> xr.DataArray:
    """A measure of every replica: (replica,), NaN where it diverged or the measure has no sense."""
    with np.errstate(invalid="ignore"):  # 0 / 0, where it has no sense
        values = MEASURES[name].of(runs).astype(float)
    return values.where((fate(runs) != "diverged").values)


def _interval(unit: str, values: xr.DataArray) -> Interval:
    if unit != SHARE:
        return median_interval(values)
    known = values.values[~np.isnan(values.values)]
    return binomial_interval(int(known.sum()), known.size)


def _same_seeds(a: xr.Dataset, b: xr.Dataset) -> tuple[xr.Dataset, xr.Dataset]:
    _, in_a, in_b = np.intersect1d(a.seed.values, b.seed.values, return_indices=True)
    return a.isel(replica=in_a), b.isel(replica=in_b)


def _final(runs: xr.Dataset) -> xr.Dataset:
    return runs.isel(epoch=-1)


def _used(values: xr.DataArray, runs: xr.Dataset) -> xr.DataArray:
    return values.where(alive(runs)).median(("node", "dim"))


def _unused(values: xr.DataArray, runs: xr.Dataset) -> xr.DataArray:
    return values.where(~alive(runs)).median(("node", "dim"))


def _carrying(values: xr.DataArray, runs: xr.Dataset) -> xr.DataArray:
    """Median over dims whose means spread over more than two posterior stds. In a prior that sees
    as much as the posterior these need not be narrower than the prior, as dims in use are."""
    final = _final(runs)
    carrying = final.posterior_spread > 2 * np.sqrt(final.posterior_variance)
    return values.where(carrying).median(("node", "dim"))


def _by_use(
    name: str, unit: str, meaning: str, of: Callable[[xr.Dataset], xr.DataArray]
) -> dict[str, Measure]:
    """Two measures of a quantity (replica, node, dim): of dims in use, and of the others."""
    return {
        f"{name}_used": Measure(unit, f"{meaning}, dims in use", lambda r: _used(of(r), r)),
        f"{name}_unused": Measure(unit, f"{meaning}, dims not in use", lambda r: _unused(of(r), r)),
    }


def _total(values: xr.DataArray) -> xr.DataArray:
    return values.sum(("node", "dim"))


def _fall(name: str, runs: xr.Dataset) -> xr.DataArray:
    return epoch_below(runs[name])


def _halved(runs: xr.Dataset) -> xr.DataArray:
    """The epoch at whose end a dim's prior std first is below half of the largest it had before:
    (replica, node, dim), NaN where that never was."""
    std = np.sqrt(runs.prior_variance)
    below = std < 0.5 * std.cumulative("epoch").max()
    return below.idxmax("epoch").where(below.any("epoch"))


def _lag(runs: xr.Dataset) -> xr.DataArray:
    return _unused(_fall("prior_variance", runs) - _fall("posterior_variance", runs), runs)


def _matching(runs: xr.Dataset) -> xr.DataArray:
    final = _final(runs)
    second_moment = final.posterior_spread**2 + final.posterior_variance
    return final.prior_variance / second_moment


def _reach(side: str, runs: xr.Dataset) -> xr.DataArray:
    """Half the distance between the extremes of the means."""
    quantiles = _final(runs)[f"{side}_quantiles"]
    return (quantiles.isel(quantile=-1) - quantiles.isel(quantile=0)) / 2


def _agree(runs: xr.Dataset) -> xr.DataArray:
    """1 where all nodes in use use the same dim; NaN unless two nodes or more use one, none two."""
    used = alive(runs)
    comparable = (fate(runs) == "one per node").values & (used.any("dim").sum("node") > 1)
    return (used.any("node").sum("dim") == 1).where(comparable)


def _chance(runs: xr.Dataset) -> xr.DataArray:
    voters = alive(runs).any("dim").sum("node")
    return (runs.sizes["dim"] ** (1.0 - voters)).where(_agree(runs).notnull())


def _index(which: int) -> Callable[[xr.Dataset], xr.DataArray]:
    """1 where all nodes in use agree on the dim of this place; NaN where they do not agree."""

    def of(runs: xr.Dataset) -> xr.DataArray:
        chosen = alive(runs).any("node").isel(dim=which % runs.sizes["dim"], drop=True)
        return chosen.where(_agree(runs) == 1)

    return of


def _balance(runs: xr.Dataset) -> xr.DataArray:
    """The KL's push outwards over the noise's push inwards: 1 where the posterior is at rest.

    KL weight (1 - E[s^2 / t^2]) / F; with E[s^2/t^2] taken as ratio^2, as both hardly vary.
    """
    return runs.kl_weight * (1 - _final(runs).ratio ** 2) / runs.noise_force


def _means(runs: xr.Dataset, side: str) -> xr.DataArray:
    return runs[f"image_{side}_mean"]


def _seen(runs: xr.Dataset) -> xr.DataArray:
    """Correlation over images of prior and posterior mean, (replica, node, dim)."""
    prior, posterior = _means(runs, "prior"), _means(runs, "posterior")
    constant = prior.std("image") < 1e-6 * posterior.std("image")
    return xr.corr(prior, posterior, "image").where(~constant, 0.0)


def _kl_formula(runs: xr.Dataset) -> xr.DataArray:
    """KL of the best Gaussian prior that sees what this one sees: log(M / s^2) / 2, where M is
    the second moment that is left around the best guess of the mean, (1 - R^2) Var m + s^2."""
    final = _final(runs)
    # geometric means, as the KL takes them: s = ratio * t
    logvar = runs.image_posterior_logvar.mean("image")
    left = (1 - _seen(runs) ** 2) * final.posterior_spread**2 + final.posterior_variance
    return 0.5 * (np.log(left) - logvar)


def _codes(runs: xr.Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Posterior mean and std of the images kept, each (replica, image, code)."""
    mean, logvar = (
        runs[f"image_posterior_{name}"].stack(code=("node", "dim")).values
        for name in ("mean", "logvar")
    )
    return mean, np.exp(logvar / 2)


def _squared_distances(z: np.ndarray, m: np.ndarray, s: np.ndarray) -> np.ndarray:
    """|z_i - m_j|^2 in units of s_i, each (image, code) -> (image, image), as three products. Not
    by BLAS, whose sums depend on the number of threads."""
    w = s**-2.0
    crossed, squared = (np.einsum("ic,jc->ij", *pair) for pair in ((w * z, m), (w, m**2)))
    return (w * z**2).sum(1)[:, None] - 2 * crossed + squared


def _nearest(runs: xr.Dataset) -> xr.DataArray:
    """Median over images of the distance to the nearest other mean, in units of the image's std."""
    found = []
    for m, s in zip(*_codes(runs), strict=True):
        squared = _squared_distances(m, m, s)
        np.fill_diagonal(squared, np.inf)
        found.append(np.median(np.sqrt(np.maximum(squared.min(1), 0))))
    return xr.DataArray(found, dims="replica")


def _matched_back(runs: xr.Dataset) -> xr.DataArray:
    """Share of images whose posterior sample lies nearer to their own mean than to any other's,
    one sample per image, in units of the image's std over the whole code."""
    shares = []
    for m, s in zip(*_codes(runs), strict=True):
        z = m + s * np.random.default_rng(0).standard_normal(m.shape)
        shares.append((_squared_distances(z, m, s).argmin(1) == np.arange(len(m))).mean())
    return xr.DataArray(shares, dims="replica")


def _neighbours(runs: xr.Dataset) -> xr.DataArray:
    """Spearman correlation, over pairs of images, of distance in code (posterior means in units
    of the prior's std) and in factors."""
    std = np.sqrt(_final(runs).prior_variance)
    codes = (_means(runs, "posterior") / std).stack(code=("node", "dim"))
    between_factors = stats.rankdata(spatial.distance.pdist(runs.factors.values))
    found = [
        np.corrcoef(stats.rankdata(spatial.distance.pdist(code)), between_factors)[0, 1]
        for code in codes.transpose("replica", "image", "code").values
    ]
    return xr.DataArray(found, dims="replica")


def _mirrored(runs: xr.Dataset, twins: xr.Dataset) -> xr.DataArray:
    """1 where the twin uses the same dims counted from the other end, in every node."""
    same = alive(runs).values == alive(twins).isel(dim=slice(None, None, -1)).values
    return xr.DataArray(same.all((1, 2)), dims="replica")


def _jump(name: str) -> Callable[[xr.Dataset, xr.Dataset], xr.DataArray]:
    """Largest change of a quantity, over dims, at the epoch in which the twin's units stay."""

    def of(runs: xr.Dataset, twins: xr.Dataset) -> xr.DataArray:
        epoch = halfway(runs.sizes["epoch"] - 1)
        after, before = (r[name].isel(epoch=epoch).values for r in (runs, twins))
        apart = np.abs(after - before)
        apart = apart.max(axis=tuple(range(1, apart.ndim)))
        return xr.DataArray(apart, dims="replica")

    return of


MEASURES: dict[str, Measure] = {
    # what became of the replica
    "one_per_node": Measure(
        SHARE, "no node uses more than one dim, and some use one",
        lambda r: fate(r) == "one per node",
    ),
    "dims_used": Measure(
        "dims", "dims in use per node, mean", lambda r: alive(r).sum("dim").mean("node")
    ),
    "decided": Measure(
        "1", f"share of dims whose ratio is below 0.5 or above {DECIDED}",
        lambda r: (alive(r) | (_final(r).ratio > DECIDED)).mean(("node", "dim")),
    ),
    # the posterior's variance
    "fallen": Measure(
        "1", "share of dims whose posterior variance fell below 5% of its start",
        lambda r: _fall("posterior_variance", r).notnull().mean(("node", "dim")),
    ),
    **_by_use(
        "posterior_epoch", "epoch", "epoch of that fall (of dims that fell)",
        lambda r: _fall("posterior_variance", r),
    ),
    **_by_use(
        "posterior_variance", "z^2", "posterior variance",
        lambda r: _final(r).posterior_variance,
    ),
    **_by_use("ratio", "1", "posterior std / prior std", lambda r: _final(r).ratio),
    **_by_use(
        "balance", "1", "push of the KL / push of the decoder's noise",
        lambda r: _balance(r),
    ),
    # what a dim is good for
    **_by_use(
        "knockout", "nats", "reconstruction lost when the dim is fixed at its mean",
        lambda r: r.knockout_nats,
    ),
    **_by_use(
        "knockout_r2", "1", "R² lost when the dim is fixed at its mean",
        lambda r: r.knockout_r2,
    ),
    # the nails
    "nails": Measure(
        "1", "spread of the posterior means / posterior std, dims in use",
        lambda r: _used(
            _final(r).posterior_spread / np.sqrt(_final(r).posterior_variance), r
        ),
    ),
    "nearest": Measure(
        "posterior std", "distance to the nearest other image's mean, whole code", _nearest
    ),
    "matched_back": Measure(
        "1", "share of samples nearer to their own image's mean than to any other", _matched_back
    ),
    "neighbours": Measure(
        "1", "rank correlation of distances between codes and between factors", _neighbours
    ),
    "sampling_cost": Measure(
        "nats", "reconstruction from a sample less that from the mean",
        lambda r: _final(r).reconstruction_nats - r.mean_reconstruction_nats,
    ),
    # the prior's variance
    "prior_fallen": Measure(
        "1", "share of dims not in use whose prior variance fell below 5% of its start",
        lambda r: _fall("prior_variance", r).notnull().where(~alive(r)).mean(("node", "dim")),
    ),
    "prior_epoch_unused": Measure(
        "epoch", "epoch of that fall, dims not in use that fell",
        lambda r: _unused(_fall("prior_variance", r), r),
    ),
    "lag": Measure(
        "epoch", "epochs by which the prior's fall comes after the posterior's, dims not in use",
        _lag,
    ),
    "behind": Measure(
        "1", "share of epochs at whose end the posterior is the narrower, dims not in use",
        lambda r: _unused((r.ratio < 1).isel(epoch=slice(1, None)).mean("epoch"), r),
    ),
    "gap": Measure(
        "1", "log(prior std / posterior std), dims not in use",
        lambda r: _unused(-np.log(_final(r).ratio), r),
    ),
    "halved": Measure(
        "epoch", "epoch in which the prior's std fell below half of its largest, dims not in use",
        lambda r: _unused(_halved(r), r),
    ),
    "halved_apart": Measure(
        "epoch", "epochs between the first and the last node in that, dims not in use",
        lambda r: _halved(r).where(~alive(r)).max(("node", "dim"))
        - _halved(r).where(~alive(r)).min(("node", "dim")),
    ),
    **_by_use(
        "prior_std", "z", "prior std", lambda r: np.sqrt(_final(r).prior_variance)
    ),
    **_by_use(
        "posterior_std", "z", "posterior std", lambda r: np.sqrt(_final(r).posterior_variance)
    ),
    **_by_use("prior_variance", "z^2", "prior variance", lambda r: _final(r).prior_variance),
    "matching": Measure(
        "1", "prior variance / second moment of the codes, dims in use",
        lambda r: _used(_matching(r), r),
    ),
    "matching_all": Measure(
        "1", "prior variance / second moment of the codes, all dims",
        lambda r: _matching(r).median(("node", "dim")),
    ),
    "agree": Measure(
        SHARE, "all nodes in use choose the same dim, where none uses more than one", _agree
    ),
    "chance": Measure("1", "the same, if nodes chose independently", _chance),
    "first": Measure(SHARE, "it is the first dim, where all agree", _index(0)),
    "second": Measure(SHARE, "it is the second dim, where all agree", _index(1)),
    # the means
    "posterior_spread_unused": Measure(
        "z", "spread of the posterior means, dims not in use",
        lambda r: _unused(_final(r).posterior_spread, r),
    ),
    "prior_mean_unused": Measure(
        "z", "size of the prior mean, dims not in use",
        lambda r: _unused(abs(_final(r).prior_mean), r),
    ),
    "offset_unused": Measure(
        "nats", "KL that a constant shift of the prior would save, dims not in use",
        lambda r: _unused(_final(r).kl_offset_nats, r),
    ),
    "prior_reach": Measure(
        "z", "half the range of the prior means, dims in use",
        lambda r: _used(_reach("prior", r), r),
    ),
    "posterior_reach": Measure(
        "z", "half the range of the posterior means, dims in use",
        lambda r: _used(_reach("posterior", r), r),
    ),
    "spread_ratio": Measure(
        "1", "spread of the prior means / spread of the posterior means, dims that carry anything",
        lambda r: _carrying(_final(r).prior_spread / _final(r).posterior_spread, r),
    ),
    "seen": Measure(
        "1", "correlation of prior and posterior mean over images, dims that carry anything",
        lambda r: _carrying(_seen(r), r),
    ),
    "calibration": Measure(
        "1", "spread of the prior means / what their correlation allows, dims that carry anything",
        lambda r: _carrying(
            _final(r).prior_spread / _final(r).posterior_spread / _seen(r).where(_seen(r) > 0.1), r
        ),
    ),
    "within": Measure(
        "1", "spread of the prior means within a node / prior std, dims in use",
        lambda r: _used(_final(r).prior_spread / np.sqrt(_final(r).prior_variance), r),
    ),
    "between": Measure(
        "1", "spread of the mean prior means between nodes / prior std, dims in use",
        lambda r: _used(
            _final(r).prior_mean.std("node") / np.sqrt(_final(r).prior_variance), r
        ),
    ),
    # the KL
    "kl_total": Measure("nats", "KL, all nodes and dims", lambda r: _total(_final(r).kl_nats)),
    **_by_use("kl", "nats", "KL of a dim", lambda r: _final(r).kl_nats),
    "kl_weaker": Measure(
        "nats", "KL of the weaker dim of a node, median over nodes",
        lambda r: _final(r).kl_nats.min("dim").median("node"),
    ),
    "kl_share_used": Measure(
        "1", "share of the KL that the dims in use carry",
        lambda r: _total(_final(r).kl_nats * alive(r)) / _total(_final(r).kl_nats),
    ),
    "kl_mean_share": Measure(
        "1", "share of the KL that comes from the varying means of the dims in use",
        lambda r: _total(_final(r).kl_mean_nats * alive(r)) / _total(_final(r).kl_nats),
    ),
    "kl_formula": Measure(
        "1", "KL / the formula for the best prior that sees as much, dims that carry anything",
        lambda r: _carrying(_final(r).kl_nats / _kl_formula(r), r),
    ),
    "shuffle_cost": Measure(
        "nats", "KL added when each node's prior is taken from another image",
        lambda r: _total(r.shuffled_kl_nats) - _total(_final(r).kl_nats),
    ),
    # how well it does
    "reconstruction": Measure(
        "nats", "reconstruction, per image", lambda r: _final(r).reconstruction_nats
    ),
    "r2": Measure(
        "1", "R² of the regressions, mean over nodes whose factor varies",
        lambda r: _final(r).r2.mean("node"),
    ),
}  # fmt: skip
"""Every measure of a replica, by name."""

PAIRED: dict[str, Measure] = {
    "mirrored": Measure(SHARE, "the twin uses the mirrored dims in every node", _mirrored),
    "ratio_jump": Measure(
        "1", "largest change of a ratio when the units change", _jump("ratio")
    ),
    "kl_jump": Measure(
        "nats", "largest change of a dim's KL when the units change", _jump("kl_nats")
    ),
    "reconstruction_jump": Measure(
        "nats", "change of the reconstruction when the units change", _jump("reconstruction_nats")
    ),
    "variance_jump": Measure(
        "z^2", "largest change of a prior variance when the units change", _jump("prior_variance")
    ),
}  # fmt: skip
"""Every measure of a replica and its twin, by name."""
