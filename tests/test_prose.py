"""Numbers of the prose, of runs and verdicts made up so that they are known."""

import numpy as np
import pytest
from synthetic import BOTH, FIRST, make_runs

from vaenotes.lab.summary import Interval
from vaenotes.report import prose
from vaenotes.report.claims import NOT_RUN, claims, predictions


def test_the_loader_s_replicas_are_added_up_over_the_arms_of_a_kind():
    arms = {f"cheap_repeats_{n}": make_runs([FIRST, BOTH]) for n in (4, 20, 50)}
    arms |= {f"cheap_few_{n}": make_runs([BOTH]) for n in (4, 20, 50)}
    expected = {"repeated_n": 6, "repeated_gone": 3, "shuffled_n": 3, "shuffled_gone": 0}
    assert prose.loader(arms) == expected


def test_nodes_are_told_apart_by_the_prior_of_the_dims_in_use():
    runs = make_runs([FIRST, FIRST])
    runs.prior_variance[:, -1, 1, 0] = 3.0
    found = {"lowest": 1.44, "lowest_node": "shape", "highest": 3.0, "highest_node": "x"}
    assert prose.prior_by_node(runs) == pytest.approx(found)


def test_directions_are_counted_beside_dims_without_what_diverged():
    runs = make_runs([FIRST, BOTH, BOTH])
    runs["diverged"][2] = 5
    spectra = np.array([[0.1, 0.9, 0.9, 0.9], [0.1, 0.1, 0.1, 0.9], [np.nan] * 4])
    found = {"several": 0.5, "code_size": 4, "own_used": 3.0, "directions": 2.0}
    assert prose.full_covariance(runs, spectra) == found


def test_units_that_were_changed_are_compared_with_the_twin_of_the_same_seed():
    twins = make_runs([FIRST, FIRST, FIRST])
    runs = twins.isel(replica=[2, 0, 1]).copy(deep=True)
    runs.prior_variance[:, -1] *= np.array([1 / 9, 1.0])
    assert prose.regauged(runs, twins)["regauged.factor"] == pytest.approx(9)


def test_predictions_are_counted_as_right_where_they_are_met():
    middle = {row.finding: (row.low + row.high) / 2 for row in predictions()}
    missed = next(row for row in predictions() if not row.seen)
    middle[missed.finding] = missed.high + 1
    found = prose.predicted({name: Interval(x, x, x, 8) for name, x in middle.items()})
    assert found["n_predictions"] == len(predictions())
    assert found["n_wrong"] == 1 == found["n_unseen"] - found["n_unseen_right"]
    assert found["n_right"] == len(predictions()) - 1


def test_claims_are_compared_with_the_first_run_alone():
    found = {claim.id: {"a": "open", "b": "open", "digits, mlp": "open"} for claim in claims()}
    found["V1"] = {"a": "reproduced", "b": "refuted", "digits, mlp": NOT_RUN}
    found["V2"] = {"a": "reproduced", "b": "open", "digits, mlp": "reproduced"}
    told = prose.generality(found)
    same = 2 * (len(found) - 2) + 1
    assert told["contrary"] == "V1 on b" and told["n_contrary"] == 1
    assert (told["n_same"], told["n_open"], told["n_pairs"]) == (same, 1, same + 2)
    assert (told["n_everywhere_run"], told["n_everywhere"]) == (len(found) - 1, len(found) - 2)
    assert "V1" not in told["everywhere"].split(", ") and "V3" in told["everywhere"].split(", ")
    assert told["n_expected"] == len(found) - 1
