"""Which code is behind results."""

import copy
import re
import shutil
import subprocess
import sys
from types import SimpleNamespace

import pytest

from vaenotes import kl, nets, objective, trace
from vaenotes.config import Config
from vaenotes.errors import StoreError
from vaenotes.lab import code, runs
from vaenotes.lab.code import code_digest, sources_behind_results
from vaenotes.lab.store import Store, key
from vaenotes.model import VAE
from vaenotes.training import Ensemble

CONFIG = Config(images=64, size=8, hidden=4, epochs=1, batch=64)


@pytest.mark.attack("wrong")
def test_keys_know_the_question_and_what_the_code_does(monkeypatch, tmp_path):
    assert key({"a": 1, "b": 2}) == key({"b": 2, "a": 1}) != key({"a": 1, "b": 3})
    package = tmp_path / "vaenotes"
    (package / "data").mkdir(parents=True)
    for path in ("kl.py", "data/__init__.py", "data/sets.py", "plots.py", "new.py"):
        (package / path).write_text("x = 1")
    answers = "from vaenotes.kl import x\nfrom vaenotes.data import sets"
    (package / f"{code.ANSWERS}.py").write_text(answers)
    monkeypatch.setattr(code, "PACKAGE", package)
    as_it_is = SimpleNamespace(get=lambda path: path.stat().st_ctime_ns)
    monkeypatch.setattr(code, "CHANGED_AT", as_it_is)

    def changes(path, text):
        before = code_digest()
        (package / path).write_text(text)
        code_digest.cache_clear()
        return code_digest() != before

    code_digest.cache_clear()
    try:
        assert not changes("plots.py", "x = 2")  # figures do not change results
        assert not changes("kl.py", '"""What it is."""\n\nx = 1  # why')
        assert changes("kl.py", "x = 2")
        assert changes("data/sets.py", "x = 2")
        assert not changes("new.py", "x = 2")  # nothing imports it yet
        assert changes("kl.py", "def late():\n    from vaenotes import new")
        assert changes("new.py", "x = 3")  # near or far
        monkeypatch.setattr(code, "LAYOUT", 0)
        assert changes("kl.py", (package / "kl.py").read_text())
        monkeypatch.setattr(code, "version", lambda package: "0")
        assert changes("kl.py", (package / "kl.py").read_text())
    finally:
        code_digest.cache_clear()


@pytest.mark.attack("wrong")
def test_code_that_changes_after_it_was_imported_is_refused(tmp_path):
    """By a process that may have imported it as it was."""
    shutil.copytree(code.PACKAGE, tmp_path / "vaenotes")
    edit = "import vaenotes, pathlib; path = pathlib.Path('vaenotes/objective.py').absolute()"
    edit += "; path.write_text(path.read_text() + '# edited')"
    used = "from vaenotes.lab import runs; runs.fetch([], runs.Store('.'))"
    for script in (f"{edit}; import vaenotes.lab.store", f"{used}; {edit}; {used}", used):
        run = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True)
        said = run.stderr.decode().splitlines()[-1:]
        assert bool(run.returncode) == bool(said) == ("edited" in script)
        assert all("objective.py changed after vaenotes was imported" in line for line in said)


def test_everything_that_trains_is_behind_results_and_nothing_that_draws():
    names = {name.rpartition(".")[2] for name in sources_behind_results()}
    assert {"training", "trace", "gauge", "priors", "kl", "load", "config"} <= names
    assert not {"runs", "store", "progress", "workers", "measures", "plots"} & names


CHANGES = {
    "vaenotes.objective.total": (objective, "total"),
    "vaenotes.model.VAE.forward": (VAE, "forward"),
    "vaenotes.kl.kl_nats": (kl, "kl_nats"),
    "vaenotes.trace.QUANTILES": (trace, "QUANTILES"),
    "vaenotes.training.Ensemble.__call__": (Ensemble, "__call__"),
}


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.attack("wrong")
def test_what_is_changed_in_memory_is_neither_stored_nor_found(name, monkeypatch, tmp_path):
    with monkeypatch.context() as patched:
        patched.setattr(*CHANGES[name], lambda *_: None, raising=False)
        with pytest.raises(StoreError, match=f"^{re.escape(name)} was changed in memory"):
            runs.fetch([CONFIG], Store(tmp_path))
    assert not list(tmp_path.glob("*.npz"))
    assert runs.fetch([CONFIG], Store(tmp_path))


@pytest.mark.attack("wrong")
def test_an_encoder_that_is_put_into_the_library_s_table_is_refused(monkeypatch, tmp_path):
    """As nothing knows its version."""
    monkeypatch.setitem(nets.ENCODERS, "mine", nets.ENCODERS["mlp"])
    with pytest.raises(StoreError, match=r"ENCODERS\['mine'\] was changed in memory"):
        runs.fetch([CONFIG], Store(tmp_path))


def test_what_python_notes_of_a_class_is_no_change(tmp_path):
    dataset = runs.load_data(CONFIG)
    copy.copy(dataset)  # which leaves __slotnames__
    assert "__slotnames__" in vars(type(dataset))
    assert runs.fetch([CONFIG], Store(tmp_path))
