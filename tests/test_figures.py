"""What only the book draws shows what it is given."""

import io

import legible
import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from synthetic import FIRST, NONE, make_runs

from vaenotes.lab.summary import Interval
from vaenotes.report import claims, figures, front, law_figures, results, units


@pytest.fixture(autouse=True)
def nothing_stays_open_and_all_can_be_read(monkeypatch):
    drawn = []
    for module in (figures, front, law_figures, units):
        for name, draw in vars(module).items():
            if hasattr(draw, "__wrapped__") and draw.__module__ == module.__name__:
                monkeypatch.setattr(module, name, kept(draw, drawn))
    yield
    assert plt.get_fignums() == []
    for figure in (one for one in drawn if isinstance(one, Figure)):
        assert legible.complaints(figure, most=20) == []


def kept(draw, drawn):
    """It, but what it draws is kept as well."""

    def drawing(*args, **kwargs):
        drawn.append(draw(*args, **kwargs))
        return drawn[-1]

    return drawing


def test_what_was_stored_is_drawn_so_that_it_can_be_read():
    runs = make_runs([FIRST, NONE])
    for draw in (law_figures.price, law_figures.hysteresis, law_figures.selection):
        draw()
    law_figures.coin()
    law_figures.rest({"one": runs, "other": runs})
    units.charge()
    figures.cost({row["what"]: row for row in results.cost("scaling")["rows"]})
    figures.weaker(results.groups()[:4])
    for what in results.FIGURES:
        figures.notes_figure(results.closest(), what)
    figures.mistaken(results.closest())


def test_the_finding_has_both_dims_in_two_panels_and_all_replicas_in_the_third():
    runs = make_runs([FIRST, NONE, FIRST])
    std, ratio, lost = front.finding(runs, runs.isel(replica=[0])).axes
    assert [one.get_linestyle() for one in std.lines] == ["-", "-", "--", "--"]
    np.testing.assert_allclose(std.lines[1].get_ydata(), 1.2)  # the prior of the dim in use
    assert [one.get_linestyle() for one in ratio.lines] == ["-", "--"]
    assert {text.get_text() for text in ratio.texts} == {"in use", "not in use"}
    np.testing.assert_allclose(ratio.lines[0].get_ydata(), runs.ratio[0].sel(node="shape", dim=1))
    used, unused = (spots.get_offsets()[:, 1] for spots in lost.collections)
    assert used[[0, 2]].tolist() == [5, 5] and unused.tolist() == [0, 0, 0]
    assert [text.get_text() for text in lost.texts] == ["5.0", "0.0"]


def test_small_curves_are_medians_of_the_dims_that_they_name():
    runs = make_runs([FIRST, FIRST, NONE])
    (moment,) = front.second_moment(runs).axes
    prior, codes = (line.get_ydata() for line in moment.lines)
    np.testing.assert_allclose(prior, 1.2)
    np.testing.assert_allclose(codes[5:], 1.2, atol=0.03)
    (fall,) = front.unused_variance(runs, make_runs([NONE])).axes
    for line in fall.lines:
        np.testing.assert_allclose(line.get_ydata(), 2.0 ** -np.arange(21))
    (spread,) = front.spreads(runs).axes
    assert spread.lines[1].get_ydata()[-1] == pytest.approx(0.12)


def test_predictions_are_coloured_by_whether_they_are_right():
    rows = [
        claims.Prediction("the_system", "a.kl_used", 1.0, 2.0, False, ""),
        claims.Prediction("the_system", "b.kl_used", 1.0, 2.0, True, ""),
        claims.Prediction("the_system", "c.kl_used", 1.0, 2.0, True, ""),
        claims.Prediction("means", "d.kl_used", 1.0, 2.0, True, ""),
    ]
    findings = {
        "a.kl_used": Interval(1.5, 1.2, 1.8, 8),
        "b.kl_used": Interval(5, 4, 6, 8),
        "c.kl_used": Interval(np.nan, np.nan, np.nan, 0),
        "d.kl_used": Interval(1.5, 1.2, 2.8, 8),
    }
    (ax,) = figures.predictions(rows, findings).axes
    expected = [figures.COLOUR_OF[how] for how in ("right", "wrong", "undecided")]
    intervals = [line for line in ax.lines if len(line.get_xdata()) == 2 and line.get_lw() == 1.2]
    assert [line.get_color() for line in intervals] == expected
    marks = {line.get_marker(): line.get_mfc() for line in ax.lines if line.get_marker() != "None"}
    assert marks["o"] == "white" and "x" in marks  # the last, and the one with nothing to measure
    labels = [label.get_text() for label in ax.get_yticklabels()]
    assert labels == ["the system", "means"]  # a row per experiment


def test_verdicts_have_a_colour_and_a_letter_each():
    rows = {
        "V1": {"a": "refuted", "b": "open"},
        "V2 " + 30 * "long ": {"a": "not run", "b": "answered"},
    }
    figure = figures.verdicts(rows)
    (ax,) = figure.axes
    kinds = list(figures.VERDICTS)
    cells = ax.images[0].get_array()
    assert [[kinds[kind] for kind in row] for row in cells] == [
        list(row.values()) for row in rows.values()
    ]
    assert [text.get_text() for text in ax.texts] == ["X", "?", "–", "A"]
    labels = [label.get_text() for label in ax.get_yticklabels()]
    assert labels[0] == "V1" and labels[1].startswith("V2 long") and labels[1].endswith("…")
    assert {*claims.VERDICTS, claims.OPEN, claims.NOT_RUN} == set(kinds)
    assert len({letter for letter, _ in figures.VERDICTS.values()}) == len(kinds)
    colours = [to_rgb(colour) for _, colour in figures.VERDICTS.values()]
    for colour in colours:  # black letters are read on it: WCAG's contrast
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour]
        assert (np.dot(linear, [0.2126, 0.7152, 0.0722]) + 0.05) / 0.05 > 7


def test_measured_stands_against_expected_side_by_side():
    expected, measured = np.array([3, 3, 6]), np.array([3, 2, 6])
    panels = {
        "a": {"first": (expected, measured), "second": (expected, expected)},
        "b": {"": (expected, measured)},
    }
    figure = figures.against(panels, xlabel="expected", ylabel="measured")
    left, right = figure.axes
    first, second = left.collections
    places = np.asarray(first.get_offsets())
    np.testing.assert_array_equal(places[:, 1], measured)
    np.testing.assert_allclose(places[:, 0], expected, atol=0.1)
    assert len(first.get_paths()[0].vertices) < len(second.get_paths()[0].vertices)  # x and o
    line = left.lines[0]
    assert line.get_xdata().tolist() == line.get_ydata().tolist() == [3, 6]
    assert left.get_legend() and right.get_legend() is None


def test_the_elbo_is_drawn_by_epoch_below_the_largest_likelihood():
    runs = make_runs([FIRST, NONE])  # reconstruction 37; KL 3 a used dim, 0.25 an unused one
    figure = figures.elbo({"one": runs}, best=-30.0, halfway=10)
    (ax,) = figure.axes
    curve, best, change = ax.lines
    per_replica = [37 + 2 * 3 + 2 * 0.25, 37 + 4 * 0.25]
    np.testing.assert_allclose(curve.get_ydata(), -np.mean(per_replica))
    assert best.get_ydata()[0] == -30 and change.get_xdata()[0] == 10


def test_equal_figures_are_equal_bytes_whatever_a_matplotlibrc_says():
    found = set()
    for text in ({}, {"text.usetex": True, "font.size": 20, "lines.linewidth": 9}):
        with mpl.rc_context(text):
            figures.use_svg()
            for _ in range(2):
                drawn = figures.verdicts({"V1": {"a": "open"}})
                drawn.savefig(buffer := io.BytesIO(), format="svg", metadata={"Date": None})
                found.add(buffer.getvalue())
    assert len(found) == 1
