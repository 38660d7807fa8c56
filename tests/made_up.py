"""What tests pass: data of which nothing is to be learned, and anything at all."""

import math
import string
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

from vaenotes.data.dataset import Dataset
from vaenotes.errors import ParameterError


def blank(nodes, pixels, edges=()) -> Dataset:
    """A data set that says no more than what the nodes are called and how many pixels there are;
    its factors' moments leave targets as they are."""
    side = math.isqrt(pixels)
    shape = (1, side, side) if side**2 == pixels else (1, 1, pixels)
    factors = np.zeros((1, len(nodes)), np.float32)
    return Dataset("blank", np.zeros(shape, np.uint8), factors, tuple(nodes), edges)


class Mute:
    """A value that cannot even be shown."""

    def __repr__(self) -> str:
        raise RuntimeError("no repr")


class Long:
    def __repr__(self) -> str:
        return "many\nlines\n" * 10_000


ANYTHING = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([-(2**63), -1, 0, 1, 2**31, 2**63 - 1, 2**63, 10**12, 10**400, 10**5000]),
    st.floats(),
    st.sampled_from([math.nan, math.inf, -math.inf, -0.0, 1e-320, 1e39, 1e300, -1e300]),
    st.text(),
    st.text(alphabet=string.ascii_letters + "\n\r\t\0\u2028 /.", max_size=8),
    st.sampled_from(["", "\n", "sprites\n", "a\nb" * 5000]),
    st.sampled_from([".npz", "x.npz", "\0.npz", "/" * 5000 + ".npz", "~/x.npz"]),
    st.binary(max_size=8),
    st.sampled_from(
        [Mute(), Long(), object(), Decimal("0.5"), Fraction(1, 3), 1j, Path("x.npz"), int, len, ...]
    ),
    st.sampled_from([np.int64(3), np.uint8(200), np.float32(0.5), np.float16("nan"), np.bool_(1)]),
    st.sampled_from([np.zeros(3), np.array(3), np.array(["mlp"]), torch.ones(2), torch.tensor(1)]),
    st.lists(st.integers() | st.text(max_size=3), max_size=3),
    st.lists(st.floats(), max_size=3).map(tuple),
    st.sampled_from([{}, {"a": 1}, set(), {"x", "y"}, frozenset("xy"), range(3), iter("ab")]),
    st.sampled_from([[[]], ((),), (("x",),), (("x", "y"), 3), [{}], ((1, 2),), "xy", ["xy"]]),
)  # fmt: skip


def drawn(examples: int) -> Callable:
    """Settings of hypothesis: so many examples, always the same ones."""
    return settings(
        max_examples=examples, deadline=None, derandomize=True, database=None,
        suppress_health_check=list(HealthCheck), phases=[Phase.generate],
    )  # fmt: skip


def some(values: dict[str, st.SearchStrategy], bad: st.SearchStrategy) -> st.SearchStrategy:
    """Some arguments, of which each may be bad."""
    return st.fixed_dictionaries({}, optional={name: s | bad for name, s in values.items()})


def one_bad(values: dict[str, st.SearchStrategy], bad: st.SearchStrategy) -> st.SearchStrategy:
    """One argument, most often a bad one."""
    return st.sampled_from(list(values)).flatmap(
        lambda name: st.tuples(st.just(name), bad | bad | values[name])
    )


def refusal(call: Callable[..., Any], *arguments: Any, **named: Any) -> str | None:
    """The line by which a call refuses its arguments, or None; any other exception fails."""
    try:
        call(*arguments, **named)
    except ParameterError as error:
        line = str(error)
        assert line and len(line) <= 800 and len(line.splitlines()) == 1 and line.isprintable()
        assert (" must " in line and ", got " in line) or " (allowed: " in line, line
        return line
    return None


def names(line: str | None, *arguments: str) -> bool:
    """Whether a refusal, if there is one, names one of these."""
    words = (line or "").replace(".", " ").replace(",", " ").replace("=", " ").split()
    return line is None or any(argument in words for argument in arguments)
