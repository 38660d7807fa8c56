import errno
import hashlib
import io
import os
import zipfile

import numpy as np
import pytest
from filelock import FileLock

from vaenotes.errors import StoreError
from vaenotes.lab import store as store_module
from vaenotes.lab.store import SEAL, Store, checkpoint_key, key

ARRAYS = {"trace/ratio": np.arange(600.0).reshape(20, 3, 10), "weights/w": np.ones(5, np.float32)}

OTHER = f"{'0' * 16}-{'0' * 64}"


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


@pytest.mark.attack("wrong")
def test_no_flipped_bit_and_no_missing_end_goes_unnoticed(store):
    store.save("k", ARRAYS, {"seed": 3})
    whole = store.path("k").read_bytes()
    for place in np.random.default_rng(0).integers(0, len(whole) * 8, 200):
        damaged = bytearray(whole)
        damaged[place // 8] ^= 1 << (place % 8)
        store.path("k").write_bytes(damaged)
        with pytest.warns(UserWarning, match=r"k\.npz is damaged \(wrong checksum\)"):
            assert store.load("k") is None
    for cut in (0, 10, len(whole) // 2, len(whole) - 1):
        store.path("k").write_bytes(whole[:cut])
        with pytest.warns(UserWarning, match=r"k\.npz is damaged"):
            assert store.load("k") is None
    assert zipfile.is_zipfile(io.BytesIO(whole))  # and with its seal it is a plain archive


@pytest.mark.attack("lost")
def test_a_good_entry_saved_while_a_damaged_one_is_read_stays(store, monkeypatch):
    def meanwhile(data, key):
        store.save(key, ARRAYS, {})
        raise ValueError("wrong checksum")

    store.path("k").write_bytes(b"damaged")
    with monkeypatch.context() as patched, pytest.warns(UserWarning, match=r"k\.npz is damaged"):
        patched.setattr(store_module, "_unsealed", meanwhile)
        assert store.load("k") is None
    assert store.load("k").arrays.keys() == ARRAYS.keys()


@pytest.mark.attack("hang")
def test_what_is_no_regular_file_is_never_opened(store):
    kept, unfinished = key({}), checkpoint_key("k")
    for name in (kept, unfinished):
        os.mkfifo(store.path(name))  # whoever opens it waits for ever
        assert store.load(name) is None and store.unfinished() == []
        store.save(name, ARRAYS, {})
        assert store.load(name).arrays.keys() == ARRAYS.keys()
    for name in ("vaenotes-written-abcd1234.tmp", "vaenotes-run-abcd1234.tmp", f"{OTHER}.npz"):
        (store.folder / name).mkdir()
    with store.mark():
        pass
    assert store.prune() == (0, 0)
    with pytest.raises(StoreError, match="Is a directory"):
        store.save(OTHER, ARRAYS, {})


@pytest.mark.attack("wrong")
def test_an_entry_under_another_name_is_not_served(store):
    store.save("k", ARRAYS, {})
    store.path("k").rename(store.path("j"))
    with pytest.warns(UserWarning, match=r"j\.npz is damaged \(it belongs to k\)"):
        assert store.load("j") is None


@pytest.mark.attack("run")
def test_a_pickled_object_is_refused(store, tmp_path):
    class Hostile:
        def __reduce__(self):
            return (open, (str(tmp_path / "pwned"), "w"))

    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.array([Hostile()], dtype=object), allow_pickle=True)
    with zipfile.ZipFile(store.path("k"), "w") as archive:
        archive.writestr("trace/ratio.npy", buffer.getvalue())
        archive.comment = bytes(SEAL)
    unsealed = store.path("k").read_bytes()[:-SEAL]
    store.path("k").write_bytes(unsealed + hashlib.sha256(unsealed).digest())  # a seal that holds
    with pytest.warns(UserWarning, match="damaged .*allow_pickle=False"):
        assert store.load("k") is None
    assert not (tmp_path / "pwned").exists()


@pytest.mark.attack("line")
def test_a_failed_write_is_one_line_and_leaves_nothing_behind(store, monkeypatch):
    def full(file):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(store_module.os, "fsync", full)
    line = rf"^the store cannot use {store.folder}: No space left on device \(VAENOTES_STORE .*\)$"
    with pytest.raises(StoreError, match=line):
        store.save("k", ARRAYS, {})
    assert list(store.folder.iterdir()) == []


@pytest.mark.attack("line")
def test_a_folder_that_cannot_be_used_is_one_line(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    for name in ("file", "file/store"):
        with pytest.raises(StoreError, match=f"cannot use {tmp_path / name}: (File|Not a) .*"):
            Store(tmp_path / name)
    store = Store(tmp_path / "store")
    store.folder.rmdir()
    with pytest.raises(StoreError, match="No such file or directory"):
        store.save("k", ARRAYS, {})
    monkeypatch.setattr(store_module, "FileLock", lambda path: FileLock(tmp_path / "file" / "lock"))
    with pytest.raises(StoreError, match="cannot use"), store.locked():
        pass


@pytest.mark.attack("lost")
def test_a_lock_that_is_a_link_makes_no_file_elsewhere(tmp_path):
    store = Store(tmp_path / "store")
    (store.folder / "training.lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreError, match="symbolic links"), store.locked():
        pass
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.attack("hang")
def test_a_lock_that_is_a_pipe_is_one_line(tmp_path):
    store = Store(tmp_path / "store")
    os.mkfifo(store.folder / "training.lock")
    with pytest.raises(StoreError, match=r"training\.lock is no file"), store.locked():
        pass


@pytest.mark.parametrize("folder", ["", "~nobody-of-this-name/store"])
@pytest.mark.attack("line")
def test_without_a_home_it_is_said_what_may_be_named(folder, monkeypatch):
    for name in ("HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", {}.__getitem__)
    monkeypatch.setenv("VAENOTES_STORE", folder)
    with pytest.raises(StoreError, match=r"home directory.* \(VAENOTES_STORE may name a folder\)$"):
        Store()


@pytest.mark.attack("lost")
def test_prune_deletes_what_is_never_read_and_nothing_else(store, monkeypatch):
    kept = key({"number": 0})
    for name in (kept, unfinished := checkpoint_key([kept])):
        store.save(name, ARRAYS, {})
    with monkeypatch.context() as patched:
        patched.setattr(store_module, "code_digest", lambda: "0" * 64)
        for name in (key({"number": 0}), other := checkpoint_key([kept])):
            store.save(name, ARRAYS, {})
        assert store.unfinished() == [other]
    (store.folder / "vaenotes-written-abcd1234.tmp").touch()  # by a writer that was killed
    mine = {"mine.npz", "mark-students.tmp", "tmpabcd1234.tmp", f"{'a' * 64}.npz"}
    for name in mine:  # somebody's, whose folder this is
        (store.folder / name).touch()
    with store.mark():
        pass
    assert store.unfinished() == [unfinished]

    def size():
        return sum(path.stat().st_size for path in store.folder.iterdir())

    before = size()
    assert store.prune() == (3, before - size())
    names = {"training.lock", f"{kept}.npz", f"{unfinished}.npz"}
    assert {path.name for path in store.folder.iterdir()} == mine | names
    assert store.prune() == (0, 0)
