"""What the notes claim and what was predicted, judged by what was measured.

Files beside this one hold the statements: ledger.toml every claim of the notes with the rule that
turns findings into a verdict; predictions.toml every number that was expected, written before its
runs; generality.toml every verdict expected on other data or with another encoder. They are read
here, and judged by pure functions of the findings (see experiments.py).
"""

import tomllib
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from pandas.io.formats.style import Styler

from vaenotes.errors import ParameterError
from vaenotes.lab.measures import MEASURES, PAIRED, UNITS_OF_CODE, Measure
from vaenotes.lab.summary import Interval

VERDICTS = ("reproduced", "reproduced up to units", "refuted", "answered")
"""What a rule may say of a claim."""
OPEN = "open"
"""The verdict where no rule's conditions hold for sure."""
NOT_RUN = "not run"
"""Instead of a verdict, where a rule needs an arm that a run did not have."""
HERE = Path(__file__).parent

Findings = Mapping[str, Interval]


class Claim(NamedTuple):
    """One claim of the notes. `effect`: the finding that is shown beside its verdict. `rules`:
    for each verdict, the conditions that must all hold; verdicts are tried in this order. `first`:
    what the rule was at first, if it was changed."""

    id: str
    statement: str
    answer: str
    effect: str
    page: str
    anchor: str
    rules: dict[str, list[str]]
    first: str = ""


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
    that do not overlap, "notes.agree > per_node.agree".

    False where an interval straddles the bound or nothing was found (NaN). Raises ParameterError
    for a condition that is no such sentence or names no finding.
    """
    left, relation, right = condition.split() if condition.count(" ") == 2 else ("", "", "")
    if relation not in ("<", ">") or left not in findings or not _known(right, findings):
        raise ParameterError(
            "condition must be 'finding < number' or 'finding > number', or of two findings, "
            f"got {condition!r}"
        )
    interval = findings[left]
    if right in findings:
        low, high = findings[right].low, findings[right].high
    else:
        low = high = float(right)
    return interval.high < low if relation == "<" else interval.low > high


def _known(bound: str, findings: Findings) -> bool:
    return bound in findings or bound.lstrip("-").replace(".", "", 1).isdigit()


def verdict(claim: Claim, findings: Findings) -> str:
    """The first verdict all of whose conditions hold; "open" if there is none."""
    for name, conditions in claim.rules.items():
        if all(holds(condition, findings) for condition in conditions):
            return name
    return OPEN


def verdicts(runs: Mapping[str, Findings]) -> dict[str, dict[str, str]]:
    """Every claim's verdict (or NOT_RUN) in several runs: by claim, then by the run's title."""
    return {
        claim.id: {title: _verdict_if_run(claim, findings) for title, findings in runs.items()}
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


def is_right(prediction: Prediction, findings: Findings) -> bool:
    """Whether the measured value lies in the predicted range."""
    return prediction.low <= findings[prediction.finding].value <= prediction.high


@cache
def claims() -> tuple[Claim, ...]:
    """Every claim of the notes, in their order."""
    rows = tomllib.loads((HERE / "ledger.toml").read_text())["claim"]
    return tuple(
        Claim(
            rules={name: row.pop(name) for name in list(row) if name in VERDICTS},
            **row,
        )
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


def expected_table(chosen: Sequence[Expected], found: Mapping[str, Mapping[str, str]]) -> Styler:
    """Expected verdicts beside those of `verdicts`."""
    rows = [
        {
            "run": row.title,
            "claim, and why": _stack(row.claim, f"<i>{row.because}</i>"),
            "expected": row.verdict,
            "came out": found[row.claim][row.title],
        }
        for row in chosen
    ]
    return _table(pd.DataFrame(rows))


def rules_table() -> Styler:
    """Every claim's rule, as it is and as it was at first."""
    rows = [
        {
            "claim": claim.id,
            "verdict if all hold": "<br>".join(
                f"<b>{name}</b>: {'; '.join(_code(c) for c in conditions)}"
                for name, conditions in claim.rules.items()
            ),
            "at first": claim.first,
        }
        for claim in claims()
    ]
    return _table(pd.DataFrame(rows))


def _code(condition: str) -> str:
    return f"<code>{condition.replace('<', '&lt;')}</code>"


def measure_of(finding: str) -> Measure:
    """The measure behind a finding's name."""
    name = finding.rpartition(".")[2]
    return MEASURES[name] if name in MEASURES else PAIRED[name]


def text(interval: Interval | None) -> str:
    """An interval for reading: value, 95% interval, number of replicas."""
    if interval is None or interval.replicas == 0:
        return "–"
    value, low, high, replicas = interval
    return f"{value:.3g} ({low:.3g}\u00a0to\u00a0{high:.3g}), n\u00a0=\u00a0{replicas}"


def claims_table(here: Findings, other: Mapping[str, Findings], page: str | None = None) -> Styler:
    """The ledger: claim, verdict, effect, and the verdicts of `other` runs by column title. The
    rows that are told at length on `page`; or all of them, with links."""
    rows = []
    for claim in claims():
        if page not in (None, claim.page):
            continue
        link = claim.id if page else f'<a href="{claim.page}.html#{claim.anchor}">{claim.id}</a>'
        row = {
            "claim": link,
            "the notes, and what we find": _stack(claim.statement, claim.answer),
            "verdict": f"<b>{verdict(claim, here)}</b>",
            "effect, 95% interval": _effect(claim.effect, here),
        }
        row |= {title: _verdict_if_run(claim, findings) for title, findings in other.items()}
        rows.append(row)
    return _table(pd.DataFrame(rows))


def _effect(finding: str, findings: Findings) -> str:
    measure, interval = measure_of(finding), findings[finding]
    units = "; a matter of units" if measure.unit in UNITS_OF_CODE else ""
    return _stack(text(interval), f"{measure.meaning}{units}")


def _stack(*lines: str) -> str:
    """The first line, and the others below it in small print."""
    return "".join([lines[0], *(f"<br><small>{line}</small>" for line in lines[1:])])


def _verdict_if_run(claim: Claim, findings: Findings) -> str:
    try:
        return verdict(claim, findings)
    except ParameterError:  # the rule needs an arm that this run did not have
        return NOT_RUN


def predictions_table(experiment: str, here: Findings, other: Mapping[str, Findings]) -> Styler:
    """An experiment's predictions beside what came of them, here and in `other` runs."""
    rows = [row for row in predictions() if row.experiment == experiment]
    return table_of_predictions(rows, here, other)


def table_of_predictions(
    chosen: Sequence[Prediction], here: Findings, other: Mapping[str, Findings]
) -> Styler:
    """The same for some predictions."""
    rows = []
    for prediction in chosen:
        finding, interval = prediction.finding, here[prediction.finding]
        because = prediction.because + (" (seen in trials)" if prediction.seen else "")
        row: dict[str, Any] = {
            "number, and why": _stack(
                f"<code>{finding}</code>", measure_of(finding).meaning, f"<i>{because}</i>"
            ),
            "predicted": f"{prediction.low:g} to {prediction.high:g}",
            "measured, 95% interval": text(interval),
            "right?": "yes" if is_right(prediction, here) else "<b>no</b>",
        }
        row |= {title: text(findings.get(finding)) for title, findings in other.items()}
        rows.append(row)
    return _table(pd.DataFrame(rows))


def verdicts_table(runs: Mapping[str, Findings]) -> Styler:
    """Every claim's verdict in several runs, by column title, with the effect behind it."""
    found = verdicts(runs)
    rows = []
    for claim in claims():
        row = {"claim": _stack(claim.id, measure_of(claim.effect).meaning)}
        for title, findings in runs.items():
            row[title] = _stack(found[claim.id][title], _narrow(findings.get(claim.effect)))
        rows.append(row)
    return _table(pd.DataFrame(rows))


def numbers_table(names: Sequence[str], runs: Mapping[str, Findings]) -> Styler:
    """Some findings in several runs, by column title."""
    rows = [
        {"number": _stack(f"<code>{name}</code>", measure_of(name).meaning)}
        | {title: _narrow(findings.get(name)) for title, findings in runs.items()}
        for name in names
    ]
    return _table(pd.DataFrame(rows))


def _narrow(interval: Interval | None) -> str:
    """As `text`, but broken anywhere between words: many columns have to fit on paper."""
    return text(interval).replace("\u00a0", " ")


def findings_table(findings: Findings) -> Styler:
    """All that was found, with units and meanings."""
    rows = [
        {
            "number": _stack(f"<code>{name}</code>", measure_of(name).meaning),
            "median or share, 95% interval": text(interval),
            "unit": measure_of(name).unit,
            "matter of units?": "yes" if measure_of(name).unit in UNITS_OF_CODE else "no",
        }
        for name, interval in findings.items()
    ]
    return _table(pd.DataFrame(rows))


def numbers(findings: Findings) -> dict[str, float]:
    """Findings as single numbers for prose: name, and name with _low, _high and _n."""
    found: dict[str, float] = {}
    for name, interval in findings.items():
        found[name] = interval.value
        found[f"{name}_low"], found[f"{name}_high"] = interval.low, interval.high
        found[f"{name}_n"] = interval.replicas
    return found


def _table(frame: pd.DataFrame) -> Styler:
    # pandas' own class, so that a page's theme, light or dark, styles it like any other table
    return frame.style.hide(axis="index").set_table_attributes('class="dataframe"')
