"""Sphinx extension: every figure that a cell made links the source that drew it, and the commit.

The cell says who drew it, by calling `vn.plots.NAME(...)` or the like.
"""

from __future__ import annotations

import os
import re
from functools import cache
from pathlib import Path
from typing import Any

import nbformat
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util import logging

logger = logging.getLogger(__name__)

MODULES = ("plots", "charts", "films", "portrait", "notes_figures", "full_size")
"""The modules of the library that draw."""
CALL = re.compile(rf"\bvn\.({'|'.join(MODULES)})\.(\w+)\(")

Calls = list[tuple[str, str]]


def calls_in(source: str) -> Calls:
    """The (module, function) pairs that a cell calls, each once."""
    return list(dict.fromkeys(CALL.findall(source)))


def calls_behind(figure: nodes.figure, docname: str, folder: Path) -> Calls | None:
    """What was called in the cell that shows a figure; None if no cell made it.

    folder: the one in which myst-nb leaves notebooks.
    """
    parent = figure.parent
    while parent is not None and "cell_index" not in parent:
        parent = parent.parent
    if parent is None:
        return None
    return calls_in(cells(folder / f"{docname}.ipynb")[parent["cell_index"]])


@cache
def cells(notebook: Path) -> list[str]:
    """The source of every cell."""
    return [cell.source for cell in nbformat.read(notebook, nbformat.NO_CONVERT).cells]


def commit_node(name: str) -> nodes.Node:
    """The commit; where GitHub builds the book, as a link to it."""
    server, repository = (os.environ.get(f"GITHUB_{x}") for x in ("SERVER_URL", "REPOSITORY"))
    if not (server and repository) or name == "unknown":
        return nodes.Text(name)
    return nodes.reference(
        "", name, refuri=f"{server}/{repository}/commit/{name.removesuffix('-dirty')}"
    )


def _add_sources(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    if app.builder.format != "html":
        return
    folder = Path(app.env.mystnb_config.output_folder)
    for figure in list(doctree.findall(nodes.figure)):
        calls = calls_behind(figure, docname, folder)
        caption = figure.next_node(nodes.caption)
        if calls is None:
            continue
        if not calls or caption is None:
            wanted = " or ".join(f"vn.{module}.NAME(...)" for module in MODULES)
            message = (
                "no source to link: a cell that makes a figure needs a caption and a call of %s"
            )
            logger.warning(message, wanted, location=figure)
            continue
        source = nodes.inline("", " Source: ", classes=["figure-source"])
        for number, (module, function) in enumerate(calls):
            page = app.builder.get_relative_uri(docname, f"_modules/vaenotes/{module}")
            link = nodes.reference(
                "", f"{module}.{function}", internal=True, refuri=f"{page}#{function}"
            )
            source += [nodes.Text(", "), link] if number else [link]
        source += [nodes.Text(" at "), commit_node(app.config.vaenotes_commit)]
        caption += source


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("doctree-resolved", _add_sources)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
