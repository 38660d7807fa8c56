"""Linear VAEs of two papers, made in a few seconds: one factor in white noise, trained by one-pass
SGD (Ichikawa & Hukushima 2024), and conditional ones (Dang et al. 2024). All replicas are trained
at once, by the expected loss, which is a formula; the optima are known.
"""

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

# -- linear models, all replicas at once: the expected loss is a formula


def linear_loss(
    gap: Tensor, decoder: Tensor, encoder: Tensor, logvars: tuple[Tensor, Tensor],
    covariance: Tensor, beta: Tensor,
) -> Tensor:  # fmt: skip
    """Of linear VAEs with pixels of variance 1: (replica,), up to a constant. What is left of the
    data (seen, of covariance (..., seen, seen)) at the posterior's mean is gap (replica, pixel,
    seen); encoder (replica, dim, seen), decoder (replica, pixel, dim); log-variances of posterior
    and prior (replica, dim)."""
    logvar, prior_logvar = logvars
    noise = (decoder.square().sum(-2) * logvar.exp()).sum(-1)
    left = ((gap @ covariance) * gap).sum((-2, -1))
    means = ((encoder @ covariance) * encoder).sum(-1)
    apart = logvar - prior_logvar
    kl = 0.5 * (apart.exp() + means * torch.exp(-prior_logvar) - 1 - apart)
    return 0.5 * (left + noise) + beta * kl.sum(-1)


def _descend(
    optimizer: torch.optim.Optimizer, loss: Callable[[int], Tensor], steps: int
) -> Iterator[int]:
    """Steps of an optimiser whose rate falls to zero over the second half; each is yielded."""
    fall = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1, 2 * (1 - step / steps)))
    for step in range(steps):
        optimizer.zero_grad()
        loss(step).sum().backward()
        optimizer.step()
        fall.step()
        yield step


# -- Ichikawa & Hukushima: one factor in white noise, one-pass SGD

SIGNAL, NOISE = 1.0, 1.0  # rho and eta: the covariance has one eigenvalue rho + eta, the rest eta
BETAS = (0.4, 0.7, 1.0, 1.3, 1.6, 2.4, 2.8)
LENGTH = 16  # of the data
BATCH, RATE, STEPS = 32, 0.04, 5000
AT_ONCE = 1e9  # growth of tanh, per step: no annealing
ANNEALED = (0.03, 0.01, 0.003)
CLOSE = 0.1  # generalisation error that is to be reached
IN_USE = 0.05  # squared length of a decoder's column


def error_formula(beta: np.ndarray, dims: int) -> np.ndarray:
    """Generalisation error at the optimum: of the decoder's first column from the true factor,
    and what further columns hold of noise."""
    first = np.sqrt(np.maximum(SIGNAL + NOISE - beta, 0))
    return (math.sqrt(SIGNAL) - first) ** 2 + (dims - 1) * np.maximum(NOISE - beta, 0)


def dims_formula(beta: np.ndarray, dims: int) -> np.ndarray:
    """How many dims should be in use: those whose eigenvalue exceeds beta."""
    return (beta < SIGNAL + NOISE).astype(int) + (dims - 1) * (beta < NOISE)


class Learnt(NamedTuple):
    """Linear VAEs after one-pass SGD, by seed and beta, and by seed and growth at NOISE's beta."""

    error: np.ndarray  # (seed, beta), generalisation error
    dims: np.ndarray  # (seed, beta), in use
    reached: np.ndarray  # (seed, growth), step from which the error is below CLOSE; NaN: never


def one_pass(dims: int, seeds: range) -> Learnt:
    """Each batch is drawn afresh; all weights start normal, variances at 1. At beta = NOISE, where
    the formula's error is 0, beta also grows as tanh(growth step)."""
    generator = torch.Generator().manual_seed(seeds[0])
    growths = (AT_ONCE, *ANNEALED)
    each = len(BETAS) + len(growths)  # replicas of a seed: of like weights, and shown like data
    betas = torch.tensor([*BETAS, *[NOISE] * len(growths)]).repeat(len(seeds))
    growth = torch.tensor([*[AT_ONCE] * len(BETAS), *growths]).repeat(len(seeds))
    count, n = len(betas), LENGTH

    def drawn(*shape: int) -> Tensor:  # (seed, *shape) -> (replica, *shape)
        normal = torch.randn(len(seeds), *shape, generator=generator)
        return normal.repeat_interleave(each, 0)

    decoder = (drawn(n, dims) / n**0.5).requires_grad_()
    encoder = (drawn(dims, n) / n**0.5).requires_grad_()
    logvar = torch.zeros(count, dims, requires_grad=True)
    prior_logvar = torch.zeros(count, dims)

    def loss(step: int) -> Tensor:
        x = (SIGNAL / n) ** 0.5 * drawn(BATCH, 1) + NOISE**0.5 * drawn(BATCH, n)
        beta = betas * torch.tanh(growth * (step + 1))
        gap = torch.eye(n) - decoder @ encoder
        found = x.mT @ x / BATCH
        return linear_loss(gap, decoder, encoder, (logvar, prior_logvar), found, beta)

    optimizer = torch.optim.SGD([decoder, encoder, logvar], lr=RATE)
    errors = torch.stack([_error(decoder.detach()) for _ in _descend(optimizer, loss, STEPS)])
    lengths = decoder.detach().square().sum(-2)
    shape = (len(seeds), -1)
    return Learnt(
        errors[-1].reshape(shape).numpy()[:, : len(BETAS)],
        (lengths > IN_USE).sum(-1).reshape(shape).numpy()[:, : len(BETAS)],
        _reached(errors.numpy()).reshape(shape)[:, len(BETAS) :],
    )


def _error(decoder: Tensor) -> Tensor:
    """(replica, entry, dim) -> (replica,): squared distance of the column most like the true
    factor, which is the same in all entries, and the squared lengths of the others."""
    overlap = decoder.sum(-2).abs() * (SIGNAL / LENGTH) ** 0.5  # (replica, dim)
    return SIGNAL - 2 * overlap.amax(-1) + decoder.square().sum((-2, -1))


def _reached(error: np.ndarray) -> np.ndarray:
    """(step, replica) -> (replica,): step from which the error is below CLOSE; NaN: never."""
    above = error >= CLOSE
    since = len(error) - above[::-1].argmax(0)
    return np.where(above[-1], np.nan, np.where(above.any(0), since, 0))


# -- Dang et al.: linear conditional VAEs

SPECTRUM = (4.0, 2.2, 1.4, 0.7, 0.3)  # of y's covariance
SEEN = (0.0, 0.6, 0.9)  # correlation of y's parts with what x says of them
CONDITIONAL_BETAS = (0.5, 1.0, 1.8)
CONDITIONAL_RATE, CONDITIONAL_STEPS = 0.02, 2000


def conditional_formula(seen: float, beta: float) -> np.ndarray:
    """Singular values of U1 (in units of t), descending: sqrt(max(0, theta - beta)) with theta the
    eigenvalues of what x leaves of y."""
    return np.sqrt(np.maximum((1 - seen**2) * np.array(SPECTRUM) - beta, 0))


def conditional_covariance(seen: Tensor, generator: torch.Generator) -> Tensor:
    """Of (x, y), for each of `seen` (replica,): y has SPECTRUM along random directions, and each
    part correlation `seen` with an entry of x ~ N(0, I). What x leaves of y has eigenvalues
    (1 - seen^2) SPECTRUM."""
    count, size = len(seen), len(SPECTRUM)
    normal = torch.randn(count, size, size, generator=generator, dtype=torch.float64)
    root = torch.linalg.qr(normal).Q * torch.tensor(SPECTRUM, dtype=torch.float64).sqrt()
    x = torch.eye(size, dtype=torch.float64).expand(count, size, size)
    both = seen[:, None, None] * root
    return torch.cat([torch.cat([x, both.mT], -1), torch.cat([both, root @ root.mT], -1)], -2)


def train_conditional(covariance: Tensor, beta: Tensor, learned: bool, seed: int) -> np.ndarray:
    """q(z | x, y) = N(W1 x + W2 y, diag s^2), p(y | x, z) = N(U1 z + U2 x, I), p(z) = N(0, diag
    t^2), t = 1 unless learned; a replica for each covariance (replica, 2 size, 2 size) of (x, y)
    and each beta. Adam on the expected loss; singular values of U1 diag(t), descending (replica,
    size)."""
    generator = torch.Generator().manual_seed(seed)
    count, size = len(covariance), covariance.shape[-1] // 2
    normal = torch.randn(count, size, 4 * size + 2, generator=generator, dtype=torch.float64)
    sizes = [2 * size, size, size, 1, 1]
    encoder, decoder, from_x, logvar, prior_logvar = (
        (0.3 * part.squeeze(-1)).requires_grad_() for part in normal.split(sizes, -1)
    )
    if not learned:
        prior_logvar = torch.zeros_like(logvar)
    own = torch.eye(size, dtype=torch.float64).expand(count, size, size)

    def loss(_: int) -> Tensor:
        gap = torch.cat([-from_x, own], -1) - decoder @ encoder
        return linear_loss(gap, decoder, encoder, (logvar, prior_logvar), covariance, beta)

    chosen = [encoder, decoder, from_x, logvar] + [prior_logvar] * learned
    for _ in _descend(torch.optim.Adam(chosen, CONDITIONAL_RATE), loss, CONDITIONAL_STEPS):
        pass
    scaled = decoder.detach() * torch.exp(0.5 * prior_logvar.detach())[:, None]
    return torch.linalg.svdvals(scaled).numpy()
