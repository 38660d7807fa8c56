"""How a report reads: a sentence, and a table for people."""

import math
from typing import Any

import numpy as np
import pandas as pd

from vaenotes.diagnosis.status import ALIVE_NATS, STATUSES


def sentence(dims: pd.DataFrame, totals: dict[str, float]) -> str:
    """How many dims are what, what the code costs and for what, and what it adds."""
    counts = dims["status"].value_counts()
    named = ", ".join(f"{counts[status]} {status}" for status in STATUSES if status in counts)
    found = {
        name: f"{totals[f'{name}_nats']:.2f} ± {totals[f'{name}_error']:.2f}"
        for name in ("kl", "added", "information")
    }
    near = totals["information_nats"] > totals["ceiling_nats"] - 0.5
    ceiling = f" (near the most that can be seen, {totals['ceiling_nats']:.2f})" if near else ""
    seen = differ(dims)
    of_it = f", of which {found['added']} are added to what the prior knew" if seen else ""
    return (
        f"{len(dims)} dims: {named}. KL {found['kl']} nats{_wasted(dims)}. Information about the "
        f"sample {found['information']} nats{ceiling}{of_it}."
    )


def differ(dims: pd.DataFrame) -> bool:
    """Whether a prior knew something: then what dims say and what they add are two things."""
    return bool((dims["added_nats"] != dims["information_nats"]).any())


def ranked(dims: pd.DataFrame) -> pd.DataFrame:
    """The dims that add most first; those that differ by rounding alone as they were."""
    return dims.iloc[np.argsort(-dims["added_nats"].round(6), kind="stable")]


def table(dims: pd.DataFrame) -> pd.DataFrame:
    """The columns for people, the dims that add most first."""
    dims = ranked(dims)
    columns: dict[str, Any] = {"status": dims["status"]}
    for title, name in (("adds", "added"), ("information", "information")):
        pairs = zip(dims[f"{name}_nats"], dims[f"{name}_error"], strict=True)
        if name == "added" or differ(dims):
            columns[title] = [f"{_rounded(value)} ± {_rounded(error)}" for value, error in pairs]
    for title, name in (
        ("KL", "kl_nats"), ("offset", "wasted_offset_nats"), ("width", "wasted_width_nats"),
        ("s/t", "ratio"), ("spread/t", "spread"),
    ):  # fmt: skip
        columns[title] = dims[name].map(_rounded)
    for title, name in (("s²", "posterior_variance"), ("t²", "prior_variance")):
        columns[title] = dims[name].map("{:.2g}".format)
    return pd.DataFrame(columns, index=dims.index).rename_axis("dim")


def _wasted(dims: pd.DataFrame) -> str:
    """What of the KL buys nothing: offsets and widths of all dims, all else of those that add too
    little for a doubt."""
    offset, width = dims["wasted_offset_nats"].sum(), dims["wasted_width_nats"].sum()
    idle = dims[~dims["status"].isin(["alive", "unsure"])]
    known = idle[["wasted_offset_nats", "wasted_width_nats"]].sum(axis=1)
    other = (idle["wasted_nats"] - known).sum()
    parts = {"offsets": offset, "widths": width, "other misfits": other}
    named = [f"{nats:.2f} on {title}" for title, nats in parts.items() if nats >= ALIVE_NATS]
    return f", of it wasted: {', '.join(named)}" if named else ""


def _rounded(value: float) -> str:
    """To two places; a dash for NaN, and no minus before a zero."""
    return "–" if math.isnan(value) else f"{round(value, 2) + 0:.2f}"
