"""What is derived of the quantities that trace.py records, most of it dim by dim.

Each takes runs, an xarray.Dataset as `run` returns it, and gives (replica, node, dim), or a number
per replica, (replica,). measures.py says what of these the book shows.
"""

from collections.abc import Callable

import numpy as np
import xarray as xr
from scipy import spatial, stats

from vaenotes.lab.summary import alive, epoch_below, outcome
from vaenotes.schedule import halfway


def end(runs: xr.Dataset) -> xr.Dataset:
    return runs.isel(epoch=-1)


def total(values: xr.DataArray) -> xr.DataArray:
    return values.sum(("node", "dim"))


# Variances


def fall(side: str, runs: xr.Dataset) -> xr.DataArray:
    """The epoch from which a variance stays below 5% of its start: (replica, node, dim)."""
    return epoch_below(runs[f"{side}_variance"])


def halved(runs: xr.Dataset) -> xr.DataArray:
    """The epoch at whose end a dim's prior std first is below half of the largest it had before:
    (replica, node, dim), NaN where that never was, and where the dim is in use."""
    std = np.sqrt(runs.prior_variance)
    below = std < 0.5 * std.cumulative("epoch").max()
    return below.idxmax("epoch").where(below.any("epoch")).where(unused(runs))


def std(side: str, runs: xr.Dataset) -> xr.DataArray:
    return end(runs)[f"{side}_variance"] ** 0.5


def matching(runs: xr.Dataset) -> xr.DataArray:
    final = end(runs)
    return final.prior_variance / (final.posterior_spread**2 + final.posterior_variance)


def balance(runs: xr.Dataset) -> xr.DataArray:
    """The KL's push outwards over the noise's push inwards, w (1 - E[s^2 / t^2]) / F, on images
    trained on: 1 where the dim's width is at rest."""
    return runs.kl_weight * (1 - runs.squared_ratio) / runs.noise_force


def at_rest(runs: xr.Dataset) -> xr.DataArray:
    """The equation of state, of all dims together: sum F / (w sum (1 - E[s^2 / t^2])), (replica,),
    on images trained on. It is 1 where no common change of the widths would lower the loss, under
    a prior that does not see the code."""
    return total(runs.noise_force) / (runs.kl_weight * total(1 - runs.squared_ratio))


# Which dims are in use


def unused(runs: xr.Dataset) -> xr.DataArray:
    return ~alive(runs)


def agree(runs: xr.Dataset) -> xr.DataArray:
    """1 where all nodes in use use the same dim; NaN unless two nodes or more use one, none two."""
    used = alive(runs)
    comparable = (outcome(runs) == "one per node").values & (used.any("dim").sum("node") > 1)
    return (used.any("node").sum("dim") == 1).where(comparable)


def chance(runs: xr.Dataset) -> xr.DataArray:
    voters = alive(runs).any("dim").sum("node")
    return (runs.sizes["dim"] ** (1.0 - voters)).where(agree(runs).notnull())


def index(which: int) -> Callable[[xr.Dataset], xr.DataArray]:
    """1 where all nodes in use agree on the dim of this place; NaN where they do not agree."""

    def of(runs: xr.Dataset) -> xr.DataArray:
        chosen = alive(runs).any("node").isel(dim=which % runs.sizes["dim"], drop=True)
        return chosen.where(agree(runs) == 1)

    return of


# Means, and the KL


def reach(side: str, runs: xr.Dataset) -> xr.DataArray:
    """Half the distance between the extremes of the means."""
    quantiles = end(runs)[f"{side}_quantiles"]
    return (quantiles.isel(quantile=-1) - quantiles.isel(quantile=0)) / 2


def spread_ratio(runs: xr.Dataset) -> xr.DataArray:
    return end(runs).prior_spread / end(runs).posterior_spread


def seen(runs: xr.Dataset) -> xr.DataArray:
    """Correlation over images of prior and posterior mean, (replica, node, dim)."""
    prior, posterior = runs.image_prior_mean, runs.image_posterior_mean
    constant = prior.std("image") < 1e-6 * posterior.std("image")
    return xr.corr(prior, posterior, "image").where(~constant, 0.0)


def kl_formula(runs: xr.Dataset) -> xr.DataArray:
    """KL of the best Gaussian prior that sees what this one sees: log(M / s^2) / 2, where M is
    the second moment that is left around the best guess of the mean, (1 - R^2) Var m + s^2."""
    final = end(runs)
    # geometric means, as the KL takes them: s = ratio * t
    logvar = runs.image_posterior_logvar.mean("image")
    left = (1 - seen(runs) ** 2) * final.posterior_spread**2 + final.posterior_variance
    return 0.5 * (np.log(left) - logvar)


# Nails: how far images are apart in the whole code


def codes(runs: xr.Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Posterior mean and std of the images kept, each (replica, image, code)."""
    flat = runs[["image_posterior_mean", "image_posterior_logvar"]].stack(code=("node", "dim"))
    return flat.image_posterior_mean.values, np.exp(flat.image_posterior_logvar.values / 2)


def squared_distances(z: np.ndarray, m: np.ndarray, s: np.ndarray) -> np.ndarray:
    """|z_i - m_j|^2 in units of s_i, each (image, code) -> (image, image), as three products. Not
    by BLAS, whose sums depend on the number of threads."""
    w = s**-2.0
    crossed, squared = (np.einsum("ic,jc->ij", *pair) for pair in ((w * z, m), (w, m**2)))
    return (w * z**2).sum(1)[:, None] - 2 * crossed + squared


def nearest(runs: xr.Dataset) -> xr.DataArray:
    """Median over images of the distance to the nearest other mean, in units of the image's std."""
    found = []
    for m, s in zip(*codes(runs), strict=True):
        squared = squared_distances(m, m, s)
        np.fill_diagonal(squared, np.inf)
        found.append(np.median(np.sqrt(np.maximum(squared.min(1), 0))))
    return xr.DataArray(found, dims="replica")


def matched_back(runs: xr.Dataset) -> xr.DataArray:
    """Share of images whose posterior sample lies nearer to their own mean than to any other's,
    one sample per image, in units of the image's std over the whole code."""
    shares = []
    for m, s in zip(*codes(runs), strict=True):
        z = m + s * np.random.default_rng(0).standard_normal(m.shape)
        shares.append((squared_distances(z, m, s).argmin(1) == np.arange(len(m))).mean())
    return xr.DataArray(shares, dims="replica")


def neighbours(runs: xr.Dataset) -> xr.DataArray:
    """Spearman correlation, over pairs of images, of distance in code (posterior means in units
    of the prior's std) and in factors."""
    codes = (runs.image_posterior_mean / std("prior", runs)).stack(code=("node", "dim"))
    between_factors = stats.rankdata(spatial.distance.pdist(runs.factors.values))
    found = [
        np.corrcoef(stats.rankdata(spatial.distance.pdist(code)), between_factors)[0, 1]
        for code in codes.transpose("replica", "image", "code").values
    ]
    return xr.DataArray(found, dims="replica")


# A replica and its twin


def mirrored(runs: xr.Dataset, twins: xr.Dataset) -> xr.DataArray:
    """1 where the twin uses the same dims counted from the other end, in every node."""
    same = alive(runs).values == alive(twins).isel(dim=slice(None, None, -1)).values
    return xr.DataArray(same.all((1, 2)), dims="replica")


def jump(name: str) -> Callable[[xr.Dataset, xr.Dataset], xr.DataArray]:
    """Largest change of a quantity, over dims, at the epoch in which the twin's units stay."""

    def of(runs: xr.Dataset, twins: xr.Dataset) -> xr.DataArray:
        epoch = halfway(runs.sizes["epoch"] - 1)
        one, other = (both[name].isel(epoch=epoch) for both in (runs, twins))
        apart = abs(one - other.values)
        return apart.max([dim for dim in apart.dims if dim != "replica"])

    return of
