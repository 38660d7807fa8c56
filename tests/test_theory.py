"""Closed forms against step-by-step solutions."""

import math

import pytest

from vaenotes.theory import lag, lag_share


def flow(force, kl_weight, prior_rate, posterior_rate, steps=200_000, step=1e-3):
    """u = log s and v = log t by small steps down the gradient of F u + B KL(u, v)."""
    u = v = 0.0
    for _ in range(steps):
        push = kl_weight * (1 - math.exp(-2 * (v - u)))
        u -= step * posterior_rate * (force - push)
        v -= step * prior_rate * push
    return v - u, push / force


@pytest.mark.parametrize("prior_rate", [0.1, 1.0, 10.0])
@pytest.mark.parametrize("posterior_rate", [0.5, 2.0])
def test_prior_and_posterior_fall_at_the_distance_of_the_formula(prior_rate, posterior_rate):
    distance, share = flow(0.1, 0.15, prior_rate, posterior_rate)
    assert share == pytest.approx(lag_share(prior_rate, posterior_rate), rel=1e-4)
    assert distance == pytest.approx(lag(0.1, 0.15, prior_rate, posterior_rate), rel=1e-4)


def test_a_posterior_that_is_pushed_too_hard_runs_away():
    assert lag(0.4, 0.15, 1.0) == math.inf
    early, _ = flow(0.4, 0.15, 1.0, 1.0, steps=20_000)
    late, _ = flow(0.4, 0.15, 1.0, 1.0, steps=40_000)
    assert late > 1.5 * early > 1
