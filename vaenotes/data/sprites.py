"""Sprites: white squares, ellipses and hearts on black, drawn at any size from dSprites' factors.

Factors are drawn first, as indices into the grid of their values; pictures follow from them.
"""

import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from scipy import ndimage

from vaenotes.data.dataset import MOST, Dataset, Pairs, Pictures
from vaenotes.errors import LARGEST, check, check_int, number

# dSprites' factors and their values (Matthey et al. 2017).
FACTORS = ("shape", "scale", "orientation", "x", "y")
VALUES = (
    np.array([1.0, 2.0, 3.0]),  # square, ellipse, heart
    np.linspace(0.5, 1, 6),
    np.linspace(0, 2 * np.pi, 40),  # with both ends: the first and the last look alike
    np.linspace(0, 1, 32),
    np.linspace(0, 1, 32),
)
COUNTS = tuple(len(values) for values in VALUES)
GRID = math.prod(COUNTS)  # 737,280
LARGE = 2**28  # pixels; pictures that have more in all are made when they are asked for
CORRELATED = (("orientation", "x"),)  # and joined by an edge: the notes' graph
TWO_PAIRS = (("shape", "scale"), ("x", "y"))


def sprites(
    images: int = 10_000,
    size: int = 32,
    seed: int = 0,
    correlated: Pairs = CORRELATED,
    strength: float = 0.2,
    binary: bool = True,
) -> Dataset:
    """White squares, ellipses and hearts on black: dSprites' grid of factors, drawn at any size.

    images: how many are drawn, with replacement; where they have more than LARGE pixels in all,
    pictures are made when they are asked for. size: pixels of a side, 8..128.
    correlated: pairs of factors, each also an edge of the graph; strength: see `line`.
    binary: pixels are 0 or 255, else areas are averaged. Factors are indices, from 0.
    Raises ParameterError.
    """
    check_int("size", size, 8, 128)
    check_draw(images, seed, correlated, strength)
    indices = draw_indices(COUNTS, images, seed, correlated, strength)
    pictures: np.ndarray | Pictures
    if images * size**2 > LARGE:
        draw = functools.partial(_render_rows, size=size, binary=binary)
        pictures = Pictures(np.ravel_multi_index(tuple(indices.T), COUNTS), draw, size)
    else:
        pictures = render(indices, size, binary)
    return Dataset("sprites", pictures, indices.astype(np.float32), FACTORS, tuple(correlated))


def grey_sprites(**options: Any) -> Dataset:
    """`sprites` with pixels between black and white, where a shape covers part of them."""
    return sprites(binary=False, **options)


def paired_sprites(**options: Any) -> Dataset:
    """`sprites` with other correlated pairs, and so another graph: shape with scale, x with y."""
    return sprites(correlated=TWO_PAIRS, **options)


def _render_rows(rows: np.ndarray, size: int, binary: bool) -> np.ndarray:
    """`render` of rows of the grid, the last factor fastest: int (image,)."""
    return render(np.column_stack(np.unravel_index(rows, COUNTS)), size, binary)


def render(indices: np.ndarray, size: int = 32, binary: bool = True) -> np.ndarray:
    """Pictures of the factors' indices: int (image, 5) -> uint8 (image, size, size), 0 or 255, or
    all that is between them unless `binary`.
    """
    templates, offsets = _templates(size, binary)
    fine, side = templates.shape[-3], templates.shape[-1]
    images = np.zeros((len(indices), size, size), np.uint8)
    windows = sliding_window_view(images, (side, side), axis=(1, 2), writeable=True)
    for start in range(0, len(indices), 1024):  # what a block touches stays in the cache
        shape, scale, orientation, x, y = indices[start : start + 1024].T
        (column, dx), (row, dy) = divmod(offsets[x], fine), divmod(offsets[y], fine)
        patches = templates[shape, scale, orientation, dy, dx]
        windows[np.arange(start, start + len(patches)), row, column] = patches
    return images


@functools.lru_cache(maxsize=4)
def _templates(size: int, binary: bool) -> tuple[np.ndarray, np.ndarray]:
    """Every sprite, cut out, and where the 32 positions put it.

    Returns uint8 (shape, scale, orientation, dy, dx, side, side), for each place (dy, dx) of the
    cut-out's corner inside a pixel, and int (position,); places and positions are in fine pixels.
    """
    # The scene: fine x fine binary pixels to a pixel, as many as keep the 32 positions apart.
    fine = -(-32 // (size // 2))
    offsets = np.rint(np.linspace(0, fine * (size // 2) - 1, 32)).astype(int)
    # A cut-out is just over half as wide and holds the longest sprite; it moves over the rest.
    side = size - size // 2 + 1
    wide = fine * (side - 1) + 1
    x = (np.arange(wide) - (wide - 1) / 2) * 64 / (fine * size)  # pixel centres, scene 64 across
    y = -x[:, None]  # upwards
    scale = VALUES[1][:, None, None, None]
    cos, sin = (f(VALUES[2])[:, None, None] / scale for f in (np.cos, np.sin))
    lit = _shapes(cos * x + sin * y, cos * y - sin * x)
    templates = np.empty((*lit.shape[:3], fine, fine, side, side), np.uint8)
    for corner in np.ndindex(fine, fine):
        margins = [(0, 0)] * 3 + [(before, fine - 1 - before) for before in corner]
        templates[:, :, :, *corner] = area_average(np.pad(lit, margins), fine)
    if binary:
        templates = np.where(templates > 127, np.uint8(255), np.uint8(0))
    return templates, offsets


def _shapes(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Whether a point is in the square, ellipse, heart of scale 1: bool (shape, *u.shape).

    u to the right and v upwards, from the shape's centroid, in a scene that is 64 across.
    """
    # All have one area, so that it tells the scale alone; 410 puts no edge on a pixel's centre.
    area = 410.0
    square = np.maximum(abs(u), abs(v)) <= math.sqrt(area) / 2
    ellipse = np.hypot(u / 2, v) <= math.sqrt(area / (2 * math.pi))  # twice as long as high
    # The heart: a square on one corner, its tip, with half a disc on each of its upper edges.
    # low and high: coordinates along these, from the tip; those of the centroid equal `centre`.
    edge = math.sqrt(area / (1 + math.pi / 4))
    centre = edge * (7 / 12 + math.pi * 3 / 16) / (1 + math.pi / 4)
    low, high = (centre + (v + sign * abs(u)) / math.sqrt(2) for sign in (-1, 1))
    discs = np.hypot(low - edge / 2, high - edge) <= edge / 2
    return np.stack([square, ellipse, ((low >= 0) & (high <= edge)) | discs])


def area_average(lit: np.ndarray, fine: int) -> np.ndarray:
    """Area average of pixels 0 or 1: (..., fine * n, fine * n) -> uint8 (..., n, n), 0..255."""
    n = lit.shape[-1] // fine
    counts = lit.reshape(*lit.shape[:-2], n, fine, n, fine).sum(axis=(-3, -1))
    return np.rint(counts * 255 / fine**2).astype(np.uint8)


def draw_indices(
    counts: tuple[int, ...],
    images: int,
    seed: int | Sequence[int],
    correlated: Pairs = CORRELATED,
    strength: float = 0.2,
) -> np.ndarray:
    """Indices of FACTORS, int (image, factor), each below its count: uniform, and independent but
    for the correlated pairs, each of which is drawn from `line`."""
    rng = np.random.default_rng(seed)
    indices = np.column_stack([rng.integers(n, size=images) for n in counts])
    for a, b in (map(FACTORS.index, pair) for pair in correlated):
        weights = line(counts[a], counts[b], strength)
        cells = rng.choice(weights.size, images, p=weights.ravel())
        indices[:, a], indices[:, b] = np.divmod(cells, counts[b])
    return indices


def line(rows: int, columns: int, strength: float) -> np.ndarray:
    """Probabilities of a correlated pair of factors, float64 (rows, columns): a blurred line from
    corner to corner, without mass far from it; from a strength of 1 on, all cells alike.

    As in the notes' system, whose data come from a variant of Träuble et al. 2021: the line is
    ceil(strength x shorter side) cells wide, its blur a Gaussian window of a quarter of that side.
    """
    shorter = min(rows, columns)
    if strength >= 1:
        return np.full((rows, columns), 1 / (rows * columns))
    row, column = np.indices((rows, columns))
    away = abs(row * columns - column * rows) / math.hypot(rows, columns)
    weights = (away <= max(math.ceil(strength * shorter), 1) / 2).astype(float)
    reach = shorter // 4 // 2  # of the window, cells on either side
    if reach:
        sigma = 0.3 * (reach - 1) + 0.8
        weights = ndimage.gaussian_filter(weights, sigma, radius=reach, mode="mirror")
    return weights / weights.sum()


def check_draw(images: int, seed: int, correlated: Pairs, strength: float) -> None:
    """Raise ParameterError unless factors can be drawn so."""
    check_int("images", images, 1, MOST)
    check_int("seed", seed, 0, LARGEST)
    check(0 < number(strength) < math.inf, "strength must be a positive number", strength)
    try:
        pairs = correlated if isinstance(correlated, tuple | list) else [()]
        members = [FACTORS.index(name) for a, b in pairs for name in (a, b)]
    except (TypeError, ValueError):  # no pairs, or no factors
        members = [0, 0]
    fits = len(set(members)) == len(members)
    check(fits, f"correlated must be pairs of {', '.join(FACTORS)}, none twice", correlated)
