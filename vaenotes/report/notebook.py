"""What the book's pages need as notebooks: papermill reads them; their parameters are read from
words and checked.

Kept free of torch, and of papermill too until papermill itself asks: starting either stays quick.
"""

from __future__ import annotations

import shlex
import typing
import warnings
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from vaenotes.errors import ParameterError, check, meant

if TYPE_CHECKING:
    from vaenotes.report.settings import Settings


def read_parameters(text: str) -> dict[str, Any]:
    """Parse "name=value name=value", quoted as in a shell; a value becomes what papermill's -p
    would make of it. The path of a data file is meant from where it is read, and made absolute.

    Raises ParameterError for what is no such text; names and values are not checked here.
    """
    rule = "parameters must be name=value pairs"
    try:
        words = shlex.split(text)
    except ValueError as error:  # a quote that is not closed
        raise ParameterError(f"{rule}, got {text!r}: {error}") from None
    parameters: dict[str, Any] = {}
    for word in words:
        name, equals, value = word.partition("=")
        check(bool(name.isidentifier() and equals), rule, word)
        parameters[name] = _literal(value)
    if (data := str(parameters.get("data"))).endswith(".npz"):
        parameters["data"] = str(Path(data).absolute())  # pages are executed in other folders
    return parameters


def _literal(text: str) -> bool | int | float | str | None:
    words = {"True": True, "False": False, "None": None}
    if text in words:
        return words[text]
    for number in (int, float):
        try:
            return number(text)
        except ValueError:
            pass
    return text


def check_parameters(namespace: Mapping[str, Any]) -> Settings:
    """Turn a notebook's globals, right after `import vaenotes`, into checked Settings.

    papermill passes on any name with any value. So every public name here that is not one of the
    six parameters, a module, IPython's own or taken from `typing` counts as a misspelt parameter.
    Raises ParameterError, in one line.
    """
    import pandas as pd

    from vaenotes.report.figures import use_svg  # late: these stand beside torch
    from vaenotes.report.settings import Settings

    use_svg()
    pd.set_option("display.max_rows", None, "display.max_colwidth", None)  # who diverged, all

    allowed = [field.name for field in fields(Settings)]
    for name, value in namespace.items():
        if name not in allowed and _looks_like_parameter(name, value, namespace):
            hint = meant(name, allowed)
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
