"""What the book's pages need as notebooks: papermill reads them, and their parameters are checked.

Kept free of torch, and of papermill too until papermill itself asks: starting either stays quick.
"""

from __future__ import annotations

import difflib
import typing
import warnings
from collections.abc import Mapping
from dataclasses import fields
from types import ModuleType
from typing import TYPE_CHECKING, Any

from vaenotes.errors import ParameterError

if TYPE_CHECKING:
    from vaenotes.settings import Settings


def check_parameters(namespace: Mapping[str, Any]) -> Settings:
    """Turn a notebook's globals, right after `import vaenotes`, into checked Settings.

    papermill passes on any name with any value. So every public name here that is not one of the
    six parameters, a module, IPython's own or taken from `typing` counts as a misspelt parameter.
    Raises ParameterError, in one line.
    """
    from vaenotes.settings import Settings  # late: it stands beside torch

    allowed = [field.name for field in fields(Settings)]
    for name, value in namespace.items():
        if name not in allowed and _looks_like_parameter(name, value, namespace):
            close = difflib.get_close_matches(name, allowed, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise ParameterError(
                f"unknown parameter {name!r}{hint} (allowed: {', '.join(allowed)})"
            )
    return Settings(**{name: namespace[name] for name in allowed if name in namespace})


def _looks_like_parameter(name: str, value: object, namespace: Mapping[str, Any]) -> bool:
    if name.startswith("_") or isinstance(value, ModuleType):
        return False
    if name in typing.__all__ and value is getattr(typing, name):
        return False
    get_ipython = namespace.get("get_ipython")
    hidden = get_ipython().user_ns_hidden if callable(get_ipython) else {}
    # By identity, as IPython's own %who does it: a parameter may be called `exit`.
    return not (name in hidden and hidden[name] is value)


def _make_papermill_handler() -> Any:
    """papermill's handler of local files, taught to read MyST pages as notebooks."""
    import jupytext
    from papermill.iorw import papermill_io

    # papermill looks a handler up now first come, now last come, so a second one called "local"
    # would be served only half the time: the built-in object itself is changed, and given back.
    handler = papermill_io.get_handler("local")
    read_file = handler.read

    def read(path: str) -> str:
        text = read_file(path)
        if not path.endswith(".md"):
            return text
        return jupytext.writes(jupytext.reads(text, fmt="md"), fmt="ipynb")

    handler.read = read
    # papermill would warn on every run that a page's name does not end in .ipynb.
    warnings.filterwarnings("ignore", message=r"The specified file \(.*\.md\) does not end in")
    return handler


def __getattr__(name: str) -> Any:
    # Made when papermill asks for its entry point: importing papermill for every kernel would be
    # slow, and going round in a circle, as papermill imports this module while it is imported.
    if name == "papermill_handler":
        return _make_papermill_handler()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
