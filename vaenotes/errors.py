"""The exceptions that are told in one line: of bad input, with the checks that most often raise it,
of a store and of a cluster that fail."""

import difflib
import math
from collections.abc import Iterable, Sequence
from contextlib import suppress
from graphlib import CycleError, TopologicalSorter
from numbers import Integral, Real
from typing import Any

LARGEST = 2**63 - 1  # what an integer of torch and numpy can hold
LARGEST_FLOAT = 3.4e38  # and a float32


class OneLine(Exception):
    """An error that says all there is to say in one short line."""

    def __init__(self, message: str):
        line = " ".join(message.split())  # what is quoted in it may be anything
        super().__init__(line if len(line) <= 800 else f"{line[:500]} ... {line[-200:]}")

    def _render_traceback_(self) -> list[str]:
        # IPython calls this: a notebook then shows the line itself, not our stack.
        return [f"{type(self).__name__}: {self}"]


class ParameterError(OneLine, ValueError):
    """Bad input: the argument, its value, and what is allowed."""


class StoreError(OneLine, RuntimeError):
    """Results cannot be kept or read: the folder or the file, and what the system says."""


class ClusterError(OneLine, RuntimeError):
    """Workers, of this machine or others, cannot train: which, and why."""


def shown(value: Any) -> str:
    """What an error shows of a value: its repr, of an array its kind and shape."""
    try:
        return f"{value.dtype} {value.shape}" if getattr(value, "ndim", 0) else repr(value)
    except Exception:  # anything may be passed; an int may even be too long for its own repr
        return f"a value of type {type(value).__name__}"


def check(fits: bool, rule: str, got: Any) -> None:
    """Raise ParameterError unless it fits."""
    if not fits:
        raise ParameterError(f"{rule}, got {shown(got)}")


def check_choice(argument: str, value: object, allowed: Iterable[str], *also: str) -> None:
    """Raise ParameterError unless value is one of `allowed`; `also` is what else may be named."""
    names = [name for name in allowed if isinstance(name, str)]  # of a table that anybody fills
    if not (isinstance(value, str) and value in names):  # an array is compared entry by entry
        choices = ", ".join([*names, *also])
        got = f"{shown(value)}{meant(value, names)}"
        raise ParameterError(f"{argument} must be one of {choices}, got {got}")


def meant(value: object, names: Iterable[str]) -> str:
    """What an error adds where a name looks misspelt: "; did you mean 'seeds'?", or nothing."""
    close = difflib.get_close_matches(value, names, n=1) if isinstance(value, str) else []
    return f"; did you mean {close[0]!r}?" if close else ""


def check_int(name: str, value: Any, low: int, high: float = math.inf) -> None:
    """Raise ParameterError unless value is a whole number in low..high."""
    whole = isinstance(value, Integral) and not isinstance(value, bool)
    allowed = f"of at least {low}" if high == math.inf else f"in {low}..{high}"
    check(whole and low <= value <= high, f"{name} must be an integer {allowed}", value)


def check_number(name: str, value: Any, low: float = -LARGEST_FLOAT) -> None:
    """Raise ParameterError unless value is a number, not nan, from low to what float32 holds."""
    rule = f"{name} must be a finite number in {low:g}..{LARGEST_FLOAT:g}"
    check(low <= number(value) <= LARGEST_FLOAT, rule, value)


def number(value: Any) -> float:
    """A real number as a float; nan for what is none, or is too large for one."""
    if isinstance(value, Real) and not isinstance(value, bool):
        with suppress(OverflowError):
            return float(value)
    return math.nan


def check_edges(edges: Any, nodes: Sequence[str] | None = None) -> None:
    """Raise ParameterError unless edges are (parent, child) pairs, each of two nodes (None: of any
    two names), that are all different and form no cycle."""
    rule = f"edges must be (parent, child) pairs of {', '.join(nodes or ['names'])}"
    check(isinstance(edges, tuple | list), rule, edges)
    parents: dict[str, list[str]] = {}
    for edge in edges:
        fits = isinstance(edge, tuple | list) and len(edge) == 2
        fits = fits and all(isinstance(name, str) for name in edge)
        check(fits and (nodes is None or set(edge) <= set(nodes)), rule, edge)
        parent, child = edge
        known = parents.setdefault(child, [])
        check(parent not in known, "edges must all be different", edge)
        known.append(parent)
    try:
        TopologicalSorter(parents).prepare()
    except CycleError as error:
        # graphlib lists a cycle from child to parent; an arrow here points to the child.
        cycle = " -> ".join(reversed(error.args[1]))
        raise ParameterError(f"edges must form no cycle, got {cycle}") from None
