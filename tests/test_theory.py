"""Closed forms against step-by-step solutions."""

import math

import numpy as np
import pytest
from scipy import integrate, optimize

from vaenotes.theory import (
    agree,
    blind_nats,
    lag,
    lag_share,
    mismatch_nats,
    offset_nats,
    resting_std,
    sight_nats,
)


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


def best_prior(costs):
    """The least of a function of (mean, log-variance), by a search that knows no formula."""
    found = optimize.minimize(costs, [0.1, 0.1], method="Nelder-Mead",
                              options={"xatol": 1e-9, "fatol": 1e-13, "maxiter": 4000})  # fmt: skip
    return found.fun, *found.x


def kl(m, s, a, t):
    """By numerical integration."""
    z = np.linspace(m - 12 * s, m + 12 * s, 2001)
    log_q, log_p = (
        -0.5 * ((z - mean) / std) ** 2 - math.log(std) - 0.5 * math.log(2 * math.pi)
        for mean, std in ((m, s), (a, t))
    )
    return integrate.trapezoid(np.exp(log_q) * (log_q - log_p), z)


def test_a_mismatched_prior_costs_what_the_formula_says():
    s, spread = 0.4, 1.3
    second = s**2 + spread**2
    images = [(sign * spread, s) for sign in (-1, 1)]

    def mean_kl(variance):
        return sum(kl(m, s, 0.0, math.sqrt(variance)) for m, s in images) / 2

    for r in (0.225, 0.5, 2.0, 4.0):
        cost = mean_kl(r * second) - mean_kl(second)
        assert cost == pytest.approx(mismatch_nats(r), abs=1e-8)
    # as theory has it, to three digits
    found = [round(mismatch_nats(r), 3) for r in (0.225, 0.5, 2, 4)]
    assert found == [0.976, 0.153, 0.097, 0.318]


def test_an_offset_costs_at_least_what_the_formula_says():
    least, _, _ = best_prior(lambda free: kl(0.15, 0.1, 0.0, math.exp(free[1] / 2)))
    assert least == pytest.approx(offset_nats(0.15, 0.1), abs=1e-7)
    assert offset_nats(0.15, 0.01) == pytest.approx(2.71, abs=0.01)


def test_mean_kl_from_a_prior_that_cannot_see_is_the_sum_over_all_pairs():
    s, t, images, draws = 0.5, 1.5, [-1.0, 0.2, 1.7], [0.3, -0.4]
    pairs = [kl(m, s, a, t) for m in images for a in draws]
    expected = blind_nats(s, t, np.std(images), np.std(draws), np.mean(images) - np.mean(draws))
    assert np.mean(pairs) == pytest.approx(expected, abs=1e-8)


def test_sight_saves_what_the_formula_says():
    """Means are a line in y plus something of their own, two values each: their correlation R."""
    s, slope, own = 0.3, 1.2, 0.7
    images = [(y, slope * y + sign * own) for y in (-1, 1) for sign in (-1, 1)]
    spread = math.hypot(slope, own)

    def best(shown):
        return best_prior(
            lambda free: sum(
                kl(m, s, free[0] * (y if shown else 1), math.exp(free[1] / 2)) for y, m in images
            ) / 4
        )[0]  # fmt: skip

    saved = best(shown=False) - best(shown=True)
    assert saved == pytest.approx(sight_nats(slope / spread, s, spread), abs=1e-6)


@pytest.mark.parametrize("weight", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("prior_rate, posterior_rate", [(1.0, 1.0), (10.0, 1.0), (0.2, 2.0)])
def test_a_useless_dim_comes_to_rest_where_the_formula_says(weight, prior_rate, posterior_rate):
    def flow(_, state):
        w, u, v = state
        force = w**2 * math.exp(2 * u)  # of |w|^2 s^2 / 2, over u; unit noise
        push = 1 - math.exp(-2 * (v - u))
        slope = w * math.exp(2 * u)
        return [-slope, -posterior_rate * (force - push), -prior_rate * push]

    end = integrate.solve_ivp(
        flow, (0, 1000), [weight, 0.0, 0.0], method="LSODA", rtol=1e-10, atol=1e-12
    ).y[:, -1]
    expected = resting_std(weight, prior_rate, posterior_rate)
    assert math.exp(end[1]) == pytest.approx(expected, rel=1e-3)
    assert math.exp(end[2]) == pytest.approx(expected, rel=1e-3)


def test_numbers_that_do_not_agree_are_an_error():
    assert agree([1.0, 2.0], [1.0, 2.0 + 1e-9], 1e-8) == "agree within 1.0e-08"
    for found in ([1.0, 2.1], [1.0, math.nan]):
        with pytest.raises(AssertionError, match="differ by"):
            agree(found, [1.0, 2.0], 1e-8)
