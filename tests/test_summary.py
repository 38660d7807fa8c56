"""Summaries and claims on synthetic runs whose truth is known."""

import numpy as np
import pytest
import xarray as xr
from scipy import stats

from vaenotes import claims, summary

NODES = ["shape", "x"]
IMAGES = 64


def make_runs(used, epochs=20, seed=0) -> xr.Dataset:
    """Runs in which used[replica][node][dim] says which dims are in use.

    Posterior variances halve at every epoch in all dims. A used dim has a prior variance of 1.44
    and means of spread sqrt(1.44 - s^2); an unused one has a prior that follows two epochs late
    down to the posterior's last value, and means of 0.
    """
    used = np.asarray(used, dtype=bool)[:, None]  # (replica, 1, node, dim)
    replicas, _, nodes, dims = used.shape
    fall = 2.0 ** -np.arange(epochs + 1)[None, :, None, None]
    late = np.minimum(1.0, 4 * fall)
    posterior = np.broadcast_to(fall, (replicas, epochs + 1, nodes, dims)).copy()
    prior = np.where(used, 1.44, late)
    prior[:, -1] = np.where(used[:, 0], 1.44, posterior[:, -1])
    spread = np.where(used, np.sqrt(np.maximum(1.44 - posterior, 0)), 0.0)
    rng = np.random.default_rng(seed)
    means = rng.standard_normal((replicas, 1, IMAGES, nodes, dims))
    means = means * spread[:, -1:, None]
    axes = ("replica", "epoch", "node", "dim")
    kl = np.where(used, 3.0, 0.25) * np.ones_like(posterior)
    quantiles = np.array([-1, -0.8, -0.3, 0, 0.3, 0.8, 1])[None, None, :, None, None]
    return xr.Dataset(
        {
            "posterior_variance": (axes, posterior),
            "prior_variance": (axes, prior),
            "posterior_spread": (axes, spread),
            "prior_spread": (axes, np.full_like(posterior, 0.12)),
            "prior_mean": (axes, np.full_like(posterior, -0.15)),
            "ratio": (axes, np.sqrt(posterior / prior)),
            "kl_nats": (axes, kl),
            "kl_mean_nats": (axes, 0.6 * kl),
            "kl_offset_nats": (axes, 0.1 * kl),
            "posterior_quantiles": (
                ("replica", "epoch", "quantile", "node", "dim"),
                4 * quantiles * np.ones_like(posterior)[:, :, None],
            ),
            "prior_quantiles": (
                ("replica", "epoch", "quantile", "node", "dim"),
                0.4 * quantiles * np.ones_like(posterior)[:, :, None],
            ),
            "image_posterior_mean": (("replica", "snapshot", "image", "node", "dim"), means),
            "image_posterior_logvar": (
                ("replica", "snapshot", "image", "node", "dim"),
                np.log(posterior[:, -1:, None]) * np.ones_like(means),
            ),
        },
        coords={
            "epoch": np.arange(epochs + 1),
            "node": NODES,
            "dim": [1, 2],
            "seed": ("replica", np.arange(replicas)),
            "diverged": ("replica", np.full(replicas, -1)),
            "diverged_step": ("replica", np.full(replicas, -1)),
        },
    )


BOTH, FIRST, SECOND, NONE = [[1, 1]] * 2, [[1, 0]] * 2, [[0, 1]] * 2, [[0, 0]] * 2
MIXED, CROSSED = [[1, 1], [1, 0]], [[1, 0], [0, 1]]


def values(measures):
    return {m.key: m.interval for m in measures}


def test_fates_are_told_apart_and_all_replicas_are_counted():
    runs = make_runs([BOTH, FIRST, [[0, 1], [0, 0]], NONE, MIXED, CROSSED, NONE])
    runs.diverged[-1] = 3
    runs.ratio[-1] = np.nan
    expected = ["all", "one per node", "one per node", "collapsed", "mixed", "one per node"]
    assert summary.fate(runs).values.tolist() == [*expected, "diverged"]
    counts = summary.counts(runs)
    assert counts == {"collapsed": 1, "one per node": 3, "mixed": 1, "all": 1, "diverged": 1}
    assert sum(counts.values()) == runs.sizes["replica"]


def test_a_replica_without_numbers_is_never_called_collapsed():
    runs = make_runs([NONE, BOTH])
    runs.ratio[0, -1] = np.nan
    assert summary.counts(runs)["diverged"] == 1 and summary.counts(runs)["collapsed"] == 0
    runs.ratio[1, -1] = np.nan
    assert summary.representative(runs) in (0, 1)


def test_the_table_of_fates_names_who_diverged():
    runs = make_runs([NONE, BOTH])
    runs.diverged[0], runs.diverged_step[0] = 3, 7
    row = summary.table({"arm": runs}).loc["arm"]
    assert row["replicas"] == 2 and row["all"] == 1 and row["diverged"] == 1
    assert row["diverged at"] == "seed 0: epoch 3, step 7"


def test_nodes_that_use_no_dim_do_not_vote():
    runs = make_runs([[[0, 1], [0, 0]], SECOND])
    runs.ratio[0, -1, 1] = [0.98, 0.99]
    found = values(claims.prior_variance(runs))
    assert found["agree"].replicas == 1 and found["agree"].value == 1


def test_the_representative_is_the_median_of_the_most_frequent_fate():
    runs = make_runs([BOTH, FIRST, SECOND, FIRST, NONE])
    runs.kl_nats[1] += 5
    runs.kl_nats[3] += 1
    assert summary.representative(runs) == 3


def test_weaker_first_sorts_every_node_and_everything_alike():
    runs = make_runs([FIRST, SECOND, CROSSED])
    runs.kl_offset_nats[:] = np.arange(runs.kl_offset_nats.size).reshape(runs.kl_offset_nats.shape)
    ordered = summary.weaker_first(runs)
    assert list(ordered.dim.values) == ["less used", "more used"]
    assert (ordered.ratio.isel(epoch=-1, dim=0) >= ordered.ratio.isel(epoch=-1, dim=1)).all()
    for name in runs.data_vars:
        assert ordered[name].dims == runs[name].dims
        flipped = runs[name].isel(replica=0).values[..., ::-1]  # FIRST: its first dim is used
        assert np.array_equal(ordered[name].isel(replica=0).values, flipped)
        assert np.array_equal(ordered[name].isel(replica=1).values, runs[name].isel(replica=1))
    crossed = ordered.ratio.isel(replica=2).values
    assert np.array_equal(crossed[:, 0], runs.ratio.values[2, :, 0, ::-1])
    assert np.array_equal(crossed[:, 1], runs.ratio.values[2, :, 1])


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


def test_median_interval_covers_the_true_median_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(200):
        interval = summary.median_interval(rng.exponential(size=25))
        hits += interval.low <= np.log(2) <= interval.high
    assert 0.88 <= hits / 200 <= 0.99


def test_median_interval_leaves_out_nan_and_stays_in_the_data():
    interval = summary.median_interval(np.array([1.0, np.nan, 5.0, 2.0, 9.0]))
    assert interval.value == 3.5 and 1 <= interval.low <= 3.5 <= interval.high <= 9
    assert np.isnan(summary.median_interval(np.array([np.nan])).value)


def test_posterior_variance_measures_what_the_synthetic_runs_hold():
    runs = make_runs([FIRST, SECOND, FIRST])
    factors = runs.image_posterior_mean.values[0, 0, :, :, 0]  # FIRST: codes are the factors
    found = values(claims.posterior_variance(runs, factors))
    assert found["fallen"].value == 1
    assert found["posterior_epoch_used"].value == found["posterior_epoch_unused"].value == 5
    assert found["posterior_variance_unused"].value == pytest.approx(2.0**-20)
    assert found["ratio_unused"].value == pytest.approx(1)
    assert found["ratio_used"].value == pytest.approx(np.sqrt(2.0**-20 / 1.44))
    assert found["kl_unused"].value == 0.25
    assert found["nails"].value == pytest.approx(np.sqrt((1.44 - 2.0**-20) / 2.0**-20))
    assert found["matched_back"].value == 1
    only_first = values(claims.posterior_variance(runs.isel(replica=[0]), factors))
    assert only_first["neighbours"].value == pytest.approx(1)


def test_samples_cannot_be_matched_back_when_nothing_is_in_use():
    assert claims.matched_back(make_runs([NONE])).item() < 5 / IMAGES


def test_prior_variance_measures_what_the_synthetic_runs_hold():
    runs = make_runs([FIRST, SECOND, SECOND, CROSSED, NONE, BOTH])
    found = values(claims.prior_variance(runs))
    assert found["prior_variance_used"].value == 1.44
    assert found["prior_std_used"].value == pytest.approx(1.2)
    assert found["matching"].value == pytest.approx(1)
    assert found["lag"].value == 2
    assert found["behind"].value == 0.95  # all epochs but the last, in which the prior catches up
    assert found["agree"].value == 3 / 4  # FIRST, SECOND, SECOND of those and CROSSED
    assert found["second"].value == pytest.approx(2 / 3)
    assert found["chance"].value == 0.5  # two nodes
    assert found["agree"].replicas == 4 and found["second"].replicas == 3
    one = values(claims.prior_variance(make_runs([FIRST])))
    assert one["kl_share_used"].value == pytest.approx(3 / 3.25)
    assert one["kl_total"].value == pytest.approx(6.5)


def test_means_measures_what_the_synthetic_runs_hold():
    found = values(claims.means(make_runs([FIRST, SECOND])))
    assert found["prior_reach"].value == pytest.approx(0.4)
    assert found["posterior_reach"].value == pytest.approx(4)
    assert found["reach_ratio"].value == pytest.approx(0.1)
    assert found["within"].value == pytest.approx(0.1)
    assert found["between"].value == pytest.approx(0)
    assert found["prior_mean_unused"].value == pytest.approx(0.15)
    assert found["kl_mean_share"].value == pytest.approx(0.6 * 3 / 3.25)
    assert (found["kl_used"].value, found["kl_unused"].value) == (3, 0.25)


def test_measures_do_not_hide_diverged_replicas_among_the_unused():
    runs = make_runs([FIRST, SECOND])
    runs.diverged[1] = 2
    for name in ("ratio", "kl_nats", "posterior_variance", "prior_variance"):
        runs[name][1] = np.nan
    found = values(claims.means(runs))
    assert found["kl_unused"].value == 0.25


def test_numbers_and_table_say_the_same():
    measures = claims.means(make_runs([FIRST, SECOND]))
    numbers = claims.numbers(measures)
    frame = claims.table(measures).data
    assert len(frame) == len(measures) and set(frame.columns) >= {"claim", "unit"}
    for (_, row), m in zip(frame.iterrows(), measures, strict=True):
        assert row["median or share"] == f"{numbers[m.key]:.3g}"
        assert (row["matter of units?"] == "yes") == (m.unit in ("z", "z^2"))
    assert all(isinstance(number, float) for number in numbers.values())
