"""Sphinx extension: the page of the library lists the public names, in the directive
`public-names`, and reads docstrings as they are written, as plain prose.

In them backticks, single or double, mark code, and an indented block is code; nothing else is
markup. So what reStructuredText would take for more is escaped.
"""

from __future__ import annotations

import inspect
import re
from typing import Any

from docutils import nodes
from numpy.typing import ArrayLike
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from sphinx.util.typing import stringify_annotation

CODE = re.compile(r"(`+)(.+?)\1")


def as_rst(lines: list[str]) -> list[str]:
    """Plain prose as reStructuredText."""
    found: list[str] = []
    in_block = False
    for line in lines:
        if line and line.startswith(" ") != in_block:
            in_block = not in_block
            found += ["", "::", ""] if in_block else [""]
        found.append(line if in_block else _escaped(line))
    return found


def _escaped(line: str) -> str:
    pieces, start = [], 0
    for match in CODE.finditer(line):
        pieces += [re.sub(r"([\\*|_`])", r"\\\1", line[start : match.start()]), f"``{match[2]}``"]
        start = match.end()
    return "".join([*pieces, re.sub(r"([\\*|_`])", r"\\\1", line[start:])])


def _read_as_prose(
    app: Sphinx, what: str, name: str, obj: object, options: Any, lines: list[str]
) -> None:
    if lines and lines[0].startswith(f"{name.rpartition('.')[2]}("):
        lines.clear()  # Python's own, of a class that has none: it repeats the signature
    lines[:] = as_rst(lines)


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


def in_a_line(thing: object) -> str:
    """The first sentence of what is written of it; of a table, the first of the names in it."""
    if isinstance(thing, dict):
        some = list(thing)[:4]
        return f"{len(thing)}, by name: {', '.join(some)}{', ...' if len(thing) > 4 else '.'}"
    paragraph = " ".join((inspect.getdoc(thing) or "").partition("\n\n")[0].split())
    return re.split(r"(?<=\.) ", paragraph)[0]


class PublicNames(SphinxDirective):
    """A table of what `import vaenotes as vn` gives: each name, linked, and what it is."""

    def run(self) -> list[nodes.Node]:
        import vaenotes  # late: it may not be installed

        lines = [".. list-table::", "   :widths: 3 7", ""]
        for name in vaenotes.__all__:
            if name in vaenotes._HOME:  # not the version
                home = vaenotes._HOME[name]
                target = f"vaenotes.{home}" + (f".{name}" if name != home else "")
                lines += [f"   * - :py:obj:`vn.{name} <{target}>`"]
                lines += [f"     - {_escaped(in_a_line(getattr(vaenotes, name)))}"]
        return self.parse_text_to_nodes("\n".join(lines))


def setup(app: Sphinx) -> dict[str, Any]:
    app.setup_extension("sphinx.ext.autodoc")
    app.add_directive("public-names", PublicNames)
    app.connect("autodoc-process-docstring", _read_as_prose)
    app.connect("autodoc-process-signature", _shorten)
    app.connect("autodoc-skip-member", _is_field)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
