"""The digitised figures against what is known of them, and the drawing of runs beside them."""

import numpy as np
import pytest
import xarray as xr

from vaenotes import trace
from vaenotes.report import notes_figures
from vaenotes.report.figures import mistaken, notes_figure
from vaenotes.report.notes_figures import bands, comparison, digitised, facts, notes


def test_every_digitised_series_runs_forward_and_its_quantiles_rise():
    table = digitised()
    for _, series in table.groupby(["figure", "quantity", "node", "dim"]):
        assert (series.epoch.diff().dropna() > 0).all()
        assert series.epoch.between(0, 29).all()
    whole = table.dropna()
    assert len(whole) > 100
    for low, high in (("min", "p7"), ("p7", "p93"), ("p93", "max")):
        assert (whole[low] <= whole[high]).all()
    stds = table[table.quantity.str.contains("std")]
    assert (stds["max"] >= 0).all() and (stds["max"] < 2).all()


def test_the_figures_say_what_was_read_off_them_by_hand():
    """Numbers told in words where the figures were first described."""
    std = notes("std").prior_std_quantiles
    assert std.isel(place=1).sel(epoch=29, quantile=[0.07, 0.93]).values == pytest.approx(
        [1.34, 1.48], abs=0.01
    )
    falling = std.isel(place=0).sel(epoch=[2, 3, 4, 5], quantile=0.93)
    assert falling.values == pytest.approx([1.12, 0.92, 0.62, 0.28], abs=0.01)
    means = notes("mean")
    assert means.posterior_quantiles.isel(place=1).sel(epoch=29, quantile=[0.0, 1.0]).values == (
        pytest.approx([-4.6, 4.7], abs=0.05)
    )
    scalars = digitised().query("figure == 'scalars of 22 July' and dim == 0").set_index("epoch")
    assert scalars["max"].loc[[1, 2, 3, 4]].values == pytest.approx(
        [0.18, 0.13, 0.24, 0.25], abs=0.005
    )
    found = facts(notes("std"), notes("mean"))
    assert found["prior std, dim given up: epoch in which it falls below half"] == 4
    assert found["prior mean, dim given up, at the end"] == pytest.approx(-0.135, abs=0.01)


def made_up(halves_at=6, epochs=10):
    """One replica whose second dim is given up: its prior's std is 2 until it falls to 0.5."""
    levels = np.array(trace.QUANTILES)
    shape = (1, epochs + 1, len(levels), 5, 2)
    std = np.full(shape, 2.0)
    std[:, halves_at:, ..., 1] = 0.5
    mean = np.broadcast_to((10 * (levels - 0.5))[:, None, None], shape).copy()
    axes = ("replica", "epoch", "quantile", "node", "dim")
    nodes = ["shape", "scale", "orientation", "x", "y"]
    ratio = np.broadcast_to([0.1, 1.0], (1, epochs + 1, 5, 2))
    small = ("replica", "epoch", "node", "dim")
    return xr.Dataset(
        {
            "prior_std_quantiles": (axes, std), "posterior_std_quantiles": (axes, std / 2),
            "posterior_quantiles": (axes, mean), "prior_quantiles": (axes, mean / 10),
            "ratio": (small, ratio), "prior_variance": (small, std[:, :, 0] ** 2),
            "posterior_variance": (small, std[:, :, 0] ** 2 / 4),
        },
        coords={"epoch": range(epochs + 1), "quantile": levels, "node": nodes, "dim": [1, 2]},
    )  # fmt: skip


def test_the_dim_given_up_comes_first_and_epochs_count_from_zero():
    shown = bands(made_up(), "std")
    assert shown.epoch.values.tolist() == list(range(10))
    assert shown.prior_std_quantiles.isel(place=0, epoch=-1, quantile=0) == 0.5
    assert shown.prior_std_quantiles.isel(place=1, epoch=-1, quantile=0) == 2.0


def test_facts_of_a_figure_whose_answers_are_known():
    found = facts(bands(made_up(), "std"), bands(made_up(), "mean"))
    assert found["prior std, dim given up: epoch in which it falls below half"] == 5
    assert found["prior std, dim given up, at the end"] == 0.5
    assert found["prior std, other dim, at the end"] == 2.0
    assert found["posterior std, other dim, at the end"] == 1.0
    # a spread that is even from -5 to 5: all of it over 86 % of it
    assert found[notes_figures.TAIL] == pytest.approx(1 / 0.86)
    never = facts(bands(made_up(halves_at=11), "std"), bands(made_up(), "mean"))
    assert np.isnan(never["prior std, dim given up: epoch in which it falls below half"])


def test_the_notes_curves_are_drawn_where_they_belong_and_nowhere_else():
    def black(node):
        axes = notes_figure(made_up(), "std", node).axes
        return [sum(line.get_color() == "black" for line in ax.lines) for ax in axes]

    assert black(None) == black("shape") == [4, 4, 4, 4]
    assert black("y") == [0, 0, 0, 0]  # the notes show one node only


def test_the_mistaken_panel_draws_one_set_of_numbers_twice_and_the_right_one_does_not():
    left, right = mistaken(made_up()).axes
    by_name = {
        ax: {line.get_label(): line.get_ydata() for line in ax.lines} for ax in (left, right)
    }
    for place in ("given up", "other"):
        posterior = by_name[left][f"posterior, {place}"]
        assert (by_name[left][f"prior, {place}"] == posterior).all()
        assert by_name[right][f"prior, {place}"] == pytest.approx(2 * posterior)


def test_a_comparison_has_a_column_for_each_and_the_notes_first():
    table = comparison({"made up": made_up()})
    assert list(table.columns) == ["the notes", "made up"]


def test_other_data_are_drawn_in_the_node_of_the_same_place_without_the_notes_curves():
    other = made_up().assign_coords(node=["digit", "ink", "slant", "width", "height"])
    for what, node in (("std", "digit"), ("mean", "height")):
        xr.testing.assert_equal(bands(other, what), bands(other, what, node))
        axes = notes_figure(other, what).axes
        assert not any(line.get_color() == "black" for ax in axes for line in ax.lines)
    few = other.isel(node=[0])
    assert notes_figure(few, "mean").axes


def test_a_replica_that_diverged_is_drawn_empty_and_has_no_facts():
    gone = made_up()
    gone = gone.where(gone.epoch < 0)
    assert all(np.isnan(value) for value in facts(bands(gone, "std"), bands(gone, "mean")).values())
    assert notes_figure(gone, "std").axes and mistaken(gone).axes
