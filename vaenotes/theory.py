"""Closed forms that the experiments are held against."""

import math


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
