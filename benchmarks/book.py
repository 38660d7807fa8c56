"""The whole default book from nothing, then with nothing changed, then one chapter alone.

    python benchmarks/book.py

Needs the README's environment, a quarter of an hour or more, and a machine with nothing else to do.
"""

import os
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import psutil
from measuring import Row, report

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


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        store, pages = Path(folder) / "store", Path(folder) / "pages"
        book = [str(PROGRAMS / "jupyter-book"), "build", "book", "--path-output", str(pages)]
        cold, memory = run(book, store)
        replicas = len(list(store.glob("*.npz")))
        warm, _ = run(book, store)
        output = str(Path(folder) / "out.ipynb")
        chapter, _ = run([str(PROGRAMS / "papermill"), "book/prior_variance.md", output], store)
    report(
        "book",
        "The default book on this machine, by the clock.",
        [
            Row.of("from an empty store", "minutes", cold / 60, "<= 15"),
            Row.of("most memory of all its processes", "GB", memory, "<= 4"),
            Row.of("replicas trained", "1", replicas, ">= 300"),
            Row.of("again, with nothing changed", "s", warm, "<= 20"),
            Row.of("one chapter by papermill, runs stored", "s", chapter, "<= 10"),
        ],
    )


if __name__ == "__main__":
    main()
