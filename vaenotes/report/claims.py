"""What the notes claim and what was predicted, judged by what was measured.

Files beside this one hold the statements: claims.toml every claim of the notes with the rule that
turns findings into a verdict; predictions.toml every number that was expected, written before its
runs, full_size.toml the same at the notes' own sizes; generality.toml every verdict expected on
other data. They are read here, and judged by pure functions of the findings (experiments.py).
"""

import tomllib
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple, Protocol

from vaenotes.lab.measures import MEASURES, PAIRED, Measure
from vaenotes.lab.nails import BEDS
from vaenotes.lab.summary import LEAST_REPLICAS, Interval

VERDICTS = ("reproduced", "reproduced up to units", "refuted", "answered")
"""What a rule may say of a claim."""
OPEN = "open"
"""The verdict where no rule's conditions hold for sure."""
NOT_RUN = "not run"
"""Instead of a verdict, where a rule needs an arm that a run did not have."""
RIGHT, WRONG, UNDECIDED = OUTCOMES = ("right", "wrong", "undecided")
"""What may become of a prediction."""
HERE = Path(__file__).parent

Findings = Mapping[str, Interval]


class Claim(NamedTuple):
    """One claim of the notes. `effect`: the finding that is shown beside its verdict. `rules`:
    for each verdict, the conditions that must all hold; verdicts are tried in this order.
    `end_state`: it is about where training ends, so that runs that are not at rest decide nothing.
    If the rules were changed: `first_rules`, as they were at first, and `first`, why that was."""

    id: str
    statement: str
    answer: str
    effect: str
    page: str
    rules: Mapping[str, Sequence[str]]
    end_state: bool = False
    first: str = ""
    first_rules: Mapping[str, Sequence[str]] = {}


class Prediction(NamedTuple):
    """A number expected between `low` and `high`; `seen`: trial runs had shown about this."""

    experiment: str
    finding: str
    low: float
    high: float
    seen: bool
    because: str


def holds(condition: str, findings: Findings) -> bool:
    """Whether the whole 95% interval meets a condition: "notes.agree > 0.5", or, with intervals
    that do not overlap, "notes.agree > per_node.agree"; or one of several, joined by " or ". False
    where an interval straddles the bound, has too few replicas to decide, or nothing was found.
    Raises KeyError for what is no finding."""
    return any([_beyond(part, findings) for part in condition.split(" or ")])


def _beyond(part: str, findings: Findings) -> bool:
    left, relation, right = part.split()
    one, other = findings[left], _bound(right, findings)
    beyond = one.high < other.low if relation == "<" else one.low > other.high
    return beyond and one.decides and other.decides


def _bound(right: str, findings: Findings) -> Interval:
    """The right side of a condition: a finding, or a number, which is certain."""
    if right[0].isalpha():
        return findings[right]
    return Interval(float(right), float(right), float(right), LEAST_REPLICAS)


def verdict(claim: Claim, findings: Findings) -> str:
    """The first verdict all of whose conditions hold; OPEN if there is none, or if it is about an
    end state and some arm that the rules ask of is not at rest. Raises KeyError where a rule asks
    for what is no finding."""
    found = _tried(claim.rules, findings)
    rest = [at_rest(findings[f"{arm}.at_rest"]) for arm in arms_of(claim) if claim.end_state]
    return found if all(rest) else OPEN


def at_rest(state: Interval) -> bool:
    """Whether an arm's equation of state (the measure at_rest) is compatible with 1: its median
    within a tenth of it, and its interval not beyond a twentieth."""
    return abs(state.value - 1) <= 0.1 and state.low <= 1.05 and state.high >= 0.95


def arms_of(claim: Claim) -> list[str]:
    """The arms that a claim's rules ask of, in their order."""
    conditions = [condition for rule in claim.rules.values() for condition in rule]
    asked = [word for condition in conditions for word in condition.split() if "." in word]
    named = [word.rpartition(".")[0] for word in asked if word[0].isalpha()]
    return list(dict.fromkeys(arm for names in named for arm in names.split("-")))


def first_verdict(claim: Claim, findings: Findings) -> str:
    """The same by the claim's rules as they were at first, of the intervals that there are now."""
    return _tried(claim.first_rules or claim.rules, findings)


def _tried(rules: Mapping[str, Sequence[str]], findings: Findings) -> str:
    for name, conditions in rules.items():
        if all(holds(condition, findings) for condition in conditions):
            return name
    return OPEN


def verdicts(runs: Mapping[str, Findings]) -> dict[str, dict[str, str]]:
    """Every claim's verdict in several runs, by claim, then by the run's title; NOT_RUN where a
    run lacks an arm that the rules need."""

    def known(claim: Claim, findings: Findings) -> str:
        try:
            return verdict(claim, findings)
        except KeyError:
            return NOT_RUN

    return {
        claim.id: {title: known(claim, findings) for title, findings in runs.items()}
        for claim in claims()
    }


def agreement(one: str, other: str) -> str:
    """How a verdict compares with another of the same claim: "same"; "contrary", if just one of
    them is "refuted"; "open" or "not run", if one of them is; "other", as `up to units` or not."""
    if one == other:
        return "same"
    for name in (NOT_RUN, OPEN):
        if name in (one, other):
            return name
    return "contrary" if "refuted" in (one, other) else "other"


class Range(Protocol):
    """What is expected, a Prediction or another: a number between two."""

    @property
    def low(self) -> float: ...

    @property
    def high(self) -> float: ...


def judged(expected: Range, interval: Interval) -> str:
    """RIGHT if the whole 95% interval lies within the expected range, WRONG if it lies outside;
    UNDECIDED if it does neither, or has too few replicas."""
    if interval.decides:
        if expected.low <= interval.low and interval.high <= expected.high:
            return RIGHT
        if interval.high < expected.low or interval.low > expected.high:
            return WRONG
    return UNDECIDED


def in_range(prediction: Prediction, interval: Interval) -> bool:
    """Whether the measured value lies in the predicted range: what counted as right when the
    predictions were written."""
    return prediction.low <= interval.value <= prediction.high


@cache
def claims() -> tuple[Claim, ...]:
    """Every claim of the notes, in their order."""
    rows = tomllib.loads((HERE / "claims.toml").read_text())["claim"]
    return tuple(
        Claim(rules={name: row.pop(name) for name in list(row) if name in VERDICTS}, **row)
        for row in rows
    )


@cache
def predictions(file: str = "predictions") -> tuple[Prediction, ...]:
    """Every prediction of a file beside this one, experiment by experiment."""
    tables = tomllib.loads((HERE / f"{file}.toml").read_text())
    return tuple(
        Prediction(experiment, finding, **facts)
        for experiment, table in tables.items()
        for finding, facts in table.items()
    )


def came_out(how: str, findings: Findings) -> list[Prediction]:
    """The predictions of predictions.toml that came out RIGHT, WRONG or UNDECIDED."""
    return [row for row in predictions() if judged(row, findings[row.finding]) == how]


class Expected(NamedTuple):
    """The verdict that was expected of a claim in a run, by the run's title."""

    title: str
    claim: str
    verdict: str
    because: str


@cache
def expected() -> tuple[Expected, ...]:
    """Every verdict expected on other data or with another encoder (generality.toml)."""
    tables = tomllib.loads((HERE / "generality.toml").read_text())
    return tuple(
        Expected(title, claim, *row)
        for title, table in tables.items()
        for claim, row in table.items()
    )


def put_to_the_test(found: Mapping[str, Mapping[str, str]]) -> list[Expected]:
    """The expected verdicts of claims that were run, by what `verdicts` gives."""
    return [row for row in expected() if found[row.claim].get(row.title, NOT_RUN) != NOT_RUN]


def otherwise(found: Mapping[str, Mapping[str, str]]) -> list[Expected]:
    """Those of them that came out otherwise."""
    return [row for row in put_to_the_test(found) if found[row.claim][row.title] != row.verdict]


def measure_of(finding: str) -> Measure:
    """The measure behind a finding's name."""
    return (MEASURES | PAIRED | BEDS)[finding.rpartition(".")[2]]
