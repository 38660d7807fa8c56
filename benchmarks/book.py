"""The whole default book, by the clock, on a machine with nothing else to do.

python benchmarks/book.py cold     # from an empty store
python benchmarks/book.py again    # nothing changed, a word, a chapter: runs from your store
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


def timed(command: list[str], store: Path) -> float:
    """Seconds of the clock."""
    environment, start = os.environ | {"VAENOTES_STORE": str(store)}, time.perf_counter()
    subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - start


def watched(command: list[str], store: Path) -> tuple[float, float]:
    """The same, and the most memory of the command and all that it started, GB."""
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
        seconds, memory = watched(build(Path(name)), store)
        replicas = len(list(store.glob("*.npz")))
    rows = [
        Row.of("from an empty store", "minutes", seconds / 60, "<= 10"),
        Row.of("most memory of all its processes", "GB", memory, "<= 4"),
        Row.of("replicas trained", "1", replicas, ">= 500"),
    ]
    report("book", "The default book, built once.", rows)


def again() -> None:
    store, page = default_folder(), ROOT / "book" / "means.md"
    with tempfile.TemporaryDirectory() as name:
        folder, text = Path(name), page.read_text()

        def seconds(command: list[str]) -> np.ndarray:
            return np.array([timed(command, store) for _ in range(3)])

        timed(build(folder), store)
        warm = seconds(build(folder))
        try:
            page.write_text(text + "\nOne more word.\n")
            word = seconds(build(folder))
        finally:
            page.write_text(text)
        chapter = seconds([str(PROGRAMS / "papermill"), str(page), f"{name}/out.ipynb"])
        imports = {
            title: seconds([sys.executable, "-c", f"import {what}"])
            for title, what in (("vaenotes", "vaenotes"), ("it and torch", "vaenotes.training"))
        }
    rows = [
        Row.of("the book with nothing changed", "s", warm, "<= 10"),
        Row.of("the book with one word changed", "s", word, "<= 15"),
        Row.of("a chapter by papermill, its runs stored", "s", chapter, "<= 6"),
        Row.of("importing vaenotes", "s", imports["vaenotes"], "<= 0.2"),
        Row.of("importing it and torch", "s", imports["it and torch"], "<= 2"),
    ]
    report("rebuild", "The default book, one chapter, two imports: three times each.", rows)


if __name__ == "__main__":
    {"cold": cold, "again": again}[sys.argv[1]]()
