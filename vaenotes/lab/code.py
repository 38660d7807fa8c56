"""Which code is behind results: the library's own, as its files were when it was imported.

Keys are made of what these files say, and workers import them: what is changed afterwards, in a
file or in memory, is refused rather than stored under their keys.
"""

import ast
import hashlib
import sys
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import FunctionType, MethodType
from typing import Any

from vaenotes import CHANGED_AT
from vaenotes.errors import StoreError, check

ANSWERS = "training"  # the module that makes results; what it imports, near or far, is behind them
PACKAGE = Path(__file__).parents[1]
LAYOUT = 1  # of an entry: raise it where what is written of a result, or how, changes
OF_OTHERS = ("PRIORS", "DATASETS")  # tables to which anybody may add, each part with its version
PACKAGES_BEHIND_RESULTS = ("torch", "numpy", "mlxtend", "scikit-learn")


@cache
def code_digest() -> str:
    """sha256 of the code behind results and the versions of what it computes with, as they were
    when this module was imported: results of this process are those of that code."""
    check_unchanged()
    digest = hashlib.sha256(f"layout {LAYOUT}\0".encode())
    for name, path in sorted(sources_behind_results().items()):
        digest.update(f"{name}\0{code_of(path)}\0".encode())
    for package in PACKAGES_BEHIND_RESULTS:
        digest.update(f"{package}=={_version(package)}\0".encode())
    return digest.hexdigest()


def check_unchanged() -> None:
    """Raise StoreError if a file of the code behind results has changed since it was imported: what
    it holds now may be what is imported by now, or not."""
    for path in _behind_results().values():
        if path.stat().st_ctime_ns != CHANGED_AT.get(path):
            raise StoreError(f"{path} changed after vaenotes was imported: start Python again")


def definitions() -> dict[str, object]:
    """All that the modules behind results define, with the members of classes and tables, and the
    code and defaults of functions."""
    found: dict[str, object] = {}
    for module in _behind_results():
        for name, value in vars(import_module(module)).items():
            if name.startswith("__"):  # Python's own
                continue
            found[f"{module}.{name}"] = value
            if isinstance(value, dict) and name not in OF_OTHERS:
                found |= {f"{module}.{name}[{part!r}]": of for part, of in value.items()}
            if isinstance(value, type) and value.__module__ == module:
                found |= {f"{module}.{name}.{part}": of for part, of in vars(value).items()}
    for name, value in list(found.items()):
        if isinstance(value, FunctionType):
            for part in ("__code__", "__defaults__", "__kwdefaults__"):
                found[f"{name}.{part}"] = getattr(value, part)
    return found


def check_same(imported: Mapping[str, object]) -> None:
    """Raise StoreError if any of these definitions is another by now, or a function, class or part
    of a table has been added."""
    now = definitions()
    changed = [name for name, value in imported.items() if now.get(name, now) is not value]
    added = {name: value for name, value in now.items() if name not in imported}
    # Python itself adds lists, as of a class's slots when it is first copied.
    changed += [name for name, value in added.items() if callable(value) or name.endswith("]")]
    for name in changed:
        raise StoreError(f"{name} was changed in memory: results are of the library's own code")


@cache
def _behind_results() -> dict[str, Path]:
    return sources_behind_results()


def _version(package: str) -> str | None:
    with suppress(PackageNotFoundError):  # an extra that is not installed computes nothing either
        return version(package)
    return None


def sources_behind_results() -> dict[str, Path]:
    """The modules that ANSWERS imports, and those that they import, and itself: by name."""
    found: dict[str, Path] = {}
    waiting = [f"{PACKAGE.name}.{ANSWERS}"]
    while waiting:
        name = waiting.pop()
        stem = PACKAGE.parent.joinpath(*name.split("."))
        path = next(
            (p for p in (stem.with_suffix(".py"), stem / "__init__.py") if p.is_file()), None
        )
        if path is None or name in found or name == PACKAGE.name:
            continue
        found[name] = path
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.ImportFrom) and node.module and not node.level:
                waiting += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return found


def code_of(path: Path) -> str:
    """What a module does: its source without comments, docstrings and layout."""
    tree = ast.parse(path.read_bytes())
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            node.body = [part for part in node.body if not _is_text(part)]
    return ast.dump(tree)


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def is_ours(thing: Any) -> bool:
    """Whether a prior or data set is the library's own, whose code is in every key."""
    module, name = getattr(thing, "__module__", None), getattr(thing, "__qualname__", "")
    return module in _behind_results() and getattr(sys.modules[module], name, None) is thing


def version_of(thing: Any) -> str | None:
    """Of a prior or data set: its name if it is the library's own, and "" of a file; None if it is
    somebody's own and has none, as an attribute of itself: what its class or a parent has, the
    function of a method, or what it wraps, is theirs. Raises ParameterError unless it is a
    string."""
    if thing is None:
        return ""
    if is_ours(thing):
        return f"{thing.__module__}.{thing.__qualname__}"
    own = {} if isinstance(thing, MethodType) else getattr(thing, "__dict__", {})
    version = own.get("version")
    wrapped = getattr(thing, "__wrapped__", None)
    if wrapped is not None and version == getattr(wrapped, "version", None):
        version = None
    fits = version is None or (isinstance(version, str) and bool(version))
    check(fits, "version must be a string, and not empty", version)
    return version


code_digest()
