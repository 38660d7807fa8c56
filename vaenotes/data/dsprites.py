"""dSprites' own pictures (Matthey et al. 2017), from its .npz file."""

import functools
import io
import math
import os
import zipfile
from collections.abc import Iterator
from typing import IO

import numpy as np

from vaenotes.data.dataset import MOST, Dataset, Pairs, Pictures
from vaenotes.data.sprites import CORRELATED, FACTORS, area_average, check_draw, draw_indices
from vaenotes.errors import ParameterError, check, shown


def dsprites(
    path: str,
    images: int = 10_000,
    size: int = 32,
    seed: int = 0,
    correlated: Pairs = CORRELATED,
    strength: float = 0.2,
    content: bytes | None = None,
) -> Dataset:
    """dSprites' own pictures (Matthey et al. 2017) from its .npz, drawn as `sprites` draws; where
    no fewer are drawn than the file has, all of it is kept as bits, unpacked when asked for.

    size: 8, 16, 32 or 64. content: the file's bytes, if they were read before. Nothing in it is
    unpickled.
    Raises ParameterError, also for whatever is wrong with the file.
    """
    check(type(size) is int and size in (8, 16, 32, 64), "size must be 8, 16, 32 or 64", size)
    check_draw(images, seed, correlated, strength)
    try:
        if content is None and not (isinstance(path, str) and os.path.isfile(path)):  # but a pipe
            raise OSError("there is no such file")
        with zipfile.ZipFile(path if content is None else io.BytesIO(content)) as archive:
            classes = _classes(archive)
            colours, *counts = (classes.max(axis=0) + 1).tolist()
            fits = colours == 1 and math.prod(counts) == len(classes)
            fits = fits and not (np.indices(counts).reshape(5, -1) != classes[:, 1:].T).any()
            check(fits, "its latents_classes must be a whole grid in order", classes)
            indices = draw_indices(tuple(counts), images, seed, correlated, strength)
            rows = np.ravel_multi_index(tuple(indices.T), counts)
            with archive.open("imgs.npy") as member:
                pictures = _pick(_blocks(member, len(classes)), len(classes), rows, size)
    except Exception as error:  # a strange file makes its readers raise almost anything
        reason = str(error) or type(error).__name__
        raise ParameterError(f"data must be dSprites' .npz, got {shown(path)}: {reason}") from error
    return Dataset("dsprites", pictures, indices.astype(np.float32), FACTORS, tuple(correlated))


def _classes(archive: zipfile.ZipFile) -> np.ndarray:
    """dSprites' latents_classes, int64 (row, 6); what its header claims is checked before it is
    read."""
    name = "latents_classes"
    with archive.open(f"{name}.npy") as member:
        shape, _, found = _header(member)
    fits = found == "int64" and shape[1:] == (6,) and shape[0] <= MOST
    check(fits, f"its {name} must be int64 (rows, 6), at most {MOST} rows", f"{found} {shape}")
    with archive.open(f"{name}.npy") as member:
        return np.lib.format.read_array(member, allow_pickle=False)


def _header(member: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Of an array in a file: its shape, whether it lies there by column, and its dtype."""
    np.lib.format.read_magic(member)
    return np.lib.format.read_array_header_1_0(member)


def _blocks(member: IO[bytes], total: int) -> Iterator[np.ndarray]:
    """dSprites' imgs, from its stream of bytes: uint8 (image, 64, 64), 0 or 1, block by block."""
    shape, by_column, dtype = _header(member)
    fits = dtype == np.uint8 and shape == (total, 64, 64) and not by_column
    check(fits, f"its imgs must be uint8 {(total, 64, 64)}, row by row", f"{dtype} {shape}")
    for start in range(0, total, 4096):
        count = min(4096, total - start)
        block = np.frombuffer(member.read(count * 64 * 64), np.uint8).reshape(count, 64, 64)
        brightest = int(block.max())
        check(brightest <= 1, "its imgs must be 0 or 1", brightest)
        yield block


def _pick(
    blocks: Iterator[np.ndarray], total: int, rows: np.ndarray, size: int
) -> np.ndarray | Pictures:
    """Some rows of dSprites' imgs: uint8 (image, size, size), 0..255."""
    if len(rows) >= total:
        packed = np.concatenate([np.packbits(block.reshape(-1, 64 * 64), 1) for block in blocks])
        return Pictures(rows, functools.partial(_unpack, packed, size), size)
    order = np.argsort(rows)
    pictures = np.empty((len(rows), size, size), np.uint8)
    start = 0
    for block in blocks:
        stop = start + len(block)
        wanted = order[slice(*np.searchsorted(rows, [start, stop], sorter=order))]
        pictures[wanted] = area_average(block[rows[wanted] - start], 64 // size)
        start = stop
    return pictures


def _unpack(packed: np.ndarray, size: int, rows: np.ndarray) -> np.ndarray:
    """Some rows of packed pictures (image, 64 * 64 / 8): uint8 (image, size, size), 0..255."""
    return area_average(np.unpackbits(packed[rows], axis=1).reshape(-1, 64, 64), 64 // size)
