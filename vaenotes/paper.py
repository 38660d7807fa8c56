"""A run at the notes' own sizes, cut short: what was expected of it, and what it left.

`benchmarks/faithful.py` made it once and stored its trace in results/paper.json; paper.toml was
written before.
"""

import json
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from IPython.display import Markdown

from vaenotes.ledger import Findings, Prediction
from vaenotes.measures import median_of

FOLDER = Path(__file__).parent


def path() -> Path:
    """Where the run is kept."""
    return FOLDER / "results" / "paper.json"


def packed(runs: xr.Dataset) -> dict[str, Any]:
    """Runs, as JSON can hold them: all but what is recorded image by image, which is large."""
    large = [name for name, one in runs.variables.items() if {"followed", "image"} & {*one.dims}]
    small = runs.drop_vars(large)
    for name, values in small.data_vars.items():
        # by way of the shortest text that a float32 can be read from again
        small[name] = values.copy(data=values.values.astype(str).astype(float))
    return small.to_dict()


def unpacked(content: dict[str, Any]) -> xr.Dataset:
    """What `packed` was given, without what it left out."""
    found = xr.Dataset.from_dict(content)
    return found.assign({name: one.astype(np.float32) for name, one in found.data_vars.items()})


@cache
def stored() -> dict[str, Any]:
    """All that is kept: "runs", how they were made, by which commit, where, and what it took."""
    return dict(json.loads(path().read_text()))


@cache
def runs() -> xr.Dataset:
    """The replicas, over (replica, epoch, node, dim), as vaenotes.run returns them."""
    return unpacked(stored()["runs"])


def provenance() -> Markdown:
    """How the run was made, where, and by which commit: a line under a table."""
    kept = stored()
    return Markdown(
        f"*{kept['images']:,} images for each replica, products in {kept['config']['precision']}; "
        f"{kept['cpu_seconds'] / 60:.0f} minutes of CPU in all, within "
        f"{kept['clock_seconds'] / 60:.0f} by the clock, beside other work; at most "
        f"{kept['peak_gb']:.1f} GB of memory. Made on {kept['hardware']}; torch "
        f"{kept['versions']['torch']}; commit {kept['commit']}.*"
    )


@cache
def predictions() -> tuple[Prediction, ...]:
    """What was expected."""
    rows = tomllib.loads((FOLDER / "paper.toml").read_text())
    return tuple(Prediction("paper", finding, **facts) for finding, facts in rows.items())


def findings(found: xr.Dataset) -> Findings:
    """What came of each of these in some runs, the stored or others: "paper.measure"."""
    names = [prediction.finding for prediction in predictions()]
    return {name: median_of(name.removeprefix("paper."), found) for name in names}
