"""Data whose own dimension or spectrum is known, for the checks against theory and papers.

A vector is an image of height 1. `VECTORS` lists the sets by name; `data.load` finds them there.
"""

from collections.abc import Callable
from functools import partial

import numpy as np

from vaenotes.data.dataset import MOST, Dataset
from vaenotes.data.digits import OPTDIGITS_IMAGES, read_optdigits
from vaenotes.errors import LARGEST, check_int

LONGEST = 1024  # numbers of a vector
CONDITION = 5  # how many coordinates of a manifold a prior may be shown


def optdigits(images: int = OPTDIGITS_IMAGES, size: int = 8, seed: int = 0) -> Dataset:
    """Handwritten digits of 8 by 8 pixels in 0..1, as scikit-learn ships them (UCI's optdigits)."""
    check_int("size", size, 8, 8)
    sixteenths, digits = read_optdigits(images, seed)
    pixels = (sixteenths / 16).astype(np.float32)
    return Dataset("optdigits", pixels, _column(digits), ("digit",), ())


def linear(rank: int, images: int = 10_000, size: int = 20, seed: int = 0) -> Dataset:
    """x = (A u, 0, ..., 0), u ~ N(0, I) of `rank` numbers, A square of independent N(0, 1), no
    noise: as in the code of Koehler et al. 2022 (arXiv 2112.06868). size: length of x; factor:
    the first of u."""
    _check(rank, images, size, seed)
    rng = np.random.default_rng(seed)
    u = rng.standard_normal((images, rank))
    x = np.zeros((images, size))
    x[:, :rank] = u @ rng.standard_normal((rank, rank))
    return Dataset(f"linear_{rank}", _rows(x), _column(u[:, 0]), ("u1",), ())


def manifold(rank: int, images: int = 10_000, size: int = 20, seed: int = 0) -> Dataset:
    """x = sigmoid(A u + b): a curved manifold of `rank` dimensions, as in the code of Zheng et al.
    2022 (arXiv 2302.11756). size: length of x.

    u: a mixture of five Gaussians of random means, widths and weights, plus N(0, I). A, b: uniform
    in +-1 / sqrt(rank). factors: the first CONDITION of u, again from the first where u is shorter.
    """
    _check(rank, images, size, seed)
    rng = np.random.default_rng(seed)
    means, log_widths = rng.standard_normal((2, 5, rank))
    part = rng.choice(5, images, p=np.array([2, 3, 5, 3, 2]) / 15)
    u = means[part] + np.exp(log_widths[part]) * rng.standard_normal((images, rank))
    u += rng.standard_normal((images, rank))
    weight, bias = np.split(rng.uniform(-1, 1, (rank + 1, size)) / np.sqrt(rank), [rank])
    x = 1 / (1 + np.exp(-u @ weight - bias))
    shown = u[:, np.arange(CONDITION) % rank].astype(np.float32)
    names = tuple(f"u{i + 1}" for i in range(CONDITION))
    return Dataset(f"manifold_{rank}", _rows(x), shown, names, ())


def _check(rank: int, images: int, size: int, seed: int) -> None:
    check_int("images", images, 1, MOST)
    check_int("size", size, rank, LONGEST)
    check_int("seed", seed, 0, LARGEST)


def _rows(x: np.ndarray) -> np.ndarray:
    return x.astype(np.float32)[:, None, :]


def _column(values: np.ndarray) -> np.ndarray:
    return values.astype(np.float32)[:, None]


VECTORS: dict[str, Callable[..., Dataset]] = {
    "optdigits": optdigits,
    **{f"linear_{rank}": partial(linear, rank) for rank in (3, 6, 9, 12)},
    **{f"manifold_{rank}": partial(manifold, rank) for rank in range(2, 11)},
}
