"""The commands, as they are typed."""

import json
import os
import re
import subprocess
import sys
from dataclasses import asdict

import numpy as np
import pytest
from small_book import PAGE, ROOT, SmallBook

import vaenotes
from vaenotes.__main__ import main
from vaenotes.config import Config
from vaenotes.lab.runs import fetch
from vaenotes.lab.store import Store
from vaenotes.lab.summary import counts
from vaenotes.report.experiments import experiment
from vaenotes.report.settings import Settings


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


def said(*arguments, cwd=None):
    command = [sys.executable, "-m", "vaenotes", *arguments]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)


def test_what_the_command_line_says_of_itself_and_of_errors(tmp_path, monkeypatch):
    shown = said("--help").stdout
    assert all(command in shown for command in ("run", "store", "book"))
    assert all(action in said("store", "--help").stdout for action in ("list", "verify", "prune"))
    assert said("--version").stdout == f"vaenotes {vaenotes.__version__}\n"
    wrong = said("store", "lis")
    assert wrong.returncode == 2 and "invalid choice: 'lis'" in wrong.stderr
    (tmp_path / "file").touch()
    monkeypatch.setenv("VAENOTES_STORE", str(tmp_path / "file"))
    wrong = said("store", "list")
    assert wrong.returncode == 1 and wrong.stdout == ""
    assert wrong.stderr.count("\n") == 1 and "cannot use" in wrong.stderr


@pytest.mark.parametrize("words", ["--help", "run --help", "book --help", "store list"])
def test_what_needs_no_torch_answers_at_once(store, words):
    command = [sys.executable, "-X", "importtime", "-m", "vaenotes", *words.split()]
    run = subprocess.run(command, capture_output=True, text=True)
    imported = {line.rpartition("|")[2].strip() for line in run.stderr.splitlines()}
    assert run.returncode == 0 and "vaenotes.store" in imported
    assert not imported & {"torch", "xarray", "pandas", "matplotlib", "sklearn"}


def test_run_prints_what_the_library_returns(store, capsys):
    parameters = {"profile": "quick", "seeds": 2, "epochs": 1}
    words = [f"{name}={value}" for name, value in parameters.items()]
    assert main(["run", "bed_of_nails", "--json", *words]) == 0
    told = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    outcome = experiment(Settings(**parameters), "bed_of_nails")
    assert told["experiment"] == "bed_of_nails" and told["vaenotes"] == vaenotes.__version__
    assert told["parameters"] == asdict(Settings(**parameters))
    assert told["replicas"] == {arm: counts(runs) for arm, runs in outcome.runs.items()}
    assert list(told["findings"]) == list(outcome.findings)
    for name, found in outcome.findings.items():
        row = told["findings"][name]
        numbers = [np.nan if row[end] is None else row[end] for end in found._fields]
        np.testing.assert_array_equal(numbers, found)
    assert told["findings"]["notes.nearest"]["unit"] == "posterior std"

    assert main(["run", "bed_of_nails", *words]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "bed_of_nails: profile = 'quick', seeds = 2, epochs = 1"
    table = {line.split()[0]: line for line in lines if line}
    assert table["notes"].split()[1:] == [
        str(n) for n in [2, *counts(outcome.runs["notes"]).values()]
    ]
    value, low, high, _ = outcome.findings["notes.nearest"]
    expected = f"notes.nearest {value:.3g} {low:.3g} to {high:.3g} 2 posterior std"
    assert " ".join(table["notes.nearest"].split()) == expected
    assert outcome.findings["notes.nails"].replicas == 0  # not after one epoch
    assert table["notes.nails"].split()[1:] == ["-", "-", "to", "-", "0", "1"]


@pytest.mark.parametrize(
    "words, line",
    [
        (
            "run bed_of_nail",
            "experiment must be one of the_system, .*; did you mean 'bed_of_nails'?",
        ),
        ("run means seed=3", "unknown parameter 'seed'; did you mean 'seeds'?"),
        ("run means seeds", "parameters must be name=value pairs, got 'seeds'"),
        ("run means --json profile=quick seeds=0", "seeds must be a whole number from 1"),
        ("book --source .", "source must be the folder book of a clone of vaenotes, got '.'"),
        ("book seeds=0", "seeds must be a whole number from 1"),
        ("book prior=ordered", "prior must be one of .* where swapped is set, got 'ordered'"),
    ],
)
def test_errors_are_told_in_one_line(store, capsys, monkeypatch, words, line):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(subprocess, "Popen", pytest.fail)  # nothing is started
    before = list(store.folder.iterdir())
    assert main(words.split()) == 1
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1
    assert re.match(f"python -m vaenotes: {line.replace('?', '[?]')}", err), err
    assert list(store.folder.iterdir()) == before


@pytest.mark.parametrize(
    "words", ["", "run", "run odd --jsn", "run odd --js", "store list x", "book --out x"]
)
def test_what_is_no_command_is_told_with_the_usage(words, capsys, monkeypatch):
    monkeypatch.setattr(subprocess, "Popen", pytest.fail)  # nothing is started
    with pytest.raises(SystemExit) as caught:
        main(words.split())
    assert caught.value.code == 2
    assert capsys.readouterr().err.startswith("usage: python -m vaenotes")


def test_without_jupyter_book_the_book_says_what_to_do(capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    assert main(["book"]) == 1
    err = capsys.readouterr().err
    assert "jupyter-book is not in /nowhere: pip install -r requirements.txt\n" in err


def test_an_interrupt_is_told_in_one_line(store, capsys, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Store, "files", interrupt)
    assert main(["store", "verify"]) == 130
    assert capsys.readouterr().err.count("\n") == 1


def test_a_reader_who_has_seen_enough_is_no_error(store):
    with subprocess.Popen(
        [sys.executable, "-m", "vaenotes", "store", "list"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        process.stdout.close()
        assert process.stderr.read() == b""


@pytest.mark.slow
def test_book_builds_under_its_parameters_and_keeps_the_usual_build(tmp_path):
    book = SmallBook(tmp_path, real=True)
    (book.root / "book" / "index.md").write_text("# Index\n")
    (book.root / "book" / "page.md").write_text(PAGE.split("```{code-cell} python3\nfrom")[0])
    run = said("book", "profile=quick", "seeds=3", cwd=book.root)
    assert run.returncode == 0, run.stdout + run.stderr
    page = (book.root / "rerun" / "_build" / "html" / "page.html").read_text()
    assert "computed with profile = &#x27;quick&#x27;, seeds = 3" in page
    assert not (book.root / "book" / "_build").exists()

    (book.root / "book" / "page.md").write_text("# Page\n\n{glue:text}`nothing`\n")
    book.edit("book/_toc.yml", "- file: page\n", "- file: page\n- file: none\n")
    run = said("book", cwd=book.root)
    assert run.returncode == 1 and "none" in run.stdout + run.stderr
    assert (book.root / "book" / "_build").exists()
