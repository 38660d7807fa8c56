"""Claims on synthetic runs whose truth is known."""

import numpy as np
import pytest
import xarray as xr
from synthetic import BOTH, CROSSED, FIRST, IMAGES, NONE, SECOND, make_runs

from vaenotes import claims


def values(measures):
    return {m.key: m.interval for m in measures}


def test_nodes_that_use_no_dim_do_not_vote():
    runs = make_runs([[[0, 1], [0, 0]], SECOND])
    runs.ratio[0, -1, 1] = [0.98, 0.99]
    found = values(claims.prior_variance(runs))
    assert found["agree"].replicas == 1 and found["agree"].value == 1


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


def test_the_gap_is_the_inverse_of_the_ratio():
    runs = make_runs([FIRST])
    runs.ratio[0, -1, :, 1] = 0.8
    assert values(claims.prior_variance(runs))["gap"].value == pytest.approx(0.25)


def test_both_shrink_looks_at_collapsed_replicas_alone():
    found = values(claims.both_shrink(make_runs([NONE, NONE, BOTH])))
    assert found["early_prior_variance"] == (2.0**-20, 2.0**-20, 2.0**-20, 2)
    assert found["early_ratio"].value == 1 and found["early_kl"].value == 0.25


def test_fit_reports_every_node_and_the_reconstruction():
    runs = make_runs([FIRST, SECOND])
    runs["r2"] = runs.ratio.isel(dim=0, drop=True) * 0 + xr.DataArray([0.4, 0.9], dims="node")
    runs["reconstruction_nats"] = runs.ratio.isel(node=0, dim=0, drop=True) * 0 + 37.0
    found = values(claims.fit(runs))
    assert {name: round(m.value, 9) for name, m in found.items()} == {
        "r2_shape": 0.4,
        "r2_x": 0.9,
        "reconstruction": 37.0,
    }


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
