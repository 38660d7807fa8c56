"""Figures that compare arms draw what they are given."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from synthetic import BOTH, CROSSED, FIRST, NONE, SECOND, make_runs

from vaenotes.lab import charts
from vaenotes.lab.measures import values_of
from vaenotes.lab.summary import Interval
from vaenotes.report import ledger
from vaenotes.theory.closed_forms import lag_share


@pytest.fixture(autouse=True)
def nothing_stays_open():
    yield
    assert plt.get_fignums() == []


def arms():
    return {"one": make_runs([FIRST, SECOND, FIRST]), "none": make_runs([NONE, NONE])}


def test_by_arm_has_a_dot_per_replica_and_says_where_there_is_none():
    panels = {"KL": {name: values_of("kl_used", runs) for name, runs in arms().items()}}
    figure = charts.by_arm(panels, reference={"KL": 3.0})
    (ax,) = figure.axes
    assert [len(dots.get_offsets()) for dots in ax.collections] == [3]
    assert [text.get_text() for text in ax.texts] == ["no such dim"]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["one", "none"]


def test_choices_colour_each_node_by_the_dim_in_use():
    figure = charts.choices({"x": make_runs([FIRST, SECOND, CROSSED, BOTH, NONE])})
    shown = figure.axes[0].images[0].get_array()
    assert shown.tolist() == [[1, 1], [2, 2], [1, 2], [3, 3], [0, 0]]


def test_ratios_show_every_dim_of_every_replica():
    (ax,) = charts.ratios(arms()).axes
    assert [len(dots.get_offsets()) for dots in ax.collections] == [6, 6, 0, 8]


def test_a_replica_stands_beside_its_twin():
    runs = make_runs([FIRST])
    figure = charts.beside_twin(runs, runs, "x")
    assert [len(ax.lines) for ax in figure.axes] == [4, 4, 4]


def test_lag_shows_the_formula_and_every_rate():
    (ax,) = charts.lag({0.1: Interval(1, 0.5, 1.5, 8), 1.0: Interval(0.5, 0.4, 0.6, 8)}).axes
    x, y = ax.lines[0].get_data()
    np.testing.assert_allclose(y, [lag_share(rate) for rate in x])
    points = [line.get_data() for line in ax.lines if line.get_marker() == "o"]
    assert [(float(x[0]), float(y[0])) for x, y in points] == [(0.1, 1), (1.0, 0.5)]


def test_nails_are_two_standard_deviations_of_each_image_after_an_epoch():
    runs = make_runs([CROSSED])
    used, unused = charts.nails(runs, ["shape", "x"], epoch=10).axes
    *nails, prior = used.patches
    assert len(nails) == runs.sizes["followed"]
    place = runs.followed_posterior_mean.values[0, 10]
    np.testing.assert_allclose(nails[3].center, [place[3, 0, 0], place[3, 1, 1]])
    assert nails[3].width == pytest.approx(4 * 2.0**-5)
    assert prior.width == pytest.approx(4 * 1.2)
    *_, prior = unused.patches
    assert prior.width == pytest.approx(4 * 2.0**-4)  # follows two epochs late


def test_nails_of_all_epochs_have_the_same_axes_and_none_is_cut():
    runs = make_runs([CROSSED])
    first, last = (charts.nails(runs, ["shape", "x"], epoch) for epoch in (0, 20))
    for one, other in zip(first.axes, last.axes, strict=True):
        assert one.get_xlim() == other.get_xlim() and one.get_ylim() == other.get_ylim()
    for figure in (first, last):
        for ax in figure.axes:
            (left, right), (bottom, top) = ax.get_xlim(), ax.get_ylim()
            for nail in ax.patches:
                (x, y), width, height = nail.center, nail.width, nail.height
                assert left <= x - width / 2 and x + width / 2 <= right
                assert bottom <= y - height / 2 and y + height / 2 <= top


def test_predictions_are_coloured_by_whether_they_are_right():
    rows = [
        ledger.Prediction("e", "a.kl_used", 1.0, 2.0, False, ""),
        ledger.Prediction("e", "b.kl_used", 1.0, 2.0, True, ""),
        ledger.Prediction("e", "c.kl_used", 1.0, 2.0, True, ""),
    ]
    findings = {
        "a.kl_used": Interval(1.5, 1.2, 1.8, 8),
        "b.kl_used": Interval(5, 4, 6, 8),
        "c.kl_used": Interval(np.nan, np.nan, np.nan, 0),
    }
    (ax,) = charts.predictions(rows, findings).axes
    assert [line.get_color() for line in ax.lines] == [charts.RIGHT] * 2 + [charts.WRONG] * 2
    assert [text.get_text() for text in ax.texts] == ["nothing to measure"]


def test_verdicts_have_a_colour_and_a_letter_each():
    rows = {
        "V1": {"a": "refuted", "b": "open"},
        "V2 " + 30 * "long ": {"a": "not run", "b": "answered"},
    }
    figure = charts.verdicts(rows)
    (ax,) = figure.axes
    kinds = list(charts.VERDICTS)
    cells = ax.images[0].get_array()
    assert [[kinds[kind] for kind in row] for row in cells] == [
        list(row.values()) for row in rows.values()
    ]
    assert [text.get_text() for text in ax.texts] == ["X", "?", "–", "A"]
    labels = [label.get_text() for label in ax.get_yticklabels()]
    assert labels[0] == "V1" and labels[1].startswith("V2 long") and len(labels[1]) <= 54
    assert {*ledger.VERDICTS, ledger.OPEN, ledger.NOT_RUN} == set(kinds)
    assert len({letter for letter, _ in charts.VERDICTS.values()}) == len(kinds)
    colours = [to_rgb(colour) for _, colour in charts.VERDICTS.values()]
    for colour in colours:  # black letters are read on it: WCAG's contrast
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour]
        assert (np.dot(linear, [0.2126, 0.7152, 0.0722]) + 0.05) / 0.05 > 7


def test_measured_stands_against_expected_side_by_side():
    expected, measured = np.array([3, 3, 6]), np.array([3, 2, 6])
    panels = {
        "a": {"first": (expected, measured), "second": (expected, expected)},
        "b": {"": (expected, measured)},
    }
    figure = charts.against(panels, xlabel="expected", ylabel="measured")
    left, right = figure.axes
    first, second = left.collections
    places = np.asarray(first.get_offsets())
    np.testing.assert_array_equal(places[:, 1], measured)
    np.testing.assert_allclose(places[:, 0], expected, atol=0.1)
    assert len(first.get_facecolors()) == 0 and len(second.get_facecolors()) > 0
    line = left.lines[0]
    assert line.get_xdata().tolist() == line.get_ydata().tolist() == [3, 6]
    assert left.get_legend() and right.get_legend() is None


def test_the_elbo_is_drawn_by_epoch_below_the_largest_likelihood():
    runs = make_runs([FIRST, NONE])  # reconstruction 37; KL 3 a used dim, 0.25 an unused one
    figure = charts.elbo({"one": runs}, best=-30.0, halfway=10)
    (ax,) = figure.axes
    curve, best, change = ax.lines
    per_replica = [37 + 2 * 3 + 2 * 0.25, 37 + 4 * 0.25]
    np.testing.assert_allclose(curve.get_ydata(), -np.mean(per_replica))
    assert best.get_ydata()[0] == -30 and change.get_xdata()[0] == 10


def test_choices_leave_the_row_of_a_diverged_replica_empty():
    runs = make_runs([FIRST, NONE])
    runs.diverged[1], runs.ratio[1] = 2, np.nan
    shown = charts.choices({"arm": runs}).axes[0].images[0].get_array()
    assert shown.mask.tolist() == [[False, False], [True, True]]
