"""The notebook contract: parameters are checked in one line, and papermill reads pages."""

import json
import re
import subprocess
import sys
import typing
import zipfile
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest
from small_book import FRONT_MATTER

from vaenotes.errors import ParameterError
from vaenotes.report.notebook import check_parameters, read_parameters
from vaenotes.report.settings import Settings

PAGE = f"""\
{FRONT_MATTER}
# A page

```{{code-cell}} python3
:tags: [parameters]

seeds: int = 1
data: str = "sprites"
```

```{{code-cell}} python3
from vaenotes import report

print(report.check_parameters(globals()))
```
"""


def test_defaults_are_the_contract():
    assert list(asdict(Settings()).items()) == [
        ("profile", "book"),
        ("data", "sprites"),
        ("prior", "exogenous"),
        ("seeds", None),
        ("first_seed", 0),
        ("epochs", None),
    ]


def test_read_parameters_types_values_as_papermill_does():
    text = "profile=quick seeds=4 epochs=None rate=1e-3 on=True text='a b.npz'"
    assert read_parameters(text) == {
        "profile": "quick",
        "seeds": 4,
        "epochs": None,
        "rate": 1e-3,
        "on": True,
        "text": "a b.npz",
    }
    for bad in ["profile", "=quick", "first-seed=3", "text='a b"]:
        with pytest.raises(ParameterError, match=r"^parameters must be name=value pairs, got .+$"):
            read_parameters(bad)


def test_a_data_file_is_meant_from_where_the_command_is_given(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert read_parameters("data=a/b.npz") == {"data": str(tmp_path / "a" / "b.npz")}
    assert read_parameters("data=sprites") == {"data": "sprites"}


@pytest.mark.parametrize(
    "values",
    [
        {"profile": "quick", "data": "mnist5k", "prior": "parents"},
        {"seeds": 1, "epochs": 1, "first_seed": 2**31 - 1},
        {"seeds": None, "epochs": None},
    ],
)
def test_allowed_values(values):
    assert check_parameters(values) == Settings(**values)


def test_data_may_be_an_existing_npz(tmp_path):
    path = tmp_path / "dsprites.npz"
    with pytest.raises(ParameterError, match="the path of an existing"):
        Settings(data=str(path))
    path.touch()
    with pytest.raises(ParameterError, match="archive, readable, got"):
        Settings(data=str(path))
    with zipfile.ZipFile(path, "w"):
        pass
    assert Settings(data=str(path)).data == str(path)


@pytest.mark.parametrize(
    ("namespace", "message"),
    [
        ({"sed": 3}, "unknown parameter 'sed'; did you mean 'seeds'? (allowed: profile, data, "),
        ({"colour": 3}, "unknown parameter 'colour' (allowed: profile, data, prior, seeds, "),
        ({"seeds": "abc"}, "seeds must be a whole number from 1 to 10000 or None, got 'abc'"),
        ({"seeds": 0}, "seeds must be a whole number from 1 to 10000 or None, got 0"),
        ({"seeds": True}, "seeds must be a whole number from 1 to 10000 or None, got True"),
        ({"epochs": -1}, "epochs must be a whole number from 1 to 100000 or None, got -1"),
        ({"epochs": 1.5}, "epochs must be a whole number from 1 to 100000 or None, got 1.5"),
        ({"first_seed": -1}, "first_seed must be a whole number from 0 to 2147483647, got -1"),
        ({"first_seed": 2**31}, "first_seed must be a whole number from 0 to 2147483647, got 2147"),
        ({"first_seed": None}, "first_seed must be a whole number from 0 to 2147483647, got None"),
        ({"profile": "quik"}, "full, notes, got 'quik'; did you mean 'quick'?"),
        ({"data": "mnist"}, "data must be one of sprites, grey_sprites, paired_sprites, mnist5k, "),
        ({"data": 3}, "data must be one of sprites, grey_sprites, paired_sprites, mnist5k, "),
        ({"prior": []}, "prior must be one of exogenous, shuffled, nodes, constant, "),
    ],
)
def test_refused_in_one_line(namespace, message):
    with pytest.raises(ParameterError, match=re.escape(message)) as caught:
        check_parameters(namespace)
    assert "\n" not in str(caught.value)


def test_what_a_kernel_adds_is_no_parameter():
    goodbye = object()
    shell = SimpleNamespace(user_ns_hidden={"exit": goodbye})
    namespace = {
        "_private": 1,
        "module": json,
        "Optional": typing.Optional,
        "get_ipython": lambda: shell,
        "exit": goodbye,
        "seeds": 4,
    }
    shell.user_ns_hidden["get_ipython"] = namespace["get_ipython"]
    assert check_parameters(namespace) == Settings(seeds=4)
    with pytest.raises(ParameterError, match="unknown parameter 'exit'"):
        check_parameters(namespace | {"exit": 3})


def test_import_is_light():
    code = "import sys, vaenotes.notebook; print({'torch', 'papermill'} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "set()\n"


def test_papermill_reads_pages_and_leaves_other_files_alone(tmp_path):
    from papermill.iorw import load_notebook_node, papermill_io

    page = tmp_path / "page.md"
    page.write_text(PAGE)
    notebook = load_notebook_node(str(page))
    nbformat.validate(notebook)
    cells = [(cell.cell_type, cell.metadata.tags) for cell in notebook.cells]
    assert cells == [("markdown", []), ("code", ["parameters"]), ("code", [])]
    assert notebook.metadata.kernelspec.name == "python3"

    other = tmp_path / "other.json"
    other.write_text(PAGE)
    assert papermill_io.read(str(other)) == PAGE


def papermill(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "papermill", "--no-progress-bar", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


@pytest.mark.slow
def test_papermill_runs_a_page_from_another_folder(tmp_path):
    (tmp_path / "book").mkdir()
    (tmp_path / "elsewhere").mkdir()
    page = tmp_path / "book" / "page.md"
    page.write_text(PAGE)

    run = papermill(
        tmp_path / "elsewhere", str(page), "out.ipynb", "-p", "seeds", "4", "-p", "data", "mnist5k"
    )
    assert run.returncode == 0, run.stderr
    assert "does not end in" not in run.stderr
    written = nbformat.read(tmp_path / "elsewhere" / "out.ipynb", as_version=4)
    assert "data='mnist5k'" in written.cells[-1].outputs[0].text
    assert "seeds=4" in written.cells[-1].outputs[0].text

    run = papermill(tmp_path, "book/page.md", "out.ipynb", "-p", "sed", "3")
    assert run.returncode == 1
    last_line = run.stderr.rstrip().splitlines()[-1]
    assert last_line.startswith("ParameterError: unknown parameter 'sed'; did you mean 'seeds'?")
