"""The rules of claims.toml on findings whose verdict is known; what files of statements name."""

import re
from functools import cache
from math import inf, nan

import numpy as np
import pytest
from synthetic import (
    CROSSED,
    SECOND,
    as_the_notes,
    blurred,
    both_used,
    informed,
    under_a_fixed_prior,
)

from vaenotes.lab.nails import BEDS
from vaenotes.lab.summary import Interval, median_interval
from vaenotes.report import claims as ledger
from vaenotes.report.claims import Claim, Prediction, claims, holds, predictions, verdict
from vaenotes.report.experiments import EXPERIMENTS, findings_of
from vaenotes.report.results import TITLES

NOTES = [*(f"V{i}" for i in range(1, 7)), *(f"P{i}" for i in range(1, 5)), "F1", "F2"]
NOTES += [*(f"M{i}" for i in range(1, 6)), "Q1", "Q2", "Q3"]
CONDITION = re.compile(r"(\S+) ([<>]) (\S+)")
UNKNOWN = Interval(nan, nan, nan, 0)


def made_by(name):
    """The names of every finding that one experiment makes."""
    one = EXPERIMENTS[name]
    found = {f"{arm}.{measure}" for arm in one.arms for measure in [*one.each, "at_rest"]}
    found |= {f"{arm}.{measure}" for arm in one.beds for measure in BEDS}
    return found | {f"{a}-{b}.{m}" for (a, b), measures in one.changes.items() for m in measures}


MADE = set().union(*map(made_by, EXPERIMENTS))
NOTHING = dict.fromkeys(MADE, UNKNOWN)
AT_REST = {name: Interval(1, 0.9, 1.1, 8) for name in MADE if name.endswith(".at_rest")}


KINDS = {
    "as the notes": {},
    "both": {"notes": both_used()},
    "fixed": {"notes": under_a_fixed_prior()},
    "blurred": {"notes": blurred()},
    "apart": {"notes": as_the_notes(CROSSED)},
    "otherwise": dict.fromkeys(
        ["per_node_no_edges", "factors_per_node", "standard"], as_the_notes()
    ),
}
"""Arms by which a world differs from one in which all is as the book's answers say."""


@cache
def world(kind, replicas=8):
    """The findings of the arms that rules need, in a world of KINDS."""
    arms = {
        "notes": as_the_notes(),
        "standard": under_a_fixed_prior(),
        "per_node": as_the_notes(CROSSED),
        "per_node_no_edges": as_the_notes(CROSSED),
        "narrow_start": as_the_notes(SECOND),
        "factors_per_node": informed(),
    } | KINDS[kind]
    found = {}
    for one in EXPERIMENTS.values():
        of_it = {
            name: arms[name].isel(replica=slice(replicas)) for name in one.arms if name in arms
        }
        found |= findings_of(one, of_it)
    alone = 0.1 if kind == "blurred" else 0.95  # among all pictures, which no trace has
    return found | {"notes.matched_back_all": median_interval(np.full(replicas, alone))}


TRUE = dict.fromkeys(NOTES, "reproduced") | dict.fromkeys(
    ["V6", "P3", "Q1", "Q2", "Q3"], "answered"
)
TRUE |= {"V1": "reproduced up to units", "V5": "refuted"}  # of a run like theirs V5 is wrong
FALSE = {
    "V1": "blurred", "V2": "blurred", "V3": "blurred", "V4": "blurred", "V6": "fixed",
    "P1": "fixed", "P2": "blurred", "P3": "otherwise", "P4": "both", "F1": "both", "F2": "both",
    "M1": "both", "M2": "blurred", "M3": "blurred", "M4": "apart", "M5": "both", "Q1": "blurred",
    "Q2": "otherwise", "Q3": "otherwise",
}  # fmt: skip
"""The world in which a claim is false, or its answer."""
each_claim = pytest.mark.parametrize("claim", claims(), ids=lambda claim: claim.id)


@each_claim
def test_a_rule_comes_out_true_false_and_open_where_it_should(claim):
    assert verdict(claim, world("as the notes")) == TRUE[claim.id]
    if claim.id == "V5":
        assert verdict(claim, world("both")) == "reproduced"
    else:
        assert verdict(claim, world(FALSE[claim.id])) == "refuted"
    assert verdict(claim, world("as the notes", replicas=5)) == ledger.OPEN  # however alike


@each_claim
def test_each_verdict_can_be_reached_and_not_by_what_straddles_or_is_missing(claim):
    for chosen, conditions in claim.rules.items():
        findings = NOTHING | AT_REST
        for condition in conditions:  # that are met by their first alternative
            left, relation, right = CONDITION.fullmatch(condition.split(" or ")[0]).groups()
            bound = 0.5 if right in MADE else float(right)
            sign = 1 if relation == ">" else -1
            for name, side in ((left, sign), (right, -sign)):
                if name in MADE:
                    near = bound + side * 1e-3 * abs(bound)
                    findings[name] = Interval(near, near, near, 8)
        assert verdict(claim, findings) == chosen
        moved = [f"{arm}.at_rest" for arm in ledger.arms_of(claim)]
        for state in (Interval(1.2, 1.0, 1.4, 8), Interval(1.08, 1.06, 1.1, 8), UNKNOWN):
            for name in moved:  # an end state that is not reached decides nothing
                found = verdict(claim, findings | {name: state})
                assert found == (ledger.OPEN if claim.end_state else chosen), name
        for name in findings.keys() - AT_REST.keys():
            if findings[name] is UNKNOWN:
                continue
            value = findings[name].value
            for doctored in (
                Interval(value, -inf, inf, 8),
                Interval(value, value, value, 5),
                Interval(nan, 0, 1, 0),
            ):
                assert verdict(claim, findings | {name: doctored}) != chosen, (chosen, name)


def test_a_prior_that_cannot_move_is_not_slower_though_the_first_rule_took_it_for_that():
    p1 = next(claim for claim in claims() if claim.id == "P1")
    assert world("fixed")["notes.behind"].low > 0.5 and verdict(p1, world("fixed")) == "refuted"


def test_where_every_dim_is_used_no_dim_carries_the_kl_alone():
    by_id = {claim.id: verdict(claim, world("both")) for claim in claims()}
    assert by_id["V5"] == "reproduced"
    assert by_id["P4"] == by_id["M5"] == by_id["F1"] == "refuted"


def test_the_first_rules_judge_by_themselves():
    v5 = next(claim for claim in claims() if claim.id == "V5")
    assert ledger.first_verdict(v5, world("both")) == ledger.OPEN  # its fault
    same = v5._replace(first_rules={})
    assert ledger.first_verdict(same, world("both")) == verdict(v5, world("both"))


@each_claim
def test_a_claim_asks_for_findings_that_are_made_by_its_own_chapter_if_it_has_one(claim):
    folder, _, chapter = claim.page.rpartition("/")
    made = made_by(chapter) if folder == "questions" else MADE
    assert all(claim.rules.values()) and claim.effect in made
    assert bool(claim.first) == bool(claim.first_rules) and claim.first_rules != claim.rules
    for rules in (claim.rules, claim.first_rules):
        for part in " or ".join(c for of in rules.values() for c in of).split(" or "):
            if part:
                left, _, right = CONDITION.fullmatch(part).groups()
                assert left in made and (right in made or float(right) is not None)


def test_without_findings_every_claim_of_the_notes_is_open_and_without_arms_not_run():
    found = ledger.verdicts({"unknown": NOTHING, "none": {}})
    assert list(found) == NOTES
    for verdicts in found.values():
        assert verdicts == {"unknown": ledger.OPEN, "none": ledger.NOT_RUN}


def test_verdicts_are_tried_in_order():
    claim = Claim("X", "", "", "a.b", "", {"refuted": ["a.b > 1"], "reproduced": ["a.b > 0"]})
    assert verdict(claim, {"a.b": Interval(2, 1.5, 3, 8)}) == "refuted"
    assert verdict(claim, {"a.b": Interval(1, 0.5, 1.5, 8)}) == "reproduced"


def test_findings_differ_where_their_intervals_do_not_overlap():
    findings = {"a.b": Interval(3, 2, 4, 8), "c.d": Interval(1, 0, 1.9, 8)}
    assert holds("a.b > c.d", findings) and holds("c.d < a.b", findings)
    assert not holds("a.b > c.d", findings | {"c.d": Interval(1, 0, 2, 8)})


@pytest.mark.parametrize(
    ("one", "other", "kind"),
    [
        ("open", "open", "same"),
        ("refuted", "open", "open"),
        ("open", "not run", "not run"),
        ("refuted", "reproduced up to units", "contrary"),
        ("reproduced", "reproduced up to units", "other"),
    ],
)
def test_two_verdicts_agree_or_differ_in_one_way(one, other, kind):
    assert ledger.agreement(one, other) == ledger.agreement(other, one) == kind


def test_predictions_are_of_findings_that_their_experiments_make_each_once():
    for row in predictions():
        arms = row.finding.rpartition(".")[0].split("-")
        assert row.finding in MADE and set(arms) <= set(EXPERIMENTS[row.experiment].arms)
    assert len({row.finding for row in predictions()}) == len(predictions()) > 0
    for row in predictions("full_size"):
        assert set(row.finding.rpartition(".")[0].split("-")) <= set(TITLES)
    for row in predictions() + predictions("full_size"):
        assert row.low < row.high and row.because and ledger.measure_of(row.finding).meaning


@pytest.mark.parametrize(
    ("low", "high", "replicas", "outcome"),
    [
        (1.0, 2.0, 8, "right"),
        (0.9, 2.0, 8, "undecided"),
        (1.5, 2.1, 8, "undecided"),
        (0.0, 0.9, 8, "wrong"),
        (2.1, 3.0, 8, "wrong"),
        (1.2, 1.3, 5, "undecided"),
        (nan, nan, 0, "undecided"),
    ],
)
def test_a_prediction_is_judged_by_its_whole_interval(low, high, replicas, outcome):
    row = Prediction("x", "a.b", 1.0, 2.0, False, "")
    assert ledger.judged(row, Interval((low + high) / 2, low, high, replicas)) == outcome


def test_at_first_a_prediction_was_right_by_its_median_alone():
    row = Prediction("x", "a.b", 1.0, 2.0, False, "")
    for value, right in [(0.9, False), (1.0, True), (2.0, True), (2.1, False), (nan, False)]:
        assert ledger.in_range(row, Interval(value, 0, 9, 3)) == right


def test_a_verdict_is_expected_of_every_claim_once_in_every_run():
    by_title = {}
    for row in ledger.expected():
        assert row.verdict in {*ledger.VERDICTS, ledger.OPEN} and row.because
        by_title.setdefault(row.title, []).append(row.claim)
    assert by_title == {"mnist5k, mlp": NOTES, "digits, mlp": NOTES}
