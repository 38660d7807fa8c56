"""Pictures show the images that they are given, and what a model decodes."""

import copy
from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
import torch
from made_up import blank
from synthetic import CROSSED, make_runs

from vaenotes.config import Config
from vaenotes.data.load import load
from vaenotes.lab import pictures
from vaenotes.model import VAE


@pytest.fixture(scope="module")
def dataset():
    return load("sprites", images=64, size=16)


@pytest.fixture(scope="module")
def model(dataset):
    return VAE(Config(size=16, hidden=8), dataset).initialise(torch.Generator().manual_seed(0))


def shown(ax):
    return np.asarray(ax.images[0].get_array())


def test_the_data_and_their_graph(dataset):
    axes = pictures.images(dataset, rows=2).axes
    np.testing.assert_array_equal(shown(axes[4]), dataset.images[4] / 255)
    texts = [text.get_text() for text in pictures.dag(dataset).axes[0].texts]
    assert [name for name in texts if name] == list(dataset.factor_names)
    assert texts.count("") == len(dataset.edges)  # an arrow each
    pictures.dag(blank(["$a_{$", "b"], 4)).savefig(BytesIO())  # a name is no formula


def test_reconstructions_stand_below_their_images(model, dataset):
    axes = pictures.reconstructions(model, dataset).axes
    np.testing.assert_allclose(shown(axes[1]), dataset.images[1] / 255, atol=1e-6)
    mean, _ = model.encode(torch.from_numpy(dataset.images[:4]).flatten(1).float() / 255)
    expected = model.decode(mean).sigmoid().detach()[1].reshape(16, 16)
    np.testing.assert_allclose(shown(axes[10 + 1]), expected, atol=1e-6)


def read(figure):
    """The numbers that pictures.units shows, and the decoded images."""
    ax, *images = figure.axes
    return [float(line.get_xdata()[0]) for line in ax.lines[:5]], [shown(ax) for ax in images]


def test_units_move_variances_and_spread_and_nothing_else(model, dataset):
    before = {name: value.clone() for name, value in model.state_dict().items()}
    first, second = (
        pictures.units(model, dataset, "x", 2, end) for end in pictures.SCALES[[0, -1]]
    )
    (plain, images), (scaled, painted) = read(first), read(second)
    np.testing.assert_allclose(  # variances, spread, ratio, KL
        np.divide(scaled, plain), [81**2, 81**2, 81, 1, 1], rtol=1e-4
    )
    np.testing.assert_allclose(painted, images, atol=1e-5)
    low, high = first.axes[0].get_xlim()  # no number leaves its axis, which stays the same
    assert all(low < value < high for value in (*plain, *scaled))
    np.testing.assert_allclose(second.axes[0].get_xlim(), (low, high), rtol=1e-3)
    assert {image.images[0].get_clim() for image in first.axes[1:]} == {(0, 1)}
    for name, value in model.state_dict().items():  # the model itself is left as it was
        assert torch.equal(value, before[name])


def test_units_of_a_diverged_model_are_drawn_and_called_so(model, dataset):
    broken = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in broken.parameters():
            parameter.fill_(torch.nan)
    title = pictures.units(broken, dataset, "x", 2, 1.0).axes[0].get_title(loc="left")
    assert title.endswith(": diverged")


def test_traversal_moves_one_dim_and_leaves_the_rest(dataset):
    runs = make_runs([CROSSED])  # two nodes; the first uses its first dim, the second its second
    names = {"factor_names": tuple(runs.node.values), "factors": dataset.factors[:, :2]}
    model = VAE(Config(size=16, hidden=8, edges=()), replace(dataset, **names, edges=()))
    runs["posterior_mean"] = runs.prior_mean
    least, most = pictures.traversal(model, runs).subfigs

    def expected(dim, value):
        """Of the second node, one dim moved."""
        code = torch.from_numpy(runs.image_posterior_mean.values[0, 0]).float()
        code[1, dim] = value
        return model.decode(code[None]).sigmoid().detach().reshape(16, 16)

    last = expected(1, -0.15 + 2 * 1.2)  # at the mean and two prior standard deviations
    np.testing.assert_allclose(shown(most.axes[-1]), last, atol=1e-6)
    first = expected(0, -0.15 - 2 * 2.0**-10)
    np.testing.assert_allclose(shown(least.axes[7]), first, atol=1e-6)
