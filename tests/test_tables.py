"""Tables say what the findings say."""

import json
from math import nan

import pytest
from test_claims import MADE

from vaenotes.lab.summary import Interval
from vaenotes.report import results, tables
from vaenotes.report.arms import ARMS
from vaenotes.report.claims import Expected, Prediction, claims, predictions, verdict
from vaenotes.report.experiments import EXPERIMENTS

HALF = Interval(0.5, 0.25, 0.75, 8)
NARROW = "0.5 (0.25 to 0.75), n = 8"
TEXT = NARROW.replace(" to ", "\xa0to\xa0").replace("n = ", "n\xa0=\xa0")
WORDS = {claim.id: claim for claim in claims()}


@pytest.fixture(scope="module")
def findings():
    """Every finding that experiments make, all of one value."""
    return dict.fromkeys(MADE, HALF)


def test_an_interval_for_reading():
    assert tables.text(HALF) == TEXT
    assert tables.text(None) == tables.text(Interval(nan, nan, nan, 0)) == "–"


def test_the_ledger_has_every_claim_with_its_verdict_here_and_elsewhere_and_its_effect(findings):
    table = tables.claims_table(findings, {"there": findings, "nowhere": {}}).data
    assert len(table) == len(WORDS) and set(table["nowhere"]) == {"not run"}
    for (_, row), claim in zip(table.iterrows(), claims(), strict=True):
        assert row["claim"] == f'<a href="{claim.page}.html#{claim.anchor}">{claim.id}</a>'
        assert row["verdict"] == f"<b>{row['there']}</b>" == f"<b>{verdict(claim, findings)}</b>"
        assert row["effect, 95% interval"].startswith(TEXT)
    effects = dict(zip(WORDS, table["effect, 95% interval"], strict=True))
    assert "matter of units" in effects["P2"] and "matter of units" not in effects["V4"]
    chapter = tables.claims_table(findings, {}, "means").data
    assert set(chapter["claim"]) == {name for name, one in WORDS.items() if one.page == "means"}


def test_predictions_stand_beside_what_came_of_them():
    rows = [Prediction("x", "a.nails", low, 0.6, low > 0.5, "so") for low in (0.4, 0.55)]
    table = tables.table_of_predictions(rows, {"a.nails": HALF}, {"there": {}}).data
    assert table["right?"].tolist() == ["yes", "<b>no</b>"]
    assert table["predicted"].tolist() == ["0.4 to 0.6", "0.55 to 0.6"]
    assert set(table["measured, 95% interval"]) == {TEXT} and set(table["there"]) == {"–"}
    assert "(seen in trials)" in table.iloc[1, 0] and "(seen" not in table.iloc[0, 0]


def test_an_experiment_has_a_row_for_each_of_its_predictions(findings):
    own = [row for row in predictions() if row.experiment == "means"]
    assert len(tables.predictions_table("means", findings, {}).data) == len(own) > 0


def test_several_runs_stand_side_by_side(findings):
    runs = {"here": findings, "nowhere": {}}
    row = tables.numbers_table(["notes.nails"], runs).data.iloc[0]
    assert row["number"].startswith("<code>notes.nails</code>")
    assert row["here"] == NARROW and row["nowhere"] == "–"
    table = tables.verdicts_table(runs).data
    for cell, claim in zip(table["here"], claims(), strict=True):
        assert cell == f"{verdict(claim, findings)}<br><small>{NARROW}</small>"


def test_every_finding_has_its_unit_and_meaning(findings):
    table = tables.findings_table(findings).data.set_index("number")
    assert len(table) == len(findings)
    nails, std = (
        next(row for name, row in table.iterrows() if f"<code>notes.{measure}</code>" in name)
        for measure in ("nails", "prior_std_used")
    )
    assert nails["matter of units?"] == "no" and std["matter of units?"] == "yes"
    assert std["unit"] == "z"


def test_expected_verdicts_stand_beside_what_came_out():
    row = Expected("digits, mlp", "V1", "open", "so it is")
    table = tables.expected_table([row], {"V1": {"digits, mlp": "refuted"}}).data
    shown = ["digits, mlp", "V1<br><small><i>so it is</i></small>", "open", "refuted"]
    assert table.iloc[0].tolist() == shown


def test_a_rule_that_was_changed_shows_its_first_form():
    table = tables.rules_table().data.set_index("claim")
    changed = {claim.id for claim in claims() if claim.first}
    assert changed == {"V1", "V5", "P2", "P3", "P4", "M5", "F1", "Q3"}
    for claim in claims():
        assert table["at first"][claim.id] == claim.first
        for condition in sum(claim.rules.values(), []):
            assert condition.replace("<", "&lt;") in table["verdict if all hold"][claim.id]


def test_the_system_has_a_row_for_every_arm_that_changes_one_part(findings):
    table = tables.system_table(findings).data
    changed = [name for part in tables.PARTS for name in part.arms]
    assert set(changed) <= set(EXPERIMENTS["the_system"].arms)
    assert {ARMS[name].title for name in changed} <= set(table["changed to"])
    assert table["dims in use per node"].tolist().count(TEXT) == len(table) - 1  # layers: no arm


def test_runs_at_full_size_are_judged_by_what_was_written_before():
    table = tables.full_size_predictions_table().data
    counts = table[""].value_counts().to_dict()
    assert counts == results.prediction_counts() and sum(counts.values()) == len(table)
    assert ((table["measured"] == "–") >= (table[""] == "not reached")).all()
    assert len(tables.full_size_table().data) == len(results.groups())


def test_a_table_of_cost_says_what_meets_its_target(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "FOLDER", tmp_path)
    rows = [
        {"what": "fast", "unit": "s", "median": 2.0, "low": 1, "high": 1234.5, "target": "<= 3"},
        {"what": "slow", "unit": "1", "median": 2.0, "low": 1, "high": 3, "target": ">= 2.1"},
        {"what": "free", "unit": "1", "median": 2.0, "low": 1, "high": 3, "target": ""},
    ]
    about = {"setting": "Here.", "commit": "abc", "hardware": "a core", "versions": {"torch": "2"}}
    (tmp_path / "cost_kl.json").write_text(json.dumps(about | {"rows": rows}))
    table = tables.cost_table("kl")
    assert table.data["met"].tolist() == ["yes", "no", ""]
    assert table.data["range"][0] == "1 to 1,234" and table.data["target"][1] == "≥ 2.1"
    assert table.caption == "Here. Measured on a core; torch 2; commit abc."
    assert results.cost_of("kl", "slow") == 2.0
