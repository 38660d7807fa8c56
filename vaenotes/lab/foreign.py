"""Priors and data sets defined outside this package: known by their code, and taken to workers.

The library's own are known by name, as its sources are part of every key in the store. Of others
the code counts, and all of yours that it refers to: helpers, constants, modules that are not
installed. What comes from an installed package counts by the package's version.
"""

import dis
import hashlib
import pickle
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.metadata import packages_distributions, version
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

import cloudpickle

from vaenotes.errors import ParameterError
from vaenotes.priors import PRIORS, Prior

DEFINED = (type, FunctionType, ModuleType)
OF_NO_EFFECT = ("__dict__", "__weakref__", "__module__", "__doc__", "__annotations__", "_abc_impl")


def digest(thing: Any) -> str | None:
    """sha256 of what a class or a function does; None for the library's own, and for None.

    Raises ParameterError where it refers to something whose value cannot be told.
    """
    if thing is None or (isinstance(thing, DEFINED) and _package(thing) == "vaenotes"):
        return None
    parts = "\0".join(_Walk(thing).parts)
    return hashlib.sha256(parts.encode()).hexdigest()


class Priors(dict[str, type[Prior]]):
    """Those of these names that the library does not define. Workers import the library, but not
    what a notebook or a script has defined: these classes are pickled with their code."""

    def __init__(self, names: set[str]):
        super().__init__({n: PRIORS[n] for n in sorted(names) if digest(PRIORS[n]) is not None})

    def __reduce__(self) -> tuple[Any, ...]:
        modules = {name for one in self.values() for name in _Walk(one).modules} - {"__main__"}
        try:
            for name in modules:
                cloudpickle.register_pickle_by_value(sys.modules[name])
            return pickle.loads, (cloudpickle.dumps(dict(self)),)
        finally:
            for name in modules:
                cloudpickle.unregister_pickle_by_value(sys.modules[name])


@contextmanager
def registered(priors: dict[str, type[Prior]]) -> Iterator[None]:
    """These are in PRIORS, meanwhile."""
    before = dict(PRIORS)
    PRIORS.update(priors)
    try:
        yield
    finally:
        PRIORS.clear()
        PRIORS.update(before)


class _Walk:
    """Through a class or function and all that it refers to. parts: what it is made of, as text;
    modules: the names of those in which its code stands."""

    def __init__(self, thing: Any):
        self.own = _package(thing) if isinstance(thing, DEFINED) else ""
        self.parts, self.modules = list[str](), set[str]()
        self.met: dict[int, tuple[int, Any]] = {}  # by id; kept, so that no id is used twice
        self.take(thing)

    def take(self, thing: Any) -> None:
        self.parts.append(type(thing).__name__)
        if thing is None or isinstance(thing, bool | int | float | complex | str | bytes):
            self.parts.append(repr(thing))
        elif id(thing) in self.met:
            self.parts.append(f"met as {self.met[id(thing)][0]}")
        else:
            self.met[id(thing)] = len(self.met), thing
            self.open(thing)

    def open(self, thing: Any) -> None:
        if isinstance(thing, DEFINED):
            self.defined(thing)
        elif isinstance(thing, CodeType):
            self.parts.append(f"{thing.co_name} {thing.co_code.hex()} {thing.co_flags}")
            self.parts.append(f"{thing.co_names} {thing.co_varnames} {thing.co_argcount}")
            self.all(*thing.co_consts)
        elif isinstance(thing, staticmethod | classmethod):
            self.take(thing.__func__)
        elif isinstance(thing, property):
            self.all(thing.fget, thing.fset, thing.fdel)
        elif isinstance(thing, tuple | list):
            self.all(*thing)
        elif isinstance(thing, dict):
            self.all(*(part for item in thing.items() for part in item))
        elif isinstance(thing, set | frozenset):
            self.parts += sorted(map(repr, thing))
        else:
            self.reduced(thing)

    def reduced(self, thing: Any) -> None:
        """Any other object, by what pickle would make of it."""
        try:
            made = thing.__reduce_ex__(4)
        except Exception:
            rule = "a prior or data set must refer to values that can be pickled"
            raise ParameterError(f"{rule}, got one of {type(thing)}") from None
        if isinstance(made, str):  # only its name: a function of C, or one that wraps another
            self.all(made, getattr(thing, "__module__", ""), getattr(thing, "__wrapped__", None))
        else:
            self.all(*(list(part) if isinstance(part, Iterator) else part for part in made))

    def all(self, *things: Any) -> None:
        self.parts.append(f"{len(things)}")
        for thing in things:
            self.take(thing)

    def defined(self, thing: Any) -> None:
        """A class, a function or a module: in full if it is yours, else by name."""
        package, name = _package(thing), getattr(thing, "__qualname__", thing.__name__)
        if package != self.own and (known := _known(package)):
            self.parts.append(f"{known} {getattr(thing, '__module__', '')} {name}")
            return
        self.parts.append(name)
        if isinstance(thing, ModuleType):
            self.modules.add(thing.__name__)
            self.parts.append(Path(str(thing.__file__)).read_bytes().hex())
            return
        self.modules.add(thing.__module__)
        if isinstance(thing, type):
            self.all(*thing.__bases__)
            members = sorted(vars(thing).items())
            self.all(*(part for item in members if item[0] not in OF_NO_EFFECT for part in item))
        else:
            cells = [cell.cell_contents for cell in thing.__closure__ or ()]
            self.all(thing.__code__, thing.__defaults__, thing.__kwdefaults__, *cells)
            for name in sorted(_globals(thing.__code__) & thing.__globals__.keys()):
                self.all(name, thing.__globals__[name])


def _globals(code: CodeType) -> set[str]:
    """The names of globals that a function's code reads, in functions within it too."""
    names = {str(one.argval) for one in dis.get_instructions(code) if one.opname == "LOAD_GLOBAL"}
    return names.union(*(_globals(part) for part in code.co_consts if isinstance(part, CodeType)))


def _package(thing: Any) -> str:
    name = thing.__name__ if isinstance(thing, ModuleType) else thing.__module__
    return str(name).partition(".")[0]


@cache
def _known(package: str) -> str:
    """What tells the code of a package: its name and version; "" if it is not installed."""
    if package in sys.stdlib_module_names:
        return package
    found = sorted(packages_distributions().get(package, []))
    return " ".join(f"{name}=={version(name)}" for name in found)
