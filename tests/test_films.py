"""Films show what is measured, one picture per position."""

import copy

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from bs4 import BeautifulSoup
from made_up import blank
from matplotlib.figure import Figure
from synthetic import CROSSED, make_runs

from vaenotes.config import Config
from vaenotes.data.load import load
from vaenotes.lab import charts, plots
from vaenotes.model import VAE
from vaenotes.report import films


@pytest.fixture(scope="module")
def dataset():
    return load("sprites", images=64, size=16)


@pytest.fixture(scope="module")
def model(dataset):
    return VAE(Config(size=16, hidden=8), dataset).initialise(torch.Generator().manual_seed(0))


def parsed(film):
    return BeautifulSoup(film.data, "html.parser")


def test_a_film_is_whole_without_a_server_and_shows_its_start_without_a_script():
    frames = {name: Figure((1, 1)) for name in ("1 <", "2", "3")}
    page = parsed(films.film(frames, "2", "epoch", "nothing"))
    first, second, third = images = page.find_all("img")
    assert first["alt"] == "epoch 1 <: nothing" and first["data-position"] == "1 <"
    assert first.has_attr("hidden") and third.has_attr("hidden") and not second.has_attr("hidden")
    assert all(image["src"].startswith("data:image/webp;base64,") for image in images)
    slider = page.find("input")
    assert slider["max"] == "2" and slider["value"] == "1" and slider.find_parent("label")
    assert page.output.text == "2"
    assert "://" not in films.film(frames, "2", "epoch", "nothing").data
    assert f'getElementById("{page.div["id"]}")' in page.script.text


def test_two_films_on_a_page_are_told_apart():
    one, other = (films.film({"1": Figure((1, w))}, "1", "epoch", "nothing") for w in (1, 2))
    assert parsed(one).div["id"] != parsed(other).div["id"]


def test_training_has_a_picture_for_every_epoch():
    page = parsed(films.training(make_runs([CROSSED], epochs=3), ["shape", "x"]))
    assert [image["data-position"] for image in page.find_all("img")] == ["0", "1", "2", "3"]
    assert plt.get_fignums() == []


def test_a_long_training_has_its_ends_and_no_more_frames_than_a_page_can_hold(monkeypatch):
    monkeypatch.setattr(films, "MOST", 4)
    page = parsed(films.training(make_runs([CROSSED], epochs=30), ["shape", "x"]))
    assert [image["data-position"] for image in page.find_all("img")] == ["0", "10", "20", "30"]


def test_a_replica_that_was_never_finite_has_a_film_that_says_so():
    runs = make_runs([CROSSED], epochs=1)
    for name in ("followed_posterior_mean", "prior_mean"):
        runs[name][:] = np.nan
    runs["followed_posterior_logvar"][:] = np.inf
    assert len(parsed(films.training(runs, ["shape", "x"])).find_all("img")) == 2
    for ax in charts.nails(runs, ["shape", "x"], 1).axes:
        assert [text.get_text() for text in ax.texts] == ["diverged"]


def test_units_of_a_diverged_model_are_drawn_and_called_so(model, dataset):
    broken = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in broken.parameters():
            parameter.fill_(torch.nan)
    assert len(parsed(films.units(broken, dataset, "x", 2)).find_all("img")) == len(plots.SCALES)
    title = plots.units(broken, dataset, "x", 2, 1.0).axes[0].get_title(loc="left")
    assert title.endswith(": diverged")


def test_units_has_a_picture_for_every_scale(model, dataset):
    page = parsed(films.units(model, dataset, "x", 2))
    positions = [float(image["data-position"].strip("× ")) for image in page.find_all("img")]
    np.testing.assert_allclose(positions, plots.SCALES, rtol=1e-2)
    assert 1.0 in plots.SCALES


def read(figure):
    """The numbers that plots.units shows, and the decoded images."""
    ax, *images = figure.axes
    numbers = [float(line.get_xdata()[0]) for line in ax.lines[:5]]
    return numbers, [np.asarray(image.images[0].get_array()) for image in images]


def test_units_move_variances_and_spread_and_nothing_else(model, dataset):
    before = {name: value.clone() for name, value in model.state_dict().items()}
    first, second = (plots.units(model, dataset, "x", 2, scale) for scale in (1.0, 3.0))
    (plain, images), (scaled, painted) = read(first), read(second)
    np.testing.assert_allclose(
        np.divide(scaled, plain), [9, 9, 3, 1, 1], rtol=1e-4
    )  # variances, spread, ratio, KL
    np.testing.assert_allclose(painted, images, atol=1e-5)
    for scale in plots.SCALES[[0, -1]]:  # no number leaves its axis, which stays the same
        ax = plots.units(model, dataset, "x", 2, scale).axes[0]
        low, high = ax.get_xlim()
        assert all(low < line.get_xdata()[0] < high for line in ax.lines[:5])
        np.testing.assert_allclose((low, high), first.axes[0].get_xlim(), rtol=1e-3)
    assert {image.images[0].get_clim() for image in first.axes[1:]} == {(0, 1)}
    for name, value in model.state_dict().items():  # the model itself is left as it was
        assert torch.equal(value, before[name])


def test_traversal_moves_one_dim_and_leaves_the_rest(dataset):
    runs = make_runs([CROSSED])  # two nodes; the first uses its first dim, the second its second
    nodes = tuple(runs.node.values)
    model = VAE(Config(), blank(nodes, 256))
    model.initialise(torch.Generator().manual_seed(0))
    runs["posterior_mean"] = runs.prior_mean
    figure = plots.traversal(model, runs, dataset, image=5)
    least, most = figure.subfigs
    pictures = [np.asarray(ax.images[0].get_array()) for ax in most.axes]
    code = torch.from_numpy(runs.image_posterior_mean.values[0, 5]).float()
    code[1, 1] = -0.15 + 2 * 1.2  # the last picture of the last row: node x, dim 2, at +2 t
    expected = model.decode(code[None]).sigmoid().detach().reshape(16, 16)
    np.testing.assert_allclose(pictures[-1], expected, atol=1e-6)
    code[1, 1], code[1, 0] = runs.image_posterior_mean.values[0, 5, 1, 1], -0.15 - 2 * 2.0**-10
    expected = model.decode(code[None]).sigmoid().detach().reshape(16, 16)
    np.testing.assert_allclose(least.axes[7].images[0].get_array(), expected, atol=1e-6)
