"""What is recorded of a replica at every epoch, and how: on images held out from training, where
the data set has them, but for what says otherwise.

Axes have one order everywhere: (replica, epoch, image, node, dim), without those that a quantity
does not have; what is measured once, at the end, has no epoch. QUANTITIES and FINAL_QUANTITIES
list what there is, with its axes, unit and meaning.
Units: "z" and "z^2" are in units of the code, which the loss does not fix (a dim can be rescaled
at no cost); "nats" and "1" do not depend on them.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from vaenotes.kl import Diagonal, dim_information, kl_nats, kl_parts, marginal
from vaenotes.model import VAE, Output
from vaenotes.objective import Weights, reconstruction_nats, terms, total
from vaenotes.priors import shuffled

EVALUATION_IMAGES = 1024  # measured at every epoch
FOLLOWED_IMAGES = 128  # of these, kept image by image at every epoch
KEPT_IMAGES = 512  # and at the end
QUANTILES = (0.0, 0.07, 0.16, 0.31, 0.5, 0.69, 0.84, 0.93, 1.0)  # those of the notes' figures
# Noise for evaluation: of each replica's own, so that intervals over replicas hold its error; added
# to a replica's seed, and so the same at every epoch, and in its twins.
EVALUATION_SEED = 20_231


class Quantity(NamedTuple):
    axes: tuple[str, ...]  # after (replica, epoch) or (replica,)
    unit: str
    meaning: str


ND = ("node", "dim")
QUANTITIES = {
    "posterior_variance": Quantity(ND, "z^2", "mean over images of the posterior variance"),
    "prior_variance": Quantity(ND, "z^2", "mean over images and noise of the prior variance"),
    "posterior_mean": Quantity(ND, "z", "mean over images of the posterior mean"),
    "prior_mean": Quantity(ND, "z", "mean over images and noise of the prior mean"),
    "posterior_spread": Quantity(ND, "z", "standard deviation over images of the posterior mean"),
    "prior_spread": Quantity(ND, "z", "standard deviation over images and noise of the prior mean"),
    "posterior_quantiles": Quantity(("quantile", *ND), "z", "quantiles of the posterior mean"),
    "prior_quantiles": Quantity(("quantile", *ND), "z", "quantiles of the prior mean"),
    "posterior_std_quantiles": Quantity(("quantile", *ND), "z", "quantiles of the posterior std"),
    "prior_std_quantiles": Quantity(("quantile", *ND), "z", "quantiles of the prior std"),
    "ratio": Quantity(ND, "1", "posterior std / prior std, geometric mean over images"),
    "kl_nats": Quantity(ND, "nats", "mean over images of KL(posterior || prior)"),
    "kl_variance_nats": Quantity(ND, "nats", "its part due to unequal variances"),
    "kl_mean_nats": Quantity(ND, "nats", "its part due to means that vary around a common shift"),
    "kl_offset_nats": Quantity(ND, "nats", "its part that one constant shift would save"),
    "r2": Quantity(
        ("node",),
        "1",
        "share of the factor's variance that the regression explains; NaN if it has none",
    ),
    "reconstruction_nats": Quantity((), "nats", "mean over images of -log p(x | z)"),
    "followed_posterior_mean": Quantity(("followed", *ND), "z", "posterior mean of some images"),
    "followed_posterior_logvar": Quantity(("followed", *ND), "log z^2", "their log-variance"),
}
FINAL_QUANTITIES = {
    "knockout_nats": Quantity(ND, "nats", "reconstruction lost if the dim is fixed at its mean"),
    "knockout_r2": Quantity(
        ND, "1", "R2 of its node lost if the dim is fixed at its mean; NaN as r2"
    ),
    "mean_reconstruction_nats": Quantity((), "nats", "mean of -log p(x | posterior mean)"),
    "information_nats": Quantity(ND, "nats", "mutual information of image and dim"),
    "noise_force": Quantity(
        ND, "nats", "slope of the loss but for its KL over log posterior std; images trained on"
    ),
    "squared_ratio": Quantity(
        ND, "1", "mean of posterior variance / prior variance; images trained on"
    ),
    "training_kl_nats": Quantity(ND, "nats", "KL(posterior || prior); images trained on"),
    "training_reconstruction_nats": Quantity((), "nats", "-log p(x | z); images trained on"),
    "shuffled_kl_nats": Quantity(ND, "nats", "KL if each node's prior is another image's"),
    "image_posterior_mean": Quantity(("image", *ND), "z", "posterior mean of each image"),
    "image_posterior_logvar": Quantity(("image", *ND), "log z^2", "posterior log-variance"),
    "image_prior_mean": Quantity(("image", *ND), "z", "prior mean, one noise draw per image"),
    "image_prior_logvar": Quantity(("image", *ND), "log z^2", "prior log-variance"),
}
UNDEFINED_IF_CONSTANT = ("r2", "knockout_r2")
"""NaN where a factor is the same in all images measured: there is no variance to explain. All else
is finite in a replica that has not diverged."""


def prior_of_each(output: Output) -> Diagonal:
    """The prior of every image, (image, node, dim), also where it is one for all.

    Added to zeros, not expanded: sums then run in the same order for every prior, and whoever else
    is trained beside it.
    """
    zeros = torch.zeros_like(output.posterior.mean)
    return Diagonal(*(part + zeros for part in marginal(output.prior)))


def quantiles(values: Tensor) -> Tensor:
    """(image, node, dim) -> (quantile, node, dim), each the value of nearest rank."""
    last = values.shape[-3] - 1
    ranks = torch.tensor([round(level * last) for level in QUANTILES], device=values.device)
    return values.sort(dim=-3).values.index_select(-3, ranks)


def variance_to_explain(factors: Tensor) -> Tensor:
    """Of each factor over the images, (image, node) -> (node,): NaN where it is constant."""
    varies = factors.amax(-2) > factors.amin(-2)  # a constant's variance may be rounded to > 0
    return factors.var(-2, correction=0).where(varies, torch.nan)


def measure(model: VAE, output: Output, images: Tensor, factors: Tensor) -> dict[str, Tensor]:
    """Everything in QUANTITIES for one replica.

    `output` is the model's on images (image, pixel) and standardised factors (image, node).
    """
    posterior, prior = output.posterior, prior_of_each(output)
    parts = kl_parts(posterior, output.prior)
    targets = model.targets(factors)
    return {
        "posterior_variance": posterior.logvar.exp().mean(-3),
        "prior_variance": prior.logvar.exp().mean(-3),
        "posterior_mean": posterior.mean.mean(-3),
        "prior_mean": prior.mean.mean(-3),
        "posterior_spread": posterior.mean.std(-3, correction=0),
        "prior_spread": prior.mean.std(-3, correction=0),
        "posterior_quantiles": quantiles(posterior.mean),
        "prior_quantiles": quantiles(prior.mean),
        "posterior_std_quantiles": quantiles((0.5 * posterior.logvar).exp()),
        "prior_std_quantiles": quantiles((0.5 * prior.logvar).exp()),
        "ratio": (0.5 * (posterior.logvar - prior.logvar)).mean(-3).exp(),
        "kl_nats": kl_nats(posterior, output.prior).mean(-3),
        "kl_variance_nats": parts.variance,
        "kl_mean_nats": parts.mean,
        "kl_offset_nats": parts.offset,
        "r2": 1 - (targets - output.predicted).square().mean(-2) / variance_to_explain(targets),
        "reconstruction_nats": reconstruction_nats(model, output.decoded, images).mean(-1),
        "followed_posterior_mean": posterior.mean[:FOLLOWED_IMAGES],
        "followed_posterior_logvar": posterior.logvar[:FOLLOWED_IMAGES],
    }


def measure_training(
    model: VAE, output: Output, images: Tensor, factors: Tensor, weights: Weights
) -> dict[str, Tensor]:
    """What FINAL_QUANTITIES has of images trained on; arguments as for `measure`, and the weights
    of the loss.

    The force on the width of a dim is F = E[d loss / d log s] with the KL left out, by the chain
    rule E[(z - m) d loss / dz]: what pushes the posterior to be narrow. A draw and its mirror image
    about the mean count half each, as much of what one draw adds by chance the other takes away.
    """
    posterior, away = output.posterior, output.z - output.posterior.mean

    def data_loss(z: Tensor) -> Tensor:  # of the sum over images
        read = output._replace(z=z, decoded=model.decode(z), predicted=model.regress(z))
        found = terms(model, read, images, factors)
        return total(found._replace(kl_nats=torch.zeros_like(found.kl_nats)), weights) * len(z)

    slope = torch.func.grad(data_loss)
    sides = slope(posterior.mean + away) - slope(posterior.mean - away)
    return {
        "noise_force": 0.5 * (away * sides).mean(-3),
        "squared_ratio": (posterior.logvar - prior_of_each(output).logvar).exp().mean(-3),
        "training_kl_nats": kl_nats(posterior, output.prior).mean(-3),
        "training_reconstruction_nats": reconstruction_nats(model, output.decoded, images).mean(-1),
    }


def measure_final(model: VAE, output: Output, images: Tensor, factors: Tensor) -> dict[str, Tensor]:
    """The rest of FINAL_QUANTITIES; arguments as for `measure`."""
    mean, z = output.posterior.mean, output.z
    prior = prior_of_each(output)
    nodes, dims = model.node_shape
    kept = Diagonal(*(part[:KEPT_IMAGES] for part in output.posterior))
    nats = reconstruction_nats(model, output.decoded, images).mean(-1)
    targets = model.targets(factors)
    error = (targets - output.predicted).square().mean(-2)
    variance = variance_to_explain(targets)
    lost_nats, lost_r2 = [], []
    for place, one in enumerate(torch.eye(nodes * dims, device=z.device)):
        fixed = torch.where(one.reshape(nodes, dims) > 0, mean.mean(-3), z)  # this dim at its mean
        lost_nats.append(reconstruction_nats(model, model.decode(fixed), images).mean(-1) - nats)
        fixed_error = (targets - model.regress(fixed)).square().mean(-2)
        lost_r2.append(((fixed_error - error) / variance)[place // dims])
    return {
        "knockout_nats": torch.stack(lost_nats).reshape(nodes, dims),
        "knockout_r2": torch.stack(lost_r2).reshape(nodes, dims),
        "mean_reconstruction_nats": reconstruction_nats(model, model.decode(mean), images).mean(-1),
        "information_nats": dim_information(kept, z[:KEPT_IMAGES]),
        "shuffled_kl_nats": kl_nats(output.posterior, shuffled(output.prior)).mean(-3),
        "image_posterior_mean": kept.mean,
        "image_posterior_logvar": kept.logvar,
        "image_prior_mean": prior.mean[:KEPT_IMAGES],
        "image_prior_logvar": prior.logvar[:KEPT_IMAGES],
    }
