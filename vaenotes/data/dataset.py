"""What a data set is: images, the factors behind them, and a default DAG over those factors."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from vaenotes.errors import check, check_edges

Pairs = tuple[tuple[str, str], ...]
VECTOR_BYTES = 24  # for each number of a vector: float32, and what it is computed from in float64


def load_bytes(images: int, each: int) -> int:
    """About what it takes to load a data set: `each` image, and what its factors are made from."""
    return int(images) * (int(each) + 200)


@dataclass(frozen=True, eq=False)
class Pictures:
    """Pictures that are made when they are asked for, and indexed like an array of them, uint8
    (image, size, size). rows: int (image,), of what each is made; draw: such rows -> pictures."""

    rows: np.ndarray
    draw: Callable[[np.ndarray], np.ndarray]
    size: int
    dtype: ClassVar[np.dtype] = np.dtype(np.uint8)
    ndim: ClassVar[int] = 3

    @property
    def shape(self) -> tuple[int, int, int]:
        return len(self.rows), self.size, self.size

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, chosen: Any) -> np.ndarray:
        rows = self.rows[chosen]
        return self.draw(rows.reshape(-1)).reshape(*rows.shape, self.size, self.size)


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images and the factors behind them; raises ParameterError if the parts do not fit.

    images: (image, height, width), pictures as uint8 in 0..255, other data as finite float32; an
    array, or Pictures where that would be too large.
    factors: float32 (image, node), raw values.
    edges: the default DAG, as (parent, child) names of factors.
    """

    name: str
    images: np.ndarray | Pictures
    factors: np.ndarray
    factor_names: tuple[str, ...]
    edges: Pairs

    def __post_init__(self) -> None:
        images, factors, names = self.images, self.factors, self.factor_names
        fits = isinstance(images, np.ndarray | Pictures) and images.dtype in (np.uint8, np.float32)
        fits = fits and images.ndim == 3 and math.prod(images.shape) > 0
        rule = "images must be uint8 or float32 (image, height, width), none of them 0"
        check(fits, rule, images)
        if isinstance(images, np.ndarray) and images.dtype == np.float32:
            largest = float(abs(images).max())  # nan if there is any
            check(math.isfinite(largest), "images must be finite", largest)
        fits = isinstance(names, tuple) and all(isinstance(name, str) for name in names)
        rule = "factor_names must be a tuple of names, all different"
        check(fits and len(set(names)) == len(names) > 0, rule, names)
        fits = isinstance(factors, np.ndarray) and factors.dtype == np.float32
        fits = fits and factors.shape == (len(images), len(names))
        check(fits, f"factors must be float32 {(len(images), len(names))}", factors)
        largest = float(abs(factors).max(initial=0))  # nan if there is any
        check(math.isfinite(largest), "factors must be finite", largest)
        check_edges(self.edges, names)

    @property
    def moments(self) -> dict[str, Any]:
        """Mean and std of each factor over the images (1 if constant), float64 (node,), as the
        arguments of `VAE` that bring standardised factors back to raw ones."""
        wide = self.factors.astype(np.float64)  # sums a constant exactly, so that its std is 0
        std = wide.std(axis=0)
        return {"factor_mean": wide.mean(axis=0), "factor_std": np.where(std > 0, std, 1)}

    @property
    def standard_factors(self) -> np.ndarray:
        """Factors with mean 0, std 1 over the images (0 if constant): float32 (image, node)."""
        mean, std = self.moments.values()
        return ((self.factors.astype(np.float64) - mean) / std).astype(np.float32)
