"""What was stored of the units that training ends in, and how it is read."""

import json

import numpy as np
import pytest

from vaenotes.report import units
from vaenotes.report.claims import predictions
from vaenotes.report.settings import PROFILES
from vaenotes.theory import agree

STARTS = (0.3, 1.0, 3.0)


def made_up(kept):
    """Two seeds whose units follow the charge, or else are those of the usual start."""

    def row(name, start, seed):
        std = {0.3: 1.0, 1.0: 2.0, 3.0: 4.0}[start] if kept else 2.0
        drift = {"sgd_0.01": 1.0, "sgd_0.02": 2.0, "sgd_0.04": 4.0, "adam": 40.0}[name]
        return {
            "start": start, "seed": seed, "epochs": [0, 5], "charge": [start, start - drift],
            "prior_std": [std, 2 * std, 77.0], "ratio": [0.1, 0.1, 0.9],
            "own": 1.0 if kept else 1.5, "other": std / 2 if kept else start,
        }  # fmt: skip

    rows = {name: [row(name, s, seed) for s in STARTS for seed in (0, 1)] for name in units.COLOURS}
    dims = {f"{start:g}": {"dims_used": [1.0, 1.2, 1.4]} for start in STARTS}
    return {"charge": {"commit": "a", "rows": rows}, "dims": {"commit": "b", "rows": dims}}


@pytest.fixture
def stored(monkeypatch):
    def store(kept):
        units.ends.cache_clear()
        monkeypatch.setattr(units, "_kept", lambda: made_up(kept))
        return units.findings()

    yield store
    units.ends.cache_clear()


def test_where_the_charge_is_kept_it_gives_the_units_and_where_not_it_does_not(stored):
    found = stored(kept=True)
    for name in ("own", "other_0.3", "other_3"):
        agree(found[f"sgd_0.01.{name}"].value, 1, 1e-12)
    agree(found["sgd_0.01.ratio_0.3"].value, 0.5, 1e-12)
    agree(found["sgd_0.01.ratio_3"].value, 2, 1e-12)
    agree(found["sgd_0.04/sgd_0.02.drift"].value, 2, 1e-12)
    agree(found["adam/sgd_0.01.drift"].value, 40, 1e-12)
    agree(found["units_3.dims_used"].value, 1.2, 1e-12)
    found = stored(kept=False)
    agree(found["adam.own"].value, 1.5, 1e-12)
    agree(found["adam.other_0.3"].value, 1 / 0.3, 1e-12)


def test_nodes_that_a_start_does_not_use_are_left_out(stored):
    stored(kept=True)
    every = units.ends()
    assert set(every.nodes) == {2}  # of three: the 77 counts nowhere
    np.testing.assert_allclose(every[every.start == 1]["std"], 2 * 2**0.5)


def test_what_was_stored_was_expected_in_a_file_and_is_of_seeds_apart_from_the_books():
    found = units.findings()
    rows = predictions("units")
    assert rows and all(row.finding in found and row.low < row.high for row in rows)
    assert {row.finding.rpartition(".")[2] for row in rows} <= {
        name.rpartition(".")[2] for name in units.MEANINGS
    }
    assert units.ends().seed.min() >= 1000 > max(profile.many for profile in PROFILES.values())
    assert json.dumps(units.glued())  # plain numbers


def test_the_figure_has_a_line_for_each_replica():
    left, middle, right, _ = units.charge().axes
    assert len(left.lines) == len(units.ends())
    assert len(middle.collections) == 12 and len(right.collections) == 4
