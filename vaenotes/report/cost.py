"""What training costs: the tables that benchmarks/ stored, as the book shows them."""

import json
import operator
from pathlib import Path
from typing import Any

import pandas as pd
from IPython.display import Markdown

from vaenotes.errors import check_choice

FOLDER = Path(__file__).parent / "results"
NAMES = (
    "training", "cores", "book", "rebuild", "scaling", "kl", "rendering", "precision",
)  # fmt: skip


def path(name: str) -> Path:
    """Where the table of one benchmark is kept. Raises ParameterError for an unknown name."""
    check_choice("name", name, NAMES)
    return FOLDER / f"cost_{name}.json"


def stored(name: str) -> dict[str, Any]:
    """What a benchmark stored: its setting, commit, hardware, versions and rows."""
    return json.loads(path(name).read_text())


def value(name: str, what: str) -> float:
    """The median of the row whose name starts like this."""
    return next(row["median"] for row in stored(name)["rows"] if row["what"].startswith(what))


def provenance(name: str) -> Markdown:
    """What was measured, where, and by which commit: a line under a table."""
    kept = stored(name)
    return Markdown(
        f"*{kept['setting']} Measured on {kept['hardware']}; torch {kept['versions']['torch']}; "
        f"commit {kept['commit']}.*"
    )


def met(row: dict[str, Any]) -> str:
    """Whether a row's median meets its target: "yes", "no", or "" where there is none."""
    if not row["target"]:
        return ""
    sign, bound = row["target"].split()
    compare = {">=": operator.ge, "<=": operator.le}[sign]
    return "yes" if compare(row["median"], float(bound)) else "no"


def table(name: str) -> pd.DataFrame:
    """One benchmark's rows: median, range over rounds, target, and whether it is met."""
    rows = [
        {
            "": row["what"],
            "unit": row["unit"],
            "median": _figure(row["median"]),
            "range": f"{_figure(row['low'])} to {_figure(row['high'])}",
            "target": row["target"].replace(">=", "≥").replace("<=", "≤"),
            "met": met(row),
        }
        for row in stored(name)["rows"]
    ]
    return pd.DataFrame(rows).set_index("")


def _figure(number: float) -> str:
    return f"{number:,.0f}" if abs(number) >= 1000 else f"{number:.3g}"
