"""What a dim adds to what its prior knew already.

A prior p(z | c) may see something of the sample x: a class, the state before, an upper latent. Then
the information I(x; z) counts what c gave away too; what the dim adds is I(x; z | c). Each code in
units of its own prior is

    u = (z - prior mean) / prior std,

for a full covariance L^-1 (z - prior mean), L the lower Cholesky factor. Given c this map is one to
one, so I(x; z | c) = I(x; u | c); and as c is a function of x (or noise that no posterior saw),

    I(x; u | c) = I(x; u) - I(c; u) <= I(x; u),    I(x; z | c) = I(x; z) - I(c; z) <= I(x; z).

What is reported is the smaller of the two bounds. The first is exact where the aggregate of u is
the same for every c, as it is where the model's prior fits its codes; the second where c tells
nothing of z. For a prior that is one for all samples u is z in other units: all three are equal.

In these units the prior is N(0, 1), so the mean KL splits by Hoffman & Johnson 2016:

    E KL(q || p) = I(x; u) + KL(aggregate of u || N(0, 1)).

The KL beyond what is added is wasted: it buys nothing. With a and v the mean and the variance of
the aggregate of u, a^2 / 2 of it is for an offset, (v - 1 - log v) / 2 for a width; the rest is for
a shape that is no Gaussian's, or for means that follow a prior which moves for nothing.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from vaenotes.diagnosis.surgery import Estimate
from vaenotes.kl import Diagonal, Full, Gaussian, log_density, marginal, sample

BLOCK = 2**19  # numbers at a time: 4 MiB


class Information(NamedTuple):
    """Nats about the sample: of each dim alone (1, dim), and of the whole code ()."""

    dims: Estimate
    code: Estimate


class Waste(NamedTuple):
    """What of the KL is wasted on a constant shift and on a wrong width: each (dim,), nats."""

    offset: Tensor
    width: Tensor


def relative(q: Gaussian, p: Gaussian) -> Gaussian:
    """The posteriors (sample, 1, dim) of u: full if either is."""
    away = q.mean - p.mean
    if isinstance(p, Diagonal):
        per_std = torch.exp(-0.5 * p.logvar)
        if isinstance(q, Diagonal):
            return Diagonal(away * per_std, q.logvar - p.logvar)
        return Full(away * per_std, per_std.mT * q.cholesky)
    lower = q.cholesky if isinstance(q, Full) else torch.diag_embed((0.5 * q.logvar).exp()[:, 0])
    mean = torch.linalg.solve_triangular(p.cholesky, away.mT, upper=False)
    return Full(mean.mT, torch.linalg.solve_triangular(p.cholesky, lower, upper=False))


def waste(mean: Tensor, variance: Tensor) -> Waste:
    """From the moments of all codes of a dim, in units of their priors."""
    logvar = variance.log()
    return Waste(0.5 * mean.square(), 0.5 * (torch.expm1(logvar) - logvar))


def information(q: Gaussian, noise: Tensor, weights: Tensor | None = None) -> Information:
    """Mutual information of the sample, taken for one of these, and its code, from one draw of
    each posterior: E log q(z | x) - E log q(z), q(z) the mixture of all. At most log(samples).

    weights: (sample, 1), or (sample, dim): how much samples count, of each dim. Of a code, dims
    that do not count at all must have been given their prior's Gaussian.
    Time grows with samples^2 x dims, memory with samples^2.
    """
    z = sample(q, noise)
    weights = torch.ones(len(z), 1).double() if weights is None else weights
    found = _of_dims(marginal(q), z, weights)
    code = _of_code(q, z, weights) if isinstance(q, Full) else found.code
    return Information(found.dims, code)


def added(
    q: Gaussian, p: Gaussian, noise: Tensor, alone: Information, weights: Tensor | None = None
) -> Information:
    """What each dim adds to a prior (sample, 1, dim), from the same draws; alone: their
    `information`."""
    prior, u = marginal(p), relative(q, p)
    weights = torch.ones(len(q.mean), 1).double() if weights is None else weights
    drawn = (sample(q, noise) - prior.mean) * torch.exp(-0.5 * prior.logvar)
    found = _of_dims(marginal(relative(marginal(q), prior)), drawn, weights)
    code = _of_code(u, sample(u, noise), weights) if isinstance(u, Full) else found.code
    return Information(_smaller(found.dims, alone.dims), _smaller(code, alone.code))


def shares(weights: Tensor) -> Tensor:
    """Weights (sample, ...) that add up to 1 over samples."""
    return weights / weights.sum(0).clamp_min(1e-300)


def _of_dims(own: Diagonal, z: Tensor, weights: Tensor) -> Information:
    """Of each dim; and of the code, if its dims are independent given the sample."""
    mean, logvar, drawn = (part.flatten(-2).T for part in (*own, z))  # (dim, sample)
    parts = shares(weights).T.expand(mean.shape)
    together = torch.zeros(len(z), len(z), dtype=z.dtype)
    found = []
    for some in torch.arange(len(drawn)).split(max(1, BLOCK // len(z) ** 2)):
        away = drawn[some, :, None] - mean[some, None]  # (dim, draw, component)
        away *= torch.exp(-0.5 * logvar[some, None])
        logs = away.square_().add_(logvar[some, None]).mul_(-0.5)
        together += logs.sum(0)
        found.append(_estimate(logs, parts[some]))
    dims = Estimate(*(torch.cat(part).reshape(z.shape[1:]) for part in zip(*found, strict=True)))
    return Information(dims, _estimate(together, of_samples(weights)))


def _of_code(q: Full, z: Tensor, weights: Tensor) -> Estimate:
    every = [log_density(Full(q.mean[i], q.cholesky[i]), z) for i in range(len(z))]
    return _estimate(torch.stack(every, 1), of_samples(weights))


def of_samples(weights: Tensor) -> Tensor:
    """Of the code: a sample counts as much as its dim that counts most."""
    return shares(weights.amax(1))


def _estimate(logs: Tensor, weights: Tensor) -> Estimate:
    """From log densities (..., draw, component), which are overwritten, and weights (..., sample)
    that add up to 1: the information, and its error over other samples, which would be other draws
    and other components.

    A sample's part in that is its own draw's term less its component's share of all draws, but for
    a constant: the infinitesimal jackknife (Efron 1982). The mixture has few components besides:
    that bias is the jackknife's to second order, and enters the error in squares.
    """
    own = logs.diagonal(dim1=-2, dim2=-1).clone()
    logs += weights.log()[..., None, :]
    mixture = logs.logsumexp(-1)
    share = logs.sub_(mixture[..., None]).exp_()
    itself = share.diagonal(dim1=-2, dim2=-1).clone()
    values = own - mixture
    mean = (weights * values).sum(-1)
    drawn = (weights[..., None, :] @ share).squeeze(-2)
    parts = weights * (values + 1 - mean[..., None]) - drawn
    worth = weights.square().sum(-1)  # 1 / samples, where they all count alike
    error = (parts.square().sum(-1) / (1 - worth).clamp_min(1e-12)).sqrt()
    others = share.square_().sum(-1) - itself.square()
    bias = (weights * (0.5 * others - itself)).sum(-1) + 0.5 * worth
    nothing = worth == 0  # no sample counts: nothing is known
    return Estimate(
        mean.where(~nothing, torch.zeros_like(mean)),
        torch.hypot(error, bias).where(~nothing, torch.full_like(mean, torch.inf)),
    )


def _smaller(one: Estimate, other: Estimate) -> Estimate:
    first = one.mean < other.mean
    return Estimate(*(torch.where(first, a, b) for a, b in zip(one, other, strict=True)))
