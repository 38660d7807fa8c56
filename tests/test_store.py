import io
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest

from vaenotes import store as store_module
from vaenotes.store import Store, code_digest, key, sources_behind_results

ARRAYS = {"trace/ratio": np.arange(600.0).reshape(20, 3, 10), "weights/w": np.ones(5, np.float32)}


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


def test_an_entry_comes_back_as_it_went_in(store):
    store.save("k", ARRAYS, {"seed": 3, "diverged": None})
    entry = store.load("k")
    assert entry.meta == {"seed": 3, "diverged": None}
    assert entry.arrays.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert entry.arrays[name].dtype == array.dtype
        assert np.array_equal(entry.arrays[name], array)


def test_what_is_not_there_is_none(store):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert store.load("k") is None


@pytest.mark.parametrize("cut", [0, 10, 0.5, 0.99])
def test_a_truncated_entry_is_set_aside_with_a_warning(store, cut):
    store.save("k", ARRAYS, {})
    whole = store.path("k").read_bytes()
    store.path("k").write_bytes(whole[: int(cut * len(whole)) if cut < 1 else cut])
    with pytest.warns(UserWarning, match=r"k\.npz is damaged"):
        assert store.load("k") is None
    assert store.load("k") is None and (store.folder / "k.damaged").exists()


def test_no_flipped_bit_is_ever_read_as_a_number(store):
    store.save("k", ARRAYS, {"seed": 3})
    whole = bytearray(store.path("k").read_bytes())
    generator = np.random.default_rng(0)
    noticed = 0
    for place in generator.integers(0, len(whole) * 8, 300):
        damaged = whole.copy()
        damaged[place // 8] ^= 1 << (place % 8)
        store.path("k").write_bytes(damaged)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            entry = store.load("k")
        if entry is None:
            noticed += 1
        else:  # a flip in zip's own slack: what is read must be right all the same
            assert entry.meta == {"seed": 3}
            assert all(np.array_equal(entry.arrays[name], a) for name, a in ARRAYS.items())
    assert noticed > 200


def test_a_pickled_object_is_refused(store, tmp_path):
    class Hostile:
        def __reduce__(self):
            return (open, (str(tmp_path / "pwned"), "w"))

    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.array([Hostile()], dtype=object), allow_pickle=True)
    with zipfile.ZipFile(store.path("k"), "w") as archive:
        archive.writestr("trace/ratio.npy", buffer.getvalue())
    with pytest.warns(UserWarning, match="damaged"):
        assert store.load("k") is None
    assert not (tmp_path / "pwned").exists()


def test_a_failed_write_leaves_nothing_behind(store, monkeypatch):
    def full_disk(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store_module.os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space left"):
        store.save("k", ARRAYS, {})
    assert list(store.folder.iterdir()) == []


def test_keys_know_the_question_and_the_code(monkeypatch, tmp_path):
    assert key({"a": 1, "b": 2}) == key({"b": 2, "a": 1}) != key({"a": 1, "b": 3})
    package = tmp_path / "vaenotes"
    package.mkdir()
    for name in ("store.py", "kl.py", "plots.py", "new.py"):
        (package / name).write_text("x = 1")
    (package / "runs.py").write_text("from vaenotes import store")
    (package / "store.py").write_text("from vaenotes.kl import x")
    monkeypatch.setattr(store_module, "__file__", str(package / "store.py"))

    def digest():
        code_digest.cache_clear()
        return code_digest()

    try:
        before = digest()
        (package / "plots.py").write_text("x = 2")  # figures do not change results
        assert digest() == before
        (package / "kl.py").write_text("x = 2")
        assert digest() != before
        before = digest()
        (package / "new.py").write_text("x = 2")  # nothing imports it yet
        assert digest() == before
        (package / "kl.py").write_text("def late():\n    from vaenotes import new")
        assert digest() != before
        before = digest()
        (package / "new.py").write_text("x = 3")  # near or far
        assert digest() != before
        before = digest()
        monkeypatch.setattr(store_module, "version", lambda package: "0")
        assert digest() != before
    finally:
        code_digest.cache_clear()


def test_everything_that_trains_is_behind_results_and_nothing_that_draws():
    names = {path.stem for path in sources_behind_results(Path(store_module.__file__).parent)}
    assert {"runs", "training", "trace", "gauge", "priors", "kl", "data", "config"} <= names
    assert not {"plots", "charts", "measures", "ledger", "experiments", "summary"} & names
