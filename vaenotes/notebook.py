"""What the book's pages need as notebooks: papermill reads them, and their parameters are checked.

Kept free of torch, and of papermill too until papermill itself asks: starting either stays quick.
"""

from __future__ import annotations

import difflib
import typing
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from types import ModuleType
from typing import Any

from vaenotes.errors import ParameterError

LAST_SEED = 2**31 - 1


@dataclass(frozen=True)
class Settings:
    """The parameters that every page takes, checked.

    Raises ParameterError, in one line, for a value of the wrong type or one that is not allowed.
    """

    profile: str = "book"
    """How much to run: quick, book, full or paper."""
    data: str = "sprites"
    """A data set's name, or the path of dSprites' own .npz file."""
    prior: str = "exogenous"
    """A prior's name."""
    seeds: int | None = None
    """How many replicas; None: as many as the profile has."""
    first_seed: int = 0
    """The seeds are first_seed, first_seed + 1, and so on."""
    epochs: int | None = None
    """How long to train; None: as long as the profile does."""

    def __post_init__(self) -> None:
        # Imported late: these tables live beside torch, and a misspelt name is told before that.
        from vaenotes.data import DATASETS
        from vaenotes.experiments import PROFILES
        from vaenotes.priors import PRIORS

        _check_name("profile", self.profile, PROFILES)
        if not _is_npz(self.data):
            _check_name("data", self.data, DATASETS, "the path of an existing .npz file")
        _check_name("prior", self.prior, PRIORS)
        _check_count("seeds", self.seeds)
        if not _is_whole(self.first_seed) or not 0 <= self.first_seed <= LAST_SEED:
            allowed = f"a whole number from 0 to {LAST_SEED}"
            raise ParameterError(f"first_seed must be {allowed}, got {self.first_seed!r}")
        _check_count("epochs", self.epochs)


def check_parameters(namespace: Mapping[str, Any]) -> Settings:
    """Turn a notebook's globals, right after `import vaenotes`, into checked Settings.

    papermill passes on any name with any value. So every public name here that is not one of the
    six parameters, a module, IPython's own or taken from `typing` counts as a misspelt parameter.
    Raises ParameterError, in one line.
    """
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
    if value is getattr(typing, name, None):
        return False
    get_ipython = namespace.get("get_ipython")
    hidden = get_ipython().user_ns_hidden if callable(get_ipython) else {}
    # By identity, as IPython's own %who does it: a parameter may be called `exit`.
    return not (name in hidden and hidden[name] is value)


def _check_name(argument: str, value: object, names: Iterable[str], *also: str) -> None:
    if value not in list(names):  # a list: the value may be unhashable
        allowed = ", ".join([*names, *also])
        raise ParameterError(f"{argument} must be one of {allowed}, got {value!r}")


def _check_count(argument: str, value: object) -> None:
    if value is not None and not (_is_whole(value) and value >= 1):
        raise ParameterError(
            f"{argument} must be a whole number of at least 1 or None, got {value!r}"
        )


def _is_whole(value: object) -> typing.TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_npz(value: object) -> bool:
    return isinstance(value, str) and value.endswith(".npz") and Path(value).is_file()


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
