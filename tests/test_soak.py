"""A short soak; `python tests/soak.py` is the long one. And the soak itself notices harm."""

import json
import os
import time
from types import SimpleNamespace

import attacks
import numpy as np
import pytest
import soak

pytestmark = pytest.mark.skipif(os.name != "posix", reason="SIGKILL")


@pytest.mark.slow
def test_nothing_is_lost_and_nothing_is_wrong():
    rows = soak.soak(scale=0.05, books=0)
    assert len(rows) == 7
    for row in rows:
        assert row.tried > 0 and row.survived == row.tried and not row.lost and not row.wrong, row


def test_the_long_soak_lost_nothing_over_all_its_trials():
    kept = json.loads(soak.RESULT.read_text())
    rows = {row["what"]: row for row in kept["rows"]}
    assert all(row["lost"] == row["wrong"] == 0 < row["tried"] for row in rows.values())
    assert sum(row["tried"] for what, row in rows.items() if what.startswith("killed")) >= 100
    assert int(rows["killed: a book being built"]["note"].split()[0]) >= 5  # from a checkpoint
    assert rows["damaged: one bit flipped"]["tried"] >= 1000


def test_another_answer_is_wrong_and_a_failure_is_lost(monkeypatch):
    def work(answer):
        def do(folder):
            time.sleep(1)  # to be killed within, also on a busy machine
            (folder / "answer").write_text(answer())

        return do

    def fails_the_second_time(folder):
        (folder / "once").open("x").close()
        work(str)(folder)

    def says_more_than_it_did(folder):
        (folder / "written").write_text("1")
        work(str)(folder)

    never_the_same = work(lambda: f"{time.time()}")
    for do, wrong in ((never_the_same, 2), (fails_the_second_time, 0), (says_more_than_it_did, 0)):
        monkeypatch.setitem(soak.WORKS, "work", do)
        row = soak.kill("work", 2, np.random.default_rng(0))
        assert (row.tried, row.survived, row.wrong, row.lost) == (2, 0, wrong, 2 - wrong)


def test_damage_that_is_not_noticed_is_lost():
    assert soak.damage("nothing", lambda data, _: data, 3, np.random.default_rng(0)).lost == 3


def test_attacks_of_every_aim_were_held():
    kept = json.loads(attacks.RESULT.read_text())["rows"]
    assert [row["what"] for row in kept] == list(attacks.AIMS.values())
    assert all(row["tried"] == row["held"] > 0 == row["broken"] for row in kept)


def test_a_failing_test_is_an_attack_that_broke_something_and_a_skipped_one_is_none():
    class Item:
        def get_closest_marker(self, name):
            return SimpleNamespace(args=["line"])

    def fail():
        raise AssertionError

    counts = attacks.Counts()
    for do in (lambda: None, lambda: None, fail, pytest.skip):
        call = pytest.CallInfo.from_call(do, "call")
        counts.pytest_runtest_makereport(Item(), call)
    row = counts.rows["line"]
    assert (row["tried"], row["held"], row["broken"]) == (3, 2, 1)
