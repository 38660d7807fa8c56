"""The one exception that bad input raises."""


class ParameterError(ValueError):
    """Bad input, told in one line: the argument, its value, and what is allowed."""

    def _render_traceback_(self) -> list[str]:
        # IPython calls this: a notebook then shows the line itself, not our stack.
        return [f"ParameterError: {self}"]
