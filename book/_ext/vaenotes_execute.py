"""Sphinx extension: execute the pages that need it side by side, before Sphinx reads them.

myst-nb executes pages one after the other. Here they are executed in as many kernels as there are
cores, and put into the cache from which myst-nb then takes them. The first page goes first, alone:
it trains what the others show. A page that fails is left to myst-nb, which says what is wrong.
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from joblib import cpu_count
from jupyter_cache import get_cache
from jupyter_cache.base import CacheBundleIn, JupyterCacheAbstract
from jupyter_cache.executors.utils import ExecutionResult, single_nb_execution
from myst_nb.core.read import create_nb_reader
from nbformat import NotebookNode
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util import logging

logger = logging.getLogger(__name__)


def pending(
    app: Sphinx, env: BuildEnvironment, names: Iterable[str], cache: JupyterCacheAbstract
) -> dict[str, NotebookNode]:
    """The pages among these that are executed and not in the cache, as myst-nb will read them."""
    found = {}
    for name in names:
        path = env.doc2path(name)
        content = [Path(path).read_text(encoding="utf-8")]
        app.emit("source-read", name, content)  # the digest and the parameters are written there
        reader = create_nb_reader(path, env.myst_config, env.mystnb_config, content[0])
        if reader is None:
            continue
        notebook = reader.read(content[0])
        try:
            cache.match_cache_notebook(notebook)
        except KeyError:
            found[name] = notebook
    return found


def _execute_all(app: Sphinx, env: BuildEnvironment, names: list[str]) -> None:
    if env.mystnb_config.execution_mode != "cache":
        return
    cache = get_cache(env.mystnb_config.execution_cache_path)
    waiting = pending(app, env, sorted(names), cache)
    done = 0

    def execute(name: str) -> tuple[str, ExecutionResult]:
        folder = str(Path(env.doc2path(name)).parent)
        timeout = env.mystnb_config.execution_timeout
        return name, single_nb_execution(waiting[name], folder, timeout, allow_errors=False)

    first = [name for name in waiting if name == app.config.root_doc]
    for together in (first, [name for name in waiting if name not in first]):
        with ThreadPoolExecutor(cpu_count()) as pool:
            for future in as_completed([pool.submit(execute, name) for name in together]):
                name, result = future.result()
                done += 1
                state = "failed" if result.err else "executed"
                logger.info(f"[{done}/{len(waiting)}] {name} {state} in {result.time:.0f} s")
                if not result.err:
                    seconds = {"execution_seconds": result.time}
                    bundle = CacheBundleIn(result.nb, env.doc2path(name), data=seconds)
                    cache.cache_notebook_bundle(bundle, check_validity=False, overwrite=True)


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("env-before-read-docs", _execute_all)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
