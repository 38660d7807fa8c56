"""The rules behind the ledger's verdicts in plain words, each beside what was measured."""

from collections.abc import Mapping, Sequence
from html import escape

import pandas as pd
from pandas.io.formats.style import Styler

from vaenotes.lab.measures import SHARE
from vaenotes.report.arms import ARMS
from vaenotes.report.cells import stacked, styled, text
from vaenotes.report.claims import (
    Claim,
    Findings,
    arms_of,
    at_rest,
    claims,
    first_verdict,
    holds,
    measure_of,
    verdict,
)

WORDS = {"<": "below", ">": "above"}


def rules_table(findings: Findings) -> Styler:
    """Every claim's rule, what was measured of each condition, and the verdict; and the same of the
    rule as it was first written, if it was changed."""
    rows = []
    for claim in claims():
        then = first_verdict(claim, findings)
        first = [f"<b>{then}</b>", escape(claim.first), *_lines(claim.first_rules, findings)]
        row = {
            "claim": stacked(f'<b id="rule-{claim.id}">{claim.id}</b>', claim.statement),
            "the rule, and what was measured": stacked(
                *_lines(claim.rules, findings), *_rest(claim, findings)
            ),
            "verdict": f"<b>{verdict(claim, findings)}</b>",
            "by the rule as first written": stacked(*first) if claim.first_rules else "the same",
        }
        rows.append(row)
    return styled(pd.DataFrame(rows))


def _lines(rules: Mapping[str, Sequence[str]], findings: Findings) -> list[str]:
    """A line for each verdict, and one for each of its conditions, marked if it holds. What was
    measured is told where it is first asked for."""
    lines = []
    told: set[str] = set()
    for name, conditions in rules.items():
        lines.append(f"<b>{name}</b>, if")
        for condition in conditions:
            mark = "✓" if holds(condition, findings) else "✗"
            parts = []
            for part in condition.split(" or "):
                parts.append(in_words(part, {} if part.split()[0] in told else findings))
                told.add(part.split()[0])
            lines.append(f"{mark} {', or '.join(parts)}")
    return lines


def _rest(claim: Claim, findings: Findings) -> list[str]:
    """Of a claim about an end state, which of its arms are at rest."""
    if not claim.end_state:
        return []
    states = {arm: findings[f"{arm}.at_rest"] for arm in arms_of(claim)}
    lines = [
        f"{'✓' if at_rest(state) else '✗'} {escape(ARMS[arm].title)}: <b>{text(state)}</b>"
        for arm, state in states.items()
    ]
    return ["<b>and at rest</b>, by the equation of state: 1 within a tenth", *lines]


def in_words(condition: str, findings: Findings) -> str:
    """One condition: what is measured, of which arm, its bound, and what came out, if given."""
    left, relation, right = condition.split()
    bound = right
    if right[0].isalpha():
        same = left.rpartition(".")[2] == right.rpartition(".")[2]
        bound = f"that of {_arm(right)}" if same else _meaning(right)
        bound += f" ({text(findings[right])})" if right in findings else ""
    told = f": <b>{text(findings[left])}</b>" if left in findings else ""
    return f"{_meaning(left)}, {WORDS[relation]} {bound}{told}"


def _meaning(finding: str) -> str:
    measure = measure_of(finding)
    meaning = f"share of replicas: {measure.meaning}" if measure.unit == SHARE else measure.meaning
    arm = "" if finding.startswith("notes.") else f" [{_arm(finding)}]"
    return escape(meaning) + arm


def _arm(finding: str) -> str:
    """The title of a finding's arm, or of two that are compared."""
    return escape(" against ".join(ARMS[n].title for n in finding.rpartition(".")[0].split("-")))
