"""The rules of claims.toml on findings whose verdict is known; what files of statements name."""

import re
from math import inf, nan

import pytest

from vaenotes.lab.nails import BEDS
from vaenotes.lab.summary import Interval
from vaenotes.report import claims as ledger
from vaenotes.report.claims import Claim, Prediction, claims, holds, predictions, verdict
from vaenotes.report.experiments import EXPERIMENTS
from vaenotes.report.results import TITLES

NOTES = [*(f"V{i}" for i in range(1, 7)), *(f"P{i}" for i in range(1, 5)), "F1", "F2"]
NOTES += [*(f"M{i}" for i in range(1, 6)), "Q1", "Q2", "Q3"]
CONDITION = re.compile(r"(\S+) ([<>]) (\S+)")
UNKNOWN = Interval(nan, nan, nan, 0)


def made_by(name):
    """The names of every finding that one experiment makes."""
    one = EXPERIMENTS[name]
    found = {f"{arm}.{measure}" for arm in one.arms for measure in one.each}
    found |= {f"{arm}.{measure}" for arm in one.beds for measure in BEDS}
    return found | {f"{a}-{b}.{m}" for (a, b), measures in one.changes.items() for m in measures}


MADE = set().union(*map(made_by, EXPERIMENTS))
NOTHING = dict.fromkeys(MADE, UNKNOWN)


def bounds(claim, chosen):
    """Conditions of one verdict as {finding: (low, high)}; 0.5 is put between two findings."""
    found = {}

    def narrow(name, relation, number):
        low, high = found.get(name, (-inf, inf))
        found[name] = (number, high) if relation == ">" else (low, number)

    for condition in claim.rules[chosen]:
        name, relation, right = CONDITION.fullmatch(condition).groups()
        narrow(name, relation, 0.5 if right in MADE else float(right))
        if right in MADE:
            narrow(right, "<" if relation == ">" else ">", 0.5)
    return found


@pytest.mark.parametrize("claim", claims(), ids=lambda claim: claim.id)
def test_each_verdict_can_be_reached_and_flips_when_any_of_its_findings_is_doctored(claim):
    for chosen in claim.rules:
        findings = dict(NOTHING)
        for name, (low, high) in bounds(claim, chosen).items():
            low, high = (high - 1 if low == -inf else low), (low + 1 if high == inf else high)
            third = (high - low) / 3
            findings[name] = Interval((low + high) / 2, low + third, high - third, 8)
        assert verdict(claim, findings) == chosen
        for name, (low, high) in bounds(claim, chosen).items():
            for value in {low - 2, high + 2} - {-inf, inf}:
                doctored = findings | {name: Interval(value, value, value, 8)}
                assert verdict(claim, doctored) != chosen, name
            straddling = findings | {name: Interval(1, max(low, -9) - 2, min(high, 9) + 2, 8)}
            assert verdict(claim, straddling) != chosen, name


@pytest.mark.parametrize("claim", claims(), ids=lambda claim: claim.id)
def test_a_claim_asks_for_findings_that_are_made_by_its_own_chapter_if_it_has_one(claim):
    folder, _, chapter = claim.page.rpartition("/")
    made = made_by(chapter) if folder == "questions" else MADE
    conditions = [c for of in claim.rules.values() for c in of]
    assert conditions and all(claim.rules.values()) and claim.effect in made
    for condition in conditions:
        left, _, right = CONDITION.fullmatch(condition).groups()
        assert left in made and (right in made or float(right) is not None)


def test_without_findings_every_claim_of_the_notes_is_open_and_without_arms_not_run():
    found = ledger.verdicts({"unknown": NOTHING, "none": {}})
    assert list(found) == NOTES
    for verdicts in found.values():
        assert verdicts == {"unknown": ledger.OPEN, "none": ledger.NOT_RUN}


def test_verdicts_are_tried_in_order():
    claim = Claim("X", "", "", "a.b", "", "", {"refuted": ["a.b > 1"], "reproduced": ["a.b > 0"]})
    assert verdict(claim, {"a.b": Interval(2, 1.5, 3, 8)}) == "refuted"
    assert verdict(claim, {"a.b": Interval(1, 0.5, 1.5, 8)}) == "reproduced"


def test_findings_differ_where_their_intervals_do_not_overlap():
    findings = {"a.b": Interval(3, 2, 4, 8), "c.d": Interval(1, 0, 1.9, 8)}
    assert holds("a.b > c.d", findings) and holds("c.d < a.b", findings)
    assert not holds("a.b > c.d", findings | {"c.d": Interval(1, 0, 2, 8)})


def test_a_run_in_which_every_dim_is_used_decides_the_claims_about_the_given_up_dim():
    """Where both are in use the notes are right that both are, and wrong that one carries all."""
    found = NOTHING | {
        "notes.dims_used": Interval(2, 2, 2, 8),
        "notes.kl_share_used": Interval(1, 1, 1, 8),
        "notes.one_per_node": Interval(0, 0, 0.37, 8),
    }
    by_id = {claim.id: verdict(claim, found) for claim in claims()}
    assert by_id["V5"] == "reproduced"
    assert {by_id[name] for name in ("P4", "M5", "F1")} == {"refuted"}


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


def test_a_prediction_is_right_within_its_range_alone():
    row = Prediction("x", "a.b", 1.0, 2.0, False, "")
    for value, right in [(0.9, False), (1.0, True), (2.0, True), (2.1, False), (nan, False)]:
        assert ledger.is_right(row, {"a.b": Interval(value, 0, 9, 8)}) == right


def test_a_verdict_is_expected_of_every_claim_once_in_every_run():
    rules = {claim.id: claim.rules for claim in claims()}
    by_title = {}
    for row in ledger.expected():
        assert row.verdict in {*rules[row.claim], ledger.OPEN} and row.because
        by_title.setdefault(row.title, []).append(row.claim)
    assert by_title == {"mnist5k, mlp": NOTES, "digits, mlp": NOTES}
