"""Summaries of synthetic runs whose truth is known."""

import math

import numpy as np
import pytest
import xarray as xr
from scipy import stats
from synthetic import BOTH, CROSSED, FIRST, MIXED, NONE, SECOND, make_runs

from vaenotes.errors import ParameterError
from vaenotes.lab import summary


def test_outcomes_are_told_apart_and_all_replicas_are_counted():
    runs = make_runs([BOTH, FIRST, [[0, 1], [0, 0]], NONE, MIXED, CROSSED, NONE, NONE])
    runs.diverged[-1] = 3
    runs.ratio[-2, -1] = np.nan  # without numbers is not collapsed
    expected = ["all", "one per node", "one per node", "collapsed", "mixed", "one per node"]
    assert summary.outcome(runs).values.tolist() == [*expected, "diverged", "diverged"]
    counts = {"collapsed": 1, "one per node": 3, "mixed": 1, "all": 1, "diverged": 2}
    assert summary.counts(runs) == counts


def test_of_many_arms_those_with_diverged_replicas_are_shown_and_the_sum():
    arms = {"calm": make_runs([NONE, BOTH]), "wild": make_runs([BOTH] * 3)}
    arms["wild"].diverged[:] = 1
    sums = summary.totals_table(arms)
    assert list(sums.index) == ["wild", "all 2 arms"]
    assert sums.loc["all 2 arms"].tolist() == [5, 1, 0, 0, 1, 3, ""]
    where = "; ".join(f"seed {seed}: epoch 1, step -1" for seed in range(3))
    for table in (summary.outcomes_table(arms), sums):
        assert table.loc["wild"].tolist() == [3, 0, 0, 0, 0, 3, where]
        assert isinstance(table.loc["wild", "replicas"], (int, np.integer))  # not 3.0
    calm = summary.totals_table({"calm": arms["calm"]})
    assert list(calm.index) == ["all 1 arms"] and "diverged at" not in calm


def test_the_representative_is_the_median_of_the_most_frequent_outcome():
    runs = make_runs([BOTH, FIRST, SECOND, FIRST, NONE])
    runs.kl_nats[1] += 5
    runs.kl_nats[3] += 1
    assert summary.representative(runs) == 3
    runs.ratio[1:, -1] = np.nan  # diverged: shown only if there is no other
    assert summary.representative(runs) == 0


def test_the_most_and_the_least_used_dim_of_each_node():
    replica = make_runs([CROSSED]).isel(replica=0)
    most, least = summary.most_and_least_used(replica)
    assert most.values.tolist() == [0, 1] and least.values.tolist() == [1, 0]
    diverged = summary.most_and_least_used(replica.assign(ratio=replica.ratio * np.nan))
    assert [dims.values.tolist() for dims in diverged] == [[0, 0], [0, 0]]


def test_weaker_first_sorts_every_node_and_everything_alike():
    runs = make_runs([FIRST, SECOND, CROSSED])
    runs.kl_offset_nats[:] = np.arange(runs.kl_offset_nats.size).reshape(runs.kl_offset_nats.shape)
    ordered = summary.weaker_first(runs)
    assert list(ordered.dim.values) == ["less used", "more used"]
    for name, values in runs.data_vars.items():
        assert ordered[name].dims == values.dims
        if "dim" in values.dims:
            first, second, crossed = values.values
            flipped = crossed.copy()
            flipped[..., 0, :] = crossed[..., 0, ::-1]  # its first node uses its first dim
            expected = np.stack([first[..., ::-1], second, flipped])
            assert np.array_equal(ordered[name].values, expected), name
        else:
            assert ordered[name].equals(values)


def test_epoch_below_counts_from_where_a_quantity_stays_below():
    series = np.array([1.0, 0.5, 0.04, 0.2, 0.049, 0.01])
    quantity = xr.DataArray(np.stack([series, series[::-1], 2 * series], 1), dims=("epoch", "dim"))
    found = summary.epoch_below(quantity).values
    assert found[0] == 4 and np.isnan(found[1]) and found[2] == 4


def test_binomial_interval_is_clopper_and_pearsons():
    interval = summary.binomial_interval(7, 9)
    # Bounds as quantiles of beta distributions (Clopper & Pearson 1934).
    assert interval.low == pytest.approx(stats.beta.ppf(0.025, 7, 3))
    assert interval.high == pytest.approx(stats.beta.ppf(0.975, 8, 2))
    assert summary.binomial_interval(0, 0)[1:] == (0.0, 1.0, 0)


@pytest.mark.parametrize(("count", "low", "high"), [(6, 1, 6), (8, 1, 8), (9, 2, 8), (16, 4, 13)])
def test_median_interval_lies_between_order_statistics(count, low, high):
    values = np.random.default_rng(0).permutation(count) + 1.0
    median = (count + 1) / 2
    assert summary.median_interval(values) == (median, low, high, count)
    with pytest.raises(ParameterError, match=r"one of each replica, got \(1, "):
        summary.median_interval(values[None])
    masked = np.ma.masked_greater(np.append(values, 100.0), 99)
    assert summary.median_interval(masked) == (median, low, high, count)


@pytest.mark.parametrize("count", range(1, 65))
def test_median_interval_covers_the_median_as_often_as_it_says_and_is_the_narrowest_that_does(
    count,
):
    """Whatever the distribution: as many values as tosses of a coin come out heads lie below it."""

    def coverage(low):  # of the values of rank low and count + 1 - low
        return sum(math.comb(count, below) for below in range(low, count - low + 1)) / 2**count

    interval = summary.median_interval(np.arange(1.0, count + 1))
    low = int(interval.low)
    assert interval.high == count + 1 - low
    assert interval.decides == (count >= 6) == (coverage(low) >= 0.95)
    assert low == 1 if not interval.decides else coverage(low + 1) < 0.95


@pytest.mark.parametrize("count", [6, 8, 16])
def test_median_interval_covers_in_simulation(count):
    draws = np.random.default_rng(0).exponential(size=(400, count))
    intervals = [summary.median_interval(draw) for draw in draws]
    hits = sum(interval.low <= np.log(2) <= interval.high for interval in intervals)
    assert hits >= 400 * 0.95 - 3 * 4.4  # three standard deviations


def test_median_interval_leaves_out_nan_and_with_few_replicas_is_their_range_and_decides_nothing():
    interval = summary.median_interval(np.array([1.0, np.nan, 5.0, 2.0, 9.0, np.inf]))
    assert interval == (3.5, 1, 9, 4) and not interval.decides
    assert np.isnan(summary.median_interval(np.array([np.nan])).value)


def test_the_table_of_dims_tells_units_from_use():
    """Two dims of the same ratio and KL in units a hundred apart."""
    measured = {
        "posterior_variance": [[0.01, 1e-6], [1.0, 1e-4]],
        "prior_variance": [[1.0, 1e-4], [1.0, 1e-4]],
        "posterior_spread": [[1.0, 0.01], [0.05, 0.0005]],
        "ratio": [[0.1, 0.1], [1.0, 1.0]],
        "kl_nats": [[2.3, 2.3], [0.0, 0.0]],
        "information_nats": [[2.2, 2.2], [0.0, 0.05]],
    }
    table = summary.dims_table(measured, ["a", "b"])
    assert table.index.tolist() == ["a 1", "a 2", "b 1", "b 2"]
    np.testing.assert_allclose(table["spread/t"].astype(float), [1, 1, 0.05, 0.05])
    assert table["in use"].tolist() == [True, True, False, False]
    assert table["active by t"].tolist() == [True, True, False, False]
    assert table["active"].tolist() == [True, False, False, False]


def test_findings_are_spread_into_numbers_by_name():
    found = summary.spread({"a.b": summary.Interval(1.0, 0.5, 2.0, 8)}, "x.")
    assert found == {"x.a.b": 1.0, "x.a.b_low": 0.5, "x.a.b_high": 2.0, "x.a.b_n": 8}
