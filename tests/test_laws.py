"""Laws: rules that can come out every way, numbers that are those of the stored runs, and runs that
start as they say."""

import importlib.util
import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from vaenotes.config import Config
from vaenotes.data.sprites import sprites
from vaenotes.diagnosis.status import ALIVE_NATS
from vaenotes.graph import parent_matrix
from vaenotes.lab.summary import Interval
from vaenotes.report import PROFILES, law_figures, laws, results
from vaenotes.report.claims import NOT_RUN

ROOT = Path(__file__).parents[1]
STORED = ROOT / "vaenotes" / "report" / "results" / "laws.npz"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("runs_of_laws", ROOT / "benchmarks" / "laws.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# Rules


def test_a_point_is_judged_by_its_whole_interval_and_not_without_one():
    cases = {
        "right": [Interval(1, 0.9, 1.1, 6), Interval(1, 0.8, 1.2, 6)],
        "wrong": [Interval(2, 1.3, 3, 6), Interval(0, 0, 0.7, 60)],
        "undecided": [Interval(1, 0.7, 1.1, 6), Interval(1, 1, 1, 5), Interval(2, 2, 2, 3)],
        NOT_RUN: [Interval(np.nan, np.nan, np.nan, 0)],
    }
    about = {"low": 0.8, "high": 1.2, "seen": False, "because": ""}
    for verdict, intervals in cases.items():
        assert {laws.row("", "", 1, one, **about).verdict for one in intervals} == {verdict}


def points(changed: dict[str, Interval]) -> list[laws.Row]:
    law = laws.expected()["price"]
    about = {"seen": False, "because": ""}
    return [
        laws.row("price", name, middle, changed.get(name, Interval(middle, middle, middle, 6)),
                 low=middle - 0.3, high=middle + 0.3, **about)
        for size in laws.SIZES
        for times, middle in zip(law["times"], law["dims_per_node"], strict=True)
        for name in [f"{size} | {times}"]
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, "holds"),
        ({"64 | 16": Interval(1.6, 1.5, 1.8, 6)}, "fails"),
        ({"64 | 16": Interval(1.6, 1.5, 1.8, 3)}, "open"),
        ({"64 | 16": Interval(1.2, 1.0, 1.5, 6)}, "open"),
        ({"32 | 480": Interval(np.nan, np.nan, np.nan, 0)}, "open"),
    ],
)
def test_sizes_collapse_or_do_not_or_it_is_open(changed, expected, monkeypatch):
    monkeypatch.setattr(laws, "price", lambda: points(changed))
    assert laws.collapse() == expected


def job_of_selection(lost, knockout):
    """Two dims in use of each of six controls, then each deleted; the first is kept at the end."""
    rows = [(seed, place) for seed in range(6) for place in (-1, 0, 1)]
    count = len(rows)
    information = np.zeros((count, 5, 2))
    information[:, 0] = 1
    gone = np.array([place >= 0 for _, place in rows])
    return {
        "rows": np.array(rows),
        "information_nats": information,
        "kl_nats": 2 * information,
        "squared_ratio": 1 - information,
        "knockout_nats": knockout * information,
        "reconstruction_nats": 10 + lost * gone,
        "loss": np.where(gone, 1.0, 0.0),
    }


@pytest.mark.parametrize(("lost", "worth"), [(0.1, 0.0), (1.0, 1.0)])
def test_a_dim_is_worth_its_price_or_not(lost, worth, monkeypatch):
    fates = np.zeros((18, 2, 5, 2))
    fates[:, -1, 0, 0] = 1
    found = job_of_selection(lost, 5.0)
    jobs = {
        "selection_dear": found,
        "selection_switched": found,
        "dear": {"information_nats": fates},
    }
    monkeypatch.setattr(laws, "job", lambda name: jobs.get(name, {}))
    dims = laws.selection_of("dear")
    np.testing.assert_allclose(dims.price, 0.15 / 0.8 * 2.5)
    np.testing.assert_allclose(dims.lost, lost)
    rows = {row.point: row.measured for row in laws.selection()}
    assert rows["dear.worth"].value == worth and rows["dear.plain"].value == 1
    assert rows["cheap.worth"].replicas == 0
    # half of the dims are given up, so a rule that says one thing of all is right on half
    for rule in ("worth_right", "plain_right", "loss_right"):
        assert rows[f"switched.{rule}"] == Interval(0.5, 0.5, 0.5, 6)


def test_nodes_are_alike_or_not():
    information = np.zeros((2, 5, 2))
    information[:, :, 1] = 1
    information[1, 2] = 1, 0
    assert laws.alike(information).tolist() == [True, False]


# What is stored


def test_stored_runs_are_small_and_repeat_no_seed_of_the_book():
    assert STORED.stat().st_size < 300_000
    most = max(profile.many for profile in PROFILES.values())
    with np.load(STORED) as kept:
        told = [json.loads(str(one)) for n in kept.files if "configs" in n for one in kept[n]]
    assert len(told) > 100
    assert min(one["seed"] for one in told) >= 1000 > most


def test_every_point_was_predicted_within_its_range_and_most_were_run():
    rows = laws.every()
    assert all(p.low <= row.predicted <= p.high for row in rows for p in [row.prediction])
    assert len({row.prediction[:2] for row in rows}) == len(rows)
    told = laws.told()
    counts = laws.counts()
    assert sum(counts.values()) == len(rows)
    assert counts["right"] and counts["wrong"] and counts[NOT_RUN] < len(rows) / 3
    for row in rows:
        name = f"law.{row.prediction.experiment}.{row.point.replace(' | ', '.').replace(' ', '_')}"
        assert told[name] == row.measured.value or row.verdict == NOT_RUN


def test_dims_at_a_price_are_those_of_the_stored_replicas():
    with np.load(STORED) as kept:
        configs = [json.loads(str(one)) for one in kept["16/configs"]]
        information, rest = kept["16/information_nats"], kept["16/rest"]
    own = [place for place, one in enumerate(configs) if one["kl_weight"] == 0.15]
    used = sorted(sum(v > ALIVE_NATS for v in information[place].flat) / 5 for place in own)
    (row,) = [row for row in laws.price() if row.point == "16 | 16"]
    assert row.measured.replicas == len(own) >= 6
    assert row.measured.value == np.median(used) and row.rest == np.median(rest[own])
    assert used[0] <= row.measured.low <= row.measured.high <= used[-1]


# How they were made


def small(script, monkeypatch):
    small = sprites(256, 16)
    monkeypatch.setattr(script, "data", lambda size, held_out=False: small)
    monkeypatch.setattr(script, "HELD_OUT", 64)
    return {"images": 256, "hidden": 8, "epochs": 1, "kl_warmup": 0}


def test_an_embedded_solution_does_what_it_did(script, monkeypatch):
    own = small(script, monkeypatch)
    narrow = script.Trained([script.config(1, dims=1, graph_hidden=4, **own)])
    configs = [script.config(2, graph_hidden=4, **own)]
    wide = script.Trained(configs, script.embedded(narrow.state(), configs))
    images, _ = narrow.pool.batch(torch.arange(64)[None])
    encode = lambda model, images: model.encode(images)  # noqa: E731
    one, two = (e.each(encode, e.parameters, images) for e in (narrow, wide))
    for before, after in zip(one, two, strict=True):
        torch.testing.assert_close(after[..., :1], before)
    z = torch.randn(1, 64, 5, 2)
    decode = lambda model, z: model.decode(z)  # noqa: E731
    torch.testing.assert_close(
        wide.each(decode, wide.parameters, z), narrow.each(decode, narrow.parameters, z[..., :1])
    )


def test_a_deleted_dim_stays_deleted_and_no_other(script, monkeypatch):
    own = small(script, monkeypatch)
    deleted = np.zeros((2, 5, 2), bool)
    deleted[0, 3, 1] = True
    ensemble = script.Trained([script.config(seed, **own) for seed in (1, 2)], {}, deleted)
    ensemble.run(1)
    gone = (ensemble.parameters[script.WEIGHT] == 0).all(-1).reshape(2, 5, 2)
    np.testing.assert_array_equal(gone, deleted)


def test_graphs_have_as_many_pieces_as_they_say(script):
    for pieces, edges in script.GRAPHS.items():
        joined = parent_matrix(script.FACTORS, edges)
        reach = torch.matrix_power(torch.eye(5) + joined + joined.T, 5) > 0
        assert len({tuple(row.tolist()) for row in reach}) == pieces


def test_prices_are_multiples_of_the_notes(script):
    assert tuple(laws.expected()["price"]["times"]) == script.TIMES
    for size, times in itertools.product((16, 64), script.TIMES):
        config = script.config(0, times, size)
        price = config.kl_weight / (config.reconstruction_weight * size**2)
        assert price == pytest.approx(times * laws.NOTES_PRICE)
    notes = Config(size=64)
    assert notes.kl_weight / (notes.reconstruction_weight * 64**2) == laws.NOTES_PRICE


# Figures


def test_figures_show_what_was_run():
    left, right = law_figures.price().axes
    run = [row for row in laws.price() if row.measured.replicas]
    full = sum(map(len, results.COLUMNS.values()))
    lines = sum(len(ax.lines) for ax in (left, right))
    assert lines == 2 * len(run) + 2 + full  # points and intervals, curves, stars
    assert len(law_figures.coin().axes[0].get_yticks()) == 5
    panels = law_figures.hysteresis().axes
    assert [len(ax.lines) > 0 for ax in panels] == [True] * 3
    assert len(law_figures.selection().axes) == 4  # the last has the legend
