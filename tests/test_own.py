"""Priors and data sets of one's own: stored by version, and known to workers."""

import functools
import pickle

import numpy as np
import pytest

from vaenotes.config import Config
from vaenotes.data.load import DATASETS
from vaenotes.data.sprites import sprites
from vaenotes.errors import ParameterError
from vaenotes.kl import Diagonal
from vaenotes.lab import runs, workers
from vaenotes.lab.store import Store
from vaenotes.priors import PRIORS, DiagonalPrior
from vaenotes.report.settings import Settings

SMALL = {"images": 128, "size": 16, "hidden": 8, "epochs": 2, "batch": 64}
SOURCE = """
import numpy as np
import torch
from vaenotes.data.dataset import Dataset
from vaenotes.kl import Diagonal
from vaenotes.priors import DiagonalPrior

FLOOR = -2.0

class Floored(DiagonalPrior):
    version = "1"
    def forward(self, noise, factors, z):
        return Diagonal(self.mean, torch.full_like(self.logvar, FLOOR).maximum(self.logvar))

def squares(images, size, seed=0):
    factors = np.random.default_rng(seed).random((images, 2), dtype=np.float32)
    pictures = np.zeros((images, size, size), np.uint8)
    for picture, (x, y) in zip(pictures, (factors * (size - 4)).astype(int)):
        picture[y : y + 4, x : x + 4] = 255
    return Dataset("squares", pictures, factors, ("x", "y"), (("x", "y"),))

squares.version = "1"
"""


@pytest.fixture
def register(monkeypatch):
    def register(*changes):
        """What a notebook registers after a cell with this source, so changed."""
        source, space = SOURCE, {"__name__": "__main__"}
        for old, new in changes:
            assert source.count(old) == 1
            source = source.replace(old, new)
        exec(source, space)
        monkeypatch.setitem(PRIORS, "floored", space["Floored"])
        monkeypatch.setitem(DATASETS, "squares", space["squares"])
        return Config(**SMALL, prior="floored", data="squares")

    return register


def stored(store):
    return len(list(store.folder.glob("*.npz")))


def test_a_registered_name_is_allowed_and_others_are_still_refused(register):
    register()
    assert Settings(prior="floored", data="squares").prior == "floored"
    with pytest.raises(ParameterError, match=r"prior must be .*standard, floored, got 'flor"):
        Config(prior="flor")


@pytest.mark.parametrize(
    ("edit", "version"),
    [
        (("(self.mean,", "(self.mean + 1,"), ('version = "1"\n    def', 'version = "2"\n    def')),
        (("] = 255", "] = 128"), ('squares.version = "1"', 'squares.version = "2"')),
    ],
    ids=["prior", "data"],
)
def test_a_version_is_trained_once_and_another_version_anew(register, tmp_path, edit, version):
    store = Store(tmp_path)
    first = runs.run([register()], store)
    assert runs.run([register()], store).identical(first) and stored(store) == 1
    other = runs.run([register(edit, version)], store)
    assert stored(store) == 2 and not np.array_equal(first.kl_nats, other.kl_nats)
    assert runs.run([register()], store).identical(first)


@pytest.mark.parametrize(
    "version", ['    version = "1"\n', 'squares.version = "1"'], ids=["prior", "data"]
)
def test_what_has_no_version_is_trained_in_every_call_and_not_stored(
    register, tmp_path, monkeypatch, version
):
    monkeypatch.setenv("VAENOTES_PROGRESS", str(tmp_path / "progress"))
    (tmp_path / "progress").touch()
    store, config = Store(tmp_path), register((version, ""))
    first = runs.run([config, config], store)
    edit = ("] = 255", "] = 128")  # as in a cell that is run again
    other = runs.run([register((version, ""), edit)], store)
    assert not np.array_equal(first.kl_nats[0], other.kl_nats[0])
    assert stored(store) == 0 and runs.store_key(config) is None
    assert "not stored, as it has no version" in (tmp_path / "progress").read_text()


def test_a_version_is_a_string_and_a_name_of_the_librarys_own_may_be_taken(register, monkeypatch):
    before = runs.store_key(Config(prior="diagonal"))
    with pytest.raises(ParameterError, match="version must be a string, got 1"):
        runs.store_key(register(('version = "1"\n    def', "version = 1\n    def")))
    register()
    monkeypatch.setitem(PRIORS, "diagonal", PRIORS["floored"])
    assert runs.store_key(Config(prior="diagonal")) != before
    monkeypatch.setitem(PRIORS, "diagonal", DiagonalPrior)
    assert runs.store_key(Config(prior="diagonal")) == before


def test_a_version_of_a_parent_or_of_what_is_wrapped_is_theirs(register, monkeypatch):
    config = register()
    assert runs.store_key(config) is not None
    parent, wrapped = PRIORS["floored"], DATASETS["squares"]

    class Changed(parent):
        def forward(self, noise, factors, z):
            return Diagonal(self.mean + 1, self.logvar)

    @functools.wraps(wrapped)
    def changed(images, size, seed=0):
        return wrapped(images, size, seed + 1)

    @functools.wraps(sprites)
    def other(images, size, seed=0):
        return sprites(images, size, seed + 1)

    for table, name, own in (
        (PRIORS, "floored", Changed), (DATASETS, "squares", changed), (DATASETS, "squares", other)
    ):  # fmt: skip
        with monkeypatch.context() as patch:
            patch.setitem(table, name, own)
            assert runs.store_key(config) is None
            own.version = "2"
            assert runs.store_key(config) is not None


@pytest.mark.slow
def test_workers_train_with_it_and_give_the_same_bits(register, tmp_path, monkeypatch):
    """In processes of their own, which have never heard of it."""
    configs = [register(), Config(**SMALL, prior="diagonal", data="squares")]
    with pytest.raises(pickle.PicklingError):
        pickle.dumps(PRIORS["floored"])  # by its name: there is none in another __main__
    alone = runs.fetch(configs, Store(tmp_path / "alone"))
    monkeypatch.setattr(workers, "WORTH_PROCESSES", 0)
    monkeypatch.setattr(workers, "cpu_count", lambda: 2)
    found = runs.fetch(configs, Store(tmp_path / "workers"))
    for config in configs:
        one, other = alone[config].arrays, found[config].arrays
        assert {name for name in one if one[name].tobytes() != other[name].tobytes()} == set()
