"""The page of the library: the directive `circle` shows all of a package, what it gives by name in
a table, and its modules in the order of dependence.

Docstrings are read as they are written, as plain prose: in them backticks, single or double, mark
code, and an indented block is code; nothing else is markup.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.statemachine import StringList
from numpy.typing import ArrayLike
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from sphinx.util.nodes import nested_parse_with_titles
from sphinx.util.typing import stringify_annotation

import vaenotes

HOME = Path(vaenotes.__file__).parent
OUTER = ("vaenotes.lab", "vaenotes.report")
MARKUP = re.compile(r"(`+)((?:.|\n(?!\n))+?)\1|[\\*|_`]")
"""Code, or what reStructuredText would take for more than itself."""
BLOCK = re.compile(r"(^ .*(?:\n+ .*)*\n?)", re.MULTILINE)


def modules(circle: str) -> dict[str, Path]:
    """The modules of a circle, each after all that it imports; of `vaenotes`, the science's."""
    paths = {}
    for path in sorted(HOME.rglob("*.py")):
        parts = ["vaenotes", *path.relative_to(HOME).with_suffix("").parts]
        name = ".".join(parts).removesuffix(".__init__")
        if circle == next((one for one in OUTER if name.startswith(one)), "vaenotes") != name:
            paths[name] = path
    order = TopologicalSorter({name: imports(path) & paths.keys() for name, path in paths.items()})
    return {name: paths[name] for name in order.static_order()}


def imports(path: Path) -> set[str]:
    """What of this library a file imports as it is loaded: modules, or names in them."""
    found = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def face(package: str) -> dict[str, str]:
    """What a package gives: its names, and where each is at home, from its stub."""
    stub = Path(importlib.import_module(package).__file__ or "").with_suffix(".pyi")
    return {
        alias.name: ".".join(filter(None, (package, node.module, alias.name)))
        for node in ast.parse(stub.read_text()).body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


def in_a_line(thing: object) -> str:
    """The first sentence of what is written of it; of a table, the first of the names in it."""
    if isinstance(thing, dict):
        return f"{len(thing)}, by name: {', '.join(list(thing)[:4])}{', ...' * (len(thing) > 4)}"
    paragraph = " ".join((inspect.getdoc(thing) or "").partition("\n\n")[0].split())
    return re.split(r"(?<=\.) ", paragraph)[0]


class Circle(SphinxDirective):
    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        (circle,) = self.arguments
        package = importlib.import_module(circle)
        lines = [f".. automodule:: {circle}", "   :no-members:", ""]
        lines += [".. list-table::", "   :widths: 3 7", ""]
        for name, home in face(circle).items():
            thing = getattr(package, name)
            shown = f"``{name}``" if isinstance(thing, dict) else f":py:obj:`{name} <{home}>`"
            lines += [f"   * - {shown}", f"     - {_prose(in_a_line(thing))}"]
        for module, path in modules(circle).items():
            title = module.removeprefix(f"{circle}.")
            lines += ["", title, "-" * len(title), "", f".. automodule:: {module}"]
            lines += ["   :no-members:"] * (path.stem == "__init__")
        section = nodes.section()
        section.document = self.state.document
        nested_parse_with_titles(self.state, StringList(lines, "circle"), section)
        return section.children


def as_rst(text: str) -> str:
    """Plain prose as reStructuredText."""
    pieces = BLOCK.split(text)  # prose and blocks take turns
    pieces[::2] = map(_prose, pieces[::2])
    pieces[1::2] = [f"\n::\n\n{block}\n" for block in pieces[1::2]]
    return "".join(pieces)


def _prose(text: str) -> str:
    def as_markup(found: re.Match[str]) -> str:
        return f"``{' '.join(found[2].split())}``" if found[2] else f"\\{found[0]}"

    return MARKUP.sub(as_markup, text)


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
    app.setup_extension("sphinx.ext.autodoc")
    app.add_directive("circle", Circle)
    app.connect("autodoc-process-docstring", _read_as_prose)
    app.connect("autodoc-process-signature", _shorten)
    app.connect("autodoc-skip-member", _is_field)
