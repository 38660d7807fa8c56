"""What is derived of the quantities that trace.py records, most of it dim by dim.

Each takes runs, an xarray.Dataset as `run` returns it, and gives (replica, node, dim), or a number
per replica, (replica,). measures.py says what of these the book shows.
"""

from collections.abc import Callable

import numpy as np
import xarray as xr
from scipy import spatial, stats

from vaenotes.diagnosis.status import ALIVE_NATS
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


def halving(side: str, runs: xr.Dataset) -> xr.DataArray:
    """The epoch at whose end a dim's std first is below half of the largest it had before:
    (replica, node, dim), NaN where that never was."""
    std = runs[f"{side}_variance"] ** 0.5
    below = std < 0.5 * std.cumulative("epoch").max()
    return below.idxmax("epoch").where(below.any("epoch"))


def halved(runs: xr.Dataset) -> xr.DataArray:
    """The same of the prior, in dims not in use; NaN elsewhere."""
    return halving("prior", runs).where(unused(runs))


def least_ratio(runs: xr.Dataset) -> xr.DataArray:
    """The least ratio that a dim not in use at the end had after any epoch: (replica, node, dim),
    NaN elsewhere. One half or more: it was never used to speak of."""
    return runs.ratio.where(runs.epoch > 0).min("epoch").where(unused(runs))


def settled(runs: xr.Dataset) -> xr.DataArray:
    """The epoch from which a dim's posterior std stays near its end: within a tenth of what lies
    between that and its largest, from the second epoch's end on. On linear axes a curve goes to 0
    there. (replica, node, dim); counted as if the run had the notes' 30 epochs, since of less data
    there are more for as many steps. NaN in runs of fewer than 25, which tell nothing of when.
    """
    std = np.sqrt(runs.posterior_variance)
    last, largest = std.isel(epoch=-1), std.where(std.epoch >= 2).max("epoch")
    above = std > last + (largest - last) / 10
    epochs = runs.sizes["epoch"] - 1
    return (((above * runs.epoch).max("epoch") + 1) * 30 / max(epochs, 1)).where(epochs >= 25)


def kept(side: str, runs: xr.Dataset) -> xr.DataArray:
    """A variance at the end, as a share of where it started: (replica, node, dim)."""
    variance = runs[f"{side}_variance"]
    return variance.isel(epoch=-1) / variance.isel(epoch=0)


def slower(runs: xr.Dataset) -> xr.DataArray:
    """Whether in every node the prior std of one dim ends below half of its largest, and first was
    there at a later epoch than its posterior std below half of its own: (replica,)."""
    std = np.sqrt(runs.prior_variance)
    ends = std.isel(epoch=-1) < 0.5 * std.max("epoch")
    later = halving("prior", runs) > halving("posterior", runs)
    return (ends & later).any("dim").all("node")


def widest(runs: xr.Dataset) -> xr.DataArray:
    """The place (from 0) of each node's dim whose prior is widest at the end: (replica, node)."""
    return runs.prior_variance.isel(epoch=-1, drop=True).fillna(0).argmax("dim")


def wider_prior_std(runs: xr.Dataset, epoch: int = -1) -> xr.DataArray:
    """The prior std of that dim, at the end or at another epoch: (replica, node)."""
    return np.sqrt(runs.prior_variance.isel(epoch=epoch)).isel(dim=widest(runs))


def stays(runs: xr.Dataset) -> xr.DataArray:
    """The same at the end over halfway through, median over nodes: (replica,)."""
    middle = (runs.sizes["epoch"] - 1) // 2
    return (wider_prior_std(runs) / wider_prior_std(runs, middle)).median("node")


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


def kl_share_wide(runs: xr.Dataset) -> xr.DataArray:
    """The share of the KL in each node's dim of the wider prior: (replica,); NaN where no dim's is
    wider, as under a fixed prior."""
    final = end(runs)
    share = final.kl_nats.isel(dim=widest(runs)).sum("node") / total(final.kl_nats)
    prior = final.prior_variance
    return share.where((prior.max("dim") > prior.min("dim")).any("node"))


def kl_share_one(runs: xr.Dataset) -> xr.DataArray:
    """The least share of a node's KL that one and the same dim carries, of the dim for which it is
    the largest: (replica,). Nodes that carry no more than ALIVE_NATS do not count."""
    kl = end(runs).kl_nats
    of_node = kl.sum("dim")
    return (kl / of_node).where(of_node > ALIVE_NATS).min("node").max("dim")


def place(runs: xr.Dataset) -> xr.DataArray:
    """Size of the prior mean in dims not in use / prior std in dims in use, medians: (replica,)."""
    mean = abs(end(runs).prior_mean).where(unused(runs)).median(("node", "dim"))
    return mean / std("prior", runs).where(alive(runs)).median(("node", "dim"))


def shrunk(runs: xr.Dataset) -> xr.DataArray:
    """Spread of the posterior means in dims not in use / in dims in use, medians: (replica,)."""
    spread = end(runs).posterior_spread
    one, other = (spread.where(of(runs)).median(("node", "dim")) for of in (unused, alive))
    return one / other


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
    """|z_i - m_j|^2 in units of s_i: (point, code), (image, code), (point, code) -> (point, image),
    by one matrix product, in float64: how many threads sum it changes what it gives by far less
    than any two distances differ."""
    z, m, w = z.astype(np.float64), m.astype(np.float64), s.astype(np.float64) ** -2
    squared = np.hstack([w, -2 * w * z]) @ np.hstack([m**2, m]).T
    squared += (w * z**2).sum(1)[:, None]
    return squared


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


def tips(runs: xr.Dataset) -> xr.DataArray:
    """Share of images whose posterior std is below a third of the spread of the means in every dim
    in use: (replica,); NaN where none is."""
    std = np.exp(runs.image_posterior_logvar / 2)
    narrow = (3 * std < end(runs).posterior_spread) | unused(runs)
    return narrow.all(("node", "dim")).mean("image").where(alive(runs).any(("node", "dim")))


def neighbours(shown: str) -> Callable[[xr.Dataset], xr.DataArray]:
    """Spearman correlation, over pairs of images, of distance in code (posterior means in units
    of the prior's std) and in what is shown: their factors, or pictures (pixels)."""

    def of(runs: xr.Dataset) -> xr.DataArray:
        codes = (runs.image_posterior_mean / std("prior", runs)).stack(code=("node", "dim"))
        between = stats.rankdata(spatial.distance.pdist(runs[shown].values))
        found = [
            np.corrcoef(stats.rankdata(spatial.distance.pdist(code)), between)[0, 1]
            for code in codes.transpose("replica", "image", "code").values
        ]
        return xr.DataArray(found, dims="replica")

    return of


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
