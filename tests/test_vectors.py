"""Data sets whose own dimension is known have it."""

import numpy as np
import pytest

from vaenotes.data.load import load
from vaenotes.data.vectors import CONDITION
from vaenotes.errors import ParameterError


def vectors(name, **options):
    dataset = load(name, images=500, **options)
    return dataset, dataset.images.reshape(500, -1)


@pytest.mark.parametrize("rank, size", [(3, 12), (9, 20), (12, 20)])
def test_linear_data_have_their_rank_and_no_noise(rank, size):
    dataset, x = vectors(f"linear_{rank}", size=size)
    assert x.shape == (500, size) and x.dtype == np.float32
    singular = np.linalg.svd(x.astype(float), compute_uv=False)
    assert (singular > 1e-4 * singular[0]).sum() == rank
    assert not x[:, rank:].any()
    # the factor is one of the numbers that the rest is linear in
    u = dataset.factors.astype(float)
    fit, *_ = np.linalg.lstsq(x[:, :rank].astype(float), u, rcond=None)
    np.testing.assert_allclose(x[:, :rank] @ fit, u, atol=1e-2)


@pytest.mark.parametrize("rank", [2, 10])
def test_manifolds_are_flat_before_the_sigmoid(rank):
    dataset, x = vectors(f"manifold_{rank}")
    assert x.min() > 0 and x.max() < 1
    flat = np.log(x.astype(float)) - np.log1p(-x.astype(float))
    singular = np.linalg.svd(flat - flat.mean(0), compute_uv=False)
    assert (singular > 1e-3 * singular[0]).sum() == rank
    assert np.linalg.matrix_rank(x - x.mean(0)) > rank  # but curved after it
    assert dataset.factors.shape == (500, CONDITION)
    assert len(np.unique(dataset.factors[0])) == min(rank, CONDITION)


def test_digits_are_sixteenths():
    dataset, x = vectors("optdigits", size=8)
    assert set(np.unique(x * 16)) == set(range(17))
    assert set(np.unique(dataset.factors)) == set(range(10))


@pytest.mark.parametrize("name", ["optdigits", "linear_3", "manifold_4"])
def test_a_set_depends_on_its_seed_alone(name):
    size = 8 if name == "optdigits" else 20
    once, again, other = (load(name, images=70, size=size, seed=s).images for s in (1, 1, 2))
    np.testing.assert_array_equal(once, again)
    assert not np.array_equal(once, other)


@pytest.mark.parametrize(
    "name, options, message",
    [
        ("linear_9", {"size": 8}, "size must be an integer in 9..1024, got 8"),
        ("optdigits", {"size": 16}, r"size must be an integer in 8\.\.8"),
        ("linear_3", {"images": np.int64(-7)}, r"in 1\.\.10000000, got np\.int64\(-7\)"),
    ],
)
def test_bad_arguments_are_one_clear_line(name, options, message):
    with pytest.raises(ParameterError, match=message):
        load(name, **{"images": 100} | options)
