"""The notes' own two figures, digitised; the same figures of our runs; and how far they agree.

std_behaviour and mu_behaviour show how the stds and the means of posterior and prior are
distributed over all draws of an epoch: bands between quantiles, on linear axes, epochs counted from
0. Any runs with the quantities NAMES can be drawn so: those of `vaenotes.run`, where the draws are
the images measured at the end of an epoch, and those at the notes' own sizes (full_size.py).
"""

from collections.abc import Mapping
from functools import cache
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vaenotes.data.sprites import FACTORS
from vaenotes.style import COLOURS, STYLE

FIGURES = {"std": ("std_behaviour", "shape"), "mean": ("mu_behaviour", "y")}
"""By what a figure shows: its name in the notes, and the one node that they show."""
NAMES = {
    ("std", "posterior"): "posterior_std_quantiles",
    ("std", "prior"): "prior_std_quantiles",
    ("mean", "posterior"): "posterior_quantiles",
    ("mean", "prior"): "prior_quantiles",
}
READ = {"min": 0.0, "p7": 0.07, "p93": 0.93, "max": 1.0}
"""The quantiles that were read off the notes' figures, by column."""
TAIL = "posterior means, other dim: extremes / (7 to 93 %)"
FACTS = (
    "epochs seen",
    "prior std, dim given up: epoch in which it falls below half",
    "prior std, dim given up, at the end",
    "prior std, other dim, at the end",
    "posterior std, other dim, at the end",
    "posterior means, other dim: 7 to 93 %",
    TAIL,
    "prior mean, dim given up, at the end",
)


@cache
def digitised() -> pd.DataFrame:
    """What was read off: columns figure, quantity, node, dim, epoch (all counted as in the notes)
    and min, p7, p93, max. A batch mean stands under max alone."""
    path = Path(__file__).parent / "results" / "notes_figures.csv"
    return pd.read_csv(path, comment="#")


def notes(what: str) -> xr.Dataset:
    """One of the notes' figures as bands: variables NAMES over (epoch, quantile, place)."""
    table = digitised()
    rows = table[table.figure == FIGURES[what][0]]
    found = {}
    for side in COLOURS:
        chosen = rows[rows.quantity == f"{side} {what}"]
        table = chosen.set_index(["epoch", "dim"])[list(READ)].to_xarray().to_dataarray("quantile")
        found[NAMES[what, side]] = table.assign_coords(quantile=list(READ.values()))
    return xr.Dataset(found).rename({"dim": "place"})


def bands(runs: xr.Dataset, what: str, node: str | None = None) -> xr.Dataset:
    """One replica as the notes drew theirs: variables NAMES over (epoch, quantile, place).

    Epochs count from 0, as each shows what its end has left. Places order the dims of the node:
    first the one whose ratio ends nearer to 1, as the notes' run gave up their first.
    """
    one = runs.isel(replica=0).sel(node=_shown(runs, what, node))
    order = one.ratio.isel(epoch=-1).argsort().values[::-1]
    kept = one[[NAMES[what, side] for side in COLOURS]].isel(epoch=slice(1, None), dim=order)
    numbered = kept.assign_coords(epoch=kept.epoch - 1)
    return numbered.drop_vars("dim").rename({"dim": "place"})


def _shown(runs: xr.Dataset, what: str, node: str | None) -> str:
    """The node asked for, else the notes' own; of other data's nodes the one in its place."""
    nodes = runs.node.values.tolist()
    place = FACTORS.index(FIGURES[what][1]) if len(nodes) == len(FACTORS) else 0
    own = FIGURES[what][1] if FIGURES[what][1] in nodes else nodes[place]
    return str(node or own)


def figure(runs: xr.Dataset, what: str, node: str | None = None) -> Figure:
    """The notes' figure of one replica: a row per dim, posterior and prior side by side; the notes'
    own curves on top, dashed between 7 and 93 %, dotted at the extremes, for the node that they
    show. `what`: "std" or "mean"."""
    shown = bands(runs, what, node)
    theirs = notes(what) if _shown(runs, what, node) == FIGURES[what][1] else None
    with mpl.rc_context(STYLE):
        drawn = Figure(figsize=(7.2, 4.2))
        axes = drawn.subplots(2, 2, sharex=True)
        for place, row in enumerate(axes):
            for ax, side in zip(row, COLOURS, strict=True):
                name = NAMES[what, side]
                _bands(ax, shown[name].isel(place=place), COLOURS[side])
                if theirs is not None:
                    _curves(ax, theirs[name].isel(place=place).dropna("epoch"))
                ax.set_title(f"{side} {what}, {('dim given up', 'other dim')[place]}", loc="left")
        for ax in axes[-1]:
            ax.set_xlabel("epoch, from 0 as in the notes")
        return drawn


def _bands(ax: Axes, values: xr.DataArray, colour: str) -> None:
    """Nested bands from the extremes inwards, and the median: values (epoch, quantile)."""
    levels = values["quantile"].values
    for outer in range(len(levels) // 2):
        low, high = values.isel(quantile=outer), values.isel(quantile=-1 - outer)
        ax.fill_between(values.epoch, low, high, color=colour, alpha=0.12 + 0.08 * outer, lw=0)
    ax.plot(values.epoch, values.isel(quantile=len(levels) // 2), color=colour, lw=1.2)


def _curves(ax: Axes, values: xr.DataArray) -> None:
    for level, style in zip(READ.values(), (":", "--", "--", ":"), strict=True):
        line = values.sel(quantile=level)
        ax.plot(line.epoch, line, color="black", ls=style, lw=0.9)


def mistaken(runs: xr.Dataset) -> Figure:
    """Averages of the stds of one replica in the node of std_behaviour: on the left as the notes'
    first panel drew them, with the prior's average taken of the posterior's numbers, on the right
    as they are. Black: the notes' own curves."""
    one = runs.isel(replica=0, epoch=slice(1, None)).sel(node=_shown(runs, "std", None))
    order = one.ratio.isel(epoch=-1).argsort().values[::-1]
    average = {side: one[f"{side}_variance"].isel(dim=order) ** 0.5 for side in COLOURS}
    theirs = digitised().query("figure == 'scalars of 22 July'")
    with mpl.rc_context(STYLE):
        drawn = Figure(figsize=(7.2, 2.8))
        left, right = drawn.subplots(1, 2, sharex=True)
        for ax, prior in ((left, average["posterior"]), (right, average["prior"])):
            for side, values in (("posterior", average["posterior"]), ("prior", prior)):
                for place, style in enumerate(("-", "--")):
                    name = ("given up", "other")[place]
                    ax.plot(one.epoch - 1, values.isel(dim=place), color=COLOURS[side], ls=style,
                            lw=3 if side == "posterior" else 1.2, alpha=0.9,
                            label=f"{side}, {name}")  # fmt: skip
            ax.set_xlabel("epoch, from 0 as in the notes")
        for dim, style in ((0, "-"), (1, "--")):
            line = theirs[theirs.dim == dim]
            left.plot(line.epoch, line["max"], color="black", ls=style, lw=0.9)
        if np.isfinite(top := float(average["posterior"].max())):  # else it diverged
            left.set_ylim(0, 1.2 * top)
        left.set_title("as they were drawn", loc="left")
        right.set_title("as they are", loc="left")
        left.set_ylabel("average std (z)")
        right.legend(loc="upper left", bbox_to_anchor=(1, 1))
        return drawn


def facts(std: xr.Dataset, mean: xr.Dataset) -> dict[str, float]:
    """Numbers that tell one figure from another, from the bands of stds and of means. The middle of
    a band is halfway between 7 and 93 %. NaN where a fall was never seen."""
    middle = {
        side: std[NAMES["std", side]].sel(quantile=[0.07, 0.93], method="nearest").mean("quantile")
        for side in COLOURS
    }
    given_up, other = (middle["prior"].isel(place=place).dropna("epoch") for place in (0, 1))
    if not given_up.size:  # it diverged
        return dict.fromkeys(FACTS, np.nan)
    below = given_up < given_up.max() / 2
    halved = below.where(given_up.epoch > given_up.idxmax("epoch"), False)
    spread = mean[NAMES["mean", "posterior"]].isel(place=1).dropna("epoch").isel(epoch=-1)
    low, p7, p93, high = (float(spread.sel(quantile=q, method="nearest")) for q in READ.values())
    constant = mean[NAMES["mean", "prior"]].isel(place=0).dropna("epoch").isel(epoch=-1)
    posterior = middle["posterior"].isel(place=1).dropna("epoch")
    numbers = (
        float(given_up.epoch[-1]) + 1,
        float(halved.idxmax("epoch")) if halved.any() else np.nan,
        float(given_up[-1]),
        float(other[-1]),
        float(posterior[-1]),
        p93 - p7,
        (high - low) / (p93 - p7),
        float(constant.mean("quantile")),
    )
    return dict(zip(FACTS, numbers, strict=True))


def comparison(runs: Mapping[str, xr.Dataset]) -> pd.DataFrame:
    """`facts` of the notes' figures and of some replicas, one of each, by title."""
    columns = {"the notes": facts(notes("std"), notes("mean"))}
    for title, one in runs.items():
        columns[title] = facts(bands(one, "std"), bands(one, "mean"))
    return pd.DataFrame(columns)
