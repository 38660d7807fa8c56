"""What the benchmarks share: take turns, keep every round, print one table, store it for the book.

Work that is compared takes turns within one process, on one thread, and is timed in CPU seconds:
other programs and the processor's own moods then disturb all of it alike. A ratio is taken within
each round. The range shown beside a median is over rounds.
"""

import json
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "book" / "_ext"))

import numpy as np
import torch
from tqdm import tqdm

from vaenotes.report import results, tables
from vaenotes_book.facts import commit, hardware, installed_versions

torch.set_num_threads(1)


@dataclass
class Row:
    """One line of a table: a median over rounds with their range, and what was aimed at."""

    what: str
    unit: str
    median: float
    low: float
    high: float
    target: str = ""  # ">= 0.7", or "" where there is none

    @classmethod
    def of(cls, what: str, unit: str, rounds: np.ndarray | float, target: str = "") -> "Row":
        values = np.atleast_1d(rounds)
        return cls(what, unit, *map(float, (np.median(values), values.min(), values.max())), target)


def cpu_seconds(work: Callable[[], object]) -> float:
    """CPU seconds that this process spends on the work."""
    start = time.process_time()
    work()
    return time.process_time() - start


def in_turns(work: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, np.ndarray]:
    """Every piece of work once a round, in turn; what each returned, (round,)."""
    found: dict[str, list[float]] = {name: [] for name in work}
    for _ in tqdm(range(rounds), desc="rounds"):
        for name, piece in work.items():
            found[name].append(piece())
    return {name: np.array(values) for name, values in found.items()}


def report(name: str, setting: str, rows: list[Row]) -> None:
    """Print the table, and store it with the commit, the machine and the versions behind it."""
    kept = {
        "setting": setting,
        "commit": commit(),
        "hardware": hardware(),
        "versions": installed_versions(),
        "rows": [asdict(row) for row in rows],
    }
    path = results.FOLDER / f"cost_{name}.json"
    path.write_text(json.dumps(kept, indent=1) + "\n")
    print(setting, tables.cost_table(name).data.to_string(), sep="\n")
    print(f"stored in {path.name}")
