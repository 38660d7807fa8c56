"""The book's sources keep the contract, and its Sphinx extensions work piece by piece."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import jupytext
import nbformat
import pytest
import yaml
from docutils import nodes
from small_book import BOOK, CHECK, FRONT_MATTER, PAGE, ROOT, parameters_cell

import vaenotes
from vaenotes_api import as_rst, in_a_line
from vaenotes_book import LIBRARY, inject, stamp, state
from vaenotes_execute import replicas
from vaenotes_facts import banner, citation
from vaenotes_figures import commit_node


def toc_names() -> list[str]:
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text())
    chapters = [chapter["file"] for part in toc["parts"] for chapter in part["chapters"]]
    return [toc["root"], *chapters]


def pages() -> list[Path]:
    return sorted(path for path in BOOK.rglob("*.md") if "_build" not in path.parts)


def executed_pages() -> list[Path]:
    return [page for page in pages() if "{code-cell}" in page.read_text()]


def code(source: str) -> str:
    """The source's meaning: comments, quotes and blank lines do not count."""
    return ast.dump(ast.parse(source))


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
    assert "parameters" in cells[0].metadata.tags
    assert code(cells[0].source) == code(parameters_cell())
    assert code(cells[1].source) == code(CHECK)


def test_executed_pages_explain_the_parameters_in_the_same_words():
    sources = set()
    for page in executed_pages():
        cells = jupytext.reads(page.read_text(), fmt="md").cells
        sources.add(next(cell.source for cell in cells if cell.cell_type == "code"))
    assert len(sources) <= 1


def test_each_thing_of_your_own_is_a_cell_of_under_30_lines():
    cells = jupytext.reads((BOOK / "extending.md").read_text(), fmt="md").cells
    sources = [cell.source for cell in cells if cell.cell_type == "code"]
    for made in ('PRIORS["', 'DATASETS["', 'EXPERIMENTS["', "chapter = "):
        (cell,) = [source for source in sources if made in source]
        assert 5 < len(cell.splitlines()) < 30
    assert max(len(source.splitlines()) for source in sources) < 30


def test_the_library_page_has_every_module_in_the_readmes_order():
    described = re.findall(r"automodule:: vaenotes\.(\w+)", (BOOK / "api.md").read_text())
    assert described == re.findall(r"`(\w+)\.py`", (ROOT / "README.md").read_text())
    modules = {path.stem for path in (ROOT / "vaenotes").glob("*.py")} - {"__init__"}
    assert set(described) == modules


# The extension, piece by piece


def test_stamp_changes_the_kernelspec_and_moves_no_line():
    stamped = stamp(PAGE, "abc")
    before, after = PAGE.split("\n"), stamped.split("\n")
    assert len(after) == len(before)
    end = FRONT_MATTER.count("\n") - 1
    assert after[end:] == before[end:]
    metadata = yaml.safe_load("\n".join(after[1:end]))
    assert metadata["kernelspec"].pop("vaenotes") == "abc"
    assert metadata == yaml.safe_load("\n".join(before[1:end]))


@pytest.mark.parametrize("prose", ["# Title\n", "---\nno: kernel\n---\n# Title\n", "---\n\n---\n"])
def test_stamp_leaves_prose_alone(prose):
    assert stamp(prose, "abc") == prose


def test_parameters_are_injected_after_the_parameters_cell():
    page = inject(PAGE, {"profile": "quick", "seeds": 4, "epochs": None})
    cells = [cell for cell in jupytext.reads(page, fmt="md").cells if cell.cell_type == "code"]
    assert cells[0].metadata.tags == ["parameters"]
    assert code(cells[1].source) == code("profile = 'quick'\nseeds = 4\nepochs = None")
    assert code(cells[2].source) == code(CHECK)
    assert inject(PAGE, {}) == PAGE


def test_state_knows_the_parameters_and_the_file_they_name(tmp_path):
    path = tmp_path / "some.npz"
    parameters = {"data": str(path)}
    seen = {state({}).digest, state(parameters).digest}
    for content in [b"one", b"two"]:
        path.write_bytes(content)
        seen.add(state(parameters).digest)
    assert len(seen) == 4

    before = state(parameters)
    assert state(parameters) == before
    path.rename(path.with_suffix(".old"))
    path.with_suffix(".old").rename(path)
    after = state(parameters)
    assert after.digest == before.digest and after != before  # changed, and back again


def test_state_knows_every_kind_of_file_in_the_library():
    files = [path for path in (ROOT / "vaenotes").rglob("*") if path.is_file()]
    assert {path.suffix for path in files if "__pycache__" not in path.parts} == set(LIBRARY)


def test_a_replica_counts_once_as_trained_if_it_was():
    assert replicas("found a\ntrained b\nfound b\nfound a\nfound c\n") == {"trained": 1, "found": 2}
    assert replicas("") == {"trained": 0, "found": 0}


def test_the_banner_names_what_was_changed_and_escapes_it():
    assert banner("") == ""
    text = banner("seeds = 4, data = '<b>.npz'")
    assert "not the published pages" in text
    assert "seeds = 4, data = &#x27;&lt;b&gt;.npz&#x27;." in text


def test_docstrings_are_prose_in_which_only_code_is_markup():
    block = ["    t_ = 2 * s", "", "    u = t_"]
    prose = ["KL(q || p), z* and z_ of `run`:", *block, "where `` a` `` is code."]
    expected = [r"KL(q \|\| p), z\* and z\_ of ``run``:", "", "::", "", *block, ""]
    assert as_rst(prose) == [*expected, "where `` a` `` is code."]


def test_what_a_public_name_is_fits_a_line():
    assert in_a_line(vaenotes.kl_nats) == (
        "KL(q || p) in nats, unreduced: (..., node, dim), each entry >= 0 to rounding."
    )
    assert in_a_line(vaenotes.PROFILES) == "4, by name: quick, book, full, notes."
    assert in_a_line(dict.fromkeys("abcde")) == "5, by name: a, b, c, d, ..."
    for name in vaenotes.__all__[1:]:
        assert 20 < len(in_a_line(getattr(vaenotes, name))) < 200, name


def test_the_citation_is_the_one_of_the_file():
    facts = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert facts["version"] == vaenotes.__version__
    text, bibtex = citation(ROOT / "CITATION.cff", "2026", "abc1234")
    for fact in (facts["title"], facts["version"], facts["authors"][0]["name"], "2026", "abc1234"):
        assert fact in text and fact in bibtex
    assert bibtex.count("{") == bibtex.count("}")


def test_where_github_builds_the_commit_is_a_link(monkeypatch):
    monkeypatch.delenv("GITHUB_REPOSITORY", raising=False)
    assert commit_node("abc1234").astext() == "abc1234"
    monkeypatch.setenv("GITHUB_SERVER_URL", "https://github.com")
    monkeypatch.setenv("GITHUB_REPOSITORY", "some/where")
    assert isinstance(commit_node("unknown"), nodes.Text)
    link = commit_node("abc1234-dirty")
    assert link["refuri"] == "https://github.com/some/where/commit/abc1234"
    assert link.astext() == "abc1234-dirty"


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
