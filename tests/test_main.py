"""The commands, as they are typed."""

import subprocess
import sys

import numpy as np
import pytest

from vaenotes.__main__ import main
from vaenotes.config import Config
from vaenotes.runs import fetch
from vaenotes.store import Store


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setenv("VAENOTES_STORE", str(tmp_path))
    store = Store()
    fetch([Config(images=64, hidden=4, epochs=1, batch=64, seed=7)], store)
    return store


def test_list_verify_and_prune(store, capsys):
    assert main(["store", "verify"]) == 0
    assert "1 whole, 0." in capsys.readouterr().out
    store.save("k", {"a": np.ones(9)}, {})
    store.path("k").write_bytes(store.path("k").read_bytes()[:-1])
    (store.folder / "x.tmp").write_bytes(bytes(10**6))
    assert main(["store", "list"]) == 1
    rows = capsys.readouterr().out.splitlines()
    assert sum(row.endswith("data sprites, prior exogenous, seed 7, epochs 1") for row in rows) == 1
    assert rows[3] == f"{store.folder}: 3 files"
    assert main(["store", "verify"]) == 1
    assert "1 damaged" in capsys.readouterr().out
    assert main(["store", "prune"]) == 0
    assert "deleted 2 files, 1.0 MB" in capsys.readouterr().out
    assert main(["store", "verify"]) == 0
    assert len(list(store.folder.glob("*.npz"))) == 1


def test_what_the_command_line_says_of_itself_and_of_errors(tmp_path, monkeypatch):
    def said(*arguments):
        command = [sys.executable, "-m", "vaenotes", *arguments]
        return subprocess.run(command, capture_output=True, text=True)

    assert "store" in said("--help").stdout
    assert all(action in said("store", "--help").stdout for action in ("list", "verify", "prune"))
    wrong = said("store", "lis")
    assert wrong.returncode == 2 and "invalid choice: 'lis'" in wrong.stderr
    (tmp_path / "file").touch()
    monkeypatch.setenv("VAENOTES_STORE", str(tmp_path / "file"))
    wrong = said("store", "list")
    assert wrong.returncode == 1 and wrong.stdout == ""
    assert wrong.stderr.count("\n") == 1 and "cannot use" in wrong.stderr
