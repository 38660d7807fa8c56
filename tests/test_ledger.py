"""The ledger's rules on findings whose verdict is known, and its files against the book's plan."""

import re

import pytest

from vaenotes.errors import ParameterError
from vaenotes.lab.summary import Interval
from vaenotes.report import ledger
from vaenotes.report.experiments import EXPERIMENTS
from vaenotes.report.ledger import Claim, claims, holds, is_right, predictions, verdict

NOTES = [*(f"V{i}" for i in range(1, 7)), *(f"P{i}" for i in range(1, 5)), "F1", "F2"]
NOTES += [*(f"M{i}" for i in range(1, 6)), "Q1", "Q2", "Q3"]
CONDITION = re.compile(r"(\S+) ([<>]) (\S+)")


def declared():
    """Every finding that the experiments make."""
    return set().union(*map(declared_in, EXPERIMENTS))


def bounds(claim, chosen):
    """Conditions of one verdict as {finding: (low, high)}; 0.5 is put between two findings."""
    found = {}

    def narrow(name, relation, number):
        low, high = found.get(name, (-1e9, 1e9))
        found[name] = (number, high) if relation == ">" else (low, number)

    for condition in claim.rules[chosen]:
        name, relation, right = CONDITION.fullmatch(condition).groups()
        if right in declared():
            narrow(name, relation, 0.5)
            narrow(right, "<" if relation == ">" else ">", 0.5)
        else:
            narrow(name, relation, float(right))
    return found


def findings_for(claim, chosen):
    """Findings that meet all conditions of one verdict, everything else unknown."""
    findings = {name: Interval(float("nan"), float("nan"), float("nan"), 0) for name in declared()}
    for name, (low, high) in bounds(claim, chosen).items():
        low, high = low if low > -1e9 else high - 1, high if high < 1e9 else low + 1
        third = (high - low) / 3
        findings[name] = Interval((low + high) / 2, low + third, high - third, 8)
    return findings


def test_every_claim_of_the_notes_has_a_row_once_and_in_order():
    assert [claim.id for claim in claims()] == NOTES


def declared_in(name):
    """Every finding that one experiment makes."""
    experiment = EXPERIMENTS[name]
    names = {f"{arm}.{measure}" for arm in experiment.arms for measure in experiment.each}
    for table in (experiment.changes, experiment.twins):
        names |= {f"{a}-{b}.{m}" for (a, b), measures in table.items() for m in measures}
    return names


CHAPTERS = [claim for claim in claims() if claim.page.startswith("questions/")]


@pytest.mark.parametrize("claim", CHAPTERS, ids=lambda claim: claim.id)
def test_the_chapter_of_a_row_makes_all_that_the_row_asks(claim):
    made = declared_in(claim.page.removeprefix("questions/"))
    asked = {claim.effect}
    for conditions in claim.rules.values():
        for condition in conditions:
            left, _, right = CONDITION.fullmatch(condition).groups()
            asked |= {left} | ({right} & declared())
    assert asked <= made


@pytest.mark.parametrize("claim", claims(), ids=lambda claim: claim.id)
def test_a_row_uses_findings_that_are_made(claim):
    assert claim.effect in declared()
    assert claim.rules and set(claim.rules) <= set(ledger.VERDICTS)
    for conditions in claim.rules.values():
        assert conditions
        for condition in conditions:
            left, _, right = CONDITION.fullmatch(condition).groups()
            assert left in declared() and (right in declared() or float(right) is not None)


ROWS = [(claim, chosen) for claim in claims() for chosen in claim.rules]


@pytest.mark.parametrize(("claim", "chosen"), ROWS, ids=[f"{c.id}-{v}" for c, v in ROWS])
def test_each_verdict_can_be_reached_and_flips_when_any_of_its_findings_is_doctored(claim, chosen):
    findings = findings_for(claim, chosen)
    assert verdict(claim, findings) == chosen
    for name, (low, high) in bounds(claim, chosen).items():
        for value in ({low - 2} if low > -1e9 else set()) | ({high + 2} if high < 1e9 else set()):
            doctored = findings | {name: Interval(value, value, value, 8)}
            assert verdict(claim, doctored) != chosen, name
        straddling = findings | {name: Interval(low, low - 2, high + 2, 8)}
        assert verdict(claim, straddling) != chosen, name


def test_without_findings_everything_is_open():
    unknown = {name: Interval(float("nan"), float("nan"), float("nan"), 0) for name in declared()}
    assert {verdict(claim, unknown) for claim in claims()} == {"open"}


def test_verdicts_are_tried_in_order():
    claim = Claim("X", "", "", "a.b", "", "", {"refuted": ["a.b > 1"], "reproduced": ["a.b > 0"]})
    assert verdict(claim, {"a.b": Interval(2, 1.5, 3, 8)}) == "refuted"
    assert verdict(claim, {"a.b": Interval(1, 0.5, 1.5, 8)}) == "reproduced"
    assert verdict(claim, {"a.b": Interval(0, -1, 1, 8)}) == "open"


def test_findings_differ_where_their_intervals_do_not_overlap():
    findings = {"a.b": Interval(3, 2, 4, 8), "c.d": Interval(1, 0, 1.9, 8)}
    assert holds("a.b > c.d", findings) and holds("c.d < a.b", findings)
    assert not holds("a.b > c.d", findings | {"c.d": Interval(1, 0, 2, 8)})


@pytest.mark.parametrize(
    "condition", ["a.b > x", "a.b >= 1", "a.b > 1 or so", "c.d > 1", "a.b", ""]
)
def test_a_condition_that_is_none_is_one_clear_line(condition):
    with pytest.raises(ParameterError, match="condition must be 'finding < number'"):
        holds(condition, {"a.b": Interval(1, 1, 1, 8)})


def test_every_prediction_is_of_a_finding_that_its_experiment_makes():
    assert {p.experiment for p in predictions()} <= set(EXPERIMENTS)
    for prediction in predictions():
        assert prediction.finding in declared() and prediction.low < prediction.high
        arms = prediction.finding.rpartition(".")[0].split("-")
        assert set(arms) <= set(EXPERIMENTS[prediction.experiment].arms)
    names = [prediction.finding for prediction in predictions()]
    assert len(names) == len(set(names))


def test_a_prediction_is_right_within_its_range_alone():
    prediction = ledger.Prediction("x", "a.b", 1.0, 2.0, False, "")
    right = [
        is_right(prediction, {"a.b": Interval(value, 0, 9, 8)})
        for value in (0.9, 1.0, 1.5, 2.0, 2.1, float("nan"))
    ]
    assert right == [False, True, True, True, False, False]


def test_tables_say_what_the_findings_say():
    claim = claims()[0]
    findings = findings_for(claim, next(iter(claim.rules)))
    findings[claim.effect] = Interval(0.75, 0.625, 0.875, 8)
    table = ledger.claims_table(findings, {"elsewhere": findings, "nowhere": {}}).data
    assert list(table["claim"].str.extract(r">(\w+)<")[0]) == NOTES
    row = table.iloc[0]
    assert row["verdict"] == f"<b>{verdict(claim, findings)}</b>" == f"<b>{row['elsewhere']}</b>"
    effect = table.set_index("claim")["effect, 95% interval"]
    assert effect.iloc[0].startswith("0.75 (0.625\xa0to\xa00.875), n\xa0=\xa08")
    assert set(table["nowhere"]) == {"not run"}
    assert "matter of units" in effect.iloc[7] and "matter of units" not in effect.iloc[3]  # P2, V4
    numbers = ledger.numbers({"a.b": Interval(1, 0, 2, 8)})
    assert numbers == {"a.b": 1, "a.b_low": 0, "a.b_high": 2, "a.b_n": 8}


def test_verdicts_are_by_claim_and_run():
    claim = claims()[0]
    chosen = next(iter(claim.rules))
    found = ledger.verdicts({"one": findings_for(claim, chosen), "none": {}})
    assert list(found) == NOTES
    assert found[claim.id] == {"one": chosen, "none": "not run"}


def test_numbers_stand_side_by_side():
    runs = {"one": {"notes.nails": Interval(1, 0, 2, 8)}, "none": {}}
    row = ledger.numbers_table(["notes.nails"], runs).data.iloc[0]
    assert row["number"].startswith("<code>notes.nails</code>")
    assert row["one"] == "1 (0 to 2), n = 8" and row["none"] == "–"


@pytest.mark.parametrize(
    ("one", "other", "kind"),
    [
        ("answered", "answered", "same"),
        ("open", "open", "same"),
        ("reproduced", "open", "open"),
        ("refuted", "open", "open"),
        ("open", "not run", "not run"),
        ("refuted", "not run", "not run"),
        ("refuted", "reproduced", "contrary"),
        ("refuted", "reproduced up to units", "contrary"),
        ("reproduced", "reproduced up to units", "other"),
    ],
)
def test_two_verdicts_agree_or_differ_in_one_way(one, other, kind):
    assert ledger.agreement(one, other) == ledger.agreement(other, one) == kind


def test_a_verdict_is_expected_of_every_claim_once_in_every_run():
    by_title = {}
    for row in ledger.expected():
        assert row.verdict in {*next(c for c in claims() if c.id == row.claim).rules, ledger.OPEN}
        assert row.because
        by_title.setdefault(row.title, []).append(row.claim)
    assert by_title == {"mnist5k, mlp": NOTES, "digits, mlp": NOTES}


def test_a_rule_that_was_changed_shows_its_first_form():
    table = ledger.rules_table().data.set_index("claim")
    assert list(table.index) == NOTES
    changed = {claim.id for claim in claims() if claim.first}
    assert changed == {"V1", "V5", "P2", "P3", "P4", "M5", "F1", "Q3"}
    for claim in claims():
        assert table["at first"][claim.id] == claim.first
        for conditions in claim.rules.values():
            for condition in conditions:
                assert condition.replace("<", "&lt;") in table["verdict if all hold"][claim.id]


def test_a_run_in_which_every_dim_is_used_decides_the_rows_about_the_given_up_dim():
    """Where both are in use the notes are right that both are, and wrong that one carries all."""
    known = {
        "notes.dims_used": Interval(2, 2, 2, 8),
        "notes.kl_share_used": Interval(1, 1, 1, 8),
        "notes.one_per_node": Interval(0, 0, 0.37, 8),
    }
    nothing = Interval(float("nan"), float("nan"), float("nan"), 0)
    findings = dict.fromkeys(declared(), nothing) | known
    found = {claim.id: verdict(claim, findings) for claim in claims()}
    assert [found[name] for name in ("V5", "P4", "M5", "F1")] == [
        "reproduced", "refuted", "refuted", "refuted",
    ]  # fmt: skip


def test_expected_verdicts_stand_beside_what_came_out():
    row = ledger.Expected("digits, mlp", "V1", "open", "so it is")
    table = ledger.expected_table([row], {"V1": {"digits, mlp": "refuted"}}).data
    shown = ["digits, mlp", "V1<br><small><i>so it is</i></small>", "open", "refuted"]
    assert table.iloc[0].tolist() == shown
