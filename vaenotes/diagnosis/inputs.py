"""What `diagnose` is given, checked, as Gaussians over (..., 1, n) in float64 on the CPU: a latent
of any shape is flattened to its n dims."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from vaenotes.errors import ParameterError, check
from vaenotes.kl import Diagonal, Full, Gaussian

SPREADS = ("logvar", "variance", "std", "covariance", "cholesky")
"""What a Gaussian may be given by beside its mean: one of these."""
FULL = ("covariance", "cholesky")
LARGEST_NUMBER, LARGEST_LOGVAR = 1e60, 300.0  # within these no KL overflows

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


def read_posterior(mean: ArrayLike, spreads: Spreads) -> tuple[Gaussian, tuple[int, ...]]:
    """The posterior, over (sample, 1, n), and the shape of the latent."""
    array = _array("posterior_mean", mean)
    fits = array.dim() >= 2 and len(array) >= 2 and array.numel() > 0
    rule = (
        "posterior_mean must be (sample, ...), of 2 samples or more and a latent of 1 dim or more"
    )
    check(fits, rule, tuple(array.shape))
    return _gaussian("posterior", array, spreads, array.dim() - 1), tuple(array.shape[1:])


def read_prior(
    mean: ArrayLike | None, spreads: Spreads, weights: ArrayLike | None, codes: tuple[int, ...]
) -> Gaussian | Mixture:
    """The prior of codes (sample, ...): over (1, n), (sample, 1, n) or (component, 1, n)."""
    latent = codes[1:]
    if mean is None:
        for name in (*_given(spreads), *(() if weights is None else ("weights",))):
            raise ParameterError(f"prior_mean must be given where prior_{name} is, got None")
        return Diagonal(*torch.zeros(2, 1, math.prod(latent), dtype=torch.float64))
    array = _array("prior_mean", mean)
    if weights is not None:
        return _mixture(array, spreads, _array("prior_weights", weights), latent)
    fits = tuple(array.shape) in (latent, codes)
    rule = f"prior_mean must be {latent} or {codes}, as posterior_mean is {codes}"
    check(fits, f"{rule} (a mixture needs prior_weights)", tuple(array.shape))
    prior = _gaussian("prior", array, spreads, len(latent))
    if len(array.shape) > len(latent) and all((part == part[:1]).all() for part in prior):
        return type(prior)(*(part[0] for part in prior))  # it is one for all samples
    return prior


def _mixture(mean: Tensor, spreads: Spreads, weights: Tensor, latent: tuple[int, ...]) -> Mixture:
    check(weights.dim() == 1, "prior_weights must be (component,)", tuple(weights.shape))
    _check_each("prior_weights must not be negative", weights >= 0, weights)
    total = weights.sum()
    check(abs(float(total) - 1) < 0.01, "prior_weights must sum to 1", float(total))
    wanted = (len(weights), *latent)
    rule = f"prior_mean must be {wanted}, one for each of prior_weights"
    check(mean.shape == wanted, rule, tuple(mean.shape))
    for name, value in _given(spreads).items():
        rule = f"prior_{name} must not be given with prior_weights: a mixture is of diagonal ones"
        check(name not in FULL, rule, value)
    components = _gaussian("prior", mean, spreads, len(latent))
    assert isinstance(components, Diagonal)
    return Mixture(components, (weights / total).log())


def _given(spreads: Spreads) -> dict[str, ArrayLike]:
    named = zip(SPREADS, spreads, strict=True)
    return {name: value for name, value in named if value is not None}


def _gaussian(of: str, mean: Tensor, spreads: Spreads, latent_axes: int) -> Gaussian:
    """A Gaussian over (..., 1, n) from its mean and the one spread that is given."""
    given = _given(spreads)
    if len(given) != 1:
        names = ", ".join(f"{of}_{name}" for name in SPREADS)
        found = ", ".join(f"{of}_{name}" for name in given) or "none"
        raise ParameterError(f"{of}_mean needs exactly one of {names}, got {found}")
    [(kind, value)] = given.items()
    name = f"{of}_{kind}"
    array = _array(name, value)
    leading = mean.shape[: mean.dim() - latent_axes]
    n = math.prod(mean.shape[len(leading) :])
    wanted = (*leading, n, n) if kind in FULL else tuple(mean.shape)
    rule = f"{name} must be {wanted}, as {of}_mean is {tuple(mean.shape)}"
    check(tuple(array.shape) == wanted, rule, tuple(array.shape))
    flat = mean.reshape(*leading, 1, n)
    if kind in FULL:
        return Full(flat, _cholesky(name, array) if kind == "covariance" else _lower(name, array))
    return Diagonal(flat, _logvar(name, array, kind).reshape(flat.shape))


def _logvar(name: str, array: Tensor, kind: str) -> Tensor:
    if kind != "logvar":
        _check_each(f"{name} must be above 0", array > 0, array)
        array = array.log() if kind == "variance" else 2 * array.log()
    rule = f"{name} must be of log-variances in +-{LARGEST_LOGVAR:g}"
    _check_each(rule, array.abs() <= LARGEST_LOGVAR, array)
    return array


def _lower(name: str, array: Tensor) -> Tensor:
    _check_each(f"{name} must be lower triangular", array.triu(1) == 0, array)
    diagonal = array.diagonal(dim1=-2, dim2=-1)
    _check_each(f"{name} must have a diagonal above 0", diagonal > 0, diagonal)
    return array


def _cholesky(name: str, covariance: Tensor) -> Tensor:
    largest = covariance.abs().amax((-2, -1), keepdim=True)
    symmetric = (covariance - covariance.mT).abs() <= 1e-4 * largest
    _check_each(f"{name} must be symmetric", symmetric, covariance)
    lower, failed = torch.linalg.cholesky_ex(covariance)
    if failed.any():
        least = torch.linalg.eigvalsh(covariance).amin(-1)
        _check_each(f"{name} must have eigenvalues well above 0", failed == 0, least)
    return lower


def _array(name: str, value: Any) -> Tensor:
    """Any tensor or array of real numbers as a tensor of float64 on the CPU."""
    try:
        if isinstance(value, Tensor):
            fits, tensor = not value.is_complex(), value.detach().to_dense().cpu()
        else:
            array = np.asarray(value)
            fits = array.dtype.kind in "biuf"
            tensor = torch.from_numpy(array.astype(np.float64)) if fits else torch.empty(0)
    except (TypeError, ValueError, RuntimeError):
        fits = False
    check(fits, f"{name} must be a tensor or array of real numbers", value)
    tensor = tensor.double()
    sane = tensor.abs() <= LARGEST_NUMBER  # not so of nan
    _check_each(f"{name} must be finite, at most {LARGEST_NUMBER:g} in size", sane, tensor)
    return tensor


def _check_each(rule: str, fits: Tensor, values: Tensor) -> None:
    """Raise ParameterError with the first entry that does not fit, and how many more there are."""
    if not fits.all():
        places = (~fits).nonzero().tolist()
        first = tuple(places[0])
        more = f" and {len(places) - 1} more such" if len(places) > 1 else ""
        raise ParameterError(f"{rule}, got {values[first].item():g} at {first}{more}")
