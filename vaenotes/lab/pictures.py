"""Pictures of data, and of what a trained model decodes; every function returns a Figure."""

import copy
import math
from typing import Any

import numpy as np
import torch
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from vaenotes import trace
from vaenotes.data.dataset import Dataset
from vaenotes.gauge import change_units
from vaenotes.kl import sample
from vaenotes.lab import nails
from vaenotes.lab.nails import pixels_of
from vaenotes.lab.summary import most_and_least_used
from vaenotes.model import VAE
from vaenotes.style import COLOURS, WIDTH, figure, literal, plain_numbers

SCALES = 3.0 ** np.arange(-2, 2.5, 0.5)
"""In which units change: a ninth to nine."""
UNITS_IMAGES = 8
"""Shown below the numbers of a model in other units."""
UNITS = {
    "prior variance (z²)": ("prior_variance", 2, COLOURS["prior"]),
    "posterior variance (z²)": ("posterior_variance", 2, COLOURS["posterior"]),
    "spread of posterior means (z)": ("posterior_spread", 1, COLOURS["posterior"]),
    "posterior std / prior std": ("ratio", 0, "black"),
    "KL (nats)": ("kl_nats", 0, "black"),
}
"""What is shown of a model in other units: a quantity, the power of the scale in it, a colour."""


@figure
def images(dataset: Dataset, rows: int = 3) -> Figure:
    """The first images of a data set, ten a row."""
    drawn = Figure(figsize=(WIDTH, 0.1 * WIDTH * rows))
    axes = drawn.subplots(rows, 10).flat
    for ax, image in zip(axes, dataset.images[: 10 * rows], strict=False):
        _image(ax, image / 255)
    return drawn


@figure
def dag(dataset: Dataset) -> Figure:
    """The data set's DAG: an arrow runs from parent to child, self-loops are left out."""
    places = {name: (i, 0.0) for i, name in enumerate(dataset.factor_names)}
    apart = [abs(places[parent][0] - places[child][0]) for parent, child in dataset.edges]
    bent = max(apart, default=0) > 1
    drawn = Figure(figsize=(WIDTH, 1.8 if bent else 0.8))
    ax = drawn.subplots()
    for (parent, child), steps in zip(dataset.edges, apart, strict=True):
        bend = -0.35 if steps > 1 else 0.0
        arrow = {"arrowstyle": "-|>", "shrinkA": 24, "shrinkB": 24,
                 "connectionstyle": f"arc3,rad={bend}"}  # fmt: skip
        ax.annotate("", xy=places[child], xytext=places[parent], arrowprops=arrow)
    for name, place in places.items():
        box = {"boxstyle": "round,pad=0.5", "fc": "white"}
        ax.text(*place, literal(name), ha="center", va="center", bbox=box)
    ax.set(xlim=(-0.6, len(places) - 0.4), ylim=(-0.4, 0.8 if bent else 0.4))
    ax.axis("off")
    return drawn


@figure
def reconstructions(model: VAE, dataset: Dataset) -> Figure:
    """Ten images, and what the decoder makes of the posterior's mean and of one sample of it."""
    originals = pixels_of(dataset, slice(10))
    with torch.no_grad():
        posterior = model.encode(originals)
    z0 = torch.randn(posterior.mean.shape, generator=torch.Generator().manual_seed(0))
    rows = {
        "image": originals,
        "from mean": painted(model, posterior.mean),
        "from sample": painted(model, sample(posterior, z0)),
    }
    drawn = Figure(figsize=(WIDTH, 1.8))
    for axes, (name, pixels) in zip(drawn.subplots(3, 10), rows.items(), strict=True):
        _row(axes, name, pixels)
    return drawn


@figure
def confusions(model: VAE, dataset: Dataset, bed: xr.Dataset) -> Figure:
    """Images of which a sample lies nearer to another one's mean than to their own: the first ten,
    which other that is, of all in the data set, and what the decoder makes of the sample. `bed`:
    nails.bed of the two."""
    taken_for = bed.taken_for.values
    wrong = np.flatnonzero(taken_for != np.arange(len(taken_for)))[:10]
    _, z = nails.probe(model, dataset)
    rows = {
        "image": pixels_of(dataset, wrong),
        "taken for": pixels_of(dataset, taken_for[wrong].astype(int)),
        "from sample": painted(model, z[wrong]),
    }
    drawn = Figure(figsize=(WIDTH, 1.8))
    for axes, (name, shown) in zip(drawn.subplots(3, 10), rows.items(), strict=True):
        _row(axes, name, shown)
        for ax in axes[len(wrong) :]:
            ax.axis("off")
    return drawn


@figure
def traversal(model: VAE, runs: xr.Dataset) -> Figure:
    """What the decoder paints as one dim moves and the rest of the first image's code stays: a row
    per node, from two prior standard deviations below the middle of the codes to two above.

    Above: the least used dim of each node, below: the most used. `runs` is the model's own.
    """
    one = runs.isel(replica=0)
    code = torch.from_numpy(one.image_posterior_mean.values[0]).float()  # (node, dim)
    steps = np.linspace(-2, 2, 7)
    nodes = [literal(node) for node in one.node.values]
    drawn = Figure(figsize=(0.8 * WIDTH, 2 * (0.5 * len(nodes) + 0.6)))
    above, below = drawn.subfigures(2, 1, squeeze=False)[:, 0]
    most, least = most_and_least_used(one)
    for half, kind, dims in ((above, "less", least), (below, "more", most)):
        axes = half.subplots(len(nodes), len(steps), squeeze=False)
        half.suptitle(f"the {kind} used dim of each node moves", fontsize=9.5)
        for row, (node, dim) in enumerate(zip(nodes, dims.values, strict=True)):
            final = one.isel(epoch=-1, node=row, dim=dim)
            place = final.posterior_mean.item() + steps * final.prior_variance.item() ** 0.5
            codes = code.repeat(len(steps), 1, 1)
            codes[:, row, dim] = torch.from_numpy(place).float()
            _row(axes[row], node, painted(model, codes))
        for place in (0, len(steps) // 2, -1):
            axes[-1, place].set_xlabel(f"{steps[place]:+.0f} t" if steps[place] else "middle")
    return drawn


def in_units(model: VAE, dataset: Dataset, dim: int, scale: float) -> tuple[VAE, dict[str, Any]]:
    """A model after a dim (from 1) of every node was multiplied by `scale` and all that reads it
    divided; and what is measured of it anew (trace.measure), with a sample of the codes as z."""
    other, (nodes, dims) = copy.deepcopy(model), model.node_shape
    scales = torch.ones(dims)
    scales[dim - 1] = scale
    change_units(other, range(dims), scales)
    images = pixels_of(dataset, slice(trace.KEPT_IMAGES))
    factors = torch.from_numpy(dataset.standard_factors[: len(images)])
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn((len(images), nodes, model.noise_inputs), generator=generator)
    z0 = torch.randn((len(images), nodes, dims), generator=generator)
    with torch.no_grad():
        output = other(images, factors, noise, z0)
        return other, {**trace.measure(other, output, images, factors), "z": output.z}


@figure
def units(model: VAE, dataset: Dataset, node: str, dim: int, scale: float) -> Figure:
    """A model with a dim in other units (`in_units`): what a plot of that dim in one node would
    show, and what the decoder paints."""
    other, measured = in_units(model, dataset, dim, scale)
    images = pixels_of(dataset, slice(UNITS_IMAGES))
    place = (list(dataset.factor_names).index(node), dim - 1)
    drawn = Figure(figsize=(WIDTH, 3.9))
    above, below = drawn.subfigures(2, 1, height_ratios=[3, 2], squeeze=False)[:, 0]
    ax = above.subplots()
    for row, (name, power, colour) in enumerate(UNITS.values()):
        value = float(measured[name][place])
        ends = value * (SCALES[[0, -1]] / scale) ** power  # so that the axis stays the same
        ax.update_datalim([(end, row) for end in ends])
        ax.plot(value, row, "o", color=colour, ms=7)
        ax.annotate(f"{value:.3g}", (value, row), (8, 0), textcoords="offset points", va="center")
    ax.axhline(2.5, color="grey", lw=0.8)
    ax.margins(x=0.15)
    ax.set(xscale="log", ylim=(len(UNITS) - 0.5, -0.5))
    plain_numbers(ax.xaxis)
    ax.minorticks_off()
    ax.set_yticks(range(len(UNITS)), list(UNITS))
    gone = "" if measured["kl_nats"].isfinite().all() else ": diverged"
    ax.set_title(f"{literal(node)}, dim {dim}, in units × {scale:.3g}{gone}", weight="bold")
    rows = below.subplots(2, UNITS_IMAGES)
    _row(rows[0], "image", images)
    _row(rows[1], "decoded", painted(other, measured["z"]))
    return drawn


def painted(model: VAE, z: Tensor) -> Tensor:
    """What the decoder makes of codes (image, node, dim): pixels (image, pixel), 0 to 1."""
    with torch.no_grad():
        decoded = model.decode(z)
    return decoded.sigmoid() if model.likelihood == "bernoulli" else decoded


def _row(axes: np.ndarray, name: str, pixels: Tensor) -> None:
    """As many images, (image, pixel), as there are axes, and a name before them."""
    for ax, one in zip(axes, pixels, strict=False):
        size = math.isqrt(len(one))
        _image(ax, one.reshape(size, size))
    axes[0].set_ylabel(name, rotation=0, ha="right", va="center")


def _image(ax: Axes, picture: Any) -> None:
    ax.imshow(np.asarray(picture), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(False)
