"""What was made once and is kept: full size, the notes' figures as digitised, costs."""

import importlib.util
import json
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from vaenotes import trace
from vaenotes.lab.summary import alive, median_interval
from vaenotes.report import results
from vaenotes.report.claims import predictions
from vaenotes.report.results import bands, digitised, facts_of, full_size, groups, notes_bands

# At the notes' own sizes


@pytest.mark.parametrize("group", groups())
def test_a_group_is_what_its_name_says_and_agrees_with_itself(group):
    found = full_size(group)
    assert len(set(found.seed.values.tolist())) == found.sizes["replica"]
    assert (found.sizes["node"], found.sizes["dim"]) == (5, 2)
    drawn = found.prior_std_quantiles.isel(epoch=slice(1, None))
    assert (drawn.diff("quantile") >= 0).all() and (drawn > 0).all()
    # A dim's KL is at least what its ratio costs, by Jensen at the geometric mean over images.
    final = found.isel(epoch=-1)
    least = -np.log(final.ratio) + (final.ratio**2 - 1) / 2
    assert (final.kl_nats > least - 1e-2).all()
    # Dims in use are those whose KL is more than a tenth of a nat, but where it is about that.
    near = abs(final.kl_nats - 0.1) < 0.01
    assert ((final.kl_nats > 0.1) == alive(found)).where(~near, True).all()
    seen = full_size(group, "seen")
    assert np.isfinite(seen.kl_nats).all() and not (seen.kl_nats == found.kl_nats).all()


def test_losing_counts_the_replicas_whose_weaker_dim_fell():
    found = full_size("unsupervised_repeated").copy(deep=True)
    assert found.sizes["replica"] == 3
    kl = np.broadcast_to(np.arange(9.0)[None, :, None, None], found.kl_nats.shape).copy()
    found["kl_nats"] = (found.kl_nats.dims, kl)
    assert results.losing(found) == (0, 3)
    found["kl_nats"] = (found.kl_nats.dims, kl[:, ::-1])
    assert results.losing(found) == (3, 3)


def test_a_prediction_of_an_epoch_that_was_not_reached_is_not_judged():
    reached = {(g.split()[0], full_size(g).sizes["epoch"] - 1) for g in groups()}
    for row in predictions("full_size"):
        epoch = int(row.experiment.removeprefix("epoch_"))
        arms = row.finding.rpartition(".")[0].split("-")
        there = all((arm, epoch) in reached for arm in arms)
        assert (results.finding(row) is not None) == there
        assert (results.outcome(row) != results.NOT_REACHED) == there
        assert (results.outcome_at_first(row) != results.NOT_REACHED) == there


def test_the_ledger_of_full_size_pools_the_groups_of_a_column():
    columns = zip(results.full_size_findings().items(), results.COLUMNS.values(), strict=True)
    for (title, found), members in columns:
        used = [alive(full_size(group)).sum("dim").mean("node").values for group in members]
        every = np.concatenate(used)
        assert title.endswith(f"n = {len(every)}") and found["notes.dims_used"].decides
        assert found["notes.dims_used"] == median_interval(every)


def test_a_dim_is_given_up_that_was_used_and_no_longer_is():
    found = full_size("unsupervised_repeated").copy(deep=True)  # three replicas, eight epochs
    kl = np.full(found.kl_nats.shape, 2.0)
    assert results.given_up(found) == []
    kl[0, 4:, :, 1] = 0.05  # from epoch 4 on, the notes' 3
    kl[1, :, :, 0] = 0.05  # was never used
    kl[2, 2:4, :, 1] = 0.05  # comes back
    found["kl_nats"] = (found.kl_nats.dims, kl)
    assert results.given_up(found) == [3]


def test_the_closest_replica_is_the_one_whose_prior_falls_most_like_the_notes_did():
    rows = digitised().query("figure == 'std_behaviour' and quantity == 'prior std' and dim == 0")
    theirs = ((rows.p7 + rows.p93) / 2).set_axis(rows.epoch)
    apart = {}
    for group, runs in results.ends().items():
        shape = runs.sel(node="shape").prior_std_quantiles.values  # (replica, epoch, quantile, dim)
        ratio = runs.sel(node="shape").ratio.values  # (replica, epoch, dim)
        for number, seed in enumerate(runs.seed.values.tolist()):
            band = shape[number, 1:, :, ratio[number, -1].argmax()]
            both = theirs[theirs.index < len(band)]
            own = (band[both.index, 1] + band[both.index, 7]) / 2
            apart[group, seed] = np.abs(np.log(own / both.values)).mean()
    group, seed = min(apart, key=apart.get)
    assert results.closest().seed.values.tolist() == [seed]
    assert results.closest().sizes["epoch"] == full_size(group).sizes["epoch"]


def test_the_script_asks_for_the_configurations_that_were_run():
    """So that a default that changes later does not change what the script would run again."""
    path = Path(__file__).parents[1] / "benchmarks" / "full_size.py"
    spec = importlib.util.spec_from_file_location("benchmark_of_full_size", path)
    script = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = script  # its dataclasses look there
    spec.loader.exec_module(script)
    for one in results._kept()[0]["replicas"]:
        config = replace(
            script.NOTES, seed=one["config"]["seed"], **script.ARMS[one["arm"]].changes
        )
        assert json.loads(json.dumps(asdict(config))) == one["config"], one["group"]


# The notes' figures


def test_the_figures_say_what_was_read_off_them_by_hand():
    """Numbers told in words where the figures were first described."""
    std, means = notes_bands("std").prior_std_quantiles, notes_bands("mean").posterior_quantiles
    last = std.isel(place=1).sel(epoch=29, quantile=[0.07, 0.93])
    falling = std.isel(place=0).sel(epoch=[2, 3, 4, 5], quantile=0.93)
    reach = means.isel(place=1).sel(epoch=29, quantile=[0.0, 1.0])
    assert last.values == pytest.approx([1.34, 1.48], abs=0.01)
    assert falling.values == pytest.approx([1.12, 0.92, 0.62, 0.28], abs=0.01)
    assert reach.values == pytest.approx([-4.6, 4.7], abs=0.05)
    scalars = digitised().query("figure == 'scalars of 22 July' and dim == 0").set_index("epoch")
    read = scalars["max"].loc[[1, 2, 3, 4]].values
    assert read == pytest.approx([0.18, 0.13, 0.24, 0.25], abs=0.005)
    found = facts_of(notes_bands("std"), notes_bands("mean"))
    assert found["prior std, dim given up: epoch in which it falls below half"] == 4
    assert found["prior mean, dim given up, at the end"] == pytest.approx(-0.135, abs=0.01)


def made_up(halves_at=6, epochs=10):
    """One replica whose second dim is given up: its prior's std is 2 until it falls to 0.5."""
    levels = np.array(trace.QUANTILES)
    shape = (1, epochs + 1, len(levels), 5, 2)
    std = np.full(shape, 2.0)
    std[:, halves_at:, ..., 1] = 0.5
    mean = np.broadcast_to((10 * (levels - 0.5))[:, None, None], shape).copy()
    axes = ("replica", "epoch", "quantile", "node", "dim")
    ratio = np.broadcast_to([0.1, 1.0], (1, epochs + 1, 5, 2))
    return xr.Dataset(
        {
            "prior_std_quantiles": (axes, std),
            "posterior_std_quantiles": (axes, std / 2),
            "posterior_quantiles": (axes, mean),
            "prior_quantiles": (axes, mean / 10),
            "ratio": (("replica", "epoch", "node", "dim"), ratio),
        },
        coords={
            "epoch": range(epochs + 1),
            "quantile": levels,
            "node": ["shape", "scale", "orientation", "x", "y"],
            "dim": [1, 2],
        },
    )


def facts(runs):
    return facts_of(bands(runs, "std"), bands(runs, "mean"))


def test_facts_of_a_figure_whose_answers_are_known():
    assert bands(made_up(), "std").epoch.values.tolist() == list(range(10))  # counted from 0
    found = facts(made_up())
    assert found["prior std, dim given up: epoch in which it falls below half"] == 5
    assert found["prior std, dim given up, at the end"] == 0.5
    assert found["prior std, other dim, at the end"] == 2.0
    assert found["posterior std, other dim, at the end"] == 1.0
    # a spread that is even from -5 to 5: all of it over 86 % of it
    assert found[results.TAIL] == pytest.approx(1 / 0.86)
    never = facts(made_up(halves_at=11))
    assert np.isnan(never["prior std, dim given up: epoch in which it falls below half"])
    gone = made_up()
    assert facts(gone.where(gone.epoch < 0)) == {}


def test_tails_are_of_the_dim_that_carries_more_in_each_replica():
    group = "unsupervised_fresh"
    y = full_size(group).sel(node="y").isel(epoch=-1)
    used = y.posterior_quantiles.isel(dim=y.ratio.argmin("dim"))
    low, p7, p93, high = (
        used.sel(quantile=q, method="nearest").values for q in results.READ.values()
    )
    tails = (high - low) / (p93 - p7)
    row = results.tails().loc[results.TITLES[group]]
    assert row.tolist() == pytest.approx([tails.min(), tails.max(), len(tails)])
    assert results.tails().index[0] == "the notes"


def test_other_data_are_shown_in_the_node_of_the_same_place():
    other = made_up().assign_coords(node=["digit", "ink", "slant", "width", "height"])
    for what, node in (("std", "digit"), ("mean", "height")):
        assert results.shown_node(other, what) == node
        xr.testing.assert_equal(bands(other, what), bands(other, what, node))
    few = other.isel(node=[0])
    assert results.shown_node(few, "mean") == "digit"
    assert list(results.comparison({"few": few})) == ["the notes", "few"]


def test_a_replica_that_was_trained_on_counts_once_as_it_ended():
    counted: dict[str, list[int]] = {}
    for group, runs in results.ends().items():
        counted.setdefault(group.split()[0], []).extend(runs.seed.values.tolist())
    every: dict[str, set[int]] = {}
    for group in results.groups():
        every.setdefault(group.split()[0], set()).update(full_size(group).seed.values.tolist())
    assert {arm: sorted(seeds) for arm, seeds in counted.items()} == {
        arm: sorted(seeds) for arm, seeds in every.items()
    }


# Costs


def test_every_cost_was_measured_at_a_clean_commit():
    for path in results.FOLDER.glob("cost_*.json"):
        kept = results.cost(path.stem.removeprefix("cost_"))
        assert kept["commit"].isalnum() and kept["hardware"] and kept["rows"]
        assert all(row["low"] <= row["median"] <= row["high"] for row in kept["rows"])
