"""Numbers of the prose that are no findings, on runs whose answers are known."""

import numpy as np
import pytest
from synthetic import BOTH, FIRST, make_runs
from test_claims import MADE

from vaenotes.config import Config
from vaenotes.lab.summary import Interval
from vaenotes.report import laws, prose
from vaenotes.report.claims import NOT_RUN, OPEN, OUTCOMES, claims, predictions


def test_the_notes_figures_are_told_as_they_were_read_off():
    found = prose.notes_figures()
    assert (found["theirs_first"], found["theirs_second"]) == (14, 14)
    assert found["theirs_low"] == pytest.approx(1.34, abs=0.01)
    assert found["theirs_high"] == pytest.approx(1.48, abs=0.01)
    assert found["theirs_mean"] == pytest.approx(-0.135, abs=0.01)
    assert found["theirs_posterior_reach"] == pytest.approx((4.623 + 4.671) / 2, abs=0.01)
    assert found["theirs_prior_reach"] == pytest.approx((0.140 + 0.095) / 2, abs=0.01)
    for name in ("theirs_posterior_reach", "theirs_prior_reach"):
        assert found[f"{name}_std"] == pytest.approx(found[name] / 1.413, rel=0.01)
    assert found["theirs_place"] == pytest.approx(0.135 / 1.413, abs=0.01)
    assert found["theirs_ratio_early"] == pytest.approx(0.1817 / 1.1745, abs=0.01)
    assert found["theirs_ratio_first"] == pytest.approx(1.0, abs=0.05)
    assert found["theirs_ratio_second"] == pytest.approx(0.0113 / 1.33, abs=0.002)


def test_both_paces_are_told_and_ours_is_the_configurations():
    found = prose.paces()
    assert (found["theirs_steps"], found["theirs_rate"]) == ("11,520", "1e-4")
    config = Config()
    assert float(found["ours_rate"]) == config.learning_rate
    assert int(found["ours_steps"]) == config.images // config.batch


def test_what_happened_at_full_size_is_counted_in_every_replica_and_prediction():
    found = prose.full_size()
    assert found["own.replicas"] == found["own.dear_n"] + found["own.rest_n"]
    assert found["own.rest_n"] == found["own.of_both"] + found["own.of_other"]
    assert found["own.dear_gone"] == found["own.gone_in"].replace(" and", ",").count(",") + 1
    counts = [found[f"own.{kind}"] for kind in ("right", "wrong", "undecided", "unreached")]
    assert sum(counts) == len(predictions("full_size"))
    first = [found[f"own.{kind}"] for kind in ("first_right", "first_wrong", "unreached")]
    assert sum(first) == len(predictions("full_size"))
    assert found["own.shortest"] < found["own.longest"]


def test_every_claim_has_a_verdict_at_full_size_and_they_are_counted():
    found = prose.at_full_size()
    for name in ("own", "cheaper"):
        each = [found.pop(f"{name}.verdict.{claim.id}") for claim in claims()]
        counts = {kind: n for kind, n in found.items() if kind.startswith(f"{name}.")}
        assert sum(counts.values()) == len(each)
        assert counts[f"{name}.claims_refuted"] == each.count("refuted")
    assert found["cheaper.claims_refuted"] > 0


def test_predictions_are_counted_and_so_are_those_that_no_trial_had_hinted_at():
    found = {
        row.finding: Interval((row.low + row.high) / 2, row.low, row.high, 8)
        for row in predictions()
    }
    counted = prose.predicted(found)
    every = len(predictions())
    assert (counted["predicted_right"], counted["predicted_in_range"]) == (every, every)
    unseen = [row for row in predictions() if not row.seen]
    found[unseen[0].finding] = Interval(unseen[0].high + 2, unseen[0].high + 1, np.inf, 8)
    found[unseen[1].finding] = found[unseen[1].finding]._replace(high=np.inf)
    missed = prose.predicted(found)
    for name in ("predicted", "unseen"):
        whole = missed[name]
        kinds = [missed[f"{name}_{kind}"] for kind in ("right", "wrong", "undecided", "in_range")]
        assert kinds == [whole - 2, 1, 1, whole - 1]


def test_verdicts_are_counted():
    found = prose.verdicts(dict.fromkeys(MADE, Interval(np.nan, np.nan, np.nan, 0)))
    assert found.pop("claims") == found.pop("open") == len(claims())
    assert set(found.values()) == {0} and "reproduced_up_to_units" in found


def test_verdicts_of_several_runs_are_compared_with_the_first():
    found = {claim.id: {"one": OPEN, "mnist5k, mlp": NOT_RUN} for claim in claims()}
    found["V2"] = {"one": "refuted", "mnist5k, mlp": "reproduced"}
    found["V3"] = {"one": "reproduced", "mnist5k, mlp": "reproduced"}
    found["V4"] = {"one": "reproduced", "mnist5k, mlp": OPEN}
    told = prose.generality(found)
    assert (told["n_expected"], told["n_as_expected"]) == (3, 3)
    assert (told["mnist5k.decided"], told["mnist5k.same"], told["mnist5k.other_n"]) == (2, 1, 0)
    assert told["mnist5k.contrary"] == "V2"


def test_what_was_predicted_of_the_laws_is_counted_and_what_had_been_seen_apart():
    found, counts = prose.laws_judged(), laws.counts()
    assert found["law.judged"] == found["law.seen"] + found["law.unseen"]
    assert found["law.not_run"] == counts[NOT_RUN]
    for kind in OUTCOMES:
        assert counts[kind] == found[f"law.seen_{kind}"] + found[f"law.unseen_{kind}"]


def test_dims_given_up_are_counted_over_all_shares_of_the_images():
    kept, gone = make_runs([BOTH, BOTH]), make_runs([FIRST, BOTH, FIRST])
    runs = {f"cheap_repeats_{n}": gone for n in (4, 20, 50)}
    runs |= {f"cheap_few_{n}": kept for n in (4, 20, 50)}
    found = prose.loader(runs)
    assert (found["repeated_n"], found["repeated_gone"]) == (9, 6)
    assert (found["shuffled_n"], found["shuffled_gone"]) == (6, 0)


def test_directions_are_counted_by_the_spectrum_and_dims_by_their_own_ratio():
    runs = make_runs([BOTH, FIRST, FIRST])  # four and two dims of four
    runs.diverged[2] = 3
    spectra = np.array([[0.1, 0.9, 0.9, 0.9], [0.1, 0.1, 0.1, 0.9], [np.nan] * 4])
    found = prose.full_covariance(runs, spectra)
    assert found == {"several": 0.5, "code_size": 4, "own_used": 3.0, "directions": 2.0}


def test_units_that_were_changed_differ_by_a_factor_in_dims_in_use():
    runs, twins = make_runs([FIRST, FIRST]), make_runs([FIRST, FIRST])
    runs.prior_variance[:, -1, :, 0] *= 4
    runs.prior_variance[:, -1, :, 1] *= 1000  # of no dim in use
    assert prose.regauged(runs, twins) == {"regauged.factor": pytest.approx(4)}


def test_every_cost_that_is_quoted_is_there():
    assert all(cost > 0 for cost in prose.costs().values())
    assert prose.costs().keys() == prose.QUOTED.keys()
