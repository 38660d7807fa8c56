"""Tables of the book, one call each: claims, predictions, findings, outcomes, costs.

All are Stylers of pandas' own class, so that a page's theme, light or dark, styles them alike.
"""

import operator
import re
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from pandas.io.formats.style import Styler

from vaenotes.lab import summary
from vaenotes.lab.measures import UNITS_OF_CODE, median_of
from vaenotes.lab.summary import Interval, median_interval
from vaenotes.report import laws, results
from vaenotes.report.cells import code, narrow, reason, stacked, styled, text
from vaenotes.report.claims import (
    WRONG,
    Expected,
    Findings,
    Prediction,
    claims,
    first_verdict,
    in_range,
    judged,
    measure_of,
    predictions,
    verdict,
    verdicts,
)

RULES = "predictions.html#rule-"
"""Where the rule of a claim stands, by its id."""


def outcomes_table(runs: Mapping[str, xr.Dataset]) -> Styler:
    """What became of every replica of every arm, and which diverged where."""
    return styled(summary.outcomes_table(runs), index=True)


def totals_table(runs: Mapping[str, xr.Dataset]) -> Styler:
    """The same of many arms at once: the rows of those in which any diverged, and their sum."""
    return styled(summary.totals_table(runs), index=True)


def plain_table(frame: pd.DataFrame) -> Styler:
    """Any numbers, to three digits."""
    return styled(frame, index=True).format("{:.3g}", na_rep="never")


def fit_table(supervised: xr.Dataset, unsupervised: xr.Dataset) -> Styler:
    """How well they reconstruct, and how much of each factor the regressions explain."""
    final = supervised.isel(epoch=-1)
    fit = {f"R² of {node}, term on": final.r2.sel(node=node) for node in final.node.values}
    fit["reconstruction, term on (nats per image)"] = final.reconstruction_nats
    fit["reconstruction, term off"] = unsupervised.reconstruction_nats.isel(epoch=-1)
    rows = {name: text(median_interval(values)) for name, values in fit.items()}
    return styled(pd.Series(rows).to_frame("median, 95% interval"), index=True)


def ledger(here: Findings, other: Mapping[str, Findings]) -> Styler:
    """Every claim on a line: its page, what the notes say, the verdict with a link to its rule,
    the effect behind it, and the verdicts of `other` runs by column title."""
    elsewhere, rows = verdicts(other), []
    for claim in claims():
        kind = verdict(claim, here)
        row = {
            "": f'<a href="{claim.page}.html">{claim.id}</a>',
            "the notes": claim.statement,
            "small system": f'<a href="{RULES}{claim.id}">{_coloured(kind)}</a>',
            "effect": _value(here[claim.effect]),
        }
        rows.append(row | {title: _coloured(of) for title, of in elsewhere[claim.id].items()})
    table = styled(pd.DataFrame(rows))
    return table.set_table_attributes('class="dataframe ledger"')


def _coloured(kind: str) -> str:
    return f'<span class="verdict {kind.split()[-1]}">{kind.removeprefix("reproduced up ")}</span>'


def _value(interval: Interval) -> str:
    value, low, high, _ = interval
    return f"{brief(value)} ({brief(low)} to {brief(high)})"


def brief(number: float) -> str:
    """Two digits, or two decimals of what is smaller than a hundredth."""
    return f"{number:.2g}" if abs(number) >= 0.01 else f"{round(number, 2) + 0:.2f}"


def claims_table(here: Findings, other: Mapping[str, Findings], page: str) -> Styler:
    """The claims that are told at length on `page`: verdict with a link to its rule (and the
    verdict by the first rule, where it is another), effect, and the verdicts of `other` runs by
    column title."""
    elsewhere, rows = verdicts(other), []
    for claim in claims():
        if claim.page != page:
            continue
        now, then = verdict(claim, here), first_verdict(claim, here)
        rule = f'<a href="{RULES}{claim.id}">rule</a>'
        if now != then:
            rule += f"; at first: {then}"
        row = {
            "claim": claim.id,
            "the notes, and what we find": stacked(claim.statement, claim.answer),
            "verdict": stacked(f"<b>{now}</b>", rule),
            "effect, 95% interval": _effect(claim.effect, here),
        }
        rows.append(row | elsewhere[claim.id])
    return styled(pd.DataFrame(rows))


def _effect(finding: str, findings: Findings) -> str:
    measure, interval = measure_of(finding), findings[finding]
    units = "; a matter of units" if measure.unit in UNITS_OF_CODE else ""
    return stacked(text(interval), f"{measure.meaning}{units}")


def predictions_table(
    chosen: str | Sequence[Prediction], here: Findings, meanings: Mapping[str, str] = {}
) -> Styler:
    """Predictions, or all those of an experiment, beside what came of them. `meanings`: of numbers
    that are no measures, by name."""
    if isinstance(chosen, str):
        chosen = [row for row in predictions() if row.experiment == chosen]
    rows = []
    for prediction in chosen:
        finding = prediction.finding
        name = re.split(r"\.(?!\d)", finding)[-1]
        meaning = meanings[name] if name in meanings else measure_of(finding).meaning
        because = prediction.because + (" (seen in trials)" if prediction.seen else "")
        row = {
            "number, and why": stacked(code(finding), meaning, reason(because)),
            "predicted": f"{prediction.low:g} to {prediction.high:g}",
            "measured, 95% interval": text(here[finding]),
            "came out": _emphasised(judged(prediction, here[finding])),
            "median within?": "yes" if in_range(prediction, here[finding]) else "no",
        }
        rows.append(row)
    return styled(pd.DataFrame(rows))


def _emphasised(outcome: str) -> str:
    return f"<b>{outcome}</b>" if outcome == WRONG else outcome


def verdicts_table(runs: Mapping[str, Findings]) -> Styler:
    """Every claim's verdict in several runs, by column title, with the effect behind it."""
    found = verdicts(runs)
    rows = []
    for claim in claims():
        row = {"claim": stacked(claim.id, measure_of(claim.effect).meaning)}
        for title, findings in runs.items():
            row[title] = stacked(found[claim.id][title], narrow(findings.get(claim.effect)))
        rows.append(row)
    return styled(pd.DataFrame(rows))


def numbers_table(names: Sequence[str], runs: Mapping[str, Findings]) -> Styler:
    """Some findings in several runs, by column title."""
    rows = [
        {"number": stacked(code(name), measure_of(name).meaning)}
        | {title: narrow(findings.get(name)) for title, findings in runs.items()}
        for name in names
    ]
    return styled(pd.DataFrame(rows))


def findings_table(findings: Findings) -> Styler:
    """All that was found, with units and meanings."""
    rows = [
        {
            "number": stacked(code(name), measure_of(name).meaning),
            "median or share, 95% interval": text(interval),
            "unit": measure_of(name).unit,
            "matter of units?": "yes" if measure_of(name).unit in UNITS_OF_CODE else "no",
        }
        for name, interval in findings.items()
    ]
    return styled(pd.DataFrame(rows))


def expected_table(chosen: Sequence[Expected], found: Mapping[str, Mapping[str, str]]) -> Styler:
    """Expected verdicts beside those of `verdicts`."""
    rows = [
        {
            "run": escape(row.title),
            "claim, and why": stacked(escape(row.claim), reason(row.because)),
            "expected": escape(row.verdict),
            "came out": escape(found[row.claim][row.title]),
        }
        for row in chosen
    ]
    return styled(pd.DataFrame(rows))


def full_size_predictions_table() -> Styler:
    """Every prediction for the notes' own sizes beside what came of it."""
    rows = [
        {
            "number, and why": stacked(
                code(row.finding) + (" (seen)" if row.seen else ""), reason(row.because)
            ),
            "epoch": row.experiment.removeprefix("epoch_"),
            "predicted": f"{row.low:g} to {row.high:g}",
            "measured": narrow(results.finding(row)),
            "came out": results.outcome(row),
            "by the median alone": results.outcome_at_first(row),
        }
        for row in predictions("full_size")
    ]
    return styled(pd.DataFrame(rows))


def full_size_table() -> Styler:
    """What was run at the notes' own sizes, how far it got, and what became of the dims."""
    measures = {
        "dims in use per node": "dims_used",
        "KL, nats": "kl_total",
        "posterior std / prior std, dims in use": "ratio_used",
        "reconstruction, nats": "reconstruction",
    }
    rows = []
    for group in results.groups():
        runs = results.full_size(group)
        seeds, epochs = ", ".join(map(str, runs.seed.values)), runs.sizes["epoch"] - 1
        about = {"run": stacked(results.TITLES[group], f"seeds {seeds}; {epochs} epochs")}
        found = {title: narrow(median_of(name, runs)) for title, name in measures.items()}
        rows.append(about | found)
    return styled(pd.DataFrame(rows)).set_caption(results.provenance())


def laws_table(rows: Sequence[laws.Row]) -> Styler:
    """Points of laws beside what came of them; below the table, which runs stand behind it."""
    shown = [
        {
            "point, and why": stacked(
                code(point), reason(because + (" (seen before)" if seen else ""))
            ),
            "predicted": f"{row.predicted:.3g} ({low:.3g} to {high:.3g})",
            "measured, 95% interval": text(row.measured),
            "1 at rest": "" if np.isnan(row.rest) else f"{row.rest:.2f}",
            "came out": _emphasised(row.verdict),
        }
        for row in rows
        for _, point, low, high, seen, because in [row.prediction]
    ]
    return styled(pd.DataFrame(shown)).set_caption(laws.provenance())


def cost_table(name: str) -> Styler:
    """One benchmark's rows, median and range over rounds, and whether a target is met; below it
    what was measured, where, and by which commit."""
    kept = results.cost(name)
    rows = [
        {
            "": row["what"],
            "unit": row["unit"],
            "median": _figure(row["median"]),
            "range": f"{_figure(row['low'])} to {_figure(row['high'])}",
            "target": row["target"].replace(">=", "≥").replace("<=", "≤"),
            "met": _met(row),
        }
        for row in kept["rows"]
    ]
    caption = (
        f"{kept['setting']} Measured on {kept['hardware']}; torch {kept['versions']['torch']}; "
        f"commit {kept['commit']}."
    )
    return styled(pd.DataFrame(rows)).set_caption(caption)


def _met(row: Mapping[str, Any]) -> str:
    """Whether a row's median meets its target: "yes", "no", or "" where there is none."""
    if not row["target"]:
        return ""
    sign, bound = row["target"].split()
    compare = {">=": operator.ge, "<=": operator.le}[sign]
    return "yes" if compare(row["median"], float(bound)) else "no"


def _figure(number: float) -> str:
    return f"{number:,.0f}" if abs(number) >= 1000 else f"{number:.3g}"
