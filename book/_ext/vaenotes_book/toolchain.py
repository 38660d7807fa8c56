"""The insides of myst-nb and jupyter-cache, in one place.

Neither promises these names, and a new release may move them: then this file is mended, and no
other. A test holds all others to what the two publish. The insides are needed as myst-nb would
execute a page from its file alone, without its parameters, and one page after the other.
"""

from pathlib import Path
from shutil import rmtree
from typing import Any

from jupyter_cache import get_cache
from jupyter_cache.base import CacheBundleIn, JupyterCacheAbstract
from myst_nb.core.read import create_nb_reader
from myst_nb.core.variables import format_plain_text
from myst_nb.ext.glue import extract_glue_data_cell
from myst_nb.ext.glue.crossref import read_glue_cache
from nbformat import NotebookNode
from sphinx.environment import BuildEnvironment


class Cache:
    """The executed pages that are kept from one build to the next, which myst-nb reads too."""

    def __init__(self, env: BuildEnvironment):
        path = Path(env.mystnb_config.execution_cache_path)
        try:
            self.kept: JupyterCacheAbstract = get_cache(path)
            self.kept.list_cache_records()
        except Exception:  # it is damaged; what it holds can be had again
            rmtree(path)
            path.mkdir()
            self.kept = get_cache(path)

    def find(self, notebook: NotebookNode) -> NotebookNode | None:
        """The notebook with its outputs, if the same was executed before."""
        try:
            return self.kept.merge_match_into_notebook(notebook)[1]
        except Exception:  # KeyError if it is not there; a build killed while writing left half
            return None

    def keep(self, notebook: NotebookNode, path: Path, seconds: float) -> None:
        told = {"execution_seconds": seconds}  # which myst-nb's table of pages shows
        bundle = CacheBundleIn(notebook, str(path), data=told)
        self.kept.cache_notebook_bundle(bundle, check_validity=False, overwrite=True)


def read_notebook(env: BuildEnvironment, path: Path, text: str) -> NotebookNode | None:
    """A page's text as the notebook that myst-nb will make of it; None if it is prose."""
    reader = create_nb_reader(str(path), env.myst_config, env.mystnb_config, text)
    return None if reader is None else reader.read(text)


def keep_outputs_in(env: BuildEnvironment, folder: Path) -> None:
    """Where myst-nb writes images and what is glued, else beside the folder of pages."""
    env.mystnb_config = env.mystnb_config.copy(output_folder=str(folder))


def cell_timeout(env: BuildEnvironment) -> int:
    """Seconds that a cell may take, as the configuration has it."""
    return env.mystnb_config.execution_timeout


def glued(env: BuildEnvironment, page: str) -> dict[str, Any]:
    """What a page has glued, by name."""
    return read_glue_cache(env.mystnb_config.output_folder, page)


def plain(value: dict[str, Any], form: str) -> str:
    """A glued value as text, in that format."""
    return format_plain_text(value["data"]["text/plain"], form)


def take_glued_out(cell: NotebookNode) -> None:
    """Remove a cell's outputs that only glue."""
    extract_glue_data_cell(cell)
