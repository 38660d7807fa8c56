"""The rules behind the ledger's verdicts in plain words, each beside what was measured."""

from collections.abc import Mapping, Sequence
from html import escape

import pandas as pd
from pandas.io.formats.style import Styler

from vaenotes.report.arms import ARMS
from vaenotes.report.claims import Findings, claims, first_verdict, holds, measure_of, verdict
from vaenotes.report.tables import stacked, styled, text

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
            "the rule, and what was measured": stacked("", *_lines(claim.rules, findings)),
            "verdict": f"<b>{verdict(claim, findings)}</b>",
            "by the rule as first written": stacked(*first) if claim.first_rules else "the same",
        }
        rows.append(row)
    return styled(pd.DataFrame(rows))


def _lines(rules: Mapping[str, Sequence[str]], findings: Findings) -> list[str]:
    """A line for each verdict, and one for each of its conditions, marked if it holds."""
    lines = []
    for name, conditions in rules.items():
        lines.append(f"<b>{name}</b>, if")
        for condition in conditions:
            mark = "✓" if holds(condition, findings) else "✗"
            parts = [in_words(part, findings) for part in condition.split(" or ")]
            lines.append(f"{mark} {', or '.join(parts)}")
    return lines


def in_words(condition: str, findings: Findings) -> str:
    """One condition: what is measured, of which arm, its bound, and what came out."""
    left, relation, right = condition.split()
    bound = right
    if right[0].isalpha():
        bound = f"that of {_arm(right)}" if _same(left, right) else _meaning(right)
        bound += f" ({text(findings[right])})"
    return f"{_meaning(left)}, {WORDS[relation]} {bound}: {text(findings[left])}"


def _same(left: str, right: str) -> bool:
    return left.rpartition(".")[2] == right.rpartition(".")[2]


def _meaning(finding: str) -> str:
    arm = finding.rpartition(".")[0]
    meaning = escape(measure_of(finding).meaning)
    return meaning if arm == "notes" else f"{meaning} [{_arm(finding)}]"


def _arm(finding: str) -> str:
    """The title of a finding's arm, or of two that are compared."""
    return escape(" against ".join(ARMS[n].title for n in finding.rpartition(".")[0].split("-")))
