"""How a report reads: a sentence, and a table for people."""

import math
from typing import Any

import numpy as np
import pandas as pd

from vaenotes.diagnosis.status import ALIVE_NATS, DEVIATIONS, STATUSES

SHOWN = 20
"""Dims that are printed and drawn one by one, those that add most; the rest are counted."""


def sentence(dims: pd.DataFrame, totals: dict[str, float]) -> str:
    """How many dims are what, what the code costs and for what, and what it adds."""
    kl, said, new = (
        f"{totals[f'{name}_nats']:.2f} ± {totals[f'{name}_error']:.2f}"
        for name in ("kl", "information", "added")
    )
    sees = differ(dims)
    said += " nats"
    if near_ceiling(totals, "information"):
        count = f"{math.exp(totals['ceiling_nats']):,.0f}"
        said = f"{totals['information_nats']:.2f} nats or more, all that {count} samples can show"
        if not sees and "bound_nats" in totals:
            said += f", and at most {totals['bound_nats']:.2f}"
    added = f", of which {new} are added to what the prior knew" if sees else ""
    rest = []
    if abs(totals["dims_nats"] - totals["added_nats"]) > 0.5:
        rest.append(f" Dims, each by itself, add up to {totals['dims_nats']:.2f}.")
    alive = (dims["status"] == "alive").sum()
    if totals.get("directions", alive) != alive:
        rest.append(f" Directions alive: {totals['directions']:.0f}.")
    wasted = _wasted(dims, totals)
    return (
        f"{len(dims):,} dims: {_counted(dims)}. KL {kl} nats{wasted}. Information about the "
        f"sample {said}{added}.{''.join(rest)}"
    )


def _counted(dims: pd.DataFrame) -> str:
    counts = dims["status"].value_counts()
    return ", ".join(f"{counts[status]:,} {status}" for status in STATUSES if status in counts)


def rest(dims: pd.DataFrame) -> str:
    """The dims that `table` leaves out, in a line; nothing if there are none."""
    left = ranked(dims).iloc[SHOWN:]
    added, kl = (left[name].sum() for name in ("added_nats", "kl_nats"))
    sums = f"they add up to {added:.2f} nats, at a KL of {kl:.2f}"
    return f"and {len(left):,} more: {_counted(left)}; {sums}" if len(left) else ""


def differ(dims: pd.DataFrame) -> bool:
    """Whether a prior knew something: then what dims say and what they add are two things."""
    return bool((dims["added_nats"] != dims["information_nats"]).any())


def ranked(dims: pd.DataFrame) -> pd.DataFrame:
    """The dims that add most first; those that differ by rounding alone as they were."""
    return dims.iloc[np.argsort(-dims["added_nats"].round(6), kind="stable")]


def table(dims: pd.DataFrame) -> pd.DataFrame:
    """The columns for people, of the dims that add most."""
    every, dims = dims, ranked(dims).iloc[:SHOWN]
    columns: dict[str, Any] = {"status": dims["status"]}
    for title, name in (("adds", "added"), ("information", "information")):
        if name == "added" or differ(every):
            parts = dims[f"{name}_nats"], dims[f"{name}_error"], dims["at_ceiling"]
            columns[title] = [_estimated(*row) for row in zip(*parts, strict=True)]
    if dims["at_ceiling"].any():
        columns["at most"] = dims["bound_nats"].map(_rounded)
    for title, name in (
        ("KL", "kl_nats"), ("offset", "wasted_offset_nats"), ("width", "wasted_width_nats"),
        ("s/t", "ratio"), ("spread/t", "spread"),
    ):  # fmt: skip
        columns[title] = dims[name].map(_rounded)
    for title, name in (("s²", "posterior_variance"), ("t²", "prior_variance")):
        columns[title] = dims[name].map("{:.2g}".format)
    return pd.DataFrame(columns, index=dims.index).rename_axis("dim")


def _wasted(dims: pd.DataFrame, totals: dict[str, float]) -> str:
    """What of the KL buys nothing: on offsets, on widths, and the rest at the low end of its
    interval. What codes near the ceiling add is not known: then it is that of dims which add little
    for sure."""
    found = dims[["wasted_offset_nats", "wasted_width_nats"]]
    offset, width = found.sum()
    other = totals["kl_nats"] - totals["added_nats"] - offset - width
    if near_ceiling(totals, "added"):
        idle = ~dims["status"].isin(["alive", "unsure"])
        other = (dims["wasted_nats"] - found.sum(axis=1))[idle].sum()
    else:
        other -= DEVIATIONS * totals["added_error"]
    parts = {"on offsets": offset, "on widths": width, "or more on other misfits": other}
    named = [f"{nats:.2f} {title}" for title, nats in parts.items() if nats >= ALIVE_NATS]
    return f", of it wasted: {', '.join(named)}" if named else ""


def near_ceiling(totals: dict[str, float], name: str) -> bool:
    """Whether an estimate is about as much as the samples compared can show."""
    return totals[f"{name}_nats"] > totals["ceiling_nats"] - 0.5


def _estimated(value: float, error: float, at_ceiling: bool) -> str:
    return f"≥ {_rounded(value)}" if at_ceiling else f"{_rounded(value)} ± {_rounded(error)}"


def _rounded(value: float) -> str:
    """To two places; a dash for NaN, and no minus before a zero."""
    return "–" if math.isnan(value) else f"{round(value, 2) + 0:.2f}"
