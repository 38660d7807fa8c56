"""Stored tables of cost are shown as they are, with what they miss."""

import json

import matplotlib.pyplot as plt
import pytest

from vaenotes.errors import ParameterError
from vaenotes.report import cost, figures

ROWS = [
    {"what": "fast", "unit": "s", "median": 2.0, "low": 1.0, "high": 1234.5, "target": "<= 3"},
    {"what": "slow", "unit": "1", "median": 2.0, "low": 1.0, "high": 3.0, "target": ">= 2.1"},
    {"what": "free", "unit": "1", "median": 2.0, "low": 1.0, "high": 3.0, "target": ""},
]


@pytest.fixture
def kept(tmp_path, monkeypatch):
    monkeypatch.setattr(cost, "FOLDER", tmp_path)
    about = {"setting": "Here.", "commit": "abc", "hardware": "a core", "versions": {"torch": "2"}}
    cost.path("kl").write_text(json.dumps(about | {"rows": ROWS}))


def test_a_table_says_what_meets_its_target(kept):
    table = cost.table("kl")
    assert table.met.tolist() == ["yes", "no", ""]
    assert table.loc["fast", "range"] == "1 to 1,234" and table.loc["slow", "target"] == "≥ 2.1"


def test_a_value_and_where_it_comes_from(kept):
    assert cost.value("kl", "slow") == 2.0
    line = cost.provenance("kl").data
    assert "Here." in line and "abc" in line and "a core" in line and "torch 2" in line


def test_an_unknown_name_is_one_clear_line():
    with pytest.raises(ParameterError, match="name must be one of training"):
        cost.path("trainings")


@pytest.mark.parametrize("name", cost.NAMES)
def test_every_table_of_the_book_is_stored_by_a_clean_commit(name):
    assert cost.stored(name)["commit"].isalnum()
    assert len(cost.table(name)) > 0


def test_the_figure_of_cost_has_each_size_where_it_belongs():
    def row(median):
        return {"unit": "µs an image and replica", "median": median, "low": median, "high": median}

    rows = {
        "8 replicas, 10,000 images": row(10.0),
        "32 replicas, 10,000 images": row(11.0),
        "8 replicas, 20,000 images": row(12.0),
        "a loop": row(30.0),
        "8 replicas, 10,000 images: memory": row(1.0) | {"unit": "GB"},
    }
    figure = figures.cost(rows)
    drawn = [ax.lines[0].get_xydata().tolist() for ax in figure.axes]
    assert drawn == [[[8, 10], [32, 11]], [[10_000, 10], [20_000, 12]]]
    assert "a loop" in [text.get_text() for text in figure.axes[1].texts]
    assert plt.get_fignums() == []
