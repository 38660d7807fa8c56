"""What a caller may hand over, and the processes that may call: one line, and no harm."""

import io
import re
import subprocess
import sys
import threading
import time
import zipfile
from hashlib import sha256

import numpy as np
import pytest
import torch

from vaenotes.config import Config
from vaenotes.errors import ParameterError, StoreError
from vaenotes.lab import runs, workers
from vaenotes.lab.store import Store

CONFIG = Config(images=64, size=8, hidden=4, epochs=1, batch=64)
CODES = {"posterior_mean": torch.randn(50, 2), "posterior_std": torch.ones(50, 2)}
CALLS = {
    "configs: a generator": (lambda: runs.run(config for config in [CONFIG]), "configs"),
    "configs: None": (lambda: runs.run(None), "configs"),
    "configs: one": (lambda: runs.run(CONFIG), "configs"),
    "configs: a dict": (lambda: runs.run({CONFIG: 1}), "configs"),
    "configs: a set": (lambda: runs.run({CONFIG}), "configs"),
    "configs: a text": (lambda: runs.run("sprites"), "configs"),
    "configs: an array": (lambda: runs.run(np.zeros(3)), "configs"),
    "configs: of texts": (lambda: runs.run(["sprites"]), "configs"),
    "configs: of dicts": (lambda: runs.run([{}]), "configs"),
    "configs: the class": (lambda: runs.run([Config]), "configs"),
    "arms: a list": (lambda: runs.run_arms([CONFIG]), "arms"),
    "arms: None": (lambda: runs.run_arms(None), "arms"),
    "arms: of None": (lambda: runs.run_arms({"a": None}), "configs"),
    "store: a text": (lambda: runs.run([CONFIG], "store"), "store"),
    "store: a number": (lambda: runs.run([CONFIG], 0), "store"),
    "store: the class": (lambda: runs.run([CONFIG], Store), "store"),
    "a model of None": (lambda: runs.load_model(None), "config"),
    "a model of a dict": (lambda: runs.load_model({}), "config"),
    "a model in a text": (lambda: runs.load_model(CONFIG, "store"), "store"),
    "data of a text": (lambda: runs.load_data("sprites"), "config"),
    "data of a list": (lambda: runs.load_data([CONFIG]), "config"),
    "the key of a number": (lambda: runs.store_key(5), "config"),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.attack("line")
def test_what_is_no_configuration_and_no_store_is_named(call):
    function, name = CALLS[call]
    with pytest.raises(ParameterError, match=f"^{name} must be ") as said:
        function()
    assert "\n" not in str(said.value)


@pytest.mark.attack("line")
def test_an_entry_larger_than_the_memory_is_one_line(tmp_path, monkeypatch):
    path = Store(tmp_path).path(runs.store_key(CONFIG))
    path.touch()

    def fail(path):
        raise MemoryError

    monkeypatch.setattr(type(path), "read_bytes", fail)
    with pytest.raises(StoreError, match=f"cannot use {path}: it is too large for the memory"):
        runs.fetch([CONFIG], Store(tmp_path))


@pytest.mark.attack("run")
def test_a_sealed_entry_that_would_unpack_to_far_more_is_damaged(tmp_path):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("trace/kl_nats.npy", bytes(2**20))
        archive.comment = bytes(32)
    data = buffer.getvalue()[:-32]
    (store := Store(tmp_path)).path("k").write_bytes(data + sha256(data).digest())
    with pytest.warns(UserWarning, match=r"k\.npz is damaged \(it is compressed\)"):
        assert store.load("k") is None


ENTRIES = {
    "a link to itself": lambda path: path.symlink_to(path),
    "a link to nowhere": lambda path: path.symlink_to("/nowhere/at/all"),
    "a link to an endless file": lambda path: path.symlink_to("/dev/zero"),
    "empty": lambda path: path.touch(),
    "a text": lambda path: path.write_text("text"),
    "shorter than a seal": lambda path: path.write_bytes(bytes(31)),
    "a seal alone": lambda path: path.write_bytes(sha256(b"").digest()),
    "nested too deep": lambda path: Store(path.parent).save(
        path.stem, {}, eval("[" * 90 + "]" * 90)
    ),
    "of no facts": lambda path: Store(path.parent).save(path.stem, {}, None),
}


@pytest.mark.parametrize("how", ENTRIES)
@pytest.mark.filterwarnings("ignore:stored result")
@pytest.mark.attack("lost")
def test_whatever_lies_in_its_place_a_replica_is_trained_and_kept(how, tmp_path):
    path = Store(tmp_path).path(runs.store_key(CONFIG))
    ENTRIES[how](path)
    found = runs.fetch([CONFIG], Store(tmp_path))[CONFIG]
    runs.check_entry(CONFIG, Store(tmp_path).load(path.stem))
    assert path.is_file() and not path.is_symlink() and found.meta["diverged"] is None


LOCKS = {
    "a folder": lambda path: path.mkdir(),
    "a link to nowhere": lambda path: path.symlink_to("/nowhere/at/all"),
    "a link to itself": lambda path: path.symlink_to(path),
}


@pytest.mark.parametrize("how", LOCKS)
@pytest.mark.attack("hang")
def test_a_lock_that_is_no_file_keeps_nobody_waiting(how, tmp_path):
    LOCKS[how](tmp_path / "training.lock")
    with pytest.raises(StoreError, match=f"the store cannot use {re.escape(str(tmp_path))}"):
        runs.fetch([CONFIG], Store(tmp_path))


HANDLED = """
import signal, threading, torch
import vaenotes as vn
from vaenotes.state import torch_as_it_starts
handled = threading.Event()
diagnose = lambda: vn.diagnose(posterior_mean=torch.randn(50, 2), posterior_std=torch.ones(50, 2))
signal.signal(signal.SIGUSR1, lambda *_: diagnose() and handled.set())
@torch_as_it_starts
def wait():
    signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR1)
    return len(diagnose().dims), handled.wait(30)  # from within too
print(*wait())
"""


@pytest.mark.attack("hang")
def test_a_signal_s_handler_may_diagnose_while_something_is_computed():
    """In a process of its own, whose main thread is the caller's."""
    command = [sys.executable, "-c", HANDLED]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert run.stdout.split() == ["2", "True"], run.stderr


@pytest.mark.attack("wrong")
def test_threads_that_train_at_once_each_do_so_on_one_core(monkeypatch):
    seen, before = [], torch.get_num_threads()

    def train(rest):
        seen.append(torch.get_num_threads())  # as it is for what is computed in this thread
        time.sleep(rest)

    monkeypatch.setattr(workers, "train", train)
    each = [threading.Thread(target=workers._on_one_thread, args=(0.02,)) for _ in range(4)]
    for thread in each:
        thread.start()
    for thread in each:
        thread.join()
    assert seen == [1] * 4 and torch.get_num_threads() == before


@pytest.mark.attack("hang")
def test_threads_that_want_the_same_train_it_once(tmp_path):
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(runs.fetch([CONFIG], Store(tmp_path))))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len({one[CONFIG].meta["seconds"] for one in found}) == 1 and len(found) == 4


START = "import os, sys, threading\n"
TRAIN = f"""
from vaenotes.lab import runs, store
from vaenotes.config import Config
runs.fetch([{CONFIG!r}], store.Store(sys.argv[1]))
"""
PROCESSES = {
    "small stacks": "threading.stack_size(32768)",
    "no standard error": "os.close(2); sys.stderr = None",
    "warnings are errors": "import warnings; warnings.simplefilter('error')",
    "a daemon thread": "",
}


@pytest.mark.slow
@pytest.mark.parametrize("how", PROCESSES)
@pytest.mark.attack("line")
def test_a_process_in_any_state_can_train(how, tmp_path):
    store = tmp_path / "st\u00f6re"
    code = f"{START}{PROCESSES[how]}\n{TRAIN}"
    if how == "a daemon thread":
        code = f"{START}train = lambda: exec({TRAIN!r}, globals())\n"
        code += "one = threading.Thread(target=train, daemon=True); one.start(); one.join()"
    command = [sys.executable, "-c", code, str(store)]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=60, check=False)
    assert (run.returncode, len(list(store.glob("*.npz")))) == (0, 1), run.stderr
