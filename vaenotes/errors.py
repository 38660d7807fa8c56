"""The exceptions that are told in one line: of bad input, with the checks that most often raise it,
and of a store that fails."""

import math
from collections.abc import Iterable
from numbers import Integral
from typing import Any


class OneLine(Exception):
    """An error that says all there is to say in one line."""

    def _render_traceback_(self) -> list[str]:
        # IPython calls this: a notebook then shows the line itself, not our stack.
        return [f"{type(self).__name__}: {self}"]


class ParameterError(OneLine, ValueError):
    """Bad input: the argument, its value, and what is allowed."""


class StoreError(OneLine, RuntimeError):
    """Results cannot be kept or read: the folder or the file, and what the system says."""


def check_choice(argument: str, value: object, allowed: Iterable[str], *also: str) -> None:
    """Raise ParameterError unless value is one of `allowed`; `also` is what else may be named."""
    names = list(allowed)  # a list: the value may be unhashable
    if value not in names:
        choices = ", ".join([*names, *also])
        raise ParameterError(f"{argument} must be one of {choices}, got {value!r}")


def check(fits: bool, rule: str, got: Any) -> None:
    """Raise ParameterError unless it fits; of an array the kind and shape are shown."""
    if not fits:
        shown = f"{got.dtype} {got.shape}" if getattr(got, "ndim", 0) else repr(got)
        raise ParameterError(f"{rule}, got {shown}")


def check_int(name: str, value: Any, low: int, high: float = math.inf) -> None:
    """Raise ParameterError unless value is a whole number in low..high."""
    whole = isinstance(value, Integral) and not isinstance(value, bool)
    allowed = f"of at least {low}" if high == math.inf else f"in {low}..{high}"
    check(whole and low <= value <= high, f"{name} must be an integer {allowed}", value)
