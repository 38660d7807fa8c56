"""The book's sources keep the contract."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import jupytext
import nbformat
import pytest
import yaml
from small_book import BOOK, FRONT_MATTER, ROOT

from vaenotes_book.pages import calls_in


def toc_names() -> list[str]:
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text())
    chapters = [chapter["file"] for part in toc["parts"] for chapter in part["chapters"]]
    return [toc["root"], *chapters]


def pages() -> list[Path]:
    return sorted(path for path in BOOK.rglob("*.md") if "_build" not in path.parts)


def executed_pages() -> list[Path]:
    return [page for page in pages() if "{code-cell}" in page.read_text()]


# The sources


def test_config_and_toc_are_found_from_the_root():
    assert (BOOK / "_config.yml").readlink() == Path("../_config.yml")
    assert (BOOK / "_toc.yml").readlink() == Path("../_toc.yml")


def test_no_cell_may_hang_for_ever():
    assert yaml.safe_load((ROOT / "_config.yml").read_text())["execute"]["timeout"] > 0


def test_toc_and_pages_agree():
    names = [str(page.relative_to(BOOK).with_suffix("")) for page in pages()]
    assert sorted(toc_names()) == sorted(names)


def test_no_outputs_are_kept_beside_the_pages():
    notebooks = [path for path in BOOK.rglob("*.ipynb") if "_build" not in path.parts]
    assert notebooks == []


@pytest.mark.parametrize("page", executed_pages(), ids=lambda page: page.stem)
def test_executed_page_opens_with_the_contract(page):
    text = page.read_text()
    assert text.startswith(FRONT_MATTER)
    cells = [cell for cell in jupytext.reads(text, fmt="md").cells if cell.cell_type == "code"]
    assert not any("parameters" in cell.metadata.get("tags", []) for cell in cells)
    body = ast.parse(cells[0].source).body
    made, *_, shown = [line for line in body if not isinstance(line, ast.Import | ast.ImportFrom)]
    assert ast.unparse(made).startswith("page = report.Page(globals()")
    assert ast.unparse(shown) == "page"


@pytest.mark.parametrize("page", executed_pages(), ids=lambda page: page.stem)
def test_a_cell_that_makes_a_figure_calls_by_name_who_draws_it(page):
    for cell in jupytext.reads(page.read_text(), fmt="md").cells:
        if "figure" in cell.metadata.get("mystnb", {}):
            assert calls_in(cell.source), cell.source


def test_each_thing_of_your_own_is_a_cell_of_under_30_lines():
    cells = jupytext.reads((BOOK / "extending.md").read_text(), fmt="md").cells
    sources = [cell.source for cell in cells if cell.cell_type == "code"]
    for made in ('PRIORS["', 'DATASETS["', 'EXPERIMENTS["', "chapter = "):
        (cell,) = [source for source in sources if made in source]
        assert 5 < len(cell.splitlines()) < 30
    assert max(len(source.splitlines()) for source in sources) < 30


@pytest.fixture(scope="module")
def shared_store(tmp_path_factory):
    return tmp_path_factory.mktemp("store")


@pytest.mark.slow
@pytest.mark.parametrize("page", executed_pages(), ids=lambda page: page.stem)
def test_every_page_reruns_with_one_seed_from_elsewhere(page, tmp_path, shared_store):
    command = [sys.executable, "-m", "papermill", str(page), "out.ipynb", "-p", "profile", "quick"]
    command += ["-p", "seeds", "1", "-p", "epochs", "1", "-p", "first_seed", "1000"]
    command += ["-p", "data", "digits"]  # sprites are those of any build
    environment = os.environ | {"VAENOTES_STORE": str(shared_store)}
    run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-2000:]
    cells = nbformat.read(tmp_path / "out.ipynb", as_version=4).cells
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    said = "".join(output.text for output in outputs if output.get("name") == "stderr")
    assert "Warning" not in said, said
