"""Figures, one call each; every function returns a matplotlib Figure, which a notebook shows.

No figure goes through pyplot: nothing stays open, and nothing depends on a backend.

One visual language: prior orange, posterior blue (Okabe & Ito's palette, safe for the
colour-blind); a dim in use is drawn full, a dim not in use dashed or hollow; epochs on x.
"""

import copy
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import torch
import xarray as xr
from IPython.core.getipython import get_ipython
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib_inline.backend_inline import set_matplotlib_formats
from torch import Tensor

from vaenotes import trace
from vaenotes.data.dataset import Dataset
from vaenotes.gauge import change_units
from vaenotes.lab import summary
from vaenotes.model import VAE
from vaenotes.style import COLOURS, PARTS, STYLE

SCALES = 3.0 ** np.arange(-2, 2.5, 0.5)  # in which units change: a ninth to nine
UNITS_IMAGES = 4  # shown beside the numbers of a model in other units
mpl.rcParams["svg.hashsalt"] = "vaenotes"  # equal figures, equal bytes
if get_ipython() is not None:  # sharp at any size in a notebook
    set_matplotlib_formats("svg", metadata={"Date": None})


def images(dataset: Dataset, rows: int = 3, columns: int = 10) -> Figure:
    """The first images of a data set."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(0.75 * columns, 0.75 * rows))
        axes = figure.subplots(rows, columns)
        for ax, image in zip(axes.flat, dataset.images[: rows * columns], strict=False):
            _image(ax, image / 255)
        return figure


def dag(dataset: Dataset) -> Figure:
    """The data set's DAG: an arrow runs from parent to child, self-loops are left out."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(6, 1.8))
        ax = figure.subplots()
        places = {name: (i, 0.0) for i, name in enumerate(dataset.factor_names)}
        for parent, child in dataset.edges:
            bend = -0.35 if abs(places[parent][0] - places[child][0]) > 1 else 0.0
            ax.annotate(
                "",
                xy=places[child],
                xytext=places[parent],
                arrowprops={
                    "arrowstyle": "-|>",
                    "shrinkA": 24,
                    "shrinkB": 24,
                    "connectionstyle": f"arc3,rad={bend}",
                },
            )
        for name, (x, y) in places.items():
            ax.text(
                x,
                y,
                name,
                ha="center",
                va="center",
                bbox={"boxstyle": "round,pad=0.5", "fc": "white"},
            )
        ax.set(xlim=(-0.6, len(places) - 0.4), ylim=(-0.4, 0.8))
        ax.axis("off")
        return figure


def reconstructions(model: VAE, dataset: Dataset, count: int = 10) -> Figure:
    """Images, and what the decoder makes of the posterior's mean and of one sample of it."""
    size = dataset.images.shape[-1]
    originals = torch.from_numpy(dataset.images[:count]).flatten(1).float() / 255
    with torch.no_grad():
        mean, logvar = model.encode(originals)
        z0 = torch.randn(mean.shape, generator=torch.Generator().manual_seed(0))
    decoded = [painted(model, z) for z in (mean, mean + torch.exp(logvar / 2) * z0)]
    names = ("image", "from mean", "from sample")
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(0.75 * count, 2.3))
        axes = figure.subplots(3, count)
        for row, name, pictures in zip(axes, names, (originals, *decoded), strict=True):
            for ax, picture in zip(row, pictures, strict=True):
                _image(ax, picture.reshape(size, size))
            row[0].set_ylabel(name, rotation=0, ha="right", va="center")
        return figure


def traversal(model: VAE, runs: xr.Dataset, dataset: Dataset, image: int = 0) -> Figure:
    """What the decoder paints as one dim moves and the rest of an image's code stays: a row per
    node, from two prior standard deviations below the middle of the codes to two above.

    Left: the least used dim of each node, right: the most used. `runs` is the model's own.
    """
    one = runs.isel(replica=0)
    final = one.isel(epoch=-1)
    code = torch.from_numpy(one.image_posterior_mean.values[image]).float()  # (node, dim)
    steps = np.linspace(-2, 2, 7)
    nodes = one.node.values
    size = dataset.images.shape[-1]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(8.6, 0.56 * len(nodes) + 0.6))
        halves = figure.subfigures(1, 2, wspace=0.04, squeeze=False)[0]
        most, least = summary.most_and_least_used(one)
        sides = {"least used": least, "most used": most}
        for half, (kind, dims) in zip(halves, sides.items(), strict=True):
            axes = half.subplots(len(nodes), len(steps), squeeze=False)
            half.suptitle(f"the {kind} dim of each node moves", fontsize=9)
            for row, (node, dim) in enumerate(zip(nodes, dims.values, strict=True)):
                middle, std = (
                    float(final.posterior_mean[row, dim]),
                    float(final.prior_variance[row, dim]) ** 0.5,
                )
                codes = code.repeat(len(steps), 1, 1)
                codes[:, row, dim] = torch.from_numpy(middle + std * steps).float()
                for ax, picture in zip(axes[row], painted(model, codes), strict=True):
                    _image(ax, picture.reshape(size, size))
                axes[row, 0].set_ylabel(node, rotation=0, ha="right", va="center")
            for ax, step in zip(axes[-1], steps, strict=True):
                ax.set_xlabel(f"{step:+.1f} t" if step else "0", fontsize=7)
        return figure


def units(model: VAE, dataset: Dataset, node: str, dim: int, scale: float) -> Figure:
    """A model after a dim (from 1) of every node was multiplied by `scale` and all that reads it
    divided: what a plot of that dim in one node would show, and what the decoder paints."""
    other = copy.deepcopy(model)
    scales = torch.ones(model.node_shape[1])
    scales[dim - 1] = scale
    change_units(other, range(len(scales)), scales)
    images = torch.from_numpy(dataset.images[: trace.KEPT_IMAGES]).flatten(1).float() / 255
    factors = torch.from_numpy(dataset.standard_factors[: len(images)])
    generator = torch.Generator().manual_seed(0)
    shape = (len(images), model.node_shape[0], model.noise_inputs)
    noise = torch.randn(shape, generator=generator)
    z0 = torch.randn((len(images), *model.node_shape), generator=generator)
    with torch.no_grad():
        output = other(images, factors, noise, z0)
        measured = trace.measure(other, output, images, factors)
        pictures = painted(other, output.z[:UNITS_IMAGES])
    place = (list(dataset.factor_names).index(node), dim - 1)
    rows = {  # quantity, power of the scale, colour
        "prior variance (z²)": ("prior_variance", 2, COLOURS["prior"]),
        "posterior variance (z²)": ("posterior_variance", 2, COLOURS["posterior"]),
        "spread of posterior means (z)": ("posterior_spread", 1, COLOURS["posterior"]),
        "posterior std / prior std": ("ratio", 0, "black"),
        "KL (nats)": ("kl_nats", 0, "black"),
    }
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(8.6, 2.3))
        left, right = figure.subfigures(1, 2, width_ratios=[3, 2], squeeze=False)[0]
        ax = left.subplots()
        ends: list[float] = []  # of all scales, so that the axis stays the same
        for row, (name, power, colour) in enumerate(rows.values()):
            value = float(measured[name][place])
            if 0 < value < np.inf:  # neither 0 nor diverged, which a log axis cannot show
                ends += [value * (end / scale) ** power for end in (SCALES[0], SCALES[-1])]
            ax.plot(value, row, "o", color=colour, ms=7)
            ax.annotate(
                f"{value:.3g}", (value, row), (8, 0), textcoords="offset points", va="center"
            )
        ax.axhline(2.5, color="grey", lw=0.8)
        ax.set(
            xscale="log",
            xlim=(min(ends) / 2, max(ends) * 10) if ends else (0.1, 10),
            yticks=range(len(rows)),
            yticklabels=list(rows),
        )
        ax.set_ylim(len(rows) - 0.5, -0.5)
        gone = "" if measured["kl_nats"].isfinite().all() else ": diverged"
        ax.set_title(f"{node}, dim {dim}, in units × {scale:.3g}{gone}", loc="left")
        size = dataset.images.shape[-1]
        grid = right.subplots(2, UNITS_IMAGES)
        for side, name, shown in zip(grid, ("image", "decoded"), (images, pictures), strict=True):
            for ax, picture in zip(side, shown, strict=False):
                _image(ax, picture.reshape(size, size))
            side[0].set_ylabel(name, rotation=0, ha="right", va="center")
        return figure


def painted(model: VAE, z: Tensor) -> Tensor:
    """What the decoder makes of codes (image, node, dim): pixels (image, pixel), 0 to 1."""
    with torch.no_grad():
        decoded = model.decode(z)
    return decoded.sigmoid() if model.likelihood == "bernoulli" else decoded


def over_epochs(
    runs: xr.Dataset,
    names: Sequence[str],
    ylabel: str,
    reference: float | None = None,
) -> Figure:
    """Quantities over epochs, a panel per dim (row) and node (column).

    One replica is drawn as lines; of several, the median and the middle 95% as a band. Names
    begin with prior_ or posterior_. A line is dashed where no replica uses the dim.
    """
    alone = runs.sizes["replica"] == 1

    def draw(ax: Axes, panel: xr.Dataset) -> None:
        used = panel.ratio.isel(epoch=-1) < summary.ALIVE_RATIO
        for name in names:
            colour = COLOURS[name.split("_")[0]]
            low, middle, high = (
                panel[name].quantile(q, "replica", skipna=True) for q in (0.025, 0.5, 0.975)
            )
            if not alone:
                ax.fill_between(panel.epoch, low, high, color=colour, alpha=0.25, lw=0)
            ax.plot(panel.epoch, middle, color=colour, ls="-" if used.any() else "--")
        ax.set_yscale("log")
        if reference is not None:
            ax.axhline(reference, color="grey", lw=0.8, ls=":")

    return _grid(runs, draw, ylabel, [name.split("_")[0] for name in names])


def means_over_epochs(runs: xr.Dataset) -> Figure:
    """How the means of one replica spread: over images (posterior) and over noise (prior).

    A panel per dim (row) and node (column): the median, bands from 31 to 69 and from 7 to 93 %
    and, as thin lines, the extremes.
    """

    def draw(ax: Axes, panel: xr.Dataset) -> None:
        for side, colour in COLOURS.items():
            q = panel[f"{side}_quantiles"].isel(replica=0).transpose("quantile", "epoch")
            for low, high, alpha in ((0.07, 0.93, 0.2), (0.31, 0.69, 0.35)):
                edges = q.sel(quantile=[low, high])
                ax.fill_between(panel.epoch, *edges, color=colour, alpha=alpha, lw=0)
            ax.plot(panel.epoch, q.sel(quantile=0.5), color=colour, label=side)
            for edge in (q[0], q[-1]):
                ax.plot(panel.epoch, edge, color=colour, lw=0.5)

    return _grid(runs, draw, "mean (z)", list(COLOURS))


def fates(runs: xr.Dataset) -> Figure:
    """Final std_q / std_p of every dim of every replica: near 0 in use, near 1 not in use."""
    ratio = runs.ratio.isel(epoch=-1)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 0.16 * runs.sizes["replica"] + 1.2))
        ax = figure.subplots()
        for row, replica in enumerate(ratio):
            if replica.isnull().any():
                ax.text(summary.ALIVE_RATIO, row, " diverged", va="center")
            for dim, marker in zip(replica.dim.values, itertools.cycle("osD^v<>P")):
                values = replica.sel(dim=dim).values
                used = values < summary.ALIVE_RATIO
                face = [COLOURS["posterior"] if use else "white" for use in used]
                place = np.full(len(values), row) + 0.12 * (2 * dim - 1 - ratio.sizes["dim"])
                ax.scatter(
                    values, place, s=16, marker=marker, c=face, edgecolors=COLOURS["posterior"],
                    label=_dim_name(dim) if row == 0 else None, lw=0.8,
                )  # fmt: skip
        ax.axvline(summary.ALIVE_RATIO, color="grey", lw=0.8, ls=":")
        ax.set(
            xscale="log",
            xlabel="posterior std / prior std at the end (filled: in use)",
            ylabel="seed",
            yticks=range(runs.sizes["replica"]),
            yticklabels=runs.seed.values,
        )
        ax.invert_yaxis()
        ax.legend(loc="upper left", bbox_to_anchor=(1, 1))
        return figure


def kl_parts(runs: xr.Dataset) -> Figure:
    """KL at the end by node, dim and part: means over replicas, stacked."""
    final = runs.isel(epoch=-1).mean("replica")
    nodes = final.node.values
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(3.6 * final.sizes["dim"], 2.4))
        axes = figure.subplots(1, final.sizes["dim"], sharey=True, squeeze=False)
        for ax, dim in zip(axes.flat, final.dim.values, strict=True):
            bottom = np.zeros(len(nodes))
            for name, (label, colour) in PARTS.items():
                height = final[name].sel(dim=dim).values
                ax.bar(nodes, height, bottom=bottom, color=colour, label=label, width=0.7)
                bottom += height
            ax.set_title(_dim_name(dim))
            ax.tick_params(axis="x", rotation=30)
        axes[0, 0].set_ylabel("KL (nats)")
        axes[0, -1].legend(loc="upper left", bbox_to_anchor=(1, 1))
        return figure


def _grid(
    runs: xr.Dataset,
    draw: Callable[[Axes, xr.Dataset], None],
    ylabel: str,
    sides: Sequence[str],
) -> Figure:
    """A panel per dim (row) and node (column), filled by draw(ax, panel); epochs on x."""
    nodes, dims = runs.node.values, runs.dim.values
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(1.75 * len(nodes), 1.75 * len(dims) + 0.4))
        axes = figure.subplots(len(dims), len(nodes), sharex=True, sharey=True, squeeze=False)
        for row, dim in zip(axes, dims, strict=True):
            for ax, node in zip(row, nodes, strict=True):
                draw(ax, runs.sel(node=node, dim=dim))
            row[0].set_ylabel(f"{_dim_name(dim)}\n{ylabel}")
        for ax, node in zip(axes[0], nodes, strict=True):
            ax.set_title(node)
        for ax in axes[-1]:
            ax.set_xlabel("epoch")
        handles = [Patch(color=c, label=side) for side, c in COLOURS.items() if side in sides]
        figure.legend(handles=handles, loc="outside upper right", ncols=2)
        return figure


def _image(ax: Axes, picture: Any) -> None:
    ax.imshow(np.asarray(picture), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(False)


def _dim_name(dim: Any) -> str:
    return dim if isinstance(dim, str) else f"dim {dim}"
