"""Figures of runs, one call each; every function returns a matplotlib Figure, which a notebook
shows. Pictures of images are in pictures.py; style.py says what colours and lines mean.

Where arms are compared, rows are arms, by title; dots are replicas; a bar is the median (or share)
and its 95% interval.
"""

from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
import xarray as xr
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from vaenotes.lab.dots import (
    Row,
    bed_of_nails,
    broken,
    colour_of,
    dim_name,
    name_panels,
    name_rows,
    panels,
    ratio_axis,
    rows_of_dots,
    use_marks,
)
from vaenotes.lab.measures import MEASURES, values_of
from vaenotes.lab.summary import (
    ALIVE_RATIO,
    alive,
    diverged,
    most_and_least_used,
    weaker_first,
)
from vaenotes.style import (
    COLOURS,
    PARTS,
    REFERENCE,
    WIDTH,
    figure,
    legend_of,
    line,
    literal,
    marks,
    plain_numbers,
)

SHAPES = 4 * "osD^v<>P"
"""Of marks, by dim."""
MOST_LABELS = 12
"""On an axis."""
DIMS = {
    "no dim in use": "#DDDDDD",
    "the first": "#E69F00",
    "the second": "#56B4E9",
    "several": "#999999",
}
"""Colours of the dim that a node uses."""


@figure
def over_epochs(
    runs: xr.Dataset,
    names: Sequence[str],
    ylabel: str,
    reference: float | None = None,
    scale: str = "log",
) -> Figure:
    """Quantities over epochs, a thin line per node and name: the less used dim of each node in the
    panel on the left, the more used one on the right, by their final ratio.

    Of several replicas a line is the median, and a band holds the middle 95% of all nodes of all
    replicas. Names begin with prior_ or posterior_. A line is dashed and greyed where the dim is
    not in use at the end, of several replicas in half of them or more. `scale` of the y axis.
    """
    ordered = weaker_first(runs)
    used = alive(ordered).mean("replica") > 0.5
    sides = [name.split("_")[0] for name in names]
    drawn, axes = panels(runs.sizes["dim"], 2.6)
    for place, (ax, dim) in enumerate(zip(axes, ordered.dim.values, strict=False)):
        panel, full = ordered.isel(dim=place), used.isel(dim=place)
        for name, side in zip(names, sides, strict=True):
            if runs.sizes["replica"] > 1:
                band = panel[name].quantile([0.025, 0.975], ["replica", "node"])
                colour = line(full.mean() > 0.5, COLOURS[side])["color"]
                ax.fill_between(panel.epoch, *band, color=colour, alpha=0.18, lw=0)
            for node, middle in panel[name].median("replica").groupby("node"):
                style = line(full.sel(node=node), COLOURS[side])
                ax.plot(panel.epoch, middle.squeeze("node"), lw=1.1, **style)
        ax.set(title=f"{dim} dim of each node" if "used" in dim else dim, yscale=scale)
        if reference is not None:
            ax.axhline(reference, **REFERENCE)
        if scale == "log":
            plain_numbers(ax.yaxis)
    name_panels(drawn, "epoch", ylabel)
    drawn.legend(handles=legend_of(sides, not used.all()), loc="outside lower center", ncols=3)
    return drawn


@figure
def beside_twin(runs: xr.Dataset, twins: xr.Dataset, node: str) -> Figure:
    """One replica and its twin over epochs, for the dims of one node: the prior's variance, which
    feels units, and below it what does not. The twin is drawn pale and broad below the replica;
    dims that are not in use are dashed and greyed."""
    rows = {
        "prior_variance": ("prior variance (z²)", COLOURS["prior"]),
        "ratio": ("posterior std / prior std", "black"),
        "kl_nats": ("KL (nats)", "black"),
    }
    drawn = Figure(figsize=(WIDTH, 5.6))
    axes = drawn.subplots(len(rows), 1, sharex=True)
    for ax, (name, (label, colour)) in zip(axes, rows.items(), strict=True):
        for one, look in ((twins, {"lw": 5, "alpha": 0.3}), (runs, {"lw": 1.4})):
            for dim in one.dim.values:
                style = line(alive(one).isel(replica=0).sel(node=node, dim=dim), colour)
                if one is twins:
                    style["ls"] = "-"
                values = one[name].isel(replica=0).sel(node=node, dim=dim)
                ax.plot(one.epoch, values, **style, **look)
        ax.set(title=label, yscale="log")
        plain_numbers(ax.yaxis)
    axes[-1].set_xlabel("epoch")
    handles = [
        Line2D([], [], color="black", lw=1.4, label="replica"),
        Line2D([], [], color="black", lw=5, alpha=0.3, label="its twin"),
        Line2D([], [], **line(False), label="dim not in use"),
    ]
    drawn.legend(handles=handles, loc="outside lower center", ncols=3)
    return drawn


@figure
def nails(runs: xr.Dataset, nodes: Sequence[str], epoch: int) -> Figure:
    """One replica's bed of nails after an epoch, in two nodes: each followed image's posterior as
    an ellipse of two standard deviations around its mean, coloured by the first node's factor, and
    the prior's; dashed and greyed where neither dim is in use.

    A panel for the dims that are the least used at the end, of either node, and one for the most
    used. Their axes are alike, and those of the whole run, so that epochs can be compared.
    """
    one = runs.isel(replica=0).sel(node=list(nodes))
    used = alive(runs).isel(replica=0).sel(node=list(nodes))
    factor = one.factors.sel(node=nodes[0]).values[: runs.sizes["followed"]]
    colours = mpl.colormaps["viridis"]((factor - factor.min()) / (np.ptp(factor) or 1))
    drawn = Figure(figsize=(WIDTH, 3.5))
    most, least = most_and_least_used(one)
    axes = drawn.subplots(1, 2, sharex=True, sharey=True)
    sides = zip(axes, (least, most), ("less", "more"), strict=True)
    for ax, dims, kind in sides:
        panel = one.isel(dim=dims).transpose("epoch", "followed", "node", ...)
        mean = panel.followed_posterior_mean.values
        width = 2 * np.exp(panel.followed_posterior_logvar.values / 2)
        centre, reach = panel.prior_mean.values, 2 * np.sqrt(panel.prior_variance.values)
        full = bool(used.isel(dim=dims).any())
        bed_of_nails(ax, mean[epoch], width[epoch], centre[epoch], reach[epoch], colours, full)
        ends = (mean - width, mean + width, centre - reach, centre + reach)
        ax.update_datalim(np.concatenate([end.reshape(-1, 2) for end in ends]))
        ax.margins(0.02)
        names = [
            f"{literal(node)}, dim {dim} (z)"
            for node, dim in zip(nodes, dims.values + 1, strict=True)
        ]
        ax.set(title=f"the {kind} used dims", xlabel=names[0], ylabel=names[1])
    image = Patch(color=mpl.colormaps["viridis"](0.5), label="posterior of an image")
    shape = Patch(fill=False, ec=COLOURS["prior"], lw=1.8, label="prior")
    drawn.legend(handles=[image, shape], loc="outside lower center", ncols=2)
    drawn.suptitle(f"epoch {epoch}", x=0.5, fontsize=10, weight="bold")
    return drawn


@figure
def outcomes(runs: xr.Dataset) -> Figure:
    """Final std_q / std_p of every dim of every replica, a row per seed: near 0 in use (filled),
    near 1 not in use (hollow). A mark per node, of its own shape for each dim."""
    ratio, used = runs.ratio.isel(epoch=-1), alive(runs)
    count = runs.sizes["replica"]
    drawn = Figure(figsize=(WIDTH, min(0.17 * count, 8.0) + 1.2))
    ax = drawn.subplots()
    for row, replica in enumerate(ratio):
        if replica.isnull().any():
            ax.text(ALIVE_RATIO, row, " diverged", va="center")
        for dim, marker in zip(replica.dim.values, SHAPES, strict=False):
            values, filled = replica.sel(dim=dim).values, used[row].sel(dim=dim).values
            place = np.full(len(values), row) + 0.12 * (2 * dim - 1 - ratio.sizes["dim"])
            ax.scatter(values, place, marker=marker, s=18, lw=0.9, **marks(filled))
    name_rows(ax, runs.seed.values)
    step = -(-count // MOST_LABELS)
    ax.set_yticks(range(0, count, step), runs.seed.values[::step])
    ax.set_ylabel("seed")
    for dim, marker in zip(runs.dim.values, SHAPES, strict=False):
        ax.scatter([], [], marker=marker, c="grey", s=18, label=dim_name(dim))
    ratio_axis(ax)
    drawn.legend(loc="outside lower center", ncols=4)
    return drawn


@figure
def kl_parts(runs: xr.Dataset) -> Figure:
    """KL at the end by node, dim and part: means over replicas, stacked; a panel per dim."""
    final = runs.isel(epoch=-1).mean("replica")
    nodes = [literal(node) for node in final.node.values]
    drawn, axes = panels(final.sizes["dim"], 2.2)
    for ax, dim in zip(axes, final.dim.values, strict=True):
        bottom = np.zeros(len(nodes))
        for name, (label, colour) in PARTS.items():
            height = final[name].sel(dim=dim).values
            ax.bar(nodes, height, bottom=bottom, color=colour, label=label, width=0.7)
            bottom += height
        ax.set_title(dim_name(dim))
        ax.tick_params(axis="x", rotation=30, length=0)
    name_panels(drawn, "", "KL (nats)")
    handles = [Patch(color=colour, label=label) for label, colour in PARTS.values()]
    drawn.legend(handles=handles, loc="outside lower center", ncols=3)
    return drawn


@figure
def by_arm(
    measures: Sequence[str], arms: Mapping[str, xr.Dataset], reference: Mapping[str, float] = {}
) -> Figure:
    """Measures of every replica, by name in MEASURES: a panel each, two beside each other, a row
    per arm, by title; `reference` gives some a dotted line. Dots are replicas, hollow and grey if
    the measure is of dims not in use; a bar is the median and its 95% interval."""
    drawn = rows_of_dots({
        MEASURES[name]: {
            title: [Row(values_of(name, runs).values, "unused" not in name, colour_of(name))]
            for title, runs in arms.items()
        }
        for name in measures
    })  # fmt: skip
    for ax, name in zip(drawn.axes, measures, strict=False):
        if name in reference:
            ax.axvline(reference[name], **REFERENCE)
    return drawn


@figure
def by_use(names: Sequence[str], arms: Mapping[str, xr.Dataset]) -> Figure:
    """What is measured of dims in use, as NAME_used, and below it, hollow and grey, the same of the
    others, NAME_unused: a panel per name, a row per arm, by title."""
    measured = {}
    for name in names:
        measure = MEASURES[f"{name}_used"]
        both = measure._replace(meaning=measure.meaning.removesuffix(", dims in use"))
        measured[both] = {
            title: [
                Row(values_of(f"{name}_{kind}", runs).values, kind == "used", colour_of(name))
                for kind in ("used", "unused")
            ]
            for title, runs in arms.items()
        }
    drawn = rows_of_dots(measured)
    drawn.legend(handles=use_marks(), loc="outside lower center", ncols=2)
    return drawn


@figure
def choices(arms: Mapping[str, xr.Dataset]) -> Figure:
    """Which dim each node uses, in every replica: a panel per arm, of more than four in two rows;
    in it a row is a replica, by its seed, and a column a node. The row of a replica that diverged
    is empty."""
    columns = len(arms) if len(arms) <= 4 else -(-len(arms) // 2)
    rows = -(-len(arms) // columns)
    most = max(runs.sizes["replica"] for runs in arms.values())
    height = min(0.11 * most, 4.0) + 0.5
    drawn = Figure(figsize=(WIDTH, rows * height + 1.2))
    axes = drawn.subplots(rows, columns, squeeze=False, sharey=True)
    for ax, (title, runs) in zip(axes.flat, arms.items(), strict=False):
        used = alive(runs).transpose("replica", "node", "dim").values
        kind = np.where(used.sum(-1) > 1, 3, np.where(used.any(-1), 1 + used.argmax(-1), 0))
        gone = np.repeat(diverged(runs).values[:, None], kind.shape[1], axis=1)
        ax.pcolormesh(
            np.ma.masked_where(gone, kind), cmap=ListedColormap(list(DIMS.values())),
            vmin=0, vmax=3, edgecolors="white", lw=0.6 if most <= 40 else 0,
        )  # fmt: skip
        nodes = [literal(node) for node in runs.node.values]
        ax.set_xticks(np.arange(len(nodes)) + 0.5, nodes, rotation=90)
        ax.tick_params(length=0)
        ax.spines[:].set_visible(False)
        ax.set_title(broken(title, 72 // columns), fontsize=9)
    axes[0, 0].set(yticks=[], ylim=(most, 0))
    for ax in axes[:-1].flat:  # the nodes are named below the last row
        ax.set_xticklabels([])
    drawn.supylabel("one row per seed", fontsize=9)
    handles = [Patch(color=colour, label=name) for name, colour in DIMS.items()]
    spare = list(axes.flat[len(arms) :])
    if not spare:
        drawn.legend(handles=handles, loc="outside lower center", ncols=4)
    for ax in spare:
        ax.axis("off")
        ax.legend(handles=handles, loc="upper left", borderaxespad=0)
    return drawn


@figure
def ratios(arms: Mapping[str, xr.Dataset | np.ndarray]) -> Figure:
    """The ratio s/t of every dim of every replica, a row per arm: runs, whose dims in use are
    filled, or the ratios themselves, filled left of the line."""
    drawn = Figure(figsize=(WIDTH, 0.3 * len(arms) + 0.9))
    ax = drawn.subplots()
    for row, arm in enumerate(arms.values()):
        if isinstance(arm, np.ndarray):
            values, filled = arm, arm < ALIVE_RATIO
        else:
            values, filled = arm.ratio.isel(epoch=-1).values, alive(arm).values
        finite = np.isfinite(values)
        values, filled = values[finite], filled[finite]
        shift = np.random.default_rng(0).uniform(-0.3, 0.3, len(values))
        ax.scatter(values, row + shift, s=10, lw=0.6, alpha=0.6, **marks(filled))
    name_rows(ax, list(arms))
    ratio_axis(ax)
    return drawn
