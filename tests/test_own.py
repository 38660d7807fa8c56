"""Priors and data sets of one's own: stored by version, and known to workers."""

import functools
import pickle
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from vaenotes.config import Config
from vaenotes.data.load import DATASETS
from vaenotes.data.sprites import sprites
from vaenotes.errors import ParameterError, StoreError
from vaenotes.kl import Diagonal
from vaenotes.lab import nails, runs, workers
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
WHITE = 255

class Floored(DiagonalPrior):
    version = "1"
    def forward(self, noise, factors, z):
        return Diagonal(self.mean, torch.full_like(self.logvar, FLOOR).maximum(self.logvar))

def squares(images, size, seed=0):
    factors = np.random.default_rng(seed).random((images, 2), dtype=np.float32)
    pictures = np.zeros((images, size, size), np.uint8)
    for picture, (x, y) in zip(pictures, (factors * (size - 4)).astype(int)):
        picture[y : y + 4, x : x + 4] = WHITE
    return Dataset("squares", pictures, factors, ("x", "y"), (("x", "y"),))

squares.version = "1"
"""
UNVERSIONED = ('squares.version = "1"', "")
SHIFTED = """
from vaenotes.kl import Diagonal
from vaenotes.priors import DiagonalPrior

class Shifted(DiagonalPrior):
    version = "1"
    def forward(self, noise, factors, z):
        return Diagonal(self.mean + 0, self.logvar)
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
        (("] = WHITE", "] = 128"), ('squares.version = "1"', 'squares.version = "2"')),
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
    first = runs.run_arms({"one": [config], "other": [config]}, store)["one"]
    edit = ("] = WHITE", "] = 128")  # as in a cell that is run again
    other = runs.run([register((version, ""), edit)], store)
    assert not np.array_equal(first.kl_nats[0], other.kl_nats[0])
    assert stored(store) == 0 and runs.store_key(config) is None
    assert "not stored, as it has no version" in (tmp_path / "progress").read_text()


def test_a_version_is_a_string_and_a_name_of_the_librarys_own_may_be_taken(register, monkeypatch):
    before = runs.store_key(Config(prior="diagonal"))
    with pytest.raises(ParameterError, match="version must be a string, and not empty, got 1"):
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


@pytest.mark.parametrize("version", ["", 'squares.version = "2"'], ids=["none", "another"])
@pytest.mark.attack("wrong")
def test_a_data_set_is_made_anew_though_its_function_is_the_same(register, tmp_path, version):
    """Which reads a global, say: with another version, or in every call where it has none."""
    store, config = Store(tmp_path / "store"), register(*([] if version else [UNVERSIONED]))
    squares = DATASETS["squares"]
    first = runs.run([config], store)
    squares.__globals__["WHITE"] = 128
    exec(version, squares.__globals__)
    (other,) = runs.fetch([config], store).values()
    assert runs.load_data(config).images.max() == 128
    expected = runs.fetch([register(("WHITE = 255", "WHITE = 128"))], Store(tmp_path / "anew"))
    right = expected[config].arrays["trace/kl_nats"]
    assert not np.array_equal(first.kl_nats[0], right)
    assert np.array_equal(other.arrays["trace/kl_nats"], right)


@pytest.mark.attack("wrong")
def test_a_bed_is_of_the_prior_as_it_is_now(register, tmp_path, monkeypatch):
    monkeypatch.setenv("VAENOTES_STORE", str(tmp_path))
    first = nails.bed_of(register())
    assert nails.bed_of(register()).identical(first)
    changed = register(("(self.mean,", "(self.mean + 1,"), ('"1"\n    def', '"2"\n    def'))
    assert not nails.bed_of(changed).identical(first)


@pytest.mark.attack("wrong")
def test_one_of_the_library_s_own_under_another_name_is_known_for_what_it_is(monkeypatch):
    keys = set()
    for name, own in (("mine", "diagonal"), ("mine", "nodes"), ("diagonal", "nodes")):
        with monkeypatch.context() as patch:
            patch.setitem(PRIORS, name, PRIORS[own])
            keys.add(runs.store_key(Config(**SMALL, prior=name)))
    for own in ("sprites", "grey_sprites"):
        monkeypatch.setitem(DATASETS, "mine", DATASETS[own])
        keys.add(runs.store_key(Config(**SMALL, data="mine")))
    assert len(keys | {runs.store_key(Config(**SMALL, prior="diagonal"))}) == 6

    class Pretends(DiagonalPrior):
        """As one whose file lies beside the library's."""

    for module in ("vaenotes.priors", "vaenotes.mine"):
        Pretends.__module__ = module
        monkeypatch.setitem(PRIORS, "mine", Pretends)
        assert runs.store_key(Config(**SMALL, prior="mine")) is None


@pytest.mark.attack("wrong")
def test_a_data_set_of_one_s_own_comes_before_one_of_theory_that_has_its_name(register, tmp_path):
    register()
    DATASETS["optdigits"] = DATASETS["squares"]  # which is gone with the fixture
    try:
        assert runs.load_data(Config(**SMALL, data="optdigits")).name == "squares"
    finally:
        del DATASETS["optdigits"]


@pytest.mark.attack("wrong")
def test_a_data_set_of_one_s_own_comes_before_a_file_of_its_name(register, tmp_path, monkeypatch):
    register()
    monkeypatch.chdir(tmp_path)
    Path("mine.npz").write_text("no archive")
    monkeypatch.setitem(DATASETS, "mine.npz", DATASETS["squares"])
    config = Config(**SMALL, data="mine.npz")
    assert runs.load_data(config).name == "squares"
    assert runs.store_key(config) is not None


@pytest.mark.attack("wrong")
def test_what_is_given_out_is_one_s_own_to_change(register):
    config = register()
    given = runs.load_data(config)
    given.images[:], given.factors[:] = 7, 7
    assert runs.load_data(config).images.max() == 255 and runs.load_data(config).factors.max() < 1


class Drawn:
    """A data set that is an object, or the method of a class."""

    version = "1"

    def __call__(self, images, size, seed=0):
        return DATASETS["squares"](images, size, seed)

    @classmethod
    def made(cls, images, size, seed=0):
        return DATASETS["squares"](images, size, seed)


@dataclass
class Versioned(Drawn):
    version: str = "1"


@pytest.mark.attack("wrong")
def test_a_data_set_may_be_an_object_whose_version_is_its_own(register, monkeypatch):
    register()
    monkeypatch.setattr(Drawn.made.__func__, "version", "1", raising=False)
    monkeypatch.setattr(Drawn.__call__, "version", "1", raising=False)
    for own, known in (
        (Versioned(), True), (Drawn(), False), (Drawn.made, False), (Versioned().__call__, False)
    ):  # fmt: skip
        monkeypatch.setitem(DATASETS, "mine", own)
        config = Config(**SMALL, data="mine")
        assert (runs.store_key(config) is not None) is known
        assert runs.load_data(config).images.max() == 255


@pytest.mark.attack("wrong")
def test_a_configuration_of_another_class_is_refused(tmp_path):
    class Longer(Config):
        epoch_images = 64

    for call in (lambda c: runs.run([c], Store(tmp_path)), runs.load_data, runs.store_key):
        with pytest.raises(ParameterError, match=r"^config must be a Config|agree in"):
            call(Longer(**SMALL))


@pytest.mark.attack("line")
def test_what_is_no_prior_or_data_set_is_named(register, monkeypatch):
    config = register()
    monkeypatch.setitem(PRIORS, 5, DiagonalPrior)
    with pytest.raises(ParameterError, match=r"^prior must be one of .*, floored, got 5$"):
        Config(prior=5)
    monkeypatch.setitem(PRIORS, "three", 3)
    with pytest.raises(ParameterError, match=r"^PRIORS\['three'\] must be a class, got 3$"):
        Config(prior="three")
    with monkeypatch.context() as patch:
        patch.delitem(PRIORS, "floored")
        with pytest.raises(ParameterError, match=r"^prior must be one of .*, got 'floored'"):
            runs.load_model(config)
    made = DATASETS["squares"]
    for own, words in (
        (lambda images, size: None, "must return a Dataset, got None"),
        (lambda images, size: made(500, size), "must return the 1152 images that it is asked for"),
        (lambda images, size: made(images, 28), "must return images of the size .*, 16, got"),
        (
            lambda images, size: replace(made(images, size), held_out=7),
            "must hold none out itself, .*, got 7",
        ),
        (3, "must be a function, got 3"),
    ):
        monkeypatch.setitem(DATASETS, "squares", own)
        with pytest.raises(ParameterError, match=f"^data set 'squares' {words}"):
            runs.load_data(config)


@pytest.mark.parametrize("processes", [False, True])
@pytest.mark.attack("hang")
def test_a_prior_that_trains_is_refused_and_one_that_finds_what_it_needs_is_not(
    processes, monkeypatch, tmp_path
):
    store, warm = Store(tmp_path), Config(**SMALL, prior="diagonal")

    class Warm(DiagonalPrior):
        def __init__(self, spec):
            super().__init__(spec)
            runs.run([warm], store)

    monkeypatch.setitem(PRIORS, "warm", Warm)
    config = Config(**SMALL, prior="warm")
    if processes:
        monkeypatch.setattr(workers, "WORTH_PROCESSES", 0)
        monkeypatch.setattr(workers, "cpu_count", lambda: 2)
    with pytest.raises(StoreError, match=r"^what a prior or a data set needs must be trained"):
        runs.run([config], store)
    runs.run([warm], store)
    assert runs.run([config], store)


@pytest.mark.attack("hang")
def test_a_data_set_that_trains_is_refused_too(register, monkeypatch, tmp_path):
    config, store, made = register(), Store(tmp_path), DATASETS["squares"]

    def trained(images, size, seed=0):
        runs.run([Config(**SMALL)], store)
        return made(images, size, seed)

    monkeypatch.setitem(DATASETS, "squares", trained)
    with pytest.raises(StoreError, match=r"^what a prior or a data set needs must be trained"):
        runs.run([config], store)


@pytest.mark.slow
@pytest.mark.attack("wrong")
def test_workers_have_a_prior_as_it_is_here_whatever_its_file_holds_by_now(tmp_path, monkeypatch):
    (tmp_path / "shifted.py").write_text(SHIFTED)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(PRIORS, "shifted", __import__("shifted").Shifted)
    (tmp_path / "shifted.py").write_text(SHIFTED.replace("+ 0", "+ 5"))
    config = Config(**SMALL, prior="shifted")
    alone = runs.fetch([config], Store(tmp_path / "alone"))[config].arrays
    monkeypatch.setattr(workers, "WORTH_PROCESSES", 0)
    monkeypatch.setattr(workers, "cpu_count", lambda: 2)
    found = runs.fetch([config], Store(tmp_path / "workers"))[config].arrays
    assert np.array_equal(found["trace/prior_mean"], alone["trace/prior_mean"])


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
