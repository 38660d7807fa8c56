"""What the store holds is input: a checksum that holds says not that an entry is what was asked."""

import re
import warnings
from pathlib import Path
from time import perf_counter

import numpy as np
import pytest

from vaenotes.config import Config
from vaenotes.errors import ParameterError, StoreError
from vaenotes.lab import runs, workers
from vaenotes.lab.store import Store

CONFIG = Config(images=64, size=8, hidden=4, epochs=2, batch=64)


@pytest.fixture(scope="module")
def entry(tmp_path_factory):
    runs.fetch([CONFIG], store := Store(tmp_path_factory.mktemp("store")))
    return store.load(runs.store_key(CONFIG))


def nan(array):
    return np.where(np.arange(array.size).reshape(array.shape) == 0, np.nan, array)


ARRAYS = {
    "missing": lambda array: None,
    "of strings": lambda array: array.astype(str),
    "of float64": lambda array: array.astype(float),
    "of integers": lambda array: array.astype(int),
    "complex": lambda array: array.astype(complex),
    "of one epoch less": lambda array: array[:-1],
    "of one dim less": lambda array: array[..., :-1],
    "of another node": lambda array: np.concatenate([array, array[:, :1]], 1),
    "without an axis": lambda array: array[0],
    "of no numbers": lambda array: array[:0],
    "NaN": lambda array: nan(array).astype(np.float32),
    "infinite": lambda array: array * np.float32(np.inf),
}
FACTS = {
    "of another seed": {"config": {"seed": 7}},
    "of more epochs": {"config": {"epochs": 3}},
    "of an unknown field": {"config": {"more": 1}},
    "of no configuration": {"config": None},
    "a text": {"seconds": "a long time"},
    "a negative time": {"seconds": -1},
    "an infinite time": {"seconds": float("inf")},
    "a time that is true": {"seconds": True},
    "diverged as text": {"diverged": "no"},
    "diverged once": {"diverged": [1]},
    "diverged in half an epoch": {"diverged": [0.5, 1]},
    "more facts": {"more": 1},
}


def check_damaged(store, config, key, words=""):
    with pytest.warns(UserWarning, match=rf"{key}\.npz is damaged \(.*{words}") as said:
        found = runs.fetch([config], store)[config]
    assert sum("damaged" in str(one.message) for one in said) == 1
    with warnings.catch_warnings(action="error"):
        assert runs.fetch([config], store)[config].arrays.keys() == found.arrays.keys()
    return found


@pytest.mark.parametrize("how", ARRAYS)
@pytest.mark.attack("wrong")
def test_a_sealed_entry_whose_numbers_cannot_be_is_damaged(how, entry, tmp_path):
    changed = ARRAYS[how](entry.arrays["trace/kl_nats"])
    arrays = {**entry.arrays, "trace/kl_nats": changed}
    if changed is None:
        del arrays["trace/kl_nats"]
    (store := Store(tmp_path)).save(key := runs.store_key(CONFIG), arrays, entry.meta)
    found = check_damaged(store, CONFIG, key, "kl_nats|shorter|longer")
    assert found.arrays["trace/kl_nats"].tobytes() == entry.arrays["trace/kl_nats"].tobytes()


@pytest.mark.parametrize("how", FACTS)
@pytest.mark.attack("wrong")
def test_a_sealed_entry_whose_facts_cannot_be_is_damaged(how, entry, tmp_path):
    ((name, value),) = FACTS[how].items()
    value = entry.meta["config"] | value if isinstance(value, dict) else value
    (store := Store(tmp_path)).save(
        key := runs.store_key(CONFIG), entry.arrays, entry.meta | {name: value}
    )
    assert check_damaged(store, CONFIG, key).meta["diverged"] is None


@pytest.mark.parametrize("missing", ["config", "diverged", "seconds"])
@pytest.mark.attack("wrong")
def test_a_sealed_entry_without_a_fact_is_damaged(missing, entry, tmp_path):
    facts = {name: fact for name, fact in entry.meta.items() if name != missing}
    (store := Store(tmp_path)).save(key := runs.store_key(CONFIG), entry.arrays, facts)
    check_damaged(store, CONFIG, key, missing)


@pytest.mark.attack("line")
def test_sealed_weights_of_another_model_are_one_line(entry, tmp_path):
    arrays = {**entry.arrays, "weights/regression_bias": np.zeros(1, np.float32)}
    (store := Store(tmp_path)).save(runs.store_key(CONFIG), arrays, entry.meta)
    with pytest.raises(StoreError, match=r"weights do not fit .*regression_bias"):
        runs.load_model(CONFIG, store)


def test_to_check_an_entry_takes_less_than_a_millisecond(entry):
    def seconds():
        start = perf_counter()
        runs.check_entry(CONFIG, entry)
        return perf_counter() - start

    assert min(seconds() for _ in range(20)) < 1e-3


CHECKPOINTS = {
    "no keys": lambda arrays, facts: facts.pop("keys"),
    "no epoch": lambda arrays, facts: facts.pop("epoch"),
    "another epoch": lambda arrays, facts: facts.update(epoch=0),
    "more keys": lambda arrays, facts: facts["keys"].append("k"),
    "more facts": lambda arrays, facts: facts.update(more=1),
    "no parameters": lambda arrays, facts: arrays.pop("parameters/regression_bias"),
    "a moment of another shape": lambda arrays, facts: arrays.update(
        {"exp_avg/regression_bias": np.zeros((1, 1), np.float32)}
    ),
    "a text": lambda arrays, facts: arrays.update(generator=arrays["generator"].astype(str)),
}


@pytest.mark.parametrize("how", CHECKPOINTS)
@pytest.mark.attack("wrong")
def test_a_sealed_checkpoint_that_cannot_be_is_damaged(how, entry, tmp_path, monkeypatch):
    store = Store(tmp_path)
    with monkeypatch.context() as patched:

        def stop(*_):
            raise KeyboardInterrupt

        patched.setattr(workers, "add", stop)  # after the first epoch, whose checkpoint is kept
        with pytest.raises(KeyboardInterrupt):
            runs.fetch([CONFIG], store)
    (name,) = store.unfinished()
    kept = store.load(name)
    workers.check_checkpoint(kept)
    CHECKPOINTS[how](kept.arrays, kept.meta)
    store.save(name, *kept)
    with pytest.warns(UserWarning, match=rf"{name}\.npz is damaged"):
        found = runs.fetch([CONFIG], store)[CONFIG]
    assert found.arrays["trace/kl_nats"].tobytes() == entry.arrays["trace/kl_nats"].tobytes()


@pytest.mark.parametrize("folder", [5, 0, b"store", "a\0b", ["store"], 1.5, object()])
@pytest.mark.attack("line")
def test_what_is_no_folder_is_named(folder):
    with pytest.raises(
        ParameterError, match=f"^folder must be a path, got {re.escape(repr(folder))}$"
    ):
        Store(folder)


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs /proc")
@pytest.mark.attack("hang")
def test_a_folder_in_which_no_file_can_be_made_keeps_nobody_waiting():
    with pytest.raises(StoreError, match=r"the store cannot use .*proc"):
        runs.fetch([CONFIG], Store("/proc/self"))


@pytest.mark.attack("line")
def test_an_entry_that_is_a_folder_is_named_before_anything_is_trained(tmp_path, monkeypatch):
    monkeypatch.setattr(workers, "train", None)
    (path := Store(tmp_path).path(runs.store_key(CONFIG))).mkdir()
    with pytest.raises(StoreError, match=rf"cannot use {path}: Is a directory"):
        runs.fetch([CONFIG], Store(tmp_path))
