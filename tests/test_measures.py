"""Measures on synthetic runs whose truth is known."""

import numpy as np
import pytest
from synthetic import (
    BOTH,
    CROSSED,
    FALL,
    FIRST,
    IMAGES,
    LATER,
    MIXED,
    NONE,
    SECOND,
    as_the_notes,
    blurred,
    both_used,
    make_runs,
    under_a_fixed_prior,
)

from vaenotes.errors import ParameterError
from vaenotes.lab.measures import (
    MEASURES,
    PAIRED,
    difference,
    median_of,
    paired,
    pooled,
    values_of,
)

SMALLEST = 2.0**-20  # the posterior's variance at the end


def value(name, *used):
    return median_of(name, make_runs(list(used))).value


def test_every_measure_gives_one_number_per_replica():
    runs = make_runs([FIRST, SECOND, BOTH, NONE, MIXED, CROSSED], epochs=25)
    runs.diverged[1] = 2
    for name in MEASURES:
        found = values_of(name, runs)
        assert found.dims == ("replica",) and found.sizes["replica"] == 6
        assert np.isnan(found[1]) and np.isfinite(found).any(), name


KNOWN = {
    "one_per_node": 1, "dims_used": 1, "decided": 1, "fallen": 1,
    "posterior_epoch_used": 5, "posterior_epoch_unused": 5, "posterior_variance_used": SMALLEST,
    "posterior_variance_unused": SMALLEST, "ratio_used": np.sqrt(SMALLEST / 1.44),
    "ratio_unused": 1, "balance_used": 1, "knockout_used": 5, "knockout_unused": 0,
    "knockout_r2_used": 0.4, "knockout_r2_unused": 0,
    "nails": np.sqrt((1.44 - SMALLEST) / SMALLEST), "matched_back": 1, "sampling_cost": 0.5,
    "prior_fallen": 1, "prior_epoch_unused": 7, "lag": 2,
    "behind": 0.95,  # all epochs but the last, in which the prior catches up
    "gap": 0,
    "halved": 5,  # the first epoch at whose end the variance, 2^(2 - epoch), is below 1/4
    "halved_apart": 0, "prior_std_used": 1.2, "prior_std_unused": np.sqrt(SMALLEST),
    "posterior_std_used": np.sqrt(SMALLEST), "posterior_std_unused": np.sqrt(SMALLEST),
    "prior_variance_unused": SMALLEST, "prior_variance_used": 1.44, "matching": 1, "agree": 1,
    "chance": 0.5,  # two nodes
    "first": 1, "second": 0, "posterior_spread_unused": 0, "prior_mean_unused": 0.15,
    "offset_unused": 0.025, "prior_reach": 0.4, "posterior_reach": 4,
    "spread_ratio": 0.12 / np.sqrt(1.44 - SMALLEST), "within": 0.1, "between": 0, "seen": 1,
    "calibration": 0.12 / np.sqrt(1.44 - SMALLEST), "kl_total": 6.5, "kl_used": 3,
    "kl_unused": 0.25, "kl_share_used": 3 / 3.25, "kl_mean_share": 0.6 * 3 / 3.25,
    "shuffle_cost": 0.04, "reconstruction": 37, "r2": 0.65,
}  # fmt: skip


def test_measures_find_what_the_synthetic_runs_hold():
    runs = make_runs([FIRST] * 3)
    found = {name: median_of(name, runs).value for name in KNOWN}
    assert found == pytest.approx(KNOWN, abs=1e-8)


AS_THE_NOTES = {
    "all_fallen": 1, "settled_first": 15, "settled_last": 15, "prior_gone": 1, "slower": 1,
    "posterior_kept_used": FALL[-1] ** 2, "posterior_kept_unused": FALL[-1] ** 2,
    "prior_kept_used": 1, "prior_kept_unused": LATER[-1] ** 2, "prior_std_least": 1.2,
    "prior_std_most": 1.2, "prior_std_between": 1, "stays": 1, "place_unused": 0.125, "shrunk": 0,
    "tips": 1, "kl_share_wide": 3 / 3.25, "kl_share_one": 3 / 3.25,
    "knockout_weaker": 0, "prior_reach_std": 0.4 / 1.2, "posterior_reach_std": 4 / 1.2,
}  # fmt: skip


def test_measures_of_the_ledgers_rules_on_runs_as_the_notes_saw_them():
    runs = as_the_notes()
    found = {name: median_of(name, runs).value for name in AS_THE_NOTES}
    assert found == pytest.approx(AS_THE_NOTES, abs=1e-8)
    short = runs.isel(epoch=slice(25))
    assert median_of("settled_last", short).replicas == 0  # too short to tell of epoch 15


def test_what_the_ledgers_measures_say_of_other_kinds():
    both, fixed, blur = both_used(), under_a_fixed_prior(), blurred()
    assert median_of("kl_share_one", both).value == pytest.approx(5 / 11)
    assert median_of("kl_share_wide", both).value == pytest.approx(0.5)
    assert median_of("knockout_weaker", both).value == (25 + 80) / 2
    assert median_of("kl_share_wide", fixed).replicas == 0  # none is wider
    assert median_of("slower", fixed).value == median_of("prior_gone", fixed).value == 0
    assert median_of("prior_std_between", blur).value == pytest.approx(3)
    assert median_of("tips", blur).value == 0
    for name in ("place_unused", "shrunk", "tips"):
        assert median_of(name, make_runs([NONE])).replicas == 0, name


@pytest.mark.attack("wrong")
def test_replicas_of_one_seed_are_not_compared_seed_by_seed():
    runs = make_runs([FIRST] * 3)
    assert difference("dims_used", runs, runs) == (0, 0, 0, 3)
    twice = runs.isel(replica=[0, 0, 1])
    for pair in ((twice, runs), (runs, twice)):
        with pytest.raises(ParameterError, match=r"must have each once, got \[0\]"):
            difference("dims_used", *pair)


def test_groups_are_pooled_replica_by_replica():
    one, other = make_runs([FIRST] * 2), make_runs([BOTH] * 4, epochs=9, first=2)
    assert pooled("dims_used", [one, other]) == (2, 1, 2, 6)
    assert pooled("one_per_node", [one, other])[::3] == (2 / 6, 6)


@pytest.mark.attack("wrong")
def test_a_replica_counts_once():
    runs = make_runs([FIRST] * 4)
    rule = r"runs must all differ, as a replica counts once, got \['seed 1'\]"
    with pytest.raises(ParameterError, match=rule):
        pooled("dims_used", [runs.isel(replica=[0, 1]), runs.isel(replica=[1, 2])])
    with pytest.raises(ParameterError, match=rule):
        median_of("dims_used", runs.isel(replica=[0, 1, 1]))


def test_a_dim_is_halved_where_its_prior_first_is_below_half_of_its_widest():
    """The first node's after it had widened, the second's five epochs later, and narrower dims that
    are in use do not count."""
    runs = make_runs([FIRST, FIRST, FIRST])
    std = np.ones((3, 21, 2, 2))
    std[0, :7, 0, 1] = [1, 1, 2, 3, 4, 3, 2.5]  # 2.5 is above half of 4
    std[0, 7:, 0, 1] = 2.0  # and 2 is not below it
    std[0, 9:, 0, 1] = 1.9
    std[0, 15, 0, 1] = 4.0
    std[0, 14:, 1, 1] = 0.49
    std[:, 2:, :, 0] = 0.1
    std[1, 3:, 0, 1] = 0.4  # one node alone, and the third replica none
    runs["prior_variance"] = (("replica", "epoch", "node", "dim"), std**2)
    np.testing.assert_array_equal(values_of("halved", runs), [11.5, 3, np.nan])
    np.testing.assert_array_equal(values_of("halved_apart", runs), [5, 0, np.nan])


def test_dims_are_counted_from_the_first():
    assert (value("first", SECOND), value("second", SECOND)) == (0, 1)
    assert (value("dims_used", BOTH), value("dims_used", MIXED)) == (2, 1.5)


def test_agreement_counts_replicas_that_could_agree_and_index_those_that_did():
    alone = [[0, 1], [0, 0]]  # a node that uses no dim does not vote
    runs = make_runs([FIRST, SECOND, SECOND, CROSSED, NONE, BOTH, alone])
    agree, second = median_of("agree", runs), median_of("second", runs)
    assert (agree.value, agree.replicas) == (3 / 4, 4)
    assert (second.value, second.replicas) == (pytest.approx(2 / 3), 3)


def test_codes_that_are_the_factors_are_perfect_neighbours():
    assert value("neighbours", FIRST) == pytest.approx(1, abs=0.01)


def test_nails_are_as_far_apart_as_brute_force_says():
    runs = make_runs([BOTH])
    mean = runs.image_posterior_mean.values[0].reshape(IMAGES, -1)
    std = np.exp(runs.image_posterior_logvar.values[0].reshape(IMAGES, -1) / 2)
    apart = [
        min(np.linalg.norm((m - other) / s) for other in np.delete(mean, i, 0))
        for i, (m, s) in enumerate(zip(mean, std, strict=True))
    ]
    assert median_of("nearest", runs).value == pytest.approx(np.median(apart), rel=1e-6)


def test_samples_cannot_be_matched_back_when_nothing_is_in_use():
    assert value("matched_back", NONE) < 5 / IMAGES


def test_the_kl_formula_is_the_kl_of_the_best_gaussian_that_sees_as_much():
    rng = np.random.default_rng(1)
    runs = make_runs([FIRST])
    y, rest = rng.standard_normal((2, IMAGES))
    mean = 0.6 * (y - y.mean()) / y.std()
    noise = rest - np.polyval(np.polyfit(mean, rest, 1), mean)  # uncorrelated in the sample
    m = mean + 0.3 * noise / noise.std()
    runs.image_posterior_mean[0, :, :, 0] = m[:, None]
    runs.image_prior_mean[0, :, :, 0] = mean[:, None]
    runs.posterior_spread[0, -1, :, 0] = m.std()
    runs.posterior_variance[0, -1, :, 0] = 0.01
    runs.image_posterior_logvar[0, :, :, 0] = np.log(0.01)
    t2 = 0.3**2 + 0.01  # what is left around the best guess
    kl = 0.5 * np.mean(np.log(t2 / 0.01) + (0.01 + (m - mean) ** 2) / t2 - 1)
    runs.kl_nats[0, -1, :, 0] = kl
    assert median_of("kl_formula", runs).value == pytest.approx(1, abs=1e-6)


def test_a_prior_that_is_the_same_for_all_images_sees_nothing():
    runs = make_runs([FIRST])
    runs.image_prior_mean[:] = 0.3
    assert median_of("seen", runs).value == 0
    assert median_of("calibration", runs).replicas == 0  # nothing to calibrate


def test_differences_are_taken_seed_by_seed():
    runs, reference = make_runs([FIRST] * 4), make_runs([FIRST] * 4)
    reference.kl_nats[:] += np.arange(4)[:, None, None, None]
    shuffled = reference.isel(replica=[3, 1, 0])
    found = difference("kl_used", runs, shuffled)
    assert (found.value, found.low, found.replicas) == (-1, -3, 3)


def test_a_twin_mirrors_where_its_dims_are_the_same_from_the_other_end():
    runs = make_runs([FIRST, SECOND, CROSSED, FIRST])
    twins = make_runs([SECOND, FIRST, CROSSED, FIRST])
    assert paired("mirrored", runs, twins)[::3] == (0.5, 4)


def test_a_jump_is_the_largest_change_at_the_epoch_in_which_units_change():
    twins = make_runs([FIRST, FIRST])
    runs = twins.copy(deep=True)
    runs.kl_nats[1, 10, 0, 1] += 0.125
    runs.kl_nats[:, 11:] += 9
    assert paired("kl_jump", runs, twins).high == 0.125
    assert set(PAIRED) == {"mirrored"} | {
        f"{name}_jump" for name in ("ratio", "kl", "reconstruction", "variance")
    }


def test_a_dim_was_once_used_if_its_ratio_was_below_one_half_and_it_ends_unused():
    assert value("once_used", FIRST) == 0  # a ratio of one half, while the prior follows
    runs = make_runs([FIRST, BOTH])
    runs.ratio[0, 1:-1] = np.where([[True, False], [True, False]], 0.1, 0.6)
    found = values_of("once_used", runs)
    assert found[0] == 0 and np.isnan(found[1])
    runs.ratio[0, 3, 1, 1] = 0.4
    assert values_of("once_used", runs)[0] == 1
    runs.kl_nats[0, 2, :, 1] = 0.7
    assert values_of("peak_kl_unused", runs)[0] == pytest.approx(0.7)
