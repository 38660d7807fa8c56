"""Sphinx extension: every executed page can be downloaded as a notebook, with its numbers in place.

The theme's download button offers it beside the page's source. In Jupyter the prose's `glue:text`
roles would stay as they are, so here they give way to the numbers that the page shows.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import nbformat
from myst_nb.core.variables import format_plain_text
from myst_nb.ext.glue import extract_glue_data_cell
from myst_nb.ext.glue.crossref import read_glue_cache
from nbformat import NotebookNode
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

from vaenotes_execute import executed

GLUED = re.compile(r"\{glue:text\}`(?:([^`]+?)::)?([^`:]+):?([^`]*)`")
"""Page, key and format; the first and the last may be missing."""


def with_numbers(text: str, env: BuildEnvironment, name: str) -> str:
    """A page's prose with the numbers that it shows instead of their roles."""

    def number(role: re.Match[str]) -> str:
        page, key, form = role.groups()
        home = env.path2doc(env.relfn2path(page, name)[1]) if page else name
        glued = read_glue_cache(env.mystnb_config.output_folder, home).get(key)
        return format_plain_text(glued["data"]["text/plain"], form) if glued else role[0]

    return GLUED.sub(number, text)


def tidy(notebook: NotebookNode) -> NotebookNode:
    """Without what is of no use elsewhere: this build's marks and warnings, and glued values."""
    kept = {key: notebook.metadata[key] for key in ("kernelspec", "language_info")}
    kept["kernelspec"].pop("vaenotes")
    notebook.metadata = nbformat.from_dict(kept)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            extract_glue_data_cell(cell)  # takes them out
            cell.outputs = [out for out in cell.outputs if out.get("name") != "stderr"]
    return notebook


def _offer(app: Sphinx, name: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    page = executed(app, name) if name in app.env.found_docs else None
    if page is None:
        return
    notebook = tidy(page[0])
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = with_numbers(cell.source, app.env, name)
    path = Path(app.outdir) / "_sources" / f"{name}.ipynb"  # where the theme's button looks
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, path)
    context["ipynb_source"] = f"{name}.ipynb"


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("html-page-context", _offer)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
