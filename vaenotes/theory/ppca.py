"""The linear VAE in closed form: probabilistic PCA (Tipping & Bishop 1999).

With a linear decoder, Gaussian pixels of one variance and a linear encoder, the ELBO's maximum is
the likelihood's, for any prior that can reach it (book/theory.md, proposition T6). Eigenvalues
are those of the data's covariance, in descending order, with 1/n (maximum likelihood), not 1/(n-1).
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from vaenotes.kl import Full, Gaussian, kl_nats
from vaenotes.model import VAE
from vaenotes.objective import reconstruction_nats


class Optimum(NamedTuple):
    """The best linear model of a number of dims, per image."""

    log_likelihood: float  # nats
    noise: float  # variance of a pixel
    ratio: np.ndarray  # (dim,), s / t: sqrt(noise / eigenvalue), 1 where the dim is not worth it
    kl_nats: np.ndarray  # (dim,)


def spectrum(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues (pixel,) and eigenvectors (pixel, pixel), by column, of x (image, pixel)."""
    values, vectors = np.linalg.eigh(np.cov(x.astype(np.float64), rowvar=False, bias=True))
    return values[::-1].clip(0), vectors[:, ::-1]


def optimum(
    eigenvalues: np.ndarray, dims: int, noise: float | None = None, kl_weight: float = 1.0
) -> Optimum:
    """The optimum, most used dims first, for a fixed noise variance, or where it is None, with the
    best one: the mean of the eigenvalues left out (Tipping & Bishop 1999, equations 3.7, 3.8).

    A dim is used where its eigenvalue exceeds kl_weight * noise (Wang & Ziyin 2022, arXiv
    2205.04009, theorem 2). The log-likelihood is log N(x; 0, C) at kl_weight 1; at another weight
    that of a model whose pixels have kl_weight times the noise, which has to be given then.
    """
    eigenvalues, pixels = np.sort(eigenvalues)[::-1], len(eigenvalues)
    if noise is None:
        noise = float(eigenvalues[dims:].mean())
    level = kl_weight * noise
    kept = np.maximum(eigenvalues[:dims], level)
    explained = np.concatenate([kept, np.full(max(pixels - dims, 0), level)])[:pixels]
    fit = np.log(2 * np.pi) + np.log(explained) + eigenvalues / explained
    ratio = np.sqrt(level / kept)
    return Optimum(-0.5 * float(fit.sum()), noise, ratio, -np.log(ratio))


def exact_terms(model: VAE, images: Tensor) -> tuple[Tensor, Tensor]:
    """Mean reconstruction () and KL (node, dim) in nats of a linear model, whose average over
    posterior samples is known: the reconstruction at the mean, and the noise's own part."""
    posterior = model.encode(images)
    weight = model.get_parameter("decoder.0.weight")
    sampled = posterior.logvar.exp().flatten(-2) @ weight.square().sum(-1)  # squares it adds
    nats = reconstruction_nats(model, model.decode(posterior.mean), images)
    nats = nats + 0.5 * sampled * torch.exp(-model.noise_logvar)
    return nats.mean(), kl_nats(posterior, constant_prior(model)).mean(-3)


def constant_prior(model: VAE) -> Gaussian:
    """The prior (node, dim) of a model whose prior neither sees the image nor is fed noise."""
    nodes, dims = model.node_shape
    nothing = model.regression_weight.new_zeros(1, nodes, dims)
    silence = model.regression_weight.new_zeros(1, nodes, model.noise_inputs)
    return model.prior(silence, nothing[..., 0], nothing)


class Solution(NamedTuple):
    """Weights at the optimum, for codes (dim,): z = encoder^T (x - mean) + noise of std s."""

    decoder: np.ndarray  # (dim, pixel)
    encoder: np.ndarray  # (pixel, dim)
    std: np.ndarray  # (dim,), of the posterior
    prior_covariance: np.ndarray  # (dim, dim), about mean 0


def solution(
    x: np.ndarray, noise: float, std: np.ndarray, rotation: np.ndarray | None = None
) -> Solution:
    """One of the many optima for x (image, pixel): the one with these posterior stds (dim,).

    Without a rotation the prior is diagonal, of stds s / ratio. With one, orthogonal (dim, dim), it
    is diag(s) O diag(1 / ratio^2) O^T diag(s): a full covariance, of the same ELBO. What is the
    same in all of them is the spectrum of the prior's covariance in units of s.
    """
    values, vectors = spectrum(x)
    dims = len(std)
    ratio = optimum(values, dims, noise).ratio
    kept = noise / ratio**2
    # y: codes whose prior is N(0, I) and whose posterior has stds `ratio`; z = K y
    decoder_y = np.sqrt(kept - noise)[:, None] * vectors[:, :dims].T
    encoder_y = vectors[:, :dims] * (np.sqrt(kept - noise) / kept)
    rotation = np.eye(dims) if rotation is None else rotation
    k = std[:, None] * rotation / ratio
    return Solution(np.linalg.solve(k.T, decoder_y), encoder_y @ k.T, std, k @ k.T)


@torch.no_grad()
def install(model: VAE, x: np.ndarray, found: Solution) -> VAE:
    """Put a solution for x (image, pixel) into a linear VAE of one node whose prior is "diagonal",
    "variance", "cholesky", or "standard" where the solution's prior is N(0, I)."""
    own = dict(model.named_parameters()) | dict(model.named_buffers())
    mean = x.astype(np.float64).mean(0)
    lower = np.linalg.cholesky(found.prior_covariance)
    values = {
        "posterior_network.mean.weight": found.encoder,
        "posterior_network.mean.bias": -mean @ found.encoder,
        "posterior_network.logvar": 2 * np.log(found.std)[None],
        "decoder.0.weight": found.decoder,
        "decoder.0.bias": mean,
        "prior.logvar": 2 * np.log(np.diagonal(lower))[None],
        "prior.factor": np.tril(lower, -1) + np.diag(np.log(np.diagonal(lower))),
    }
    for name, value in values.items():
        if name in own:
            own[name].copy_(torch.from_numpy(value))
    return model


def relative_spectrum(std: np.ndarray, prior: Gaussian) -> np.ndarray:
    """Eigenvalues of the posterior's covariance diag(std^2) in units of the prior's, ascending:
    what is left of a ratio s^2 / t^2 by dim where the prior has a full covariance. (dim,); NaN
    where either is not finite."""
    if isinstance(prior, Full):
        lower = prior.cholesky.detach().double().numpy()
    else:
        lower = np.diag(np.exp(0.5 * prior.logvar.detach().double().numpy().ravel()))
    white = np.linalg.solve(lower, np.diag(std.ravel()))
    if not np.isfinite(white).all():
        return np.full(len(white), np.nan)
    return np.linalg.svd(white, compute_uv=False)[::-1] ** 2
