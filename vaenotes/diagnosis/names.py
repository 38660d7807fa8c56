"""Names of axes and along axes, as frames, series and xarray's arrays have them. All is matched by
place, so what names say otherwise is refused."""

from collections.abc import Hashable, Iterable, Mapping
from itertools import takewhile
from typing import Any, NamedTuple

import pandas as pd

from vaenotes.errors import ParameterError

COMPONENT = -1
"""The axis of a mixture's components."""
WORDS = {COMPONENT: "components", 0: "rows", 1: "columns"}
SHOWN = 10


class Own(NamedTuple):
    """What an argument says of one of its axes: its name and the labels along it, or None."""

    name: Hashable
    labels: pd.Index | None


class Names:
    """What is known of the axes of the codes (sample, ...): labels by axis, axes by name, each with
    the argument that said so first."""

    def __init__(self) -> None:
        self.labels: dict[int, tuple[str, pd.Index]] = {}
        self.axes: dict[Hashable, tuple[str, int]] = {}

    def note(self, argument: str, axis: int, own: Own, words: bool = False) -> None:
        """Raise ParameterError where an argument says otherwise; else what is new is known from now
        on. words: it may have other labels of dims for all, as sd_a beside mu_a, in one order."""
        if own.labels is not None:
            self._check_labels(argument, axis, own.labels, words)
            _, known = self.labels.get(axis, (argument, None))
            if known is None or (_places(known) and not _places(own.labels)):
                self.labels[axis] = argument, own.labels
        if own.name is not None:
            of, known_axis = self.axes.setdefault(own.name, (argument, axis))
            if axis != known_axis:
                rule = f"{argument} must have {own.name} as axis {known_axis}, as {of} has it"
                got = f"axis {axis}" if axis != COMPONENT else "that of the components"
                raise ParameterError(f"{rule}, got it as {got}")

    def _check_labels(self, argument: str, axis: int, own: pd.Index, words: bool) -> None:
        of, known = self.labels.get(axis, (argument, own))
        if not _fit(own, known, words, of_dims=axis > 0):
            what = WORDS.get(axis, f"names along axis {axis}")
            got, before = _apart(own, known)
            rule = f"{argument} must have the {what} of {of}, {before}"
            raise ParameterError(f"{rule}, or none, as .to_numpy() gives it, got {got}")

    def along(self, axes: tuple[int, ...]) -> "Names":
        """Those of some axes alone."""
        some = Names()
        some.labels = {axis: known for axis, known in self.labels.items() if axis in axes}
        some.axes = {name: known for name, known in self.axes.items() if known[1] in axes}
        return some

    def joined(self, more: "Names", of: str = "those before") -> "Names":
        """With those of a further batch, of other samples; of: what an error calls these."""
        both = Names()
        both.labels = {axis: (of, known) for axis, (_, known) in self.labels.items()}
        both.axes = {name: (of, axis) for name, (_, axis) in self.axes.items()}
        for axis, (_, own) in more.labels.items():
            both.note("posterior_mean", axis, Own(None, own))
        for name, (argument, axis) in more.axes.items():
            both.note(argument, axis, Own(name, None))
        return both


def named(arguments: Mapping[str, Any], codes: tuple[int, ...]) -> Names:
    """Of all arguments of `diagnose`; labels of the latent's axes alone."""
    names = Names()
    mixture = arguments["prior_weights"] is not None
    for argument, value in arguments.items():
        every = _own(value)
        axes = _axes(argument, len(every), len(codes), mixture)
        for axis, own in zip(axes, every, strict=True):
            if axis is not None:
                fits = own.labels is not None and len(own.labels) == codes[axis]
                labels = own.labels if fits or axis == COMPONENT else None
                names.note(argument, axis, Own(own.name, labels), words=True)
    names.labels = {axis: known for axis, known in names.labels.items() if axis > 0}
    return names


def check_different(argument: str, names: Iterable[str]) -> None:
    """Raise ParameterError where two dims would be one in a report, or in a logger."""
    own = list(names)
    if len({name.replace(",", "_") for name in own}) < len(own):
        rule = f"{argument} must have different names of dims, where ',' is as '_'"
        raise ParameterError(f"{rule}, got {', '.join(own)}")


def _fit(own: pd.Index, known: pd.Index, words: bool, of_dims: bool) -> bool:
    """Whether labels of one axis may stand for the same things in their order."""
    printed = [str(label) for label in own], [str(label) for label in known]
    if len(own) != len(known) or own.equals(known) or printed[0] == printed[1]:
        return True
    places = _places(own) or _places(known)
    if of_dims:
        one, two = _stems(own), _stems(known)
        free = (places or words) and (one == two or sorted(one) != sorted(two))
    else:  # places of a frame may be numbers that other rows had before some were left
        free = places and not (_numbers(own) and _numbers(known))
    return free and not {*printed[0]} & {*printed[1]}


def _apart(own: pd.Index, known: pd.Index) -> tuple[str, str]:
    """How both read in a message: of many labels the first that differ."""
    if len(own) <= SHOWN:
        own, known = (", ".join(map(str, labels)) for labels in (own, known))
        return own, f"{known}, in their order"
    pairs = ((str(one), str(two)) for one, two in zip(own, known, strict=True))
    return next((one, f"{two} at {at}") for at, (one, two) in enumerate(pairs) if one != two)


def _places(labels: pd.Index) -> bool:
    """Whether they are 0 and so on, as those of a frame to which none were given."""
    return labels.equals(pd.RangeIndex(len(labels)))


def _numbers(labels: pd.Index) -> bool:
    try:
        return bool(labels.astype(float).notna().all())
    except (TypeError, ValueError):
        return False


def _stems(labels: pd.Index) -> list[str]:
    """What tells them apart: 0 and 1 of mu_0 and mu_1, as of SD_0 and SD_1."""
    names = [str(label).casefold() for label in labels]
    for _ in range(2):  # from the left and, as both turn them round, from the right
        letters = zip(*names, strict=False)
        alike = list(takewhile(lambda each: len(set(each)) == 1, letters))
        names = [name[len(alike) :][::-1] for name in names]
    return names


def _own(value: Any) -> list[Own]:
    """Of each axis; of what has no names an empty list."""
    if isinstance(dims := getattr(value, "dims", None), tuple):  # an array of xarray
        names = [None if name == f"dim_{at}" else name for at, name in enumerate(dims)]
        indexes = map(getattr(value, "indexes", {}).get, dims)
        return list(map(Own, names, indexes))
    if isinstance(value, pd.DataFrame | pd.Series):
        return [Own(index.name, index) for index in value.axes]
    columns = getattr(value, "columns", None)  # of another library's frame
    if not isinstance(columns, list | pd.Index):
        return []
    return [Own(None, None), Own(None, pd.Index(map(str, columns)))]


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
