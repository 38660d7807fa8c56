"""What a dim adds to what its prior knew already.

A prior p(z | c) may see something of the sample x: a class, the state before, an upper latent. Then
the information I(x; z) counts what c gave away too; what the dim adds is I(x; z | c). That is known
from above only: any map of z that is one to one given c leaves it as it is, so

    I(x; z | c) = I(x; z' | c) <= I(x; z'),    z' = z,    u = (z - m) / t    or    (z - f(m)) / t,

as c is a function of x (or noise that no posterior saw). m and t are the prior's mean and std (for
a full covariance 1 / t is L^-1, L its lower Cholesky factor), and f(m) the cubic polynomial of a
dim's own prior mean that is nearest to the posterior means, by least squares in units of t over the
samples compared. The smallest of the three estimates is reported. The first is exact where c tells
nothing of z; the second where the aggregate of u is the same for every c, as it is where the prior
fits its codes; the third where the prior lies at a wrong place, or of four classes puts each at one
of its own. f's four numbers are fitted: that hides about 4 / (2 samples) nats. To be sure whatever
the prior does, diagnose the samples of one condition by themselves.

Where a prior is one for all samples, all three are I(x; z): nothing but an estimate's error is in
it.

In units of the prior the mean KL splits by Hoffman & Johnson 2016:

    E KL(q || p) = I(x; u) + KL(aggregate of u || N(0, 1)).

The KL beyond what is added is wasted: it buys nothing. With a and v the mean and the variance of
the aggregate of u, a^2 / 2 of it is for an offset, (v - 1 - log v) / 2 for a width; the rest is for
a shape that is no Gaussian's, or for means that follow a prior which moves for nothing.
"""

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from vaenotes.kl import Diagonal, Full, Gaussian, log_density, marginal, sample

BLOCK = 2**19  # numbers at a time: 4 MiB
FEW_NATS = 0.1
"""By how much an estimate may come out too low before it is called no more than a lower bound."""
ALONE = 0.5
"""A draw of whose density its own sample's posterior makes more than this has no neighbours."""


class Estimate(NamedTuple):
    """Nats (...,), their standard error, and their bias: below 0 where so few samples are compared
    that they hardly overlap. The error holds the jackknife's part of it (`_estimate`)."""

    mean: Tensor
    standard_error: Tensor
    bias: Tensor

    @property
    def at_ceiling(self) -> Tensor:
        """Whether so few samples were compared that the truth may be much more."""
        return self.bias < -FEW_NATS


class Information(NamedTuple):
    """Nats about the sample: of each dim alone (1, dim), and of the whole code ()."""

    dims: Estimate
    code: Estimate


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


class Compared(NamedTuple):
    """How much each row counts, (row, 1) or (row, dim), and which sample it is of, (row,): places
    of one sample are not independent. None: each is a sample of its own."""

    weights: Tensor
    sample: Tensor | None = None

    @staticmethod
    def alike(rows: int) -> "Compared":
        return Compared(torch.ones(rows, 1, dtype=torch.float64))

    @property
    def of_code(self) -> Tensor:
        """Which share each sample, with all its rows, has of the whole code: (sample,)."""
        return within(of_samples(self.weights), self.sample)

    @property
    def ceiling(self) -> float:
        """The most that information of the whole code can be: the entropy of the samples."""
        return float(torch.special.entr(self.of_code).sum())


def information(q: Gaussian, noise: Tensor, compared: Compared | None = None) -> Information:
    """Mutual information of the sample, taken for one of these, and its code, from one draw of
    each posterior: E log q(z | x) - E log q(z), q(z) the mixture of all. At most log(samples).

    Where not all dims count, which do is taken as known, and what the code says beside is known
    from above: by the sum of its dims (`_in_all`); and by the code of which dims that do not count
    have their prior's Gaussian, which must have been given them. Time grows with samples^2 x dims,
    memory with samples^2.
    """
    z = sample(q, noise)
    compared = compared or Compared.alike(len(z))
    found = _of_dims(marginal(q), z, compared)
    return Information(found.dims, _of_code(q, z, compared)) if isinstance(q, Full) else found


def added(
    q: Gaussian, p: Gaussian, noise: Tensor, alone: Information, compared: Compared | None = None
) -> Information:
    """What each dim adds to a prior (sample, 1, dim) at most, from the same draws; alone: their
    `information`."""
    own, prior, z, best = marginal(q), marginal(p), sample(q, noise), alone
    compared = compared or Compared.alike(len(z))
    chosen, drawn, kinds = own, z, torch.zeros_like(best.dims.mean)
    for kind, mean in enumerate((prior.mean, _nearest(own.mean, prior, shares(compared.weights)))):
        units = marginal(relative(own, Diagonal(mean, prior.logvar)))
        at = (z - mean) * torch.exp(-0.5 * prior.logvar)
        found = _of_dims(units, at, compared)
        if isinstance(q, Full) or isinstance(p, Full):
            u = relative(q, p._replace(mean=mean))
            if isinstance(u, Full):
                found = Information(found.dims, _of_code(u, sample(u, noise), compared))
        better = found.dims.mean < best.dims.mean
        kinds = torch.where(better, kind + 1, kinds)
        drawn, *parts = (
            torch.where(better, *pair) for pair in zip((at, *units), (drawn, *chosen), strict=True)
        )
        chosen = Diagonal(*parts)
        best = Information(*map(_smaller, found, best))
    if isinstance(q, Diagonal) and len(kinds.unique()) > 1:  # each dim as is best for it
        best = best._replace(code=_smaller(_of_dims(chosen, drawn, compared).code, best.code))
    return best


def _nearest(means: Tensor, prior: Diagonal, parts: Tensor) -> Tensor:
    """The cubic polynomial of each dim's prior mean that is nearest to posterior means (sample, 1,
    dim), in units of the prior; parts: (sample, 1) or (sample, dim), how much samples count."""
    mean, logvar = (part.expand_as(means)[:, 0].T for part in prior)  # (dim, sample)
    counts = (parts.T * torch.exp(logvar.amin(1, keepdim=True) - logvar)).sqrt()
    away = mean - (parts.T * mean).sum(1, keepdim=True)
    away /= away.abs().amax(1, keepdim=True).clamp_min(1e-300)
    powers = away[..., None] ** torch.arange(4)
    wanted = (counts * means[:, 0].T)[..., None]
    found = torch.linalg.lstsq(counts[..., None] * powers, wanted, driver="gelsd").solution
    return (powers @ found)[..., 0].T[:, None]


def shares(weights: Tensor) -> Tensor:
    """Weights (sample, ...) that add up to 1 over samples."""
    return weights / weights.sum(0).clamp_min(1e-300)


def within(values: Tensor, sample: Tensor | None) -> Tensor:
    """Sums over the rows (..., row) of each sample, (..., sample)."""
    if sample is None:
        return values
    sums = torch.zeros(*values.shape[:-1], int(sample.max()) + 1, dtype=values.dtype)
    return sums.index_add_(-1, sample, values)


def _of_dims(own: Diagonal, z: Tensor, compared: Compared) -> Information:
    """Of each dim; and of the code, if its dims are independent given the sample."""
    mean, logvar, drawn = (part.flatten(-2).T for part in (*own, z))  # (dim, row)
    parts = shares(compared.weights).T.expand(mean.shape)
    together = torch.zeros(len(z), len(z), dtype=z.dtype)
    found: list[tuple[Tensor, ...]] = []
    for some in torch.arange(len(drawn)).split(max(1, BLOCK // len(z) ** 2)):
        away = drawn[some, :, None] - mean[some, None]  # (dim, draw, component)
        away *= torch.exp(-0.5 * logvar[some, None])
        logs = away.square_().add_(logvar[some, None]).mul_(-0.5)
        together += logs.sum(0)
        alone = Diagonal(mean[some, :, None], logvar[some, :, None])
        one, *about = _estimate(logs, alone, parts[some], compared.sample)
        found.append((*one, *about))
    *every, jackknife, moved = (torch.cat(part) for part in zip(*found, strict=True))
    dims, code = Estimate(*every), _whole(together, own, compared)
    if compared.weights.shape[1] > 1:
        code = _smaller(_in_all(dims, jackknife, moved, compared), code)
    return Information(Estimate(*(part.reshape(z.shape[1:]) for part in dims)), code)


def _in_all(dims: Estimate, jackknife: Tensor, moved: Tensor, compared: Compared) -> Estimate:
    """What dims (dim,) that are independent given the sample say together, given which of them
    count, at most: the sum of what each says where it counts. jackknife, moved: of `_estimate`."""
    parts = of_samples(compared.weights)
    there = parts * (compared.weights.T > 0)  # (dim, row)
    share = there.sum(1)
    known = share > 0  # of others nothing is
    share, mean, bias = share[known], dims.mean[known], dims.bias[known]
    apart = within(there[known] - share[:, None] * parts, compared.sample)
    error = _error((share @ moved[known]) + mean @ apart, compared.of_code.square().sum())
    return Estimate(share @ mean, torch.hypot(error, share @ jackknife[known]), share @ bias)


def _error(moved: Tensor, worth: Tensor) -> Tensor:
    """Of a mean, by how much each sample (..., sample) moved it; worth: the sum of their squared
    shares."""
    return (moved.square().sum(-1) / (1 - worth).clamp_min(1e-12)).sqrt()


def _of_code(q: Full, z: Tensor, compared: Compared) -> Estimate:
    every = [log_density(Full(q.mean[i], q.cholesky[i]), z) for i in range(len(z))]
    return _whole(torch.stack(every, 1), marginal(q), compared)


def _whole(logs: Tensor, own: Diagonal, compared: Compared) -> Estimate:
    dims = Diagonal(*(part.flatten(-2)[None] for part in own))
    found, *_ = _estimate(logs[None], dims, of_samples(compared.weights)[None], compared.sample)
    return Estimate(*(part[0] for part in found))


def of_samples(weights: Tensor) -> Tensor:
    """Of the code: a sample counts as much as its dim that counts most."""
    return shares(weights.amax(1))


def _estimate(
    logs: Tensor, own: Diagonal, weights: Tensor, sample: Tensor | None
) -> tuple[Estimate, Tensor, Tensor]:
    """From log densities (group, draw, component) but for a constant, which are overwritten, the
    posteriors (group, row, n) of each group's dims, and weights (group, row) that add up to 1: the
    information (group,), and its error over other samples, which would be other draws and other
    components.

    A row's part in that is its own draw's term less its component's share of all draws, but for
    a constant: the infinitesimal jackknife (Efron 1982), over samples with all their rows. The
    mixture has few components besides: that bias is the jackknife's to second order, and enters
    the error in squares. It takes a draw that is alone to miss 1 nat: what it may miss is added.
    Returned beside are the jackknife's bias (group,), and by how much each sample moved the mean
    (group, sample).
    """
    conditional = logs.diagonal(dim1=-2, dim2=-1).clone()  # log q(z | x) of each draw
    logs += weights.log()[..., None, :]
    mixture = logs.logsumexp(-1)
    share = logs.sub_(mixture[..., None]).exp_()
    values = conditional - mixture
    mean = (weights * values).sum(-1)
    drawn = (weights[..., None, :] @ share).squeeze(-2)
    moved = within(weights * (values + 1 - mean[..., None]) - drawn, sample)
    share, worth = within(share, sample), within(weights, sample).square().sum(-1)
    rows = torch.arange(values.shape[-1]) if sample is None else sample
    itself = share.gather(-1, rows.expand(values.shape)[..., None]).squeeze(-1)
    others = share.square_().sum(-1) - itself.square()
    jackknife = (weights * (0.5 * others - itself)).sum(-1) + 0.5 * worth
    alone = (itself > ALONE) & (weights > 0) & (jackknife > -FEW_NATS)[:, None]  # else it is known
    missed = (_missed(alone, own, weights, rows) - itself).clamp_min(0)
    nothing = worth == 0  # no sample counts: nothing is known
    error = torch.hypot(_error(moved, worth), jackknife)
    found = Estimate(
        mean.where(~nothing, torch.zeros_like(mean)),
        error.where(~nothing, torch.full_like(mean, torch.inf)),
        jackknife - (weights * missed).sum(-1),
    )
    return found, jackknife, moved


def _missed(alone: Tensor, own: Diagonal, weights: Tensor, sample: Tensor) -> Tensor:
    """Nats by which draws that are alone (group, draw) may say more than they seem to, elsewhere 0.

    That is their posterior's density over the one that the nearest other sample shows, which is
    alone on a cube around the draw (Kozachenko & Leonenko 1987): in units of the draw's own std,
    and along no dim wider than a Gaussian of all codes.
    """
    missed = torch.zeros_like(weights)
    count, n = own.mean.shape[-2:]
    parts, own_std = weights[..., None], (0.5 * own.logvar).exp()
    center = (parts * own.mean).sum(1, keepdim=True)
    codes = (parts * ((own.mean - center).square() + own_std.square())).sum(1).sqrt()  # (group, n)
    for some in alone.nonzero().split(max(1, BLOCK // (count * n))):
        group, draw = some.unbind(1)
        std = own_std[group, draw]  # (pair, n)
        away = own.mean[group, draw, None] - own.mean[group]  # (pair, component, n)
        away = away.div_(std[:, None]).abs_().amax(-1)
        others = (sample[draw, None] != sample) & (weights[group] > 0)
        radius, nearest = away.masked_fill_(~others, torch.inf).min(-1)
        cube = (2 * radius[:, None] / math.sqrt(2 * math.pi * math.e)).log()  # as a Gaussian's std
        wider = torch.minimum(cube, (codes[group] / std).log()).sum(-1)
        many = weights[group, draw].log() - weights[group, nearest].log()
        missed[group, draw] = wider + many + np.euler_gamma
    return missed


def _smaller(one: Estimate, other: Estimate) -> Estimate:
    first = one.mean < other.mean
    return Estimate(*(torch.where(first, a, b) for a, b in zip(one, other, strict=True)))
