"""Laws, predicted before they were measured: laws.toml has what was expected, results/laws.npz what
came of it (`benchmarks/laws.py` made it once, from seeds that no page trains).

A point is judged by its whole 95% interval: right, wrong, or undecided. Medians have intervals of
order statistics, shares exact binomial ones.
"""

import json
import tomllib
from collections import Counter
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vaenotes.diagnosis.status import ALIVE_NATS
from vaenotes.lab.summary import Interval, binomial_interval, median_interval, spread
from vaenotes.report.claims import NOT_RUN, OUTCOMES, RIGHT, Prediction, judged
from vaenotes.report.page import told as in_words

NODES = 5  # of sprites

SIZES = ("16", "32", "64")
NOTES_PRICE = 0.15 / (0.8 * 64**2)
PRICE = {"dear": 0.15 / 0.8, "cheap": 0.15 / 16 / 0.8, "switched": 0.15 / 0.8}
"""Of a nat of KL in nats of reconstruction, w_KL / w_rec, at 16 x 16."""
Arrays = dict[str, np.ndarray]


class Row(NamedTuple):
    """One point: what was predicted, and what was measured. rest: median of L1 over its replicas
    (NaN where it is not asked for)."""

    prediction: Prediction
    predicted: float
    measured: Interval
    rest: float = np.nan

    @property
    def point(self) -> str:
        return self.prediction.finding

    @property
    def verdict(self) -> str:
        """One of claims.OUTCOMES, or NOT_RUN."""
        return judged(self.prediction, self.measured) if self.measured.replicas else NOT_RUN


def row(law: str, point: str, predicted: float, measured: Interval, **facts: Any) -> Row:
    """A row of a table of laws.toml."""
    return Row(Prediction(law, point, **facts), predicted, measured)


@cache
def _kept() -> tuple[dict[str, Any], Arrays]:
    with np.load(Path(__file__).parent / "results" / "laws.npz", allow_pickle=False) as kept:
        arrays = {name: kept[name] for name in kept.files}
    return json.loads(str(arrays.pop("about"))), arrays


@cache
def expected() -> dict[str, Any]:
    return tomllib.loads((Path(__file__).parent / "laws.toml").read_text())


def provenance() -> str:
    """By which commit and with what the runs were made, and how many there are."""
    about, arrays = _kept()
    replicas = sum(len(values) for name, values in arrays.items() if name.endswith("/configs"))
    return f"{replicas} replicas; commit {about['commit']}, torch {about['torch']}."


def job(name: str) -> Arrays:
    """What one job of the script left, by name; empty if it was not run."""
    arrays = _kept()[1]
    return {n.removeprefix(f"{name}/"): v for n, v in arrays.items() if n.startswith(f"{name}/")}


def dims_used(information: np.ndarray) -> np.ndarray:
    """(..., node, dim), nats -> dims in use per node (...,)."""
    return (information > ALIVE_NATS).sum((-2, -1)) / NODES


# L2: price per pixel


def line(name: str, times: float) -> tuple[np.ndarray, np.ndarray]:
    """Of a line of the figure at so many times the notes' price: of every replica the dims in use
    per node and L1, (replica,) each, empty where none was run."""
    size = int(name) if name in SIZES else 16
    weight = 0.15 * times * size**2 / 64**2
    used, rest = [np.empty(0)], [np.empty(0)]
    for part in (name, *(f"{name}_{i}" for i in range(6))):
        if found := job(part):
            costs = np.array([json.loads(str(one))["kl_weight"] for one in found["configs"]])
            own = np.isclose(costs, weight)
            used.append(dims_used(found["information_nats"][own]))
            rest.append(found["rest"][own])
    return np.concatenate(used), np.concatenate(rest)


def price() -> list[Row]:
    """L2, a row per line and price."""
    law, rows = expected()["price"], []
    curve = dict(zip(law["times"], law["dims_per_node"], strict=True))
    for name, about in law["lines"].items():
        for times in law["times"]:
            used, rest = line(name, times)
            middle = curve[times] + about["shift"]
            low, high = (round(middle + sign * law["within"], 9) for sign in (-1, 1))
            facts = about["seen"], about["because"]
            prediction = Prediction("price", f"{name} | {times}", low, high, *facts)
            l1 = float(np.median(rest)) if len(rest) else np.nan
            rows.append(Row(prediction, middle, median_interval(used), l1))
    return rows


def at_rest(row: Row) -> bool:
    return abs(row.rest - 1) <= expected()["price"]["at_rest"]


def collapse() -> str:
    """Whether the lines of all sizes are one function of price: "holds", "fails" or "open", by the
    rule that was written before: they fail where two of them are further apart than they may be,
    for sure."""
    law, points = expected()["price"], {row.point: row for row in price()}
    every = [[points[f"{name} | {times}"] for name in SIZES] for times in law["times"]]
    for one, other in (pair for rows in every for pair in combinations(rows, 2)):
        a, b = one.measured, other.measured
        if max(a.low - b.high, b.low - a.high) > law["apart"] and a.decides and b.decides:
            return "fails"
    right = all(row.verdict == RIGHT for rows in every for row in rows)
    return "holds" if right else "open"


# Hysteresis

PARTS = {
    "dear.scratch": ("scratch_dear", slice(0, 6)),
    "dear.long": ("scratch_long", slice(0, 6)),
    "dear.both": ("dear", slice(0, 6)),
    "dear.deleted": ("dear", slice(6, 12)),
    "dear.embedded": ("dear", slice(12, 18)),
    "dear.single": ("single", slice(0, 6)),
    "cheap.scratch": ("scratch_cheap", slice(0, 6)),
    "cheap.both": ("cheap", slice(0, 6)),
    "cheap.one": ("cheap", slice(6, 12)),
}
"""Which replicas of which job an arm of the hysteresis has."""


def path(arm: str) -> Arrays:
    """Everything of an arm over (replica, measured epoch, ...); empty if it was not run."""
    name, own = PARTS[arm]
    return {key: value[own] for key, value in job(name).items()}


def shown_epochs(arm: str) -> tuple[int, ...]:
    """After which epochs it was measured."""
    return (0, 30, 60, 100, 200, 300) if arm == "dear.long" else (0, 5, 10, 20, 30, 60)


def ended(arm: str, quantity: str) -> np.ndarray:
    """A quantity of an arm at the end, (replica, ...); of no replica, if it was not run."""
    found = path(arm)
    return found[quantity][:, -1] if found else np.empty((0, NODES, 2))


def difference(name: str) -> Interval:
    """Loss of "price.arm-other", seed by seed, at the end: nats."""
    which, _, pair = name.partition(".")
    one, other = (ended(f"{which}.{arm}", "loss") for arm in pair.split("-"))
    return median_interval(one - other if len(one) == len(other) else np.empty(0))


def hysteresis() -> list[Row]:
    rows = []
    for point, about in expected()["hysteresis"].items():
        arm, _, what = point.rpartition(".")
        if what == "loss":
            measured = difference(arm)
        else:
            measured = median_interval(dims_used(ended(arm, "information_nats")))
        rows.append(row("hysteresis", point, measured=measured, **about))
    return rows


# Selection


class Deleted(NamedTuple):
    """Of every dim that was in use and was deleted, (dim,) each: its seed's place and its own
    among ten; the reconstruction that its deletion loses after retraining and that a knock-out of
    the control loses, its price, all in nats of reconstruction; the loss with it deleted less the
    loss with it kept; whether it is in use at the end."""

    seed: np.ndarray
    place: np.ndarray
    lost: np.ndarray
    knockout: np.ndarray
    price: np.ndarray
    loss: np.ndarray
    kept: np.ndarray


def selection_of(kind: str) -> Deleted | None:
    """ "dear", "cheap" or "switched"; None if it was not run. Dims that the control has given up
    are left out: there is nothing to delete."""
    found, fates = job(f"selection_{kind}"), path("dear.both")
    if not found or not fates:
        return None
    seed, place = found["rows"].T
    control = {int(s): row for row, (s, p) in enumerate(found["rows"]) if p < 0}
    base = np.array([control[int(s)] for s in seed])  # (row,), each row's control

    def of_dim(name: str) -> np.ndarray:  # of the control, the row's own dim
        return found[name][base].reshape(len(base), -1)[np.arange(len(base)), place]

    price = PRICE[kind] * (of_dim("kl_nats") + (1 - of_dim("squared_ratio")) / 2)
    used = of_dim("information_nats") > ALIVE_NATS
    kept = used
    if kind == "switched":
        kept = fates["information_nats"][:, -1].reshape(6, -1)[seed, place] > ALIVE_NATS
    chosen = (place >= 0) & used
    columns = (
        seed,
        place,
        found["reconstruction_nats"] - found["reconstruction_nats"][base],
        of_dim("knockout_nats"),
        price,
        found["loss"] - found["loss"][base],
        kept,
    )
    return Deleted(*(column[chosen] for column in columns))


def selection() -> list[Row]:
    rows = []
    for point, about in expected()["selection"].items():
        kind, _, what = point.partition(".")
        dims, shares = selection_of(kind), []
        if dims is not None:
            rule = {
                "worth": dims.lost > dims.price,
                "plain": dims.knockout > dims.price,
                "loss": dims.loss > 0,
            }[what.removesuffix("_right")]
            right = rule == dims.kept if what.endswith("_right") else rule
            shares = [right[dims.seed == seed].mean() for seed in np.unique(dims.seed)]
        rows.append(row("selection", point, measured=median_interval(np.array(shares)), **about))
    return rows


def cost_of_deletion(kind: str) -> dict[str, float]:
    """Looked at after the runs: by how much the loss rises where a dim is deleted, medians in nats
    over the dims that are alone in use in their node, and over those that are not; of all judged,
    how many are kept."""
    dims = selection_of(kind)
    if dims is None:
        return {}
    node = dims.seed * NODES + dims.place // 2
    paired = (node[:, None] == node).sum(1) > 1
    medians = [
        float(np.median(dims.loss[own])) if own.any() else np.nan for own in (~paired, paired)
    ]
    found = {"alone": medians[0], "paired": medians[1], "judged": len(node)}
    return found | {"kept": int(dims.kept.sum()), "paired_n": int(paired.sum())}


# Which coin?


def alike(information: np.ndarray) -> np.ndarray:
    """(replica, node, dim) -> whether the dim that holds more is the same in all nodes."""
    first = information.argmax(-1)
    return (first == first[:, :1]).all(-1)


def coin() -> list[Row]:
    crossed, graphs, rows = job("coin"), job("graphs"), []
    for point, about in expected()["coin"].items():
        measured = Interval(np.nan, np.nan, np.nan, 0)
        if point.startswith("same") and crossed:
            choice = crossed["information_nats"].sum(-2).argmax(-1).reshape(16, -1)
            if point == "same_noise":
                choice = choice.T
            agree = choice[:, ::2] == choice[:, 1::2]  # disjoint pairs of a row
            measured = binomial_interval(int(agree.sum()), agree.size)
        elif graphs and not point.startswith("same"):
            own = alike(graphs["information_nats"][graphs["rows"][:, 0] == int(point)])
            measured = binomial_interval(int(own.sum()), len(own))
        rows.append(row("coin", point, measured=measured, **about))
    return rows


def both() -> dict[str, Row]:
    """Of solutions that use both dims, trained on at the dear price: dims in use per node, and by
    how much their loss differs from that of twins whose weaker dims were deleted."""
    found = {row.point: row for row in hysteresis()}
    return {"dims": found["dear.both.dims"], "loss": found["dear.both-deleted.loss"]}


def every() -> list[Row]:
    return price() + hysteresis() + selection() + coin()


def counts() -> Counter[str]:
    """How many points came out right, wrong and undecided."""
    return Counter(one.verdict for one in every())


def told() -> dict[str, Any]:
    """What the prose quotes, as law.NAME: of every point its median or share as law.LAW.POINT,
    as summary.spread has it, and shares of replicas in words as law.coin.POINT_told; counts of
    verdicts; whether sizes collapse; both_one, by how much the two starts at the cheap price end
    apart in loss; and `cost_of_deletion` by kind."""
    points = {
        f"{one.prediction.experiment}.{one.point.replace(' | ', '.').replace(' ', '_')}": one
        for one in every()
    }
    intervals = {name: one.measured for name, one in points.items()}
    intervals["both_one"] = difference("cheap.both-one")  # predicted of neither by itself
    found: dict[str, Any] = {"collapse": collapse(), **spread(intervals)}
    prices = Counter(one.verdict for name, one in points.items() if name.startswith("price."))
    for prefix, verdicts in (("", counts()), ("price_", prices)):
        found |= {f"{prefix}{kind}": verdicts[kind] for kind in OUTCOMES}
    for name in (name for name in points if name.startswith("coin.")):
        found[f"{name}_told"] = in_words(points[name].measured)
    for kind in PRICE:
        found |= {f"{kind}.{name}": value for name, value in cost_of_deletion(kind).items()}
    return {f"law.{name}": value for name, value in found.items()}
