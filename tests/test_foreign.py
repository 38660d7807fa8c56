"""Priors and data sets of one's own: a change of theirs is never missed, and workers know them."""

import functools
import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from vaenotes.config import Config
from vaenotes.data import load as data
from vaenotes.errors import ParameterError
from vaenotes.lab import foreign, runs, workers
from vaenotes.lab.store import Store
from vaenotes.priors import PRIORS, DiagonalPrior
from vaenotes.report.settings import Settings

SMALL = {"images": 128, "size": 16, "hidden": 8, "epochs": 2, "batch": 64}
SOURCE = """
import functools
import numpy as np
import torch
from vaenotes.dataset import Dataset
from vaenotes.kl import Diagonal
from vaenotes.priors import DiagonalPrior

FLOOR = -2.0
TABLE = {"floor": np.array([-1.0, 0.5])}

class Scale:
    factor = 3.0
    def __call__(self, logvar):
        return logvar * self.factor

scale = Scale()

def more(number):
    return number + 1

def lowest(logvar):
    inner = lambda: torch.full_like(logvar, FLOOR + TABLE["floor"][0])
    return torch.maximum(scale(logvar) * more(1), inner())

class Floored(DiagonalPrior):
    \"\"\"Never narrower than FLOOR.\"\"\"
    def forward(self, noise, factors, z):
        return Diagonal(self.mean, lowest(self.logvar))
    @property
    def unused(self):
        return 1
    @staticmethod
    def also_unused():
        return 2

def squares(images, size, seed=0):
    rng = np.random.default_rng(seed)
    factors = rng.random((images, 2), dtype=np.float32)
    pictures = np.zeros((images, size, size), np.uint8)
    for picture, (x, y) in zip(pictures, (factors * (size - 4)).astype(int)):
        picture[y : y + 4, x : x + 4] = 255
    return Dataset("squares", pictures, factors, ("x", "y"), (("x", "y"),))
"""


def defined(source=SOURCE, name="__main__"):
    """What a notebook holds after this cell."""
    space = {"__name__": name}
    exec(compile(source, "a cell", "exec"), space)
    return space


@pytest.fixture
def register(monkeypatch):
    def register(space):
        monkeypatch.setitem(PRIORS, "floored", space["Floored"])
        monkeypatch.setitem(data.DATASETS, "squares", space["squares"])
        return Config(**SMALL, prior="floored", data="squares")

    return register


def test_the_librarys_own_are_known_by_name():
    assert {foreign.digest(one) for one in [*PRIORS.values(), *data.DATASETS.values()]} == {None}
    assert foreign.Priors(set(PRIORS)) == {}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("Diagonal(self.mean,", "Diagonal(self.mean + 1,"),
        ("FLOOR = -2.0", "FLOOR = -2.5"),
        ("[-1.0, 0.5]", "[-1.0, 0.25]"),
        ("factor = 3.0", "factor = 3.5"),
        ("logvar * self.factor", "logvar + self.factor"),
        ("number + 1", "number + 2"),
        ("inner = lambda: torch.full_like", "inner = lambda: torch.ones_like"),
        ("return 1", "return 10"),
        ("return 2", "return 20"),
        ("class Floored(DiagonalPrior)", "class Floored(__import__('vaenotes').VAE)"),
    ],
)
def test_whatever_a_prior_refers_to_is_part_of_its_digest(old, new):
    assert SOURCE.count(old) == 1
    before, after = (defined(s)["Floored"] for s in (SOURCE, SOURCE.replace(old, new)))
    assert foreign.digest(before) != foreign.digest(after)


@pytest.mark.slow
def test_the_same_code_has_the_same_digest_wherever_it_stands_and_in_every_process():
    moved = "# a comment\n\n" + SOURCE.replace("Never narrower", "Not ever narrower")
    assert foreign.digest(defined()["Floored"]) == foreign.digest(defined(moved)["Floored"])
    ask = "from test_foreign import *\n"
    ask += "print(*(foreign.digest(defined()[name]) for name in ('Floored', 'squares')))"
    answers = {
        subprocess.run(
            [sys.executable, "-c", ask],
            cwd=os.path.dirname(__file__),
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in "12"
    }
    here = [foreign.digest(defined()[name]) for name in ("Floored", "squares")]
    assert answers == {" ".join(here) + "\n"}


def test_a_function_behind_a_cache_counts():
    source = SOURCE.replace("def more", "@functools.lru_cache\ndef more")
    changed = source.replace("number + 1", "number + 2")
    assert len({foreign.digest(defined(s)["Floored"]) for s in (SOURCE, source, changed)}) == 3


def test_a_data_set_made_by_other_arguments_has_another_digest():
    made = [functools.partial(data.sprites, strength=strength) for strength in (0.2, 0.2, 0.3)]
    first, same, other = map(foreign.digest, made)
    assert first == same != other


def test_what_cannot_be_told_is_refused():
    source = SOURCE.replace("FLOOR = -2.0", "import threading; FLOOR = threading.Lock()")
    with pytest.raises(ParameterError, match=r"can be pickled, got one of <class '_thread\.lock'>"):
        foreign.digest(defined(source)["Floored"])


def test_a_registered_name_is_allowed_and_others_are_still_refused(register):
    register(defined())
    assert Settings(prior="floored", data="squares").prior == "floored"
    with pytest.raises(ParameterError, match=r"prior must be .*standard, floored, got 'flor"):
        Config(prior="flor")


@pytest.mark.parametrize(
    ("old", "new"),
    [("(self.mean,", "(self.mean + 1,"), ("] = 255", "] = 128")],
    ids=["prior", "data"],
)
def test_what_was_changed_is_trained_anew_and_what_was_not_is_found(register, tmp_path, old, new):
    store, config = Store(tmp_path), register(defined())
    first = runs.run([config], store)
    assert register(defined()) == config
    again = runs.run([config], store)
    assert first.identical(again) and len(list(store.files())) == 1
    register(defined(SOURCE.replace(old, new)))
    other = runs.run([config], store)
    assert len(list(store.files())) == 2
    assert not np.array_equal(first.kl_nats, other.kl_nats)
    register(defined())
    assert runs.run([config], store).identical(first)


def test_a_name_of_the_librarys_own_may_be_taken(monkeypatch):
    before = runs.store_key(Config(prior="diagonal"))
    monkeypatch.setitem(PRIORS, "diagonal", defined()["Floored"])
    assert runs.store_key(Config(prior="diagonal")) != before
    monkeypatch.setitem(PRIORS, "diagonal", DiagonalPrior)
    assert runs.store_key(Config(prior="diagonal")) == before


@pytest.mark.slow
@pytest.mark.parametrize("home", ["notebook", "module"])
def test_workers_train_with_it_and_give_the_same_bits(register, tmp_path, monkeypatch, home):
    """In processes of their own, which have never heard of it: of a module, not even the file."""
    if home == "module":
        (tmp_path / "my_own.py").write_text(textwrap.dedent(SOURCE))
        monkeypatch.syspath_prepend(tmp_path)
        space = vars(__import__("my_own"))
        (tmp_path / "my_own.py").unlink()
    else:
        space = defined()
    one = register(space)
    configs = [Config(**{**vars(one), "seed": seed}) for seed in range(4)]
    configs.append(Config(**SMALL, prior="diagonal", data="squares"))
    found = []
    for cores in (1, 2):
        monkeypatch.setattr(workers, "WORTH_PROCESSES", 0)
        monkeypatch.setattr(workers, "cpu_count", lambda cores=cores: cores)
        found.append(runs.fetch(configs, Store(tmp_path / f"{cores}")))
    for config in configs:
        one, other = (entries[config].arrays for entries in found)
        assert {name for name in one if one[name].tobytes() != other[name].tobytes()} == set()
