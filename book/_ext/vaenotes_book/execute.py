"""Notebooks are executed side by side, in kernels that none outlives."""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import suppress
from pathlib import Path
from subprocess import DEVNULL, PIPE, Popen
from time import monotonic, sleep
from typing import TextIO

from loky import cpu_count
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell
from sphinx.util.console import strip_escape_sequences

from vaenotes_book.facts import RAN, ran_another

WARNING = re.compile(r"^.+:\d+: (\w*Warning: .+)$", re.MULTILINE)
MOST = 20_000_000  # characters of all that a page shows, its figures too
Pages = dict[str, tuple[NotebookNode, Path]]
"""Notebooks by name, each with the file that it was read from."""


class PageError(Exception):
    """Why a page could not be executed, and in which cell."""


WATCH = """
import os, signal, sys
kernels = set()
for line in sys.stdin:
    group = int(line)
    kernels.add(group) if group > 0 else kernels.discard(-group)
for group in kernels:
    os.killpg(group, signal.SIGKILL)
"""
"""A process that kills kernels when its pipe closes, as it does however a build ends."""


class Kernels(set[int]):
    """The groups of processes of kernels that run, told to who watches over them."""

    def __init__(self, pipe: TextIO):
        super().__init__()
        self.pipe = pipe

    def add(self, group: int) -> None:
        super().add(group)
        self.pipe.write(f"{group}\n")
        self.pipe.flush()

    def discard(self, group: int) -> None:
        super().discard(group)
        self.pipe.write(f"{-group}\n")
        self.pipe.flush()


def side_by_side(pages: Pages, timeout: int, keep: Callable[[str, Future[float]], None]) -> None:
    """Execute pages in place, in as many kernels as there are cores; `keep` is given each as it is
    done, with what `execute` returned or raised.

    jupyter-cache's own "local-parallel" reads the files anew, without their parameters; it tells
    nothing before all are done, nor in which cell a kernel died; and it leaves kernels behind.
    """
    watch = [sys.executable, "-ISc", WATCH]
    with Popen(
        watch, stdin=PIPE, stdout=DEVNULL, stderr=DEVNULL, start_new_session=True, text=True
    ) as watcher:
        kernels, pool = Kernels(watcher.stdin), ThreadPoolExecutor(cpu_count())
        jobs = {pool.submit(execute, *page, timeout, kernels): name for name, page in pages.items()}
        try:
            for job in as_completed(jobs):
                keep(jobs[job], job)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            while not all(job.done() for job in jobs):  # the build was stopped
                for kernel in list(kernels):
                    end(kernel)
                sleep(0.1)


def execute(notebook: NotebookNode, path: Path, timeout: int, kernels: Kernels) -> float:
    """Execute in place; seconds that it took. timeout: of one cell, in seconds, unless the page
    sets its own. kernels: the groups of processes of those that run. Raises PageError, also where
    the kernel did not run this library with these versions."""
    start, kernel, source = monotonic(), 0, ""

    def note_kernel(notebook: NotebookNode) -> None:
        nonlocal kernel
        kernel = client.km.provisioner.pgid
        kernels.add(kernel)

    def note_cell(cell: NotebookNode, cell_index: int) -> None:
        nonlocal source
        source = cell.source

    client = NotebookClient(
        notebook,
        timeout=notebook.metadata.get("mystnb", {}).get("execution_timeout", timeout),
        resources={"metadata": {"path": str(path.parent)}},
        record_timing=False,  # into the cells' metadata, which the cache's key has in it
        on_notebook_start=note_kernel,
        on_cell_execute=note_cell,
    )
    notebook.cells.append(ran := new_code_cell(RAN))
    try:
        client.execute()
    except CellExecutionError as error:  # has the cell and the traceback in it
        raise PageError(strip_escape_sequences(str(error))) from None
    except Exception as error:  # it timed out; its kernel died, out of memory; there is none
        why = f"{type(error).__name__}: {error}"
        raise PageError(f"{why}\n\nIn this cell:\n{source}") from None
    finally:  # with what it had started
        notebook.cells.pop()
        end(kernel)
        kernels.discard(kernel)
    printed = sum(len(str(out)) for cell in notebook.cells for out in cell.get("outputs", ()))
    if printed > MOST:
        raise PageError(f"it shows {printed:,} characters, of which nobody reads over {MOST:,}")
    if other := ran_another(ran.outputs[-1].text):
        raise PageError(f"its kernel ran {other}")
    return monotonic() - start


def end(group: int) -> None:
    """Kill a group of processes; 0 is none."""
    if group:
        with suppress(ProcessLookupError, PermissionError):  # it has ended
            os.killpg(group, signal.SIGKILL)


def warnings_in(notebook: NotebookNode) -> list[str]:
    """What was warned of while it was executed, each once: the page itself does not show it."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    said = "".join(output.text for output in outputs if output.get("name") == "stderr")
    return list(dict.fromkeys(WARNING.findall(said)))
