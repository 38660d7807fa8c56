"""The notes' own two figures, digitised; the same figures of our runs; and how far they agree.

std_behaviour and mu_behaviour show how the stds and the means of posterior and prior are
distributed over all draws of an epoch: bands between quantiles, on linear axes, epochs counted from
0. Any runs with the quantities NAMES can be drawn so: those of `vaenotes.run`, where the draws are
the images measured at the end of an epoch, and those at the notes' own sizes (full_size.py).
"""

from collections.abc import Mapping
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from vaenotes.data.load import FACTORS
from vaenotes.style import COLOURS

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
    one = runs.isel(replica=0).sel(node=shown_node(runs, what, node))
    order = one.ratio.isel(epoch=-1).argsort().values[::-1]
    kept = one[[NAMES[what, side] for side in COLOURS]].isel(epoch=slice(1, None), dim=order)
    numbered = kept.assign_coords(epoch=kept.epoch - 1)
    return numbered.drop_vars("dim").rename({"dim": "place"})


def shown_node(runs: xr.Dataset, what: str, node: str | None) -> str:
    """The node asked for, else the notes' own; of other data's nodes the one in its place."""
    nodes = runs.node.values.tolist()
    place = FACTORS.index(FIGURES[what][1]) if len(nodes) == len(FACTORS) else 0
    own = FIGURES[what][1] if FIGURES[what][1] in nodes else nodes[place]
    return str(node or own)


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
