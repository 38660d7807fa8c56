"""Names along axes, as frames, series and xarray's arrays have them. All is matched by place, so
names that differ are refused."""

from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from vaenotes.errors import ParameterError

Names = dict[int, tuple[str, pd.Index]]
"""By axis of the codes (sample, ...): which argument has them, and the names."""
COMPONENT = -1
"""The axis of a mixture's components."""
WORDS = {COMPONENT: "components", 0: "rows", 1: "columns"}
SHOWN = 10


def named(arguments: Mapping[str, Any], codes: tuple[int, ...]) -> Names:
    """Of the latent's axes, from all arguments of `diagnose`."""
    names: Names = {}
    mixture = arguments["prior_weights"] is not None
    for argument, value in arguments.items():
        every = _names(value)
        axes = _axes(argument, len(every), len(codes), mixture)
        for axis, own in zip(axes, every, strict=True):
            if axis == COMPONENT or (axis is not None and len(own) == codes[axis]):
                note(names, argument, axis, own, words=True)
    return {axis: name for axis, name in names.items() if axis > 0}


def note(names: Names, argument: str, axis: int, own: pd.Index, words: bool = False) -> None:
    """Raise ParameterError where the names that an argument has are not those known; if there are
    none but places, 0 and so on, these are known from now on. words: it may have words of its own
    for all, as sd_a beside mu_a."""
    of, known = names.get(axis, (argument, own))
    counted = [index.equals(pd.RangeIndex(len(index))) for index in (known, own)]
    alike = len(own) != len(known) or own.equals(known)
    shared = set(own) & set(known)
    free = any(counted) or (words and not shared)  # places, or other words
    if not alike and (len(shared) == len(own) or not free):
        which = slice(SHOWN)
        if len(own) > SHOWN:
            first = next(at for at in range(len(own)) if own[at] != known[at])
            which = slice(first, first + 1)
        before, got = (", ".join(map(str, index[which])) for index in (known, own))
        at = f" at {which.start}" if which.start is not None else ", in their order"
        what = WORDS.get(axis, f"names along axis {axis}")
        rule = f"{argument} must have the {what} of {of}, {before}{at}, or none"
        raise ParameterError(f"{rule}, got {got}")
    if axis not in names or (counted[0] and not counted[1]):
        names[axis] = argument, own


def check_different(argument: str, names: Iterable[str]) -> None:
    """Raise ParameterError where two dims would be one in a report, or in a logger."""
    own = list(names)
    if len({name.replace(",", "_") for name in own}) < len(own):
        rule = f"{argument} must have different names of dims, where ',' is as '_'"
        raise ParameterError(f"{rule}, got {', '.join(own)}")


def _names(value: Any) -> list[pd.Index]:
    """Along each axis; of what has no names an empty list."""
    if hasattr(value, "get_index") and isinstance(value.dims, tuple):  # an array of xarray
        return [value.get_index(axis) for axis in value.dims]
    if isinstance(value, pd.DataFrame | pd.Series):
        return list(value.axes)
    columns = getattr(value, "columns", None)  # of another library's frame
    if not isinstance(columns, list | pd.Index):
        return []
    return [pd.RangeIndex(len(value)), pd.Index(map(str, columns))]


def _axes(argument: str, own: int, codes: int, mixture: bool) -> list[int | None]:
    """Which axes of the codes an argument's own are; None: none of these, or a wrong one."""
    if argument == "prior_weights":
        return [COMPONENT, *[None] * own][:own]
    if argument == "weights":
        return [axis if axis < codes else None for axis in range(own)]
    if argument.endswith(("covariance", "cholesky")):
        flat = 1 if codes == 2 else None
        return [None, 0, flat, flat][-own:] if own in (2, 3) else [None] * own
    found = [axis if axis >= 0 else None for axis in range(codes - own, codes)]
    return [COMPONENT if axis == 0 and mixture and "prior" in argument else axis for axis in found]
