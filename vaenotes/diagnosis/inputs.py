"""What `diagnose` is given, checked and kept as it is: a latent of any shape as its n dims, read
into Gaussians over (..., 1, n) in float64 a block of samples at a time."""

import math
from collections.abc import Sequence
from numbers import Integral
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from vaenotes.diagnosis.arrays import (
    LARGEST_NUMBER,
    array_of,
    as_logvar,
    check_each,
    check_logvar,
    cholesky,
    lower,
    sane,
)
from vaenotes.diagnosis.names import Names, check_different, named
from vaenotes.errors import ParameterError, check
from vaenotes.kl import Diagonal, Full, Gaussian

SPREADS = ("logvar", "variance", "std", "covariance", "cholesky")
"""What a Gaussian may be given by beside its mean: one of these."""
FULL = ("covariance", "cholesky")

Spreads = Sequence[ArrayLike | None]  # in the order of SPREADS


class Mixture(NamedTuple):
    """A prior that is a mixture: components (component, 1, dim), log-weights (component,)."""

    components: Diagonal
    log_weights: Tensor

    def moments(self) -> Diagonal:
        """Mean and log-variance of each dim of the whole mixture, (1, dim)."""
        weights = self.log_weights.exp()[:, None, None]
        mean = (weights * self.components.mean).sum(0)
        second = self.components.logvar.exp() + (self.components.mean - mean).square()
        return Diagonal(mean, (weights * second).sum(0).log())


class Given(NamedTuple):
    """A Gaussian as it was given: mean (..., n), and its spread of that kind, of the same shape or
    a lower Cholesky factor (..., n, n); with one leading axis, or none."""

    mean: Tensor
    spread: Tensor
    kind: str

    @property
    def sees(self) -> bool:
        """Whether there is one for each sample."""
        return self.mean.dim() == 2

    def rows(self, rows: slice | Tensor) -> Gaussian:
        """Of some samples, over (sample, 1, n); if it is one for all, over (1, n)."""
        some = self.only(rows) if self.sees else self
        mean, spread = some.mean.double()[..., None, :], some.spread.double()
        if self.kind in FULL:
            return Full(mean, spread)
        return Diagonal(mean, as_logvar(spread, self.kind)[..., None, :])

    def only(self, rows: slice | Tensor) -> "Given":
        return Given(self.mean[rows], self.spread[rows], self.kind)


class Batch(NamedTuple):
    """Codes (sample, n), their prior, and weights (sample, 1), or (sample, n) of each dim; None:
    all count alike. names: of the axes. sample: (row,), which sample a row is of, where
    places of one are pooled; else None. given: (row,), which it was of all rows given, those that
    count for nothing too."""

    posterior: Given
    prior: Given | Mixture
    weights: Tensor | None
    axes: "Axes"
    names: Names
    sample: Tensor | None
    given: Tensor

    @property
    def labels(self) -> list[str]:
        return self.axes.labels(self.names)


class Axes:
    """The axes of codes (sample, ...), and which of them are dims; places along the others are
    samples too."""

    def __init__(self, codes: tuple[int, ...], groups: Any) -> None:
        every = tuple(range(1, len(codes)))
        self.codes, self.latent = codes, codes[1:]
        self.kept = every
        if groups is not None:
            given = tuple(groups) if isinstance(groups, tuple | list) else (groups,)
            fits = all(isinstance(axis, Integral) and not isinstance(axis, bool) for axis in given)
            self.kept = tuple(axis + (axis < 0) * len(codes) for axis in given) if fits else ()
            fits = fits and len(set(self.kept)) == len(self.kept) > 0
            fits = fits and set(self.kept) <= set(every)
            check(fits, f"groups must be one or more of the latent's axes {every}", groups)
        self.pooled = tuple(axis for axis in every if axis not in self.kept)
        self.dims = tuple(codes[axis] for axis in self.kept)
        self.places = math.prod(codes[axis] for axis in self.pooled)

    def labels(self, names: Names) -> list[str]:
        """Of the dims: their names, or their places."""
        if len(self.kept) == 1 and self.kept[0] in names.labels:
            return [str(name) for name in names.labels[self.kept[0]][1]]
        return [",".join(map(str, at)) for at in np.ndindex(self.dims)]

    @property
    def sample(self) -> Tensor | None:
        """Which sample a row of `read` is of: (row,)."""
        rows = torch.arange(self.codes[0])
        return rows.repeat_interleave(self.places) if self.places > 1 else None

    def fit(self, name: str, array: Tensor, more: str = "") -> Tensor:
        """A number, or an array that broadcasts to the latent or the codes and has as many axes."""
        shape = tuple(array.shape)
        if len(shape) == len(self.codes) and shape[0] == 1 < self.codes[0]:
            array = array[0]
        to = self.codes if array.dim() == len(self.codes) else self.latent
        rule = f"{name} must be one number, {self.latent} or {self.codes}, as posterior_mean is"
        if self.pooled and shape == self.dims:
            kept = tuple(n if axis in self.kept else 1 for axis, n in enumerate(self.latent, 1))
            more += f" (one number a dim: {kept})"
        check(not shape or _broadcasts(array, to), f"{rule} {self.codes}{more}", shape)
        return array.expand(to) if shape else array

    def read(self, array: Tensor) -> Tensor:
        """One number, one for each place of the latent, or these of each sample: as (n,) or
        (sample, n)."""
        n = math.prod(self.dims)
        if array.dim() > len(self.latent):
            return array.permute(0, *self.pooled, *self.kept).reshape(-1, n)
        array = array.expand(self.latent)
        places = array.permute(*(axis - 1 for axis in (*self.pooled, *self.kept))).reshape(-1, n)
        same = len(places) == 1 or bool((places == places[:1]).all())
        return places[0] if same else self.read(array.expand(self.codes))

    def whole(self, rows: Tensor) -> Tensor:
        """Codes (sample, ...) from all rows of `read`, (row, n)."""
        order = (0, *self.pooled, *self.kept)
        codes = rows.reshape(-1, *(self.codes[axis] for axis in order[1:]))
        return codes.permute(*(order.index(axis) for axis in range(len(order))))


def _broadcasts(array: Tensor, shape: tuple[int, ...]) -> bool:
    pairs = zip(array.shape, shape, strict=False)
    return array.dim() == len(shape) and all(size in (1, wanted) for size, wanted in pairs)


def read(
    mean: ArrayLike,
    spreads: Spreads,
    prior: tuple[ArrayLike | None, Spreads, ArrayLike | None],
    weights: ArrayLike | None,
    groups: Any,
) -> Batch | None:
    """The arguments of `diagnose`, of the prior mean, spreads and weights; None: nothing counts."""
    array = array_of("posterior_mean", mean)
    rule = "posterior_mean must be (sample, ...), of a sample or more and a latent of 1 dim or more"
    check(array.dim() >= 2 and array.numel() > 0, rule, tuple(array.shape))
    axes = Axes(tuple(array.shape), groups)
    names = _named(mean, spreads, prior, weights, axes)
    counted = _weights(weights, (mean, *spreads), axes)
    q = _gaussian("posterior", array, spreads, axes, counted)
    p = _prior(*prior, axes, counted)
    sample, given = axes.sample, torch.arange(axes.codes[0] * axes.places)
    if counted is None:
        return Batch(q, p, None, axes, names, sample, given)
    counted = axes.read(counted)
    some = (counted > 0).any(1)
    if not some.any():
        return None
    if (counted == counted[:, :1]).all():
        counted = counted[:, :1]
    else:
        fits = isinstance(p, Given) and not {q.kind, p.kind} & set(FULL)
        rule = "weights must be (sample,) where a Gaussian is full or the prior a mixture"
        check(bool(fits), rule, tuple(counted.shape))
    if not some.all():
        q, counted, given = q.only(some), counted[some], given[some]
        sample = None if sample is None else sample[some].unique(return_inverse=True)[1]
        p = p.only(some) if isinstance(p, Given) and p.sees else p
    return Batch(q, p, counted, axes, names, sample, given)


def _named(
    mean: ArrayLike,
    spreads: Spreads,
    prior: tuple[ArrayLike | None, Spreads, ArrayLike | None],
    weights: ArrayLike | None,
    axes: Axes,
) -> Names:
    of = {"posterior_mean": mean, **_given(spreads, "posterior_"), "prior_mean": prior[0]}
    of |= {**_given(prior[1], "prior_"), "prior_weights": prior[2], "weights": weights}
    names = named(of, axes.codes)
    check_different("posterior_mean", axes.labels(names))
    return names


def _weights(weights: ArrayLike | None, posterior: tuple[Any, ...], axes: Axes) -> Tensor | None:
    """Of all entries of the codes: what is given for leading axes, and not hidden by a mask."""
    counted = None
    if weights is not None:
        _check_unmasked("weights", weights)
        counted = array_of("weights", weights)
        fits = counted.dim() >= 1 and tuple(counted.shape) == axes.codes[: counted.dim()]
        rule = f"weights must be {axes.codes} or its leading axes, as posterior_mean is"
        check(fits or _broadcasts(counted, axes.codes), rule, tuple(counted.shape))
        check_each("weights must be finite", counted.isfinite(), counted)
        check_each("weights must not be negative", sane("weights", counted) >= 0, counted)
        large = (counted == 0) | (counted * LARGEST_NUMBER >= 1)
        check_each(f"weights must be 0 or at least {1 / LARGEST_NUMBER:g}", large, counted)
        counted = counted.reshape(*counted.shape, *[1] * (len(axes.codes) - counted.dim()))
    for value in posterior:
        if isinstance(value, np.ma.MaskedArray):
            fits = value.shape == axes.codes
            rule = f"a masked array must be {axes.codes}, as posterior_mean is"
            check(fits, rule, _shape(value))
            seen = torch.from_numpy(~np.ma.getmaskarray(value)).double()
            counted = seen if counted is None else counted * seen
    return None if counted is None else counted.double().expand(axes.codes)


def _prior(
    mean: ArrayLike | None,
    spreads: Spreads,
    weights: ArrayLike | None,
    axes: Axes,
    counted: Tensor | None,
) -> Given | Mixture:
    if mean is None:
        for name in (*_given(spreads), *(() if weights is None else ("weights",))):
            raise ParameterError(f"prior_mean must be given where prior_{name} is, got None")
        zeros = torch.zeros(math.prod(axes.dims), dtype=torch.float64)
        return Given(zeros, zeros, "logvar")
    for value in (mean, *spreads, weights):
        _check_unmasked("a prior", value)
    array = array_of("prior_mean", mean)
    if weights is not None:
        check(not axes.pooled, "groups must be None for a mixture", axes.kept)
        return _mixture(array, spreads, array_of("prior_weights", weights), axes.latent)
    return _gaussian("prior", array, spreads, axes, counted)


def _check_unmasked(name: str, value: Any) -> None:
    if isinstance(value, np.ma.MaskedArray):
        rule = f"{name} must not be a masked array: weights of 0 serve instead"
        raise ParameterError(f"{rule}, got {_shape(value)}")


def _mixture(mean: Tensor, spreads: Spreads, weights: Tensor, latent: tuple[int, ...]) -> Mixture:
    check(weights.dim() == 1, "prior_weights must be (component,)", tuple(weights.shape))
    check_each("prior_weights must not be negative", weights >= 0, weights)
    total = float(weights.double().sum())
    check(abs(total - 1) < 0.01, "prior_weights must sum to 1", total)
    wanted = (len(weights), *latent)
    rule = f"prior_mean must be {wanted}, one for each of prior_weights"
    fits = mean.dim() == len(wanted) and len(mean) == len(weights) and _broadcasts(mean, wanted)
    check(fits, rule, tuple(mean.shape))
    for name, value in _given(spreads).items():
        rule = f"prior_{name} must not be given with prior_weights: a mixture is of diagonal ones"
        check(name not in FULL, rule, _shape(value))
    components = _gaussian("prior", mean, spreads, Axes(wanted, None), None).rows(slice(None))
    assert isinstance(components, Diagonal)
    return Mixture(components, (weights.double() / total).log())


def _given(spreads: Spreads, of: str = "") -> dict[str, ArrayLike]:
    every = zip(SPREADS, spreads, strict=True)
    return {f"{of}{name}": value for name, value in every if value is not None}


def _gaussian(of: str, mean: Tensor, spreads: Spreads, axes: Axes, counted: Tensor | None) -> Given:
    """A Gaussian from its mean and the one spread that is given, where entries that count for
    nothing may be anything."""
    given = _given(spreads)
    if len(given) != 1:
        names = ", ".join(f"{of}_{name}" for name in SPREADS)
        found = ", ".join(f"{of}_{name}" for name in given) or "none"
        raise ParameterError(f"{of}_mean must come with exactly one of {names}, got {found}")
    [(kind, value)] = given.items()
    name, latent, codes = f"{of}_{kind}", axes.latent, axes.codes
    more = " (a mixture needs prior_weights)" if of == "prior" else ""
    mean = _filled(axes.fit(f"{of}_mean", mean, more), counted, 0)
    array = array_of(name, value)
    if kind in FULL:
        n = math.prod(latent)
        if array.dim() == 3 and len(array) == 1 < codes[0]:
            array = array[0]
        rule = f"{name} must be {(n, n)} or {(codes[0], n, n)}, as posterior_mean is {codes}"
        check(tuple(array.shape) in ((n, n), (codes[0], n, n)), rule, tuple(array.shape))
        check(not axes.pooled, f"groups must be None with {name}", axes.kept)
        if counted is not None and array.dim() == 3:
            seen = counted.flatten(1).any(1)[:, None, None]
            array = torch.where(seen, array, torch.eye(n, dtype=array.dtype))
        array = sane(name, array).double()
        spread = cholesky(name, array) if kind == "covariance" else lower(name, array)
    else:
        array = _filled(axes.fit(name, array), counted, kind != "logvar")
        check_logvar(name, sane(name, array), kind)
        spread = axes.read(array)
    mean = axes.read(sane(f"{of}_mean", mean))
    latent_axes = 2 if kind in FULL else 1
    if mean.dim() == 1 and spread.dim() == latent_axes:
        return Given(mean, spread, kind)
    samples = len(mean) if mean.dim() == 2 else len(spread)
    one = spread.shape[-latent_axes:]
    return Given(mean.expand(samples, mean.shape[-1]), spread.expand(samples, *one), kind)


def _shape(value: Any) -> tuple[int, ...]:
    return tuple(getattr(value, "shape", ()))


def _filled(array: Tensor, counted: Tensor | None, harmless: float) -> Tensor:
    """With a harmless number in place of what counts for nothing."""
    if counted is None or array.shape != counted.shape:
        return array
    return torch.where(counted > 0, array, torch.tensor(harmless, dtype=array.dtype))
