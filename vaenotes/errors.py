"""The one exception that bad input raises, and the check that most often raises it."""

from collections.abc import Iterable


class ParameterError(ValueError):
    """Bad input, told in one line: the argument, its value, and what is allowed."""

    def _render_traceback_(self) -> list[str]:
        # IPython calls this: a notebook then shows the line itself, not our stack.
        return [f"ParameterError: {self}"]


def check_choice(argument: str, value: object, allowed: Iterable[str], *also: str) -> None:
    """Raise ParameterError unless value is one of `allowed`; `also` is what else may be named."""
    names = list(allowed)  # a list: the value may be unhashable
    if value not in names:
        choices = ", ".join([*names, *also])
        raise ParameterError(f"{argument} must be one of {choices}, got {value!r}")
