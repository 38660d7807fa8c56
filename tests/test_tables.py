"""Tables say what the findings say."""

import json
from html import escape

import pandas as pd
import pytest
from test_claims import AT_REST, MADE

from vaenotes.lab.summary import Interval
from vaenotes.report import cells, results, rules, system, tables
from vaenotes.report.arms import ARMS
from vaenotes.report.claims import (
    Expected,
    Prediction,
    claims,
    first_verdict,
    measure_of,
    verdict,
)
from vaenotes.report.experiments import EXPERIMENTS

HALF = Interval(0.5, 0.25, 0.75, 8)
NARROW = "0.5 (0.25 to 0.75), n = 8"
TEXT = NARROW.replace(" to ", "\xa0to\xa0").replace("n = ", "n\xa0=\xa0")
FOUND = dict.fromkeys(MADE, HALF) | AT_REST


def test_names_that_anybody_gives_are_shown_as_text():
    name = "<script>alert(1)</script>"
    for index in (True, False):
        shown = cells.styled(pd.DataFrame({name: [1.0]}, index=[name]), index=index).to_html()
        assert "<script>" not in shown and "&lt;script&gt;" in shown


def test_the_ledger_has_every_claim_with_its_verdict_here_and_elsewhere_and_its_effect():
    table = tables.ledger(FOUND, {"there": FOUND, "nowhere": {}}).data
    assert all("not run" in cell for cell in table["nowhere"])
    for (_, row), claim in zip(table.iterrows(), claims(), strict=True):
        assert row[""] == f'<a href="{claim.page}.html">{claim.id}</a>'
        assert row["the notes"] == claim.statement and row["effect"] == "0.5 (0.25 to 0.75)"
        kind = verdict(claim, FOUND)
        assert f'class="verdict {kind.split()[-1]}"' in row["there"]
        assert row["there"].endswith(f">{kind.removeprefix('reproduced up ')}</span>")
        link = f'<a href="predictions.html#rule-{claim.id}">'
        assert row["small system"] == f"{link}{row['there']}</a>"


def test_a_number_of_the_ledger_is_brief():
    numbers = [0.0321, -0.0017, 26.4, float("nan"), 0.004]
    assert [tables.brief(one) for one in numbers] == ["0.032", "0.00", "26", "nan", "0.00"]


def test_a_chapter_has_its_claims_with_verdict_rule_and_effect():
    for page in {claim.page for claim in claims()}:
        table = tables.claims_table(FOUND, {"there": FOUND}, page).data
        told = [claim for claim in claims() if claim.page == page]
        for (_, row), claim in zip(table.iterrows(), told, strict=True):
            now, then = verdict(claim, FOUND), first_verdict(claim, FOUND)
            assert row["claim"] == claim.id and row["there"] == now
            assert row["verdict"].startswith(f"<b>{now}</b>")
            assert f'href="predictions.html#rule-{claim.id}"' in row["verdict"]
            assert row["verdict"].endswith(f"at first: {then}</small>") == (now != then)
            assert row["effect, 95% interval"].startswith(TEXT)
            ends = ("std_used", "variance_unused", "mean_unused", "reach")
            of_units = claim.effect.endswith(ends)
            assert ("matter of units" in row["effect, 95% interval"]) == of_units


def test_predictions_stand_beside_what_came_of_them():
    ranges = [(0.2, 0.8), (0.4, 0.6), (0.8, 0.9)]
    rows = [Prediction("x", "a.nails", *ends, ends[0] > 0.5, "so") for ends in ranges]
    table = tables.predictions_table(rows, {"a.nails": HALF}).data
    assert table["came out"].tolist() == ["right", "undecided", "<b>wrong</b>"]
    assert table["median within?"].tolist() == ["yes", "yes", "no"]
    assert table["predicted"].tolist() == ["0.2 to 0.8", "0.4 to 0.6", "0.8 to 0.9"]
    assert set(table["measured, 95% interval"]) == {TEXT}
    assert ["seen in trials" in cell for cell in table["number, and why"]] == [False, False, True]


def test_every_rule_stands_beside_what_was_measured_and_its_first_form():
    table = rules.rules_table(FOUND).data
    for (_, row), claim in zip(table.iterrows(), claims(), strict=True):
        assert f'id="rule-{claim.id}"' in row["claim"]
        assert row["verdict"] == f"<b>{verdict(claim, FOUND)}</b>"
        first = row["by the rule as first written"]
        if claim.first_rules:
            assert first.startswith(f"<b>{first_verdict(claim, FOUND)}</b>")
            assert escape(claim.first) in first
        else:
            assert first == "the same"
        words = row["the rule, and what was measured"]
        parts = [p for of in claim.rules.values() for c in of for p in c.split(" or ")]
        assert words.count(f"<b>{TEXT}</b>") == len({part.split()[0] for part in parts})
        for part in parts:
            assert rules.in_words(part, {}) in words


def test_a_condition_in_words_names_its_arms_and_bounds():
    found = {"notes.agree": HALF, "per_node.agree": HALF, "standard-notes.kl_total": HALF}
    agree, kl = (measure_of(f"notes.{name}").meaning for name in ("agree", "kl_total"))
    agree = f"share of replicas: {agree}"
    apart = f"that of {ARMS['per_node'].title} ({TEXT})"
    in_words = rules.in_words("notes.agree > per_node.agree", found)
    assert in_words == f"{agree}, above {apart}: <b>{TEXT}</b>"
    arms = escape(f"{ARMS['standard'].title} against {ARMS['notes'].title}")
    in_words = rules.in_words("standard-notes.kl_total < 1", found)
    assert in_words == f"{kl} [{arms}], below 1: <b>{TEXT}</b>"


def test_several_runs_stand_side_by_side():
    runs = {"here": FOUND, "nowhere": {}}
    row = tables.numbers_table(["notes.nails"], runs).data.iloc[0]
    assert (row["here"], row["nowhere"]) == (NARROW, "–")
    for cell, claim in zip(tables.verdicts_table(runs).data["here"], claims(), strict=True):
        assert cell == f"{verdict(claim, FOUND)}<br><small>{NARROW}</small>"


def test_the_system_has_a_row_for_every_arm_that_changes_one_part():
    table = system.table(FOUND).data
    changed = [name for part in system.PARTS for name in part.arms]
    assert set(changed) <= set(EXPERIMENTS["the_system"].arms)
    assert {ARMS[name].title for name in changed} <= set(table["changed to"])
    assert table["dims in use per node"].tolist().count(NARROW) == len(changed) + 1


def test_runs_at_full_size_are_judged_by_what_was_written_before():
    table = tables.full_size_predictions_table().data
    for column in ("came out", "by the median alone"):
        assert ((table["measured"] == "–") >= (table[column] == "not reached")).all()
    assert set(table["came out"]) == {"undecided", "not reached"}  # of three replicas at most
    assert set(table["by the median alone"]) == {"right", "wrong", "not reached"}
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


def test_identifiers_break_behind_dots_dashes_and_underscores_and_nowhere_else():
    cell = "<code>matched-notes.kl_used</code> and a_b, <code>two words</code>"
    broken = "<code>matched-<wbr>notes.<wbr>kl_<wbr>used</code> and a_b, <code>two words</code>"
    assert cells.breakable(cell) == broken
    table = cells.styled(pd.DataFrame({"name": ["<code>a.b</code>"], "value": [0.5]})).to_html()
    assert "<code>a.<wbr>b</code>" in table and "0.5" in table


@pytest.mark.attack("run")
def test_names_of_arms_and_what_a_user_writes_of_them_are_text():
    typed = "<img src=x onerror=alert(1)>"
    name, one = f"{typed}.kl_total", Interval(1, 1, 1, 1)
    for table in (
        tables.findings_table({name: one}),
        tables.numbers_table([name], {typed: {name: one}}),
        tables.predictions_table([Prediction("e", name, 0, 1, False, typed)], {name: one}),
        tables.expected_table([Expected(typed, "a", typed, typed)], {"a": {typed: typed}}),
    ):
        assert "<img" not in (shown := table.to_html()) and "&lt;img" in shown
