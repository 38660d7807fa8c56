"""Means over any number of samples, seen in blocks and added up: nothing is kept of a sample."""

import math
from collections.abc import Callable
from functools import reduce
from operator import add
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from vaenotes.diagnosis.added import relative, within
from vaenotes.diagnosis.inputs import Batch, Given, Mixture
from vaenotes.kl import Diagonal, Full, Gaussian, kl_nats, log_density, marginal, sample

LARGEST_JOINT = 1024
"""Of more dims than these no covariance is kept."""
BLOCK = 2**17  # numbers of a block of samples
# By how much the priors of samples may differ and still be one: by rounding in float32, which is of
# the size of their numbers, but means by no more than FINE times that of the prior's std, 0.1%.
ROUNDING = 1e-5
FINE = 100


class Sums(NamedTuple):
    """Weighted moments of (..., n): total weight, sum of squared weights, mean, the weighted sum of
    squares around the mean, and by squared weights the sums of distances from it and of their
    squares. They merge as in Chan, Golub & LeVeque 1979."""

    weight: Tensor
    squares: Tensor
    mean: Tensor
    around: Tensor
    leaning: Tensor
    spread: Tensor

    @staticmethod
    def of(values: Tensor, weights: Tensor) -> "Sums":
        """Of values (..., sample, n), weighted by (sample, 1) or (sample, n)."""
        return Sums._of(values, weights, lambda of: of.sum(-2), lambda of: of[..., None, :])

    @staticmethod
    def at(values: Tensor, weights: Tensor, place: Tensor, places: int) -> "Sums":
        """The same at each place, (..., place, n), of values that are of these places (sample,)."""

        def summed(of: Tensor) -> Tensor:
            into = torch.zeros(*of.shape[:-2], places, of.shape[-1], dtype=of.dtype)
            return into.index_add_(-2, place, of)

        return Sums._of(values, weights, summed, lambda of: of[..., place, :])

    @staticmethod
    def _of(
        values: Tensor, weights: Tensor, summed: Callable[[Tensor], Tensor],
        of_each: Callable[[Tensor], Tensor],
    ) -> "Sums":  # fmt: skip
        weight, squares = summed(weights), summed(weights.square())
        mean = summed(values * weights) / weight.clamp_min(1e-300)
        away = values - of_each(mean)
        far = away.square() * weights
        around = summed(far)
        low, high = weights.aminmax()
        if low == high:
            return Sums(weight, squares, mean, around, torch.zeros_like(mean), around * low)
        leaning = summed(away * weights.square())
        return Sums(weight, squares, mean, around, leaning, summed(far * weights))

    def __add__(self, other: "Sums") -> "Sums":  # type: ignore[override]
        weight = self.weight + other.weight
        share = other.weight / weight.clamp_min(1e-300)
        apart = other.mean - self.mean
        around = self.around + other.around + apart.square() * self.weight * share
        mean = self.mean + apart * share
        moved = [part._around(mean) for part in (self, other)]
        leaning, spread = (one + two for one, two in zip(*moved, strict=True))
        return Sums(weight, self.squares + other.squares, mean, around, leaning, spread)

    def _around(self, mean: Tensor) -> tuple[Tensor, Tensor]:
        """`leaning` and `spread` around another mean."""
        moved = mean - self.mean
        leaning = self.leaning - moved * self.squares
        return leaning, self.spread - moved * (self.leaning + leaning)

    @property
    def variance(self) -> Tensor:
        return self.around / self.weight

    @property
    def inflation(self) -> Tensor:
        """By how much the mean's variance is larger than if weights had nothing to do with values,
        as it is a ratio of sums: 1 for equal weights."""
        alike = self.around * self.squares
        return torch.where(alike > 0, self.spread * self.weight / alike, torch.ones_like(alike))

    @property
    def error(self) -> Tensor:
        """The standard error of the mean, a ratio of sums (Cochran 1977, 6.4)."""
        worth = self.weight.square() / self.squares
        return (self.variance / (worth - 1) * self.inflation).sqrt()


class Joint(NamedTuple):
    """Of codes in some units: total weight, mean (n,), their sum of squares around it (n, n), the
    sum of their covariances (n, n), of independent dims (n,), and of the logs of their factors'
    squared diagonals (n,), which make the log-determinant."""

    weight: Tensor
    mean: Tensor
    around: Tensor
    within: Tensor
    log_noise: Tensor

    @staticmethod
    def of(u: Gaussian, weights: Tensor) -> "Joint":
        """Of posteriors (sample, 1, n) that count by these weights (sample, 1)."""
        weight, mean = weights.sum(), u.mean[:, 0]
        center = (weights * mean).sum(0) / weight
        away = mean - center
        if isinstance(u, Full):
            factors = (u.cholesky * weights[..., None].sqrt()).permute(1, 0, 2).flatten(1)
            within = factors @ factors.T
            logvar = 2 * u.cholesky.diagonal(dim1=-2, dim2=-1).log()
        else:
            logvar = u.logvar[:, 0]
            within = (weights * logvar.exp()).sum(0)
        log_noise = (weights * logvar).sum(0)
        return Joint(weight, center, away.T @ (away * weights), within, log_noise)

    def __add__(self, other: "Joint") -> "Joint":  # type: ignore[override]
        weight = self.weight + other.weight
        share, apart = other.weight / weight, other.mean - self.mean
        around = self.around + other.around + torch.outer(apart, apart) * self.weight * share
        rest = (a + b for a, b in zip(self[3:], other[3:], strict=True))
        return Joint(weight, self.mean + apart * share, around, *rest)


class Span(NamedTuple):
    """The least and the largest of each number of the priors of all samples that count."""

    low: Gaussian  # (1, n)
    high: Gaussian

    @staticmethod
    def of(p: Gaussian, weights: Tensor) -> "Span":
        """Of priors (sample, 1, n) that count by weights (sample, 1), (sample, n) if diagonal."""
        lows = highs = tuple(p)
        if weights.shape[1] > 1:  # else all rows count
            nothing = (weights == 0)[:, None]
            lows = tuple(part.masked_fill(nothing, torch.inf) for part in p)
            highs = tuple(part.masked_fill(nothing, -torch.inf) for part in p)
        low = (part.aminmax(dim=0).min for part in lows)  # faster than amin
        return Span(type(p)(*low), type(p)(*(part.aminmax(dim=0).max for part in highs)))

    def __add__(self, other: "Span") -> "Span":  # type: ignore[override]
        low = map(torch.minimum, self.low, other.low)
        kind = type(self.low)
        return Span(kind(*low), kind(*map(torch.maximum, self.high, other.high)))

    @property
    def one(self) -> Given | None:
        """The prior that all samples have, if they have one, but for the rounding of a network that
        gives it for each."""
        std = torch.exp(0.5 * marginal(self.low).logvar)
        sizes = (
            torch.minimum(self.low.mean.abs() + std, FINE * std),
            std.mT if isinstance(self.low, Full) else 1.0,
        )
        for low, high, size in zip(self.low, self.high, sizes, strict=True):
            if not (high - low <= ROUNDING * size).all():
                return None
        if isinstance(self.low, Full):
            return Given(self.low.mean[0], self.low.cholesky, "cholesky")
        return Given(self.low.mean[0], self.low.logvar[0], "logvar")


class Moments(NamedTuple):
    """Of each dim and quantity of `_quantities`; of the KL of the whole code, over samples; of
    the code, in units of its prior and, if that sees the sample, in its own: none for many dims,
    or if weights differ from dim to dim; and of a prior that sees the sample, its range. Of each
    place and BOUNDING quantity, where places are pooled."""

    dims: Sums  # (quantity, n)
    code: Sums  # (1,)
    there: Tensor  # (n,) or (1,), the weight of the code in which a dim counts at all
    joints: tuple[Joint, ...]
    prior: Span | None
    rows: int  # places of samples that count at all
    of_samples: int
    places: Sums | None  # (quantity, place, n)

    def __add__(self, other: "Moments") -> "Moments":  # type: ignore[override]
        fits = len(self.joints) == len(other.joints)
        pairs = zip(self.joints, other.joints, strict=True) if fits else ()
        joints = tuple(one + two for one, two in pairs)
        span = None
        if self.prior is not None and other.prior is not None:
            span = self.prior + other.prior
        places = None
        if self.places is not None and other.places is not None:
            places = self.places + other.places
        dims, code = self.dims + other.dims, self.code + other.code
        there = self.there + other.there
        rows, samples = self.rows + other.rows, self.of_samples + other.of_samples
        return Moments(dims, code, there, joints, span, rows, samples, places)

    @property
    def samples(self) -> Tensor:
        """How many samples these are worth, of which places are not counted one by one: ()."""
        return (self.code.weight.square() / self.code.squares)[0]


BOUNDING = (  # the first of QUANTITIES: those that bounds are of
    "mean", "variance", "log_variance",  # of the posterior
    "log_ratio",  # log of std / std
    "u", "u_variance",  # in units of the prior
    "prior_mean", "away",  # and the posterior's mean less that
)  # fmt: skip
QUANTITIES = (
    *BOUNDING, "prior_variance",
    "kl", "own_kl",  # given the dims before, if a Gaussian is full; of the dim's own distribution
    "shift_square", "scale_square", "shift_scale",  # of `kl.kl_parts`: w^2, r^2 and r w
)  # fmt: skip


def moments(batch: Batch, generator: torch.Generator) -> Moments:
    """Block by block; a mixture's KL needs a draw of each sample."""
    rows, n = batch.posterior.mean.shape
    counts = torch.ones(rows, 1).double() if batch.weights is None else batch.weights
    dims, joints, codes, spans = [], [], [], []
    places: list[Sums] = []
    at = None if batch.sample is None else batch.given % batch.axes.places
    for chosen in torch.arange(rows).split(max(1, BLOCK // n, batch.axes.places)):
        some = slice(int(chosen[0]), int(chosen[-1]) + 1)
        q, p, weights = batch.posterior.rows(some), batch.prior, counts[some]
        prior = p.rows(some) if isinstance(p, Given) else p
        values, code = _quantities(q, prior, generator)
        dims.append(Sums.of(values, weights))
        if at is not None:
            few = values[: len(BOUNDING)]
            places = [reduce(add, [*places, Sums.at(few, weights, at[some], batch.axes.places)])]
        if code is None:
            code = (values[QUANTITIES.index("kl")] * (weights > 0)).sum(1)
        codes.append(code)
        sees = isinstance(p, Given) and p.sees
        if sees and not isinstance(prior, Mixture):
            spans.append(Span.of(prior, weights))
        if n <= LARGEST_JOINT and weights.shape[1] == 1:
            u = relative(q, prior.moments() if isinstance(prior, Mixture) else prior)
            joints.append([Joint.of(one, weights) for one in ((u, q) if sees else (u,))])
    worth = counts.amax(1)
    each = within(worth, batch.sample)  # places of a sample are not independent
    means = within(torch.cat(codes) * worth, batch.sample) / each
    together = (reduce(add, parts) for parts in zip(*joints, strict=True))
    of_code = Sums.of(means[:, None], each[:, None])
    span = reduce(add, spans) if spans else None
    of_places = places[0] if places else None
    there = (worth[:, None] * (counts > 0)).sum(0)
    found, kept = reduce(add, dims), tuple(together)
    return Moments(found, of_code, there, kept, span, rows, len(each), of_places)


def _quantities(
    q: Gaussian, p: Gaussian | Mixture, generator: torch.Generator
) -> tuple[Tensor, Tensor | None]:
    """QUANTITIES (quantity, sample, n), and the KL of the code if that is not the dims' sum."""
    own = marginal(q)
    code = None
    if isinstance(p, Mixture):
        z = sample(q, torch.randn(q.mean.shape, generator=generator, dtype=torch.float64))
        each, joint = mixture_log_density(p.components, z, p.log_weights)
        kl = own_kl = dim_log_density(own, z) - each
        prior, code = p.moments(), log_density(q, z) - joint
        shift, scale = torch.zeros(2, 1, 1, 1, dtype=torch.float64)
    else:
        prior, kl = marginal(p), kl_nats(q, p)
        own_kl = kl if own is q and prior is p else kl_nats(own, prior)
        shift = relative(q, p).mean
        if isinstance(p, Diagonal):
            scale = torch.exp(-0.5 * p.logvar)
        else:
            scale = 1 / p.cholesky.diagonal(dim1=-2, dim2=-1)[..., None, :]
    u = marginal(relative(own, prior))
    found = (
        own.mean, own.logvar.exp(), own.logvar, 0.5 * u.logvar, u.mean, u.logvar.exp(),
        prior.mean, own.mean - prior.mean, prior.logvar.exp(), kl, own_kl,
        shift.square(), scale.square(), shift * scale,
    )  # fmt: skip
    return torch.stack([value.expand(q.mean.shape)[:, 0] for value in found]), code


def dim_log_density(gaussian: Diagonal, z: Tensor) -> Tensor:
    """log N of each dim alone, in nats, of the broadcast shape."""
    return log_density(Diagonal(*(part[..., None, None] for part in gaussian)), z[..., None, None])


def mixture_log_density(
    components: Diagonal, z: Tensor, log_weights: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Log density of z (image, node, dim) under a mixture of components (component, node, dim), in
    nats: of each dim alone (image, node, dim), and of the whole code (image,).

    log_weights: (component,); None: equal ones. Time grows with images x components x dims, memory
    with images x components.
    """
    count = len(components.mean)
    if log_weights is None:
        log_weights = torch.full((count,), -math.log(count), dtype=z.dtype)
    alone = torch.empty_like(z)
    joint = log_weights.expand(len(z), count).clone()
    for node, dim in np.ndindex(*z.shape[1:]):
        one = Diagonal(*(part[:, node, dim] for part in components))
        each = dim_log_density(one, z[:, None, node, dim])  # (image, component)
        alone[:, node, dim] = (each + log_weights).logsumexp(1)
        joint += each
    return alone, joint.logsumexp(1)
