"""What a data set is: images, the factors behind them, and a default DAG over those factors; and
how replicas are shown it, batch by batch.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from vaenotes.errors import check, check_edges, check_int

Pairs = tuple[tuple[str, str], ...]
MOST = 10_000_000  # images of a data set; more are refused before anything is allocated
SMALL = 2**24  # numbers; images no more than that are held as float32, larger sets as uint8


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

    images: (image, height, width), pictures as uint8 in 0..255, other data as finite float32, in
    0..1 for a Bernoulli likelihood; an array without a mask, or Pictures where it would be too
    large.
    factors: float32 (image, node), raw values.
    edges: the default DAG, as (parent, child) names of factors.
    held_out: the last so many images are kept back from training, and measured on; `lab` sets it.
    """

    name: str
    images: np.ndarray | Pictures
    factors: np.ndarray
    factor_names: tuple[str, ...]
    edges: Pairs
    held_out: int = 0

    def __post_init__(self) -> None:
        images, factors, names = self.images, self.factors, self.factor_names
        for name, array in ("images", images), ("factors", factors):
            check(not np.ma.isMaskedArray(array), f"{name} must have no mask", array)
        fits = isinstance(images, np.ndarray | Pictures) and images.dtype in (np.uint8, np.float32)
        fits = fits and images.ndim == 3 and math.prod(images.shape) > 0
        rule = "images must be uint8 or float32 (image, height, width), none of them 0"
        check(fits, rule, images)
        if isinstance(images, np.ndarray):
            largest = float(images.max() if images.dtype == np.uint8 else abs(images).max())
            check(math.isfinite(largest), "images must be finite", largest)  # nan if any is
            rule = "uint8 images must be in 0..255 (those in 0..1 are float32)"
            check(images.dtype != np.uint8 or largest != 1, rule, "no more than 1")
        fits = isinstance(names, tuple) and all(isinstance(name, str) for name in names)
        rule = "factor_names must be a tuple of names, all different"
        check(fits and len(set(names)) == len(names) > 0, rule, names)
        fits = isinstance(factors, np.ndarray) and factors.dtype == np.float32
        fits = fits and factors.shape == (len(images), len(names))
        check(fits, f"factors must be float32 {(len(images), len(names))}", factors)
        largest = float(abs(factors).max(initial=0))  # nan if there is any
        check(math.isfinite(largest), "factors must be finite", largest)
        check_edges(self.edges, names)
        check_int("held_out", self.held_out, 0, len(images) - 1)

    def check_fits(self, images: int, size: int, likelihood: str) -> None:
        """Raise ParameterError unless so many images of this size are trained on, and the
        likelihood is one of such numbers."""
        known, shape = len(self.places(self.trained_on)), self.images.shape[1:]
        check(known == images, f"a data set must have images={images} to train on", known)
        check(size in shape, f"a data set must have images of size={size}", shape)
        if likelihood == "bernoulli" and self.images.dtype == np.float32:
            least, most = float(self.images[:].min()), float(self.images[:].max())
            rule = "a data set's images must be in 0..1 where likelihood is bernoulli"
            check(least >= 0 and most <= 1, rule, (least, most))

    @property
    def trained_on(self) -> slice:
        """The places of the images that are trained on: the first."""
        return slice(len(self.images) - self.held_out)

    @property
    def measured_on(self) -> slice:
        """The places of those held out, or of all where none are."""
        return slice(len(self.images) - self.held_out if self.held_out else 0, None)

    def places(self, of: slice) -> range:
        """The places of some images, as `trained_on` and `measured_on` give them, one by one."""
        return range(len(self.images))[of]

    @property
    def moments(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and std of each factor over the images trained on (1 if constant), float64 (node,)
        each."""
        # in float64 a constant sums exactly, so that its std is 0
        wide = self.factors[self.trained_on].astype(np.float64)
        std = wide.std(axis=0)
        return wide.mean(axis=0), np.where(std > 0, std, 1)

    @property
    def standard_factors(self) -> np.ndarray:
        """Factors with mean 0, std 1 over the images trained on (0 if constant): float32
        (image, node)."""
        mean, std = self.moments
        return ((self.factors.astype(np.float64) - mean) / std).astype(np.float32)


class Pool:
    """Data sets of one shape, one for each replica, on a device. seen: the places of the images in
    each that are trained on; measured: of those measured on.

    A data set is held once, however many replicas use it; one that is too large to be held makes
    the pictures of a batch when the batch is asked for.
    """

    def __init__(self, datasets: Sequence[Dataset], device: str = "cpu"):
        self.sources, self.device = [dataset.images for dataset in datasets], device
        self.seen = [dataset.places(dataset.trained_on) for dataset in datasets]
        self.measured = [dataset.places(dataset.measured_on) for dataset in datasets]
        different = list(dict.fromkeys(datasets))  # one behind the other
        starts, end = {}, 0
        for dataset in different:
            starts[dataset], end = end, end + len(dataset.images)
        self.start = torch.tensor([[starts[dataset]] for dataset in datasets], device=device)
        factors = [torch.from_numpy(dataset.standard_factors) for dataset in different]
        self.factors = torch.cat(factors).to(device)  # (image, node)
        self.images: Tensor | None = None  # (image, pixel)
        held = [d.images for d in different if isinstance(d.images, np.ndarray)]
        arrays = [torch.from_numpy(np.ascontiguousarray(images)) for images in held]
        if len(arrays) == len(different):
            images = arrays[0] if len(arrays) == 1 else torch.cat(arrays)  # one is not copied
            self.images = images.flatten(1).to(device)
            if self.images.numel() <= SMALL:
                self.images = pixels(self.images)

    def batch(self, chosen: Tensor) -> tuple[Tensor, Tensor]:
        """Images (replica, image, pixel), in 0..1, and standardised factors (replica, image, node)
        of the numbers `chosen` (replica, image)."""
        places = (self.start + chosen).flatten()
        factors = self.factors.index_select(0, places).unflatten(0, chosen.shape)
        if self.images is not None:
            images = self.images.index_select(0, places).unflatten(0, chosen.shape)
        else:
            rows = chosen.numpy(force=True)
            made = np.stack([source[row] for source, row in zip(self.sources, rows, strict=True)])
            images = torch.from_numpy(made).flatten(2).to(self.device)
        return pixels(images), factors


def batches(count: int, batch: int, steps: int, repeats: int, generator: torch.Generator) -> Tensor:
    """Which of `count` images are shown in so many steps, (step, image): passes over all of them,
    each in an order drawn anew; or batches in the order of the images, each `repeats` times in a
    row. A last short batch is left out."""
    whole = count // batch * batch
    if repeats > 1:
        places = torch.arange(steps) // repeats % (whole // batch)
        return torch.arange(whole).view(-1, batch)[places]
    passes = -(-steps * batch // whole)
    drawn = [torch.randperm(count, generator=generator)[:whole] for _ in range(passes)]
    return torch.cat(drawn).view(-1, batch)[:steps]


def pixels(images: Tensor) -> Tensor:
    """uint8 0..255 -> float32 0..1; float32 as it is."""
    return images.float().div_(255) if images.dtype == torch.uint8 else images
