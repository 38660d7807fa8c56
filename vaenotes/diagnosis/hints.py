"""What looks like a mistake in what a report was given, a line each."""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import pandas as pd
import torch

from vaenotes.diagnosis.added import Compared, within
from vaenotes.diagnosis.inputs import Batch
from vaenotes.diagnosis.moments import LARGEST_JOINT, Moments
from vaenotes.diagnosis.status import ALIVE_NATS, DEVIATIONS
from vaenotes.kl import marginal

FEW, FEW_OF_A_DIM = 50, 100
"""Samples below which intervals hold the truth less often than they should; a dim's own vary."""
NAMED = 5  # dims
STEPS = {"bfloat16": 2.0**-8, "float16": 2.0**-11}
"""Of numbers in [0.5, 1)."""


class Noticed(NamedTuple):
    """Of the arguments of all batches: whether no prior was given, the least posterior_logvar, and
    where posterior means of few digits are coarser than their std, their kind and size."""

    assumed: bool = False
    least: float = math.inf
    coarse: tuple[str, float] | None = None

    @staticmethod
    def of(batch: Batch, mean: Any, assumed: bool) -> "Noticed":
        """mean: as it was given."""
        q, kind = batch.posterior, str(getattr(mean, "dtype", "")).removeprefix("torch.")
        least = float(q.spread.min()) if q.kind == "logvar" else math.inf
        if kind not in STEPS:
            return Noticed(assumed, least)
        own = marginal(q.rows(slice(None)))
        steps = STEPS[kind] * torch.exp2(torch.frexp(own.mean).exponent.double())
        apart = (steps.log() - 0.5 * own.logvar).masked_fill(own.mean == 0, -torch.inf)[:, 0]
        if batch.weights is not None:
            apart = apart.masked_fill(batch.weights == 0, -torch.inf)
        dim = int((apart > 0).double().mean(0).argmax())
        if (apart[:, dim] > 0).double().mean() <= 0.01:  # a rare one does not matter
            return Noticed(assumed, least)
        size = float(own.mean[:, 0, dim].abs()[apart[:, dim] > 0].median())
        return Noticed(assumed, least, (kind, size))

    def __add__(self, other: "Noticed") -> "Noticed":  # type: ignore[override]
        least = min(self.least, other.least)
        return Noticed(self.assumed or other.assumed, least, self.coarse or other.coarse)


def hints(
    dims: pd.DataFrame, seen: Moments, compared: Compared, most: int, noticed: Noticed
) -> Iterator[str]:
    """dims: of the report; most: how many samples may be compared."""
    samples = round(float(seen.samples), 3)
    own = _own(compared)
    worth = round(1 / float(compared.of_code.square().sum()), 3)
    if samples < min(len(dims), most):
        yield "Fewer samples than dims: is the first axis that of samples?"
    if samples < FEW:
        yield f"Fewer than {FEW} samples: intervals may be too short."
    elif worth < FEW:
        yield f"Fewer than {FEW} samples are compared: intervals may be too short."
    elif own:
        yield (
            f"Of {own:,} dim{'' if own == 1 else 's'} fewer than {FEW_OF_A_DIM} samples count "
            "among those compared: give more, or raise compared=. Their intervals may be too short."
        )
    if seen.places is not None:
        yield (
            "Places are pooled: a pattern that is the same in every sample counts as "
            "information, and what places share counts at each."
        )
        yield from _at_places(dims)
    gap = dims["gap_nats"].sum()
    by_chance = 4 * len(dims) / samples
    if noticed.assumed and gap > ALIVE_NATS * len(dims) + by_chance:
        yield (
            f"No prior was given, and N(0, I) misfits these codes by {gap:.2f} nats: "
            "pass a learned one."
        )
    least = noticed.least
    if 0 <= least < math.inf and (dims["ratio"] > 1).all():
        what = "ever below 0: is it a ReLU's" if least == 0 else "near 0: is it a std"
        yield f"Every posterior is wider than its prior, and no posterior_logvar is {what}?"
    if noticed.coarse is not None:
        kind, size = noticed.coarse
        yield (
            f"posterior_mean is {kind}, whose steps near {size:.2g} are wider than the posterior's "
            "std: pass the numbers as your model computed them, in float32."
        )
    if len(dims) > LARGEST_JOINT:
        yield f"Directions and joint bound are left out beyond {LARGEST_JOINT:,} dims."


def _own(compared: Compared) -> int:
    """Of how many dims too few samples count."""
    if compared.weights.shape[1] == 1:
        return 0
    each = within(compared.weights.T, compared.sample)
    worth = each.sum(1).square() / each.square().sum(1).clamp_min(1e-300)
    return int((worth < FEW_OF_A_DIM).sum())


def _at_places(dims: pd.DataFrame) -> Iterator[str]:
    """Of dims that add little in the mean over places, and may add more at one."""
    mean = dims["added_nats"] + DEVIATIONS * dims["added_error"]
    unsure = dims["status"] == "unsure"  # if by its mean's interval alone, places are no news
    some = dims["place_nats"][unsure & (dims["place_nats"] > mean.clip(lower=ALIVE_NATS))]
    if len(some):
        named = "; ".join(some.index[:NAMED])
        more = f" and {len(some) - NAMED:,} more" if len(some) > NAMED else ""
        add = "s {} add" if len(some) > 1 else " {} adds"
        yield (
            f"In the mean over places dim{add.format(named + more)} little, and at one place maybe "
            f"{some.max():.2f} nats: the report without groups tells."
        )
