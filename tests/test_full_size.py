"""The stored runs at the notes' own sizes: what they say of themselves, and what is made of it."""

import importlib.util
import json
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from vaenotes.lab.summary import alive
from vaenotes.report import full_size
from vaenotes.report.full_size import groups, losing, predictions, runs


def test_every_group_has_the_runs_that_its_name_says():
    assert set(full_size.MAIN) < set(groups())
    for group in groups():
        found = runs(group)
        assert len(set(found.seed.values.tolist())) == found.sizes["replica"]
        assert dict(found.sizes)["node"] == 5 and dict(found.sizes)["dim"] == 2
        bands = found.prior_std_quantiles.isel(epoch=slice(1, None))
        assert (bands.diff("quantile") >= 0).all() and (bands > 0).all()


def test_prior_and_kl_agree_with_the_formula_where_both_are_kept():
    """A dim's KL is at least what its ratio costs, -log r + (r^2 - 1) / 2, in the mean over images,
    so by Jensen's inequality at the geometric mean of the ratio."""
    for group in groups():
        final = runs(group).isel(epoch=-1)
        least = -np.log(final.ratio) + (final.ratio**2 - 1) / 2
        assert (final.kl_nats > least - 1e-2).all(), group


def test_a_dim_that_is_in_use_by_its_ratio_carries_more_than_a_tenth_of_a_nat_and_no_other_does():
    for group in groups():
        found = runs(group)
        assert ((found.kl_nats.isel(epoch=-1) > 0.1) == alive(found)).all(), group


def test_a_long_run_goes_on_from_the_short_one_of_its_seed():
    long = runs("unsupervised_repeated long")
    short = runs("unsupervised_repeated").sel(replica=long.seed.values)
    same = slice(0, short.sizes["epoch"])
    np.testing.assert_allclose(long.kl_nats.isel(epoch=same), short.kl_nats, rtol=1e-3)


def test_losing_counts_the_replicas_whose_weaker_dim_fell():
    found = runs("unsupervised_repeated").copy(deep=True)
    assert found.sizes["replica"] == 3
    kl = np.broadcast_to(np.arange(9.0)[None, :, None, None], found.kl_nats.shape).copy()
    found["kl_nats"] = (found.kl_nats.dims, kl)
    assert losing(found) == (0, 3)
    found["kl_nats"] = (found.kl_nats.dims, kl[:, ::-1])
    assert losing(found) == (3, 3)


def test_a_prediction_of_an_epoch_that_was_not_reached_is_not_judged():
    for row in predictions():
        found = full_size.finding(row)
        epoch = int(row.experiment.removeprefix("epoch_"))
        reached = {(g.split()[0], runs(g).sizes["epoch"] - 1) for g in groups()}
        arms = row.finding.rpartition(".")[0].split("-")
        assert (found is not None) == all((arm, epoch) in reached for arm in arms)
    counts = full_size.counts()
    assert sum(counts.values()) == len(predictions()) and counts["not reached"] > 0


def test_a_prediction_has_a_range_and_a_reason_and_names_a_measure():
    for row in predictions():
        assert row.low < row.high and row.because
        with pytest.raises(KeyError):
            full_size.median_of(row.finding.rpartition(".")[2] + "x", runs(full_size.MAIN[0]))


def test_the_script_asks_for_the_configurations_that_were_run():
    """So that a default that changes later does not change what the script would run again."""
    path = Path(__file__).parents[1] / "benchmarks" / "full_size.py"
    spec = importlib.util.spec_from_file_location("benchmark_of_full_size", path)
    script = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = script  # its dataclasses look there
    spec.loader.exec_module(script)
    for one in full_size._kept()[0]["replicas"]:
        config = replace(
            script.NOTES, seed=one["config"]["seed"], **script.ARMS[one["arm"]].changes
        )
        assert json.loads(json.dumps(asdict(config))) == one["config"], one["group"]
