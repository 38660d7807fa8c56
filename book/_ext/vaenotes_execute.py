"""Sphinx extension: execute the pages that need it side by side, before Sphinx reads them.

myst-nb executes pages one after the other. Here they are executed in as many kernels as there are
cores, and put into the cache from which myst-nb then takes them. The first page goes first, alone:
it trains what the others show. The rest is executed even if some page fails, so that one build
tells all that is wrong; then the build ends, and says so.

With each page the cache keeps what its execution took, which the directive `executed-pages` shows.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import traceback
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic
from typing import Any

from docutils import nodes
from jupyter_cache import get_cache
from jupyter_cache.base import CacheBundleIn, JupyterCacheAbstract
from loky import cpu_count
from myst_nb.core.read import create_nb_reader
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbformat import NotebookNode
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util import logging
from sphinx.util.console import strip_escape_sequences
from sphinx.util.docutils import SphinxDirective

from vaenotes_book import check_unchanged

logger = logging.getLogger(__name__)

WARNING = re.compile(r"^.+:\d+: (\w*Warning: .+)$", re.MULTILINE)


def as_notebook(app: Sphinx, name: str) -> NotebookNode | None:
    """The page as myst-nb will read it, without outputs; None if it is not to be executed."""
    env = app.env
    path = env.doc2path(name)
    content = [Path(path).read_text(encoding="utf-8")]
    app.emit("source-read", name, content)  # the digest and the parameters are written there
    reader = create_nb_reader(path, env.myst_config, env.mystnb_config, content[0])
    return None if reader is None else reader.read(content[0])


def cache_of(app: Sphinx) -> JupyterCacheAbstract:
    return get_cache(app.env.mystnb_config.execution_cache_path)


def executed(app: Sphinx, name: str) -> tuple[NotebookNode, dict[str, Any]] | None:
    """The page with its outputs, and what its execution took; None if it was not executed."""
    notebook, cache = as_notebook(app, name), cache_of(app)
    if notebook is None:
        return None
    try:
        key, notebook = cache.merge_match_into_notebook(notebook)
    except KeyError:
        return None
    return notebook, cache.get_cache_record(key).data


def pending(
    app: Sphinx, names: Iterable[str], cache: JupyterCacheAbstract
) -> dict[str, NotebookNode]:
    """The pages among these that are to be executed and are not in the cache."""
    found = {}
    for name in names:
        notebook = as_notebook(app, name)
        if notebook is None:
            continue
        try:
            key, kept = cache.merge_match_into_notebook(notebook)
            whole = cache.get_cache_record(key).data["outputs"] == outputs_digest(kept)
        except Exception:  # KeyError if it is not there; a build killed while writing leaves half
            whole = False
        if not whole:
            found[name] = notebook
    return found


def outputs_digest(notebook: NotebookNode) -> str:
    """sha256 of what the cells of an executed page put out; the cache itself has no checksum."""
    outputs = [cell.get("outputs") for cell in notebook.cells]
    return hashlib.sha256(json.dumps(outputs, sort_keys=True).encode()).hexdigest()


def replicas(used: str) -> dict[str, int]:
    """How many replicas a page trained and how many it took from the store, from the library's
    lines `trained KEY` and `found KEY`. What it trained it may have asked for again."""
    lines = [line.split() for line in used.splitlines()]
    trained = {key for how, key in lines if how == "trained"}
    return {"trained": len(trained), "found": len({key for _, key in lines} - trained)}


def warnings_in(notebook: NotebookNode) -> list[str]:
    """What was warned of while it was executed, each once: the page itself does not show it."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    said = "".join(output.text for output in outputs if output.get("name") == "stderr")
    return list(dict.fromkeys(WARNING.findall(said)))


class PageError(Exception):
    """Why a page could not be executed, and in which cell."""


class Kernels:
    """Executes pages; no kernel, and no process that one started, outlives the build."""

    def __init__(self) -> None:
        self._groups: set[int] = set()  # of processes, one per running kernel
        self._stopped = False

    def execute(self, notebook: NotebookNode, folder: Path, timeout: int) -> dict[str, Any]:
        """Execute in place, in a kernel whose library says which replicas it fetches; returns what
        that took. timeout: seconds that a cell may take, -1 for no end. Raises PageError."""
        start = monotonic()
        group, source = 0, ""

        def note_kernel(notebook: NotebookNode) -> None:
            nonlocal group
            group = client.km.provisioner.pgid
            self._groups.add(group)
            if self._stopped:
                _end(group)

        def note_cell(cell: NotebookNode, cell_index: int) -> None:
            nonlocal source
            source = cell.source

        with TemporaryDirectory() as temporary:
            used = Path(temporary) / "used"
            used.touch()
            client = NotebookClient(
                notebook,
                timeout=timeout,
                resources={"metadata": {"path": str(folder)}},
                record_timing=False,  # into the cells' metadata, which the cache's key has in it
                on_notebook_start=note_kernel,
                on_cell_execute=note_cell,
            )
            try:
                client.execute(env=os.environ | {"VAENOTES_USED": str(used)})
            except CellExecutionError as error:  # has the cell and the traceback in it
                raise PageError(strip_escape_sequences(str(error))) from None
            except CellTimeoutError:
                raise PageError(f"timed out after {timeout} s in this cell:\n{source}") from None
            except DeadKernelError:
                why = "its kernel died (out of memory?) in this cell:"
                raise PageError(f"{why}\n{source}") from None
            except Exception:  # as when there is no such kernel
                raise PageError(traceback.format_exc()) from None
            finally:
                self._groups.discard(group)
                _end(group)
            return {
                "execution_seconds": monotonic() - start,  # myst-nb's own key
                "executed": f"{datetime.now(UTC):%Y-%m-%d %H:%M}",
                "outputs": outputs_digest(notebook),
                **replicas(used.read_text()),
            }

    def stop(self) -> None:
        """End those that run; one that is just starting ends when it has."""
        self._stopped = True
        for group in list(self._groups):
            _end(group)


def _end(group: int) -> None:
    if group:
        with suppress(ProcessLookupError, PermissionError):  # it has ended
            os.killpg(group, signal.SIGKILL)


def _execute_all(app: Sphinx, env: BuildEnvironment, names: list[str]) -> None:
    if env.mystnb_config.execution_mode != "cache":
        return
    cache = cache_of(app)
    waiting = pending(app, sorted(names), cache)
    done, failed = 0, {}
    kernels = Kernels()

    def one(name: str) -> dict[str, Any]:
        own = waiting[name].metadata.get(env.mystnb_config.metadata_key, {})
        timeout = own.get("execution_timeout", env.mystnb_config.execution_timeout)
        return kernels.execute(waiting[name], Path(env.doc2path(name)).parent, timeout)

    first = [name for name in waiting if name == app.config.root_doc]
    pool = ThreadPoolExecutor(cpu_count())
    try:
        for together in (first, [name for name in waiting if name not in first]):
            if failed:  # they would train what the first page was to train
                break
            futures = {pool.submit(one, name): name for name in together}
            for future in as_completed(futures):
                name = futures[future]
                path = env.doc2path(name)
                done += 1
                try:
                    took = future.result()
                except PageError as error:
                    failed[path] = str(error)
                    logger.info(f"[{done}/{len(waiting)}] {name} failed")
                    continue
                check_unchanged(app)  # else what is new would be kept as if it were old
                bundle = CacheBundleIn(waiting[name], path, data=took)
                cache.cache_notebook_bundle(bundle, check_validity=False, overwrite=True)
                seconds = took["execution_seconds"]
                logger.info(f"[{done}/{len(waiting)}] {name} executed in {seconds:.0f} s")
                for warning in warnings_in(waiting[name]):
                    logger.info(f"{name}: {warning}")
    finally:  # nothing runs any more, unless the build was interrupted or something changed
        pool.shutdown(wait=False, cancel_futures=True)
        kernels.stop()
    if failed:
        reports = [f"{path}: {error}" for path, error in failed.items()]
        last = f"The book was not built, as these pages failed: {', '.join(failed)}"
        raise SystemExit("\n\n".join(["", *reports, last]))


class ExecutedPages(SphinxDirective):
    """A table of the executed pages: when, in how many seconds, with how many replicas."""

    def run(self) -> list[nodes.Node]:
        counted = ("execution_seconds", "trained", "found")
        totals = dict.fromkeys(counted, 0.0)
        lines = ["| page | executed (UTC) | seconds | replicas trained | replicas found |"]
        lines += ["|---|---|--:|--:|--:|"]
        for name in self.config.external_site_map:
            page = executed(self.env.app, name)
            if page is not None:
                took = page[1]
                numbers = " | ".join(f"{took[key]:.0f}" for key in counted)
                lines.append(f"| {{doc}}`/{name}` | {took['executed']} | {numbers} |")
                totals = {key: total + took[key] for key, total in totals.items()}
        lines.append(f"| all | | {' | '.join(f'{total:.0f}' for total in totals.values())} |")
        return self.parse_text_to_nodes("\n".join(lines))


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_directive("executed-pages", ExecutedPages)
    app.connect("env-before-read-docs", _execute_all)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
