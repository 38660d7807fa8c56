import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from synthetic import BOTH, FIRST, SECOND, make_runs

from vaenotes.config import Config
from vaenotes.data.load import load
from vaenotes.lab import plots, summary
from vaenotes.model import VAE


@pytest.fixture(scope="module")
def runs():
    return make_runs([FIRST, SECOND, FIRST, BOTH])


def drawn(ax):
    return {line.get_color(): line for line in ax.lines if len(line.get_xdata()) > 2}


def test_over_epochs_draws_what_it_is_given(runs):
    names = ["prior_variance", "posterior_variance"]
    figure = plots.over_epochs(runs.isel(replica=[0]), names, "variance")
    assert len(figure.axes) == 4  # two nodes, two dims
    lines = drawn(figure.axes[0])
    for name in names:
        line = lines[plots.COLOURS[name.split("_")[0]]]
        expected = runs[name].isel(replica=0, node=0, dim=0)
        np.testing.assert_allclose(line.get_ydata(), expected)
        assert line.get_linestyle() == "-"
    unused = drawn(figure.axes[2])[plots.COLOURS["prior"]]
    assert unused.get_linestyle() == "--"


def test_bands_show_the_median_over_replicas(runs):
    figure = plots.over_epochs(summary.weaker_first(runs), ["prior_variance"], "variance")
    line = drawn(figure.axes[2])[plots.COLOURS["prior"]]
    np.testing.assert_allclose(line.get_ydata(), 1.44)
    assert len(figure.axes[2].collections) == 1


def test_every_figure_can_be_drawn_and_none_stays_open(runs, tmp_path):
    dataset = load("sprites", images=64, size=16)
    model = VAE(Config(size=16, hidden=8), dataset).initialise(torch.Generator())
    figures = [
        plots.images(dataset),
        plots.dag(dataset),
        plots.reconstructions(model, dataset, 4),
        plots.means_over_epochs(runs.isel(replica=[0])),
        plots.fates(runs),
    ]
    for index, figure in enumerate(figures):
        path = tmp_path / f"{index}.svg"
        figure.savefig(path)
        assert path.stat().st_size > 1000
    assert plt.get_fignums() == []


def test_fates_fills_the_marks_of_dims_in_use(runs):
    ax = plots.fates(runs).axes[0]
    filled = [tuple(c) != (1, 1, 1, 1) for s in ax.collections for c in s.get_facecolor()]
    assert sum(filled) == int(summary.alive(runs).sum())


def test_kl_parts_stack_to_the_kl(runs):
    runs = runs.assign(kl_variance_nats=0.3 * runs.kl_nats)
    figure = plots.kl_parts(runs)
    tops = [p.get_y() + p.get_height() for p in figure.axes[0].patches[-2:]]
    np.testing.assert_allclose(tops, runs.kl_nats.isel(epoch=-1, dim=0).mean("replica"))
