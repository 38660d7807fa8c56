"""The whole default book, by the clock, on a machine with nothing else to do.

python benchmarks/book.py cold     # from an empty store
python benchmarks/book.py again    # with nothing changed; one chapter alone: runs from your store
"""

import os
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil
from measuring import Row, report

from vaenotes.lab.store import default_folder

ROOT = Path(__file__).parents[1]
PROGRAMS = Path(sys.executable).parent


def run(command: list[str], store: Path) -> tuple[float, float]:
    """Seconds of the clock, and the most memory of the command and all that it started, GB."""
    environment = os.environ | {"VAENOTES_STORE": str(store)}
    start, most = time.perf_counter(), 0
    process = psutil.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)
    while process.poll() is None:
        memory = 0
        for one in [process, *process.children(recursive=True)]:
            with suppress(psutil.NoSuchProcess):  # it ended meanwhile
                memory += one.memory_info().rss
        most = max(most, memory)
        time.sleep(0.5)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    return time.perf_counter() - start, most / 2**30


def build(folder: Path) -> list[str]:
    return [str(PROGRAMS / "jupyter-book"), "build", "book", "--path-output", str(folder / "pages")]


def cold() -> None:
    with tempfile.TemporaryDirectory() as name:
        store = Path(name) / "store"
        seconds, memory = run(build(Path(name)), store)
        replicas = len(list(store.glob("*.npz")))
    rows = [
        Row.of("from an empty store", "minutes", seconds / 60, "<= 15"),
        Row.of("most memory of all its processes", "GB", memory, "<= 4"),
        Row.of("replicas trained", "1", replicas, ">= 300"),
    ]
    report("book", "The default book, built once.", rows)


def again() -> None:
    store = default_folder()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run(build(folder), store)
        warm = [run(build(folder), store)[0] for _ in range(3)]
        papermill = [str(PROGRAMS / "papermill"), "book/prior_variance.md", f"{name}/out.ipynb"]
        chapter = [run(papermill, store)[0] for _ in range(3)]
    rows = [
        Row.of("the book with nothing changed", "s", np.array(warm), "<= 20"),
        Row.of("a chapter by papermill, its runs stored", "s", np.array(chapter), "<= 10"),
    ]
    report("rebuild", "The default book and one chapter, three times each.", rows)


if __name__ == "__main__":
    {"cold": cold, "again": again}[sys.argv[1]]()
