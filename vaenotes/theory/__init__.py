"""Closed forms that the experiments are held against. Propositions are those of book/theory.md.

s and t are the standard deviations of posterior and prior, m and a their means, in one dim.
"""

import math

import numpy as np
from numpy.typing import ArrayLike
from torch import Tensor


def mismatch_nats(r: float) -> float:
    """What a prior variance of r times the codes' second moment costs, in nats; 0 at r = 1."""
    return 0.5 * (math.log(r) + 1 / r - 1)


def offset_nats(offset: float, std: float) -> float:
    """The least KL, over all prior variances, of a posterior N(offset, std^2) that is the same for
    all images, from a prior of mean 0."""
    return 0.5 * math.log1p((offset / std) ** 2)


def blind_nats(
    s: float, t: float, spread: float, prior_spread: float = 0.0, offset: float = 0.0
) -> float:
    """Mean KL of a dim whose prior cannot see the image, with s and t the same for all images.

    spread: std of the posterior means over images; prior_spread: of the prior means over its
    noise; offset: between the averages of the two.
    """
    apart = s**2 + spread**2 + prior_spread**2 + offset**2
    return math.log(t / s) + apart / (2 * t**2) - 0.5


def sight_nats(correlation: float, s: float, spread: float) -> float:
    """What a prior saves in a dim by seeing a variable whose correlation with the posterior means
    is this, s being the same for all images: best prior without sight less best prior with it."""
    left = (1 - correlation**2) * spread**2 + s**2
    return 0.5 * math.log((spread**2 + s**2) / left)


def lag_share(prior_rate: float, posterior_rate: float = 1.0) -> float:
    """In a dim whose means do not vary, under gradient flow: the KL's push on the posterior over
    the push F of the decoder's noise, once prior and posterior fall side by side.

    With u = log s, v = log t, d = v - u and KL weight B, the flow is
        u' = -posterior_rate (F - B (1 - exp(-2 d))),  v' = -prior_rate B (1 - exp(-2 d)),
    and d' = 0 where B (1 - exp(-2 d)) / F = posterior_rate / (posterior_rate + prior_rate).
    A prior at rate 0 is a fixed one: the share is 1, and the posterior at rest.
    """
    return posterior_rate / (posterior_rate + prior_rate)


def lag(force: float, kl_weight: float, prior_rate: float, posterior_rate: float = 1.0) -> float:
    """The same as a distance d = log(t / s); infinite where the posterior runs away, because
    even a prior left far behind could not hold it."""
    share = lag_share(prior_rate, posterior_rate) * force / kl_weight
    return -0.5 * math.log1p(-share) if share < 1 else math.inf


def resting_std(weight: float, prior_rate: float = 1.0, posterior_rate: float = 1.0) -> float:
    """Where s and t of a useless dim come to rest, if both start at 1 and a linear decoder reads
    the dim with a weight of this norm, learned at rate 1; infinite rates are allowed.

    The flow keeps |w|^2 - 2 (u / posterior_rate + v / prior_rate), and ends at w = 0, u = v.
    """
    return math.exp(-0.5 * weight**2 / (1 / posterior_rate + 1 / prior_rate))


def supervised_std(
    prior_std: ArrayLike,
    weight: ArrayLike,
    kl_weight: float,
    supervision_weight: float,
    force: ArrayLike = 0.0,
) -> np.ndarray:
    """Where the posterior's std of a dim rests that a linear regression reads with this weight:
    s^2 (kl_weight / t^2 + 2 supervision_weight weight^2) = kl_weight - force.

    force: the push of the reconstruction, weighted as in the loss; with 0, an upper bound. NaN
    where it exceeds kl_weight, and nothing rests.
    """
    slope = kl_weight / np.square(prior_std) + 2 * supervision_weight * np.square(weight)
    left = kl_weight - np.asarray(force)
    return np.sqrt(np.where(left > 0, left, np.nan) / slope)


def agree(found: ArrayLike, expected: ArrayLike, within: float) -> str:
    """Raise AssertionError unless numbers or arrays agree within a distance; say which."""
    apart = float(np.abs(_plain(found) - _plain(expected)).max(initial=0))
    if not apart <= within:
        raise AssertionError(f"differ by {apart:.1e}, allowed: {within:.1e}")
    return f"agree within {within:.1e}"


def _plain(values: ArrayLike) -> np.ndarray:
    return np.asarray(values.detach() if isinstance(values, Tensor) else values, dtype=float)
