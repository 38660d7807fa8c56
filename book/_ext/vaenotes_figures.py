"""Sphinx extension: every figure that a cell made links the source that drew it, and the commit.

The cell says who drew it, by calling `vn.plots.NAME(...)` or the like; that may also be a cell in
which the figure is only glued, to be pasted elsewhere.
"""

from __future__ import annotations

import json
import os
import re
from base64 import b64decode
from functools import cache
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import Any

import nbformat
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util import logging

from vaenotes_facts import commit

logger = logging.getLogger(__name__)

MODULES = ("plots", "charts", "films")
"""The modules of the library that draw."""
CALL = re.compile(rf"\bvn\.({'|'.join(MODULES)})\.(\w+)\(")
GLUE = re.compile(r"""\bglue\(\s*["']([^"']+)["']""")


Calls = list[tuple[str, str]]


def calls_in(source: str) -> Calls:
    """The (module, function) pairs that a cell calls, each once."""
    return list(dict.fromkeys(CALL.findall(source)))


def calls_behind(figure: nodes.figure, docname: str, folder: Path) -> Calls | None:
    """What was called in the cell that shows a figure, or that glued it; None if no cell made it.

    folder: the one in which myst-nb leaves notebooks, and beside them what was glued.
    """
    parent = figure.parent
    while parent is not None:
        if "cell_index" in parent:
            return calls_in(cells(folder / f"{docname}.ipynb")[parent["cell_index"]])
        parent = parent.parent
    shown = [PurePosixPath(image["uri"]).stem for image in figure.findall(nodes.image)]
    shown += [raw.astext() for raw in figure.findall(nodes.raw)]
    return next((glued(folder)[item] for item in shown if item in glued(folder)), None)


@cache
def cells(notebook: Path) -> list[str]:
    """The source of every cell."""
    return [cell.source for cell in nbformat.read(notebook, nbformat.NO_CONVERT).cells]


@cache
def glued(folder: Path) -> dict[str, Calls]:
    """For every image (by the stem of its file's name) and every piece of HTML that was glued: what
    its cell calls."""
    found = {}
    for path in folder.rglob("*.glue.json"):
        outputs = json.loads(path.read_text())
        for source in cells(path.with_name(path.name.removesuffix(".glue.json") + ".ipynb")):
            for key in GLUE.findall(source):
                for mime, content in outputs.get(key, {}).get("data", {}).items():
                    if mime.startswith("image/"):
                        found[_stem(mime, content)] = calls_in(source)
                    elif mime == "text/html":
                        found[content] = calls_in(source)
    return found


def _stem(mime: str, content: str) -> str:
    """As myst-nb names the file: by a hash of what is in it."""
    if mime == "image/svg+xml":
        return sha256("\n".join(content.splitlines()).encode()).hexdigest()
    return sha256(b64decode(content)).hexdigest()


revision = cache(commit)


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
    folder = Path(app.outdir).parent / "jupyter_execute"
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
        source += [nodes.Text(" at "), commit_node(revision(app.srcdir))]
        caption += source


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("doctree-resolved", _add_sources)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
