"""A page as a notebook: its parameters, checked in one line; what papermill reads; its numbers."""

import ast
import json
import re
import subprocess
import sys
import zipfile
from dataclasses import asdict
from pathlib import Path

import jupytext
import nbformat
import numpy as np
import pytest
from bs4 import BeautifulSoup
from synthetic import FIRST, NONE, make_runs

from vaenotes.errors import ParameterError
from vaenotes.lab.summary import Interval
from vaenotes.report.experiments import Outcome
from vaenotes.report.page import (
    Page,
    check_parameters,
    numbers,
    read_parameters,
    told,
    with_parameters,
)
from vaenotes.report.settings import Settings

BOOK = Path(__file__).parents[1] / "book"
ONE = BOOK / "prior_variance.md"  # the page that the README runs

# Parameters


def test_the_six_parameters_and_their_defaults_are_the_contract():
    assert asdict(Settings()) == {
        "profile": "book", "data": "sprites", "prior": "exogenous",
        "seeds": None, "first_seed": 0, "epochs": None,
    }  # fmt: skip


def test_data_may_be_the_path_of_an_archive(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ParameterError, match="the path of an existing"):
        Settings(data="dsprites.npz")
    Path("dsprites.npz").touch()
    with pytest.raises(ParameterError, match="archive, readable, got"):
        Settings(data="dsprites.npz")
    with zipfile.ZipFile("dsprites.npz", "w"):
        pass
    assert Settings(data="dsprites.npz").data == str(tmp_path / "dsprites.npz")


@pytest.mark.parametrize(
    ("namespace", "message"),
    [
        ({"sed": 3}, "unknown parameter 'sed'; did you mean 'seeds'? (allowed: profile, data, "),
        ({"colour": None}, "unknown parameter 'colour' (allowed: profile, data, prior, seeds, "),
        ({"seeds": True}, "seeds, if not None, must be an integer in 1..10000, got True"),
        ({"epochs": 1.5}, "epochs, if not None, must be an integer in 1..100000, got 1.5"),
        ({"first_seed": -1}, "first_seed must be an integer in 0..2147483647, got -1"),
        ({"profile": "quik"}, "full, notes, got 'quik'; did you mean 'quick'?"),
        ({"data": "mnist"}, "data must be one of sprites, grey_sprites, paired_sprites, mnist5k, "),
        ({"prior": []}, "prior must be one of exogenous, shuffled, nodes, constant, "),
        ({"report": json, "_given": {"report": 3}}, "unknown parameter 'report' (allowed: "),
        ({"_seeds": 3}, "unknown parameter '_seeds'; did you mean 'seeds'? (allowed: "),
        ({"lab": json, "_given": {"lab": "x", "seeds": 3}}, "unknown parameter 'lab' (allowed: "),
    ],
)
@pytest.mark.attack("line")
def test_refused_in_one_line(namespace, message):
    with pytest.raises(ParameterError, match=re.escape(message)) as caught:
        check_parameters(namespace)
    assert "\n" not in str(caught.value)


def test_what_a_kernel_and_imports_add_is_no_parameter():
    added = {
        "_": 1,
        "__name__": "x",
        "_i12": "1",
        "_oh": {},
        "In": [""],
        "Out": {},
        "exit": object(),
        "json": json,
        "Page": Page,
    }
    assert check_parameters(added | {"seeds": 4}) == Settings(seeds=4)


def test_a_builds_parameters_are_read_as_papermill_reads_its_own():
    text = "profile=quick seeds=4 epochs=None rate=1e-3 on=True text='a b'"
    expected = {
        "profile": "quick", "seeds": 4, "epochs": None, "rate": 1e-3, "on": True, "text": "a b",
    }  # fmt: skip
    assert repr(read_parameters(text)) == repr(expected)  # 4 is not 4.0
    for bad in ["profile", "=quick", "first-seed=3", "text='a b"]:
        with pytest.raises(ParameterError, match=r"^parameters must be name=value pairs, got .+$"):
            read_parameters(bad)
    assert read_parameters("seeds=9#3") == {"seeds": "9#3"}
    with pytest.raises(ParameterError, match=r"^parameters must have seeds once, got 'seeds=4'"):
        read_parameters("seeds=3 seeds=4")


# The source of a page


def cells(text):
    return jupytext.reads(text, fmt="md").cells


def values_of(cell):
    """What a cell of parameters sets, without running it."""
    return {node.target.id: ast.literal_eval(node.value) for node in ast.parse(cell.source).body}


@pytest.mark.parametrize("page", [ONE, BOOK / "api.md"], ids=lambda page: page.stem)
def test_parameters_are_put_in_before_the_first_cell_and_prose_stays_as_it_is(page):
    text = page.read_text()
    read = with_parameters(text)
    assert with_parameters("\ufeff" + text) == read  # some editors put that mark before a text
    before, after = cells(text), cells(read)
    first = next((i for i, cell in enumerate(before) if cell.cell_type == "code"), None)
    if first is None:
        assert read == text
        return
    tags = [cell.metadata.get("tags", []) for cell in after]
    assert [i for i, own in enumerate(tags) if "parameters" in own] == [first]
    assert values_of(after[first]) == asdict(Settings())
    asked = ast.literal_eval(after[first + 1].source.splitlines()[0].removeprefix("_asked = "))
    assert "notes.matching" in asked and asked == sorted(set(asked))
    assert [(c.cell_type, c.source) for c in after[:first] + after[first + 2 :]] == [
        (c.cell_type, c.source) for c in before
    ]


def test_values_take_the_place_of_defaults():
    values = {"seeds": 4, "data": "a 'quoted' file.npz", "epochs": 2}
    cell = next(
        c for c in cells(with_parameters(ONE.read_text(), values)) if "parameters" in str(c)
    )
    assert values_of(cell) == asdict(Settings()) | values


def test_papermill_tells_what_the_parameters_are():
    from papermill import inspect_notebook

    told = inspect_notebook(str(ONE))
    assert list(told) == list(asdict(Settings()))
    assert told["seeds"]["inferred_type_name"] == "Optional[int]"
    assert told["profile"]["help"] == "quick, book, full or notes"


@pytest.mark.filterwarnings("ignore:The specified file")
def test_papermill_reads_a_page_as_a_notebook_and_any_other_file_as_it_is(tmp_path):
    from papermill.iorw import load_notebook_node, papermill_io

    notebook = load_notebook_node(str(ONE))
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == "python3"
    (tmp_path / "page.txt").write_text(ONE.read_text())
    assert papermill_io.read(str(tmp_path / "page.txt")) == ONE.read_text()


@pytest.mark.filterwarnings("ignore:The specified file")
@pytest.mark.attack("run")
@pytest.mark.parametrize("name", ["seeds=1;open('ran', 'w')#", "seeds\nopen('ran', 'w')", 1])
def test_a_parameters_name_is_not_run(name, tmp_path, monkeypatch):
    from papermill import execute_notebook

    monkeypatch.chdir(tmp_path)
    with pytest.raises(ParameterError, match=r"^a parameter must have a name of letters, digits"):
        execute_notebook(str(ONE), None, {"profile": "quick", name: 1}, prepare_only=True)
    prepared = execute_notebook(str(ONE), None, {"seeds": 3}, prepare_only=True)
    assert "# Parameters\nseeds = 3\n" in [cell.source for cell in prepared.cells]


def test_starting_papermill_and_a_build_stays_light():
    code = (
        "import sys, vaenotes.report.page; print({'torch', 'papermill', 'xarray'} & {*sys.modules})"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "set()\n"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "line"), [("sed", "'sed'; did you mean 'seeds'?"), ("report", "'report' (allowed: ")]
)
@pytest.mark.attack("line")
def test_a_misspelt_parameter_ends_papermill_with_one_line_and_without_training(
    name, line, tmp_path
):
    command = [sys.executable, "-m", "papermill", str(ONE), "out.ipynb", "-p", name, "3"]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 1
    last_line = run.stderr.rstrip().splitlines()[-1]
    assert last_line.startswith(f"ParameterError: unknown parameter {line}")


# What it shows


def test_a_page_says_what_differs_from_the_defaults_and_else_nothing(monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda data, raw: shown.append(data))
    Page({})._ipython_display_()
    Page({"profile": "quick", "seeds": 3})._ipython_display_()
    (said,) = shown
    assert "profile = 'quick', seeds = 3;" in said["text/plain"]


@pytest.mark.attack("run")
def test_a_files_name_is_shown_as_text_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "<b>`{{ 1 + 1 }}`*x*.npz"
    np.savez(path, imgs=np.zeros(1))
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda data, raw: shown.append(data))
    Page({"data": str(path)})._ipython_display_()
    soup = BeautifulSoup(shown[0]["text/html"], "html.parser")
    assert {tag.name for tag in soup.find_all()} == {"p", "em"} and "text/markdown" not in shown[0]
    assert path.name in soup.text


def test_a_page_glues_what_its_prose_asks_for_alone(monkeypatch):
    glued = {}
    monkeypatch.setattr("myst_nb.glue", lambda name, value, display: glued.update({name: value}))
    Page({"_asked": ["b"]}).glue(a=1, b=np.float32(2))
    Page({}).glue(c=3)
    assert glued == {"b": 2.0, "c": 3} and type(glued["b"]) is float


def test_a_share_of_few_replicas_is_told_as_a_count():
    assert told(Interval(7 / 9, 0.4, 0.97, 9)) == "7 of 9"
    assert told(Interval(np.nan, 0, 1, 0)) == "0 of 0"
    assert told(Interval(0.775, 0.7, 0.9, 40)) == "78% of 40"


def test_the_prose_may_ask_for_every_finding_and_what_became_of_every_arm():
    runs = {"notes": make_runs([FIRST, NONE, FIRST]), "other": make_runs([NONE])}
    found = numbers(Outcome(runs, {"notes.nails": Interval(2, 1, 3, 8)}))
    nails = {name.removeprefix("notes.nails"): v for name, v in found.items() if "nails" in name}
    assert nails == {"": 2, "_low": 1, "_high": 3, "_n": 8}
    assert found["notes.count"] == 3 and found["other.count"] == 1
    assert found["notes.count_one_per_node"] == 2 and found["notes.count_collapsed"] == 1
    assert found["shown_seed"] in (0, 2)
    assert "shown_seed" not in numbers(Outcome({"other": runs["other"]}, {}))
