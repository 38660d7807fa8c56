"""Tables say what the findings say."""

import json

from test_claims import MADE

from vaenotes.lab.summary import Interval
from vaenotes.report import results, tables
from vaenotes.report.arms import ARMS
from vaenotes.report.claims import Prediction, claims, verdict
from vaenotes.report.experiments import EXPERIMENTS

HALF = Interval(0.5, 0.25, 0.75, 8)
NARROW = "0.5 (0.25 to 0.75), n = 8"
TEXT = NARROW.replace(" to ", "\xa0to\xa0").replace("n = ", "n\xa0=\xa0")
FOUND = dict.fromkeys(MADE, HALF)


def test_the_ledger_has_every_claim_with_its_verdict_here_and_elsewhere_and_its_effect():
    table = tables.claims_table(FOUND, {"there": FOUND, "nowhere": {}}).data
    assert set(table["nowhere"]) == {"not run"}
    for (_, row), claim in zip(table.iterrows(), claims(), strict=True):
        assert row["claim"] == f'<a href="{claim.page}.html#{claim.anchor}">{claim.id}</a>'
        assert row["verdict"] == f"<b>{row['there']}</b>" == f"<b>{verdict(claim, FOUND)}</b>"
        assert row["effect, 95% interval"].startswith(TEXT)
        of_units = claim.effect.endswith(("std_used", "variance_unused", "mean_unused", "reach"))
        assert ("matter of units" in row["effect, 95% interval"]) == of_units
    chapter = tables.claims_table(FOUND, {}, "means").data
    assert chapter["claim"].tolist() == [claim.id for claim in claims() if claim.page == "means"]


def test_predictions_stand_beside_what_came_of_them():
    rows = [Prediction("x", "a.nails", low, 0.6, low > 0.5, "so") for low in (0.4, 0.55)]
    table = tables.predictions_table(rows, {"a.nails": HALF}).data
    assert table["right?"].tolist() == ["yes", "<b>no</b>"]
    assert table["predicted"].tolist() == ["0.4 to 0.6", "0.55 to 0.6"]
    assert set(table["measured, 95% interval"]) == {TEXT}
    assert ["seen in trials" in cell for cell in table["number, and why"]] == [False, True]


def test_several_runs_stand_side_by_side():
    runs = {"here": FOUND, "nowhere": {}}
    row = tables.numbers_table(["notes.nails"], runs).data.iloc[0]
    assert (row["here"], row["nowhere"]) == (NARROW, "–")
    for cell, claim in zip(tables.verdicts_table(runs).data["here"], claims(), strict=True):
        assert cell == f"{verdict(claim, FOUND)}<br><small>{NARROW}</small>"


def test_the_system_has_a_row_for_every_arm_that_changes_one_part():
    table = tables.system_table(FOUND).data
    changed = [name for part in tables.PARTS for name in part.arms]
    assert set(changed) <= set(EXPERIMENTS["the_system"].arms)
    assert {ARMS[name].title for name in changed} <= set(table["changed to"])
    assert table["dims in use per node"].tolist().count(TEXT) == len(changed) + 1


def test_runs_at_full_size_are_judged_by_what_was_written_before():
    table = tables.full_size_predictions_table().data
    assert table[""].value_counts().to_dict() == results.prediction_counts()
    assert ((table["measured"] == "–") >= (table[""] == "not reached")).all()
    assert len(tables.full_size_table().data) == len(results.groups())


def test_a_table_of_cost_says_what_meets_its_target(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "FOLDER", tmp_path)
    rows = [
        {"what": what, "unit": "s", "median": 2.0, "low": 1.0, "high": 1234.5, "target": target}
        for what, target in (("fast", "<= 3"), ("slow", ">= 2.1"), ("free", ""))
    ]
    about = {"setting": "Here.", "commit": "abc", "hardware": "a core", "versions": {"torch": "2"}}
    (tmp_path / "cost_kl.json").write_text(json.dumps(about | {"rows": rows}))
    table = tables.cost_table("kl")
    assert table.data["met"].tolist() == ["yes", "no", ""]
    assert table.data["range"][0] == "1 to 1,234" and table.data["target"][1] == "≥ 2.1"
    assert table.caption == "Here. Measured on a core; torch 2; commit abc."
