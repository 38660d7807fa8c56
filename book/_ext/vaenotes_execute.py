"""Sphinx extension: execute the pages that need it side by side, before Sphinx reads them.

myst-nb executes pages one after the other. Here they are executed in as many kernels as there are
cores, and put into the cache from which myst-nb then takes them. The first page goes first, alone:
it trains what the others show. A page that fails is left to myst-nb, which says what is wrong.

With each page the cache keeps what its execution took, which the directive `executed-pages` shows.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic
from typing import Any

from docutils import nodes
from joblib import cpu_count
from jupyter_cache import get_cache
from jupyter_cache.base import CacheBundleIn, JupyterCacheAbstract
from myst_nb.core.read import create_nb_reader
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbformat import NotebookNode
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

logger = logging.getLogger(__name__)


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
            cache.match_cache_notebook(notebook)
        except KeyError:
            found[name] = notebook
    return found


def replicas(used: str) -> dict[str, int]:
    """How many replicas a page trained and how many it took from the store, from the library's
    lines `trained KEY` and `found KEY`. What it trained it may have asked for again."""
    lines = [line.split() for line in used.splitlines()]
    trained = {key for how, key in lines if how == "trained"}
    return {"trained": len(trained), "found": len({key for _, key in lines} - trained)}


def execute(notebook: NotebookNode, folder: Path, timeout: int) -> dict[str, Any]:
    """Execute in place, in a kernel whose library says which replicas it fetches; returns what
    that took. A failing cell raises."""
    start = monotonic()
    with TemporaryDirectory() as temporary:
        used = Path(temporary) / "used"
        used.touch()
        resources = {"metadata": {"path": str(folder)}}
        client = NotebookClient(
            notebook,
            timeout=timeout,
            resources=resources,
            record_timing=False,  # into the cells' metadata, which the cache's key has in it
        )
        client.execute(env=os.environ | {"VAENOTES_USED": str(used)})
        return {
            "execution_seconds": monotonic() - start,  # myst-nb's own key
            "executed": f"{datetime.now(UTC):%Y-%m-%d %H:%M}",
            **replicas(used.read_text()),
        }


def _execute_all(app: Sphinx, env: BuildEnvironment, names: list[str]) -> None:
    if env.mystnb_config.execution_mode != "cache":
        return
    cache = cache_of(app)
    waiting = pending(app, sorted(names), cache)
    done = 0

    def one(name: str) -> tuple[str, dict[str, Any] | None]:
        folder = Path(env.doc2path(name)).parent
        try:
            return name, execute(waiting[name], folder, env.mystnb_config.execution_timeout)
        except (CellExecutionError, CellTimeoutError, DeadKernelError):
            return name, None

    first = [name for name in waiting if name == app.config.root_doc]
    for together in (first, [name for name in waiting if name not in first]):
        with ThreadPoolExecutor(cpu_count()) as pool:
            for future in as_completed([pool.submit(one, name) for name in together]):
                name, took = future.result()
                done += 1
                state = f"executed in {took['execution_seconds']:.0f} s" if took else "failed"
                logger.info(f"[{done}/{len(waiting)}] {name} {state}")
                if took:
                    bundle = CacheBundleIn(waiting[name], env.doc2path(name), data=took)
                    cache.cache_notebook_bundle(bundle, check_validity=False, overwrite=True)


class ExecutedPages(SphinxDirective):
    """A table of the executed pages: when, in how many seconds, with how many replicas."""

    def run(self) -> list[nodes.Node]:
        self.env.note_reread()  # what other pages took changes it
        counted = ("execution_seconds", "trained", "found")
        totals = dict.fromkeys(counted, 0.0)
        lines = ["| page | executed (UTC) | seconds | replicas trained | replicas found |"]
        lines += ["|---|---|--:|--:|--:|"]
        for name in self.config.external_site_map:
            page = executed(self.env.app, name)
            if page is not None:
                took = {"executed": "?"} | page[1]
                # Of a page that myst-nb had to execute after all, only the seconds are known.
                numbers = [f"{took[key]:.0f}" if key in took else "?" for key in counted]
                lines.append(f"| {{doc}}`/{name}` | {took['executed']} | {' | '.join(numbers)} |")
                totals = {key: total + took.get(key, 0) for key, total in totals.items()}
        lines.append(f"| all | | {' | '.join(f'{total:.0f}' for total in totals.values())} |")
        return self.parse_text_to_nodes("\n".join(lines))


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_directive("executed-pages", ExecutedPages)
    app.connect("env-before-read-docs", _execute_all)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
