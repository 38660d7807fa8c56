"""How a report reads: a sentence, and a table for people."""

import math
from typing import Any

import numpy as np
import pandas as pd

from vaenotes.diagnosis.status import ALIVE_NATS, STATUSES

SHOWN = 20
"""Dims that are printed and drawn one by one, those that add most; the rest are counted."""


def sentence(dims: pd.DataFrame, totals: dict[str, float], sees: bool) -> str:
    """How many dims are what, what the code costs and for what, and what it adds; sees: whether the
    prior saw the sample, so that what is added is known from above only."""
    places = ""
    if "places" in totals:
        places = f" per place ({totals['places']:,.1f} of them)".replace(".0 of", " of")
    masked = "dims_nats" not in totals  # weights differ from dim to dim: known from above
    said = ("at most " if masked else "") + _of_all(totals, "information")
    bound = totals.get("bound_nats", math.inf) + totals.get("bound_slack_nats", 0)
    most = f"at most {_rounded(bound)} ± {_rounded(totals.get('bound_error', math.nan))}"
    ceiling = totals["information_at_ceiling"]
    if ceiling:
        said = "≥ " if not masked else "(cut off, by few samples) "
        said += f"{totals['information_nats']:.2f}"
    rest = []
    if ceiling and not sees and math.isfinite(bound):  # an estimate may be above it by chance
        least = f"{said} nats, and " if totals["information_nats"] < bound else ""
        said = f"{least}{most}{'' if least else ' nats'}"
    elif not sees:
        said += " nats"
    else:
        said += " nats, of which "
        if not totals["added_at_ceiling"]:
            said += f"at most {_of_all(totals, 'added')} are added to what the prior knew"
        elif math.isfinite(bound):
            said += f"{most} are added to what the prior knew"
        else:
            said += "so few samples cannot show what is added to what the prior knew"
    together = totals["added_nats"] - totals.get("dims_nats", totals["added_nats"])
    if abs(together) > 0.5:
        rest.append(f" Dims, each by itself, add up to {totals['dims_nats']:.2f}.")
    carried = totals.get("not_alive_nats", 0.0)
    if carried > ALIVE_NATS:
        rest.append(
            f" Dims that are not alive carry {carried:.2f} nats or more together: do not drop them"
            " all."
        )
    alive, along = (dims["status"] == "alive").sum(), totals.get("directions")
    if along is not None and (along < alive or (along > alive and together > 0.5)):
        rest.append(f" By second moments, {along:.0f} direction{'' if along == 1 else 's'}.")
    return (
        f"{len(dims):,} dim{'' if len(dims) == 1 else 's'}: {_counted(dims)}. "
        f"KL{places} {_of_all(totals, 'kl')} nats"
        f"{_wasted(totals)}. Information about the sample{places and ' per place'} {said}."
        f"{''.join(rest)}"
    )


def _of_all(totals: dict[str, float], name: str) -> str:
    return " ± ".join(_rounded(totals[f"{name}_{part}"]) for part in ("nats", "error"))


def _counted(dims: pd.DataFrame) -> str:
    counts = dims["status"].value_counts()
    return ", ".join(f"{counts[status]:,} {status}" for status in STATUSES if status in counts)


def rest(dims: pd.DataFrame) -> str:
    """The dims that `table` leaves out, in a line; nothing if there are none."""
    left = ranked(dims).iloc[SHOWN:]
    added, kl = (left[name].sum() for name in ("added_nats", "kl_nats"))
    sums = f"they add up to {added:.2f} nats, at a KL of {kl:.2f}"
    return f"and {len(left):,} more: {_counted(left)}; {sums}" if len(left) else ""


def ranked(dims: pd.DataFrame) -> pd.DataFrame:
    """The dims that add most first; those that differ by rounding alone as they were."""
    return dims.iloc[np.argsort(-dims["added_nats"].round(6), kind="stable")]


def table(dims: pd.DataFrame, sees: bool) -> pd.DataFrame:
    """The columns for people, of the dims that add most. Beside a prior that sees the sample an
    estimate of what is added is an upper bound; where samples are too few for it, there is another.
    """
    dims = ranked(dims).iloc[:SHOWN]
    columns: dict[str, Any] = {"status": dims["status"]}
    ceiling, bound = dims["at_ceiling"], dims["bound_nats"]
    least = dims["added_nats"].where(~ceiling | (dims["added_nats"] < bound), bound)
    dims = dims.assign(added_nats=least)  # which may be above it by chance
    if sees:
        columns["adds ≤"] = _estimated(dims, "added").where(~ceiling, bound.map(_rounded))
        columns["information"] = _estimated(dims, "information", dims["information_at_ceiling"])
    else:
        columns["adds"] = _estimated(dims, "added", ceiling)
        if ceiling.any():
            columns["at most"] = bound.map(_rounded)
    if "decoder" in dims:
        share, error = (dims[name].map(_rounded) for name in ("decoder", "decoder_error"))
        columns["decoder"] = share + " ± " + error
    for title, name in (
        ("KL", "kl_nats"), ("offset", "wasted_offset_nats"), ("width", "wasted_width_nats"),
        ("s/t", "ratio"), ("spread/t", "spread"),
    ):  # fmt: skip
        columns[title] = dims[name].map(_rounded)
    for title, name in (("s²", "posterior_variance"), ("t²", "prior_variance")):
        columns[title] = dims[name].map("{:.2g}".format)
    return pd.DataFrame(columns, index=dims.index).rename_axis("dim")


def _wasted(totals: dict[str, float]) -> str:
    """What of the KL provably buys nothing."""
    nats = {name: totals.get(f"wasted_{name}_nats", 0.0) for name in ("offset", "width")}
    parts = {"on offsets": nats["offset"], "on widths": nats["width"]}
    parts["or more on other misfits"] = totals["wasted_nats"] - sum(nats.values())
    named = [f"{value:.2f} {title}" for title, value in parts.items() if value >= ALIVE_NATS]
    return f", of it wasted: {', '.join(named)}" if named else ""


def _estimated(dims: pd.DataFrame, name: str, ceiling: pd.Series | None = None) -> pd.Series:
    values, errors = (dims[f"{name}_{part}"].map(_rounded) for part in ("nats", "error"))
    known = values + " ± " + errors
    return known if ceiling is None else known.where(~ceiling, "≥ " + values)


def _rounded(value: float) -> str:
    """To two places; a dash for NaN, and no minus before a zero."""
    return "–" if math.isnan(value) else f"{round(value, 2) + 0:.2f}"
