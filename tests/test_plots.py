"""Figures of runs draw what they are given: on synthetic runs whose truth is known."""

from io import StringIO

import legible
import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.figure import Figure
from synthetic import BOTH, CROSSED, FIRST, NONE, SECOND, make_runs

from vaenotes.lab import plots, summary
from vaenotes.style import COLOURS, greyed


@pytest.fixture(scope="module")
def runs():
    return make_runs([FIRST, SECOND, FIRST, BOTH])


def arms():
    return {"one": make_runs([FIRST, SECOND, FIRST]), "none": make_runs([NONE, NONE])}


def dots(ax):
    return [len(found.get_offsets()) for found in ax.collections]


def curves(ax):
    """Lines over epochs, by colour and whether they are dashed."""
    return [
        (line.get_color(), line.get_linestyle(), line.get_ydata())
        for line in ax.lines
        if len(line.get_xdata()) > 2
    ]


def test_over_epochs_has_a_panel_by_use_and_a_line_by_node(runs):
    names = ["prior_variance", "posterior_variance"]
    one = make_runs([CROSSED])  # the first node uses its first dim, the second its second
    less, more = plots.over_epochs(one, names, "variance").axes
    assert [ax.get_title("left") for ax in (less, more)] == [
        "less used dim of each node", "more used dim of each node"
    ]  # fmt: skip
    assert len(curves(less)) == len(curves(more)) == 4
    for colour, style, values in curves(more):
        side = next(side for side, own in COLOURS.items() if own == colour)
        np.testing.assert_allclose(values, one[f"{side}_variance"].isel(replica=0, node=0, dim=0))
        assert style == "-"
    assert {(colour, style) for colour, style, _ in curves(less)} == {
        (greyed(colour), "--") for colour in COLOURS.values()
    }
    several = plots.over_epochs(runs, names, "variance", reference=0.5, scale="linear").axes[1]
    np.testing.assert_allclose(curves(several)[0][2], 1.44)
    assert len(several.collections) == 2 and several.get_yscale() == "linear"
    assert [0.5, 0.5] in [list(line.get_ydata()) for line in several.lines]
    triple = one.isel(dim=[0, 1, 0]).assign_coords(dim=[1, 2, 3])
    assert len(plots.over_epochs(triple, names, "variance").axes) == 4  # one stays empty


def test_a_replica_stands_beside_its_twin():
    runs, twin = make_runs([FIRST]), make_runs([SECOND])
    figure = plots.beside_twin(runs, twin, "x")
    assert [len(ax.lines) for ax in figure.axes] == [4, 4, 4]
    ends = {line.get_linewidth(): line.get_ydata()[-1] for line in figure.axes[2].lines[::2]}
    assert ends == {1.4: 3, 5: 0.25}  # the KL of the first dim


def test_outcomes_fill_the_marks_of_dims_in_use(runs):
    ax = plots.outcomes(runs).axes[0]
    filled = [tuple(c) != (1, 1, 1, 1) for s in ax.collections for c in s.get_facecolor()]
    assert sum(filled[: 4 * 2 * 2]) == int(summary.alive(runs).sum())


def test_kl_parts_stack_to_the_kl(runs):
    runs = runs.assign(kl_variance_nats=0.3 * runs.kl_nats)
    figure = plots.kl_parts(runs)
    tops = [p.get_y() + p.get_height() for p in figure.axes[0].patches[-2:]]
    np.testing.assert_allclose(tops, runs.kl_nats.isel(epoch=-1, dim=0).mean("replica"))


def test_by_arm_has_a_panel_per_measure_a_row_per_arm_and_a_dot_per_replica():
    figure = plots.by_arm(["kl_used", "prior_std_used", "shuffle_cost"], arms(), {"kl_used": 3.0})
    kl, std, cost = figure.axes
    assert dots(kl) == dots(std) == [3] and dots(cost) == [3, 2]
    assert [text.get_text() for text in kl.texts] == ["none"]  # no dim in use in that arm
    assert [label.get_text() for label in kl.get_yticklabels()] == ["one", "none"]
    assert [ax.get_xscale() for ax in figure.axes] == ["linear", "log", "symlog"]
    assert "KL" in kl.get_xlabel() and "(nats)" in kl.get_xlabel() and "(z)" in std.get_xlabel()
    assert [3.0, 3.0] in [list(line.get_xdata()) for line in kl.lines if line.get_ls() == ":"]


def test_by_use_has_dims_in_use_above_the_others():
    (ax,) = plots.by_use(["ratio"], {"arm": make_runs([FIRST, FIRST])}).axes
    rows = [label.get_text() for label in ax.get_yticklabels()]
    assert rows == ["arm"] and "in use" not in ax.get_xlabel()
    faces = [found.get_facecolor()[0, :3].tolist() for found in ax.collections]
    assert faces == [[0, 0, 0], [1, 1, 1]]  # the others are hollow
    places = [float(np.mean(found.get_offsets()[:, 1])) for found in ax.collections]
    assert places[0] < 0 < places[1]
    ends = [float(found.get_offsets()[0][0]) for found in ax.collections]
    assert ends == pytest.approx([2.0**-10 / 1.2, 1])


def test_choices_colour_each_node_by_the_dim_in_use():
    runs = make_runs([FIRST, SECOND, CROSSED, BOTH, NONE, FIRST])
    runs.diverged[-1], runs.ratio[-1] = 2, np.nan
    shown = plots.choices({"x": runs}).axes[0].collections[0].get_array()
    assert shown[:-1].tolist() == [[1, 1], [2, 2], [1, 2], [3, 3], [0, 0]]
    assert shown.mask[-1].all() and not shown.mask[:-1].any()  # what diverged has no colour


def test_ratios_show_every_dim_of_every_replica():
    (ax,) = plots.ratios(arms() | {"given": np.array([0.1, 0.9, np.nan])}).axes
    assert dots(ax) == [12, 8, 2]


def test_nails_are_two_standard_deviations_of_each_image_after_an_epoch():
    runs = make_runs([CROSSED])
    unused, used = plots.nails(runs, ["shape", "x"], epoch=10).axes
    _, first = plots.nails(runs, ["shape", "x"], epoch=0).axes
    assert first.get_xlim() == used.get_xlim() and first.get_ylim() == used.get_ylim()
    left, right = first.get_xlim()
    nails = first.collections[0]
    across, width = nails.get_offsets()[:, 0], nails.get_widths()
    assert (left <= across - width / 2).all() and (across + width / 2 <= right).all()  # none is cut
    nails = used.collections[0]
    assert len(nails.get_offsets()) == runs.sizes["followed"]
    place = runs.followed_posterior_mean.values[0, 10]
    np.testing.assert_allclose(nails.get_offsets()[3], [place[3, 0, 0], place[3, 1, 1]])
    assert nails.get_widths()[3] == nails.get_heights()[3] == pytest.approx(4 * 2.0**-5)
    (prior,), (follows,) = used.patches, unused.patches
    assert prior.width == pytest.approx(4 * 1.2)
    assert follows.width == pytest.approx(4 * 2.0**-4)  # two epochs late
    assert prior.get_linestyle() != follows.get_linestyle()


def test_nails_of_a_replica_that_was_never_finite_say_so():
    runs = make_runs([CROSSED], epochs=1)
    for name in ("followed_posterior_mean", "prior_mean"):
        runs[name][:] = np.nan
    runs["followed_posterior_logvar"][:] = np.inf
    for ax in plots.nails(runs, ["shape", "x"], 1).axes:
        assert [text.get_text() for text in ax.texts] == ["diverged"]


TITLES = ["the notes' system", "weights of its own for each node, no edges", "fixed N(0, I)"]


def many(count):
    """Arms with long names."""
    runs = make_runs([FIRST, SECOND, NONE] * 8)
    return {f"{TITLES[place % 3]} {place}": runs for place in range(count)}


@pytest.mark.parametrize(
    "draw",
    [
        lambda runs: plots.over_epochs(runs, ["prior_spread", "posterior_spread"], "spread (z)"),
        lambda runs: plots.beside_twin(runs, runs, "x"),
        lambda runs: plots.nails(runs, ["shape", "x"], 3),
        lambda runs: plots.outcomes(make_runs([FIRST, BOTH] * 45)),
        lambda runs: plots.kl_parts(runs.assign(kl_variance_nats=0.3 * runs.kl_nats)),
        lambda runs: plots.by_arm(["kl_used", "prior_std_used", "shuffle_cost"], many(12)),
        lambda runs: plots.by_arm(["kl_used", "ratio_unused"], many(3)),
        lambda runs: plots.by_use(["knockout", "ratio"], many(5)),
        lambda runs: plots.choices(many(7)),
        lambda runs: plots.ratios(many(12)),
    ],
)
def test_figures_can_be_read(draw, runs):
    assert legible.complaints(draw(runs)) == []


@pytest.mark.attack("line")
@pytest.mark.parametrize(
    "draw",
    [
        lambda runs: plots.nails(runs, runs.node.values[:2], 3),
        lambda runs: plots.kl_parts(runs.assign(kl_variance_nats=0.3 * runs.kl_nats)),
        lambda runs: plots.by_arm(["kl_used"], {"$a_{$": runs}),
        lambda runs: plots.choices({"one": runs}),
    ],
)
def test_names_are_no_formulas(draw, runs):
    named = runs.assign_coords(node=[f"$a_{{${place}" for place in range(runs.sizes["node"])])
    drawn = StringIO()
    with mpl.rc_context({"svg.fonttype": "none"}):
        draw(named).savefig(drawn, format="svg")
    assert "$a_{$" in drawn.getvalue()


def test_what_cannot_be_read_is_seen():
    drawn = Figure(figsize=(7, 2))
    ax = drawn.subplots()
    ax.set_yticks(range(13), [f"label {place}" for place in range(13)], fontsize=6)
    ax.set_xlabel("$10^3$", fontsize=12)
    found = legible.complaints(drawn)
    for words in ("7.0 inches", "6.0 points", "mathematics", "cut off", "13 labels"):
        assert any(complaint.startswith(words) for complaint in found), words
