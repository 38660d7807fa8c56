"""The page of the library: the directive `circle` shows all of a package, what it gives by name in
a table, and then its modules.

Docstrings are read as they are written, as plain prose: in them backticks, single or double, mark
code, and an indented block is code; nothing else is markup.
"""

from __future__ import annotations

import ast
import importlib
import pkgutil
import re
from pathlib import Path
from types import ModuleType
from typing import Any

from docutils import nodes
from docutils.statemachine import StringList
from numpy.typing import ArrayLike
from sphinx.application import Sphinx
from sphinx.errors import PycodeError
from sphinx.pycode import ModuleAnalyzer
from sphinx.util.docutils import SphinxDirective
from sphinx.util.nodes import nested_parse_with_titles
from sphinx.util.typing import stringify_annotation

OUTER = ("vaenotes.lab", "vaenotes.report")
MARKUP = re.compile(r"(`+)((?:.|\n(?!\n))+?)\1|[\\*|_`]")
"""Code, or what reStructuredText would take for more than itself."""
BLOCK = re.compile(r"(^ .*(?:\n+ .*)*\n?)", re.MULTILINE)


def modules(package: ModuleType) -> list[str]:
    """The modules of a circle; of `vaenotes`, the science's."""
    name = package.__name__
    every = [one.name for one in pkgutil.walk_packages(package.__path__, f"{name}.")]
    return [one for one in every if name in OUTER or not one.startswith(OUTER)]


def homes(package: ModuleType) -> list[str]:
    """The names that a package gives, as they are where each is at home, from its stub."""
    stub = Path(str(package.__file__)).with_suffix(".pyi")
    return [
        ".".join(filter(None, (package.__name__, node.module, alias.name)))
        for node in ast.parse(stub.read_text()).body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    ]


def read_no_source_of_others(module: ModuleType) -> None:
    """Of what its classes inherit from elsewhere nothing is shown; but autodoc would look there for
    comments on attributes, and torch's and typing's sources take longer to read than ours."""
    classes = [thing for thing in vars(module).values() if isinstance(thing, type)]
    for home in {base.__module__ for one in classes for base in one.__mro__}:
        if home.partition(".")[0] != "vaenotes":
            error = PycodeError(f"{home} is not listed")
            ModuleAnalyzer.cache.setdefault(("module", home), error)


class Circle(SphinxDirective):
    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        (circle,) = self.arguments
        package = importlib.import_module(circle)
        lines = [f".. automodule:: {circle}", "   :no-members:", ""]
        lines += [".. currentmodule:: None", "", ".. autosummary::", "   :nosignatures:", ""]
        lines += [f"   ~{home}" for home in homes(package)]
        for module in modules(package):
            read_no_source_of_others(importlib.import_module(module))
            title = module.removeprefix(f"{circle}.")
            lines += ["", title, "-" * len(title), "", f".. automodule:: {module}"]
            if hasattr(importlib.import_module(module), "__path__"):
                lines += ["   :no-members:"]
        section = nodes.section()
        section.document = self.state.document
        nested_parse_with_titles(self.state, StringList(lines, "circle"), section)
        return section.children


def as_rst(text: str) -> str:
    """Plain prose as reStructuredText."""

    def as_markup(found: re.Match[str]) -> str:
        return f"``{' '.join(found[2].split())}``" if found[2] else f"\\{found[0]}"

    pieces = BLOCK.split(text)  # prose and blocks take turns
    pieces[::2] = [MARKUP.sub(as_markup, prose) for prose in pieces[::2]]
    pieces[1::2] = [f"\n::\n\n{block}\n" for block in pieces[1::2]]
    return "".join(pieces)


def _read_as_prose(
    app: Sphinx, what: str, name: str, obj: object, options: Any, lines: list[str]
) -> None:
    if lines and lines[0].startswith(f"{name.rpartition('.')[2]}("):
        lines.clear()  # Python's own, of a class that has none: it repeats the signature
    lines[:] = as_rst("\n".join(lines)).split("\n")


def _is_field(app: Sphinx, what: str, name: str, obj: object, skip: bool, options: Any) -> bool:
    """Leave out what Python writes of a NamedTuple's fields: the signature has them."""
    return skip or str(getattr(obj, "__doc__", "")).startswith("Alias for field number")


def _shorten(
    app: Sphinx, what: str, name: str, obj: object, options: Any, signature: str | None, back: Any
) -> tuple[str, Any] | None:
    """Call numpy's long union by its name, and write what a dataclass makes anew so that it can be
    read as Python."""
    if signature is None:
        return None
    union = stringify_annotation(ArrayLike, "smart")
    return signature.replace(union, "ArrayLike").replace("<factory>", "..."), back


def setup(app: Sphinx) -> None:
    app.setup_extension("sphinx.ext.autosummary")
    app.add_directive("circle", Circle)
    app.connect("autodoc-process-docstring", _read_as_prose)
    app.connect("autodoc-process-signature", _shorten)
    app.connect("autodoc-skip-member", _is_field)
