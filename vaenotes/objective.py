"""The loss: three terms, unreduced until `total`, where the weights and the sums are.

    loss = w_r E[-log p(x | z)] + w_kl sum KL(q(z | x) || p(z)) + w_s sum (factor - regression)^2

averaged over the images of a batch. No weight hides inside a term.
"""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from vaenotes.kl import kl_nats, widened
from vaenotes.model import VAE, Output


class Terms(NamedTuple):
    """The terms of the loss, per image."""

    reconstruction_nats: Tensor  # (image,), -log p(x | z), summed over pixels
    kl_nats: Tensor  # (image, node, dim)
    squared_error: Tensor  # (image, node), of the regressions, in the units of their targets


class Weights(NamedTuple):
    """What multiplies each term. Defaults: the notes' own."""

    reconstruction: float | Tensor = 0.8
    kl: float | Tensor = 0.15
    supervision: float | Tensor = 0.05


def terms(model: VAE, output: Output, images: Tensor, factors: Tensor) -> Terms:
    """images (image, pixel) in 0..1, factors (image, node) standardised."""
    return Terms(
        reconstruction_nats(model, output.decoded, images),
        kl_nats(output.posterior, output.prior),
        (model.targets(factors) - output.predicted).square(),
    )


def reconstruction_nats(model: VAE, decoded: Tensor, images: Tensor) -> Tensor:
    """-log p(x | z) in nats, summed over pixels: (image, pixel) twice -> (image,)."""
    decoded = widened(decoded)
    if model.likelihood == "bernoulli":  # cross-entropy from logits
        return BernoulliNats.apply(decoded, images).sum(-1)
    scaled = (images - decoded).square() * torch.exp(-model.noise_logvar)
    return 0.5 * (scaled + model.noise_logvar + math.log(2 * math.pi)).sum(-1)


class BernoulliNats(torch.autograd.Function):
    """-log p of each pixel, from its logit: softplus(l) - x l, whose slope is sigmoid(l) - x."""

    generate_vmap_rule = True

    @staticmethod
    def forward(logits: Tensor, images: Tensor) -> Tensor:
        return F.softplus(logits) - images * logits

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, None]:
        logits, images = ctx.saved_tensors
        return torch.sigmoid(logits).sub_(images).mul_(slope), None


def total(terms: Terms, weights: Weights) -> Tensor:
    """The loss, a scalar: the one place where terms are weighted, summed and averaged."""
    return (
        weights.reconstruction * terms.reconstruction_nats
        + weights.kl * terms.kl_nats.sum((-2, -1))
        + weights.supervision * terms.squared_error.sum(-1)
    ).mean()


def loss(
    model: VAE, weights: Weights, images: Tensor, factors: Tensor, noise: Tensor, z0: Tensor
) -> Tensor:
    """The loss of one replica on a batch, a scalar; arguments as those of VAE.forward."""
    return total(terms(model, model(images, factors, noise, z0), images, factors), weights)
