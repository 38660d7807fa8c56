"""The library stands in three circles, report -> lab -> science, of files that can be read."""

import ast
from pathlib import Path

import pytest

HOME = Path(__file__).parents[1] / "vaenotes"
FILES = sorted(HOME.rglob("*.py"))
STUBS = sorted(HOME.rglob("*.pyi"))
SCIENCE = ("vaenotes.lab.", "vaenotes.report.")
OUTER = {"lab": ("vaenotes.report.",), "report": ()}
"""What the files of each circle may not import, as it lies further out."""


def where(path: Path) -> str:
    return str(path.relative_to(HOME))


def imported(path: Path) -> set[str]:
    """All that a file imports, wherever in it, by its whole name."""
    found = set()
    package = ["vaenotes", *path.relative_to(HOME).parent.parts]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) + 1 - node.level] if node.level else []
            home = ".".join([*start, *filter(None, [node.module])])
            found |= {f"{home}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("path", [*FILES, *STUBS], ids=where)
def test_arrows_run_inward_only(path):
    outer = OUTER.get(path.relative_to(HOME).parts[0], SCIENCE)
    assert [name for name in imported(path) if f"{name}.".startswith(outer)] == []


@pytest.mark.parametrize("path", FILES, ids=where)
def test_a_file_and_a_function_can_be_read_in_one_go(path):
    source = path.read_text()
    assert source.count("\n") <= 350
    functions = ast.FunctionDef | ast.AsyncFunctionDef
    long = {
        node.name: node.end_lineno - node.lineno + 1
        for node in ast.walk(ast.parse(source))
        if isinstance(node, functions) and node.end_lineno - node.lineno >= 60
    }
    assert long == {}
