"""The book's sources keep the contract."""

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
from small_book import BOOK, FRONT_MATTER, ROOT

from vaenotes_book.pages import calls_in

PAGES = sorted(path for path in BOOK.rglob("*.md") if "_build" not in path.parts)
EXECUTED = [page for page in PAGES if "{code-cell}" in page.read_text()]
LINES = {"theory": 321, "your_own_vae": 161, "rerun": 115}
STORY = 50
"""Most lines of code of a page, and of those that teach code. To be lowered, not raised."""
LONGEST = {"theory": 38, "your_own_vae": 49}
"""Most lines of one cell; elsewhere 24."""
CHAPTERS = [
    "system", "posterior_variance", "prior_variance", "means", "which_dim", "hidden_talents",
    "where_it_holds",
]  # fmt: skip
GLUED = re.compile(r"\{glue:[^}]*\}`[^`]*`")
KEY = re.compile(r"\{glue:text\}`[\w.-]+(:[^`]*)?`")
each_executed = pytest.mark.parametrize("page", EXECUTED, ids=lambda page: page.stem)


def cells_of(page: Path) -> list[nbformat.NotebookNode]:
    cells = jupytext.reads(page.read_text(), fmt="md").cells
    return [cell for cell in cells if cell.cell_type == "code"]


def test_config_and_toc_are_found_from_the_root_and_no_cell_may_hang_for_ever():
    for name in ("_config.yml", "_toc.yml"):
        assert (BOOK / name).readlink() == Path("..", name)
    assert yaml.safe_load((ROOT / "_config.yml").read_text())["execute"]["timeout"] > 0


def test_the_contents_have_every_page_once_and_no_outputs_lie_beside_them():
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text())
    chapters = [chapter["file"] for part in toc["parts"] for chapter in part["chapters"]]
    names = [str(page.relative_to(BOOK).with_suffix("")) for page in PAGES]
    assert sorted([toc["root"], *chapters]) == names and len(names) <= 16
    assert chapters[0] == "your_own_vae"  # in reach of who reads nothing else
    assert [path for path in BOOK.rglob("*.ipynb") if "_build" not in path.parts] == []


@each_executed
def test_an_executed_page_starts_with_a_page_and_has_little_code(page):
    assert page.read_text().startswith(FRONT_MATTER)
    first, *others = cells_of(page)
    assert not any("parameters" in cell.metadata.get("tags", []) for cell in (first, *others))
    body = ast.parse(first.source).body
    made, *_, shown = [line for line in body if not isinstance(line, ast.Import | ast.ImportFrom)]
    assert ast.unparse(made).startswith("page = report.Page(globals()")
    assert ast.unparse(shown) == "page"
    solved = [cell.metadata.get("mystnb", {}).get("code_prompt_show") for cell in (first, *others)]
    told = [cell for cell, of in zip((first, *others), solved, strict=True) if of != "Solution"]
    lines = [sum(map(bool, cell.source.split("\n"))) for cell in told]
    assert sum(lines) <= LINES.get(page.stem, STORY)
    assert max(lines) <= LONGEST.get(page.stem, 24)


@each_executed
def test_a_number_in_the_prose_has_a_name_and_a_format_of_numbers(page):
    text = page.read_text()
    for role in GLUED.findall(text):
        match = KEY.fullmatch(role)
        assert match, role
        if form := (match[1] or "")[1:]:
            format(1 if form.endswith("d") else 1.5, form)


@each_executed
def test_a_cell_that_makes_a_figure_calls_by_name_who_draws_it(page):
    for cell in cells_of(page):
        if "figure" in cell.metadata.get("mystnb", {}):
            assert calls_in(cell.source), cell.source


@pytest.mark.parametrize("name", CHAPTERS)
def test_a_chapter_has_a_box_a_figure_first_and_two_exercises_with_solutions(name):
    """And each solution is a cell, so that the build and papermill run it."""
    text = (BOOK / f"{name}.md").read_text()
    box, figure = text.index(":class: chapter"), text.index("\n  figure:")
    assert box < figure < (text + "\n## ").index("\n## ")
    for said in ("**Answer.**", "**How sure.**", "**Where it holds.**"):
        assert text.count(said) == 1
    exercises = text.split(":class: exercise")[1:]
    assert len(exercises) == 2
    assert all("tags: [hide-cell]" in exercise for exercise in exercises)


def test_the_front_page_answers_each_question_of_the_notes_in_twenty_words_and_a_number():
    figures = [cell.metadata["mystnb"]["figure"] for cell in cells_of(BOOK / "index.md")
               if "third" in cell.metadata.get("tags", [])]  # fmt: skip
    assert len(figures) == 3
    for figure in figures:
        _, question, answer = re.split(r"\*\*", figure["caption"].partition(" [More](")[0])
        answer, _, judged = answer.partition(" By its rule ")
        assert question.endswith("?") and GLUED.search(judged)
        assert len(GLUED.findall(answer)) == 1 and len(GLUED.sub("one", answer).split()) <= 20


def test_each_thing_of_your_own_is_a_cell():
    sources = [cell.source for cell in cells_of(BOOK / "rerun.md")]
    for made in ('PRIORS["', 'DATASETS["', 'EXPERIMENTS["', "chapter = "):
        (cell,) = [source for source in sources if made in source]
        assert len(cell.splitlines()) > 5


@pytest.mark.slow
def test_a_page_reruns_elsewhere_as_the_readme_tells(tmp_path):
    readme = (ROOT / "README.md").read_text()
    told = re.search(r"papermill (book/\S+) (out.ipynb) -p seeds \S+ -p data (\S+)$", readme, re.M)
    command = [
        sys.executable,
        "-m",
        "papermill",
        str(ROOT / told[1]),
        told[2],
        "-p",
        "data",
        told[3],
    ]
    for parameter in ("profile quick", "seeds 1", "epochs 1", "first_seed 1000"):
        command += ["-p", *parameter.split()]
    environment = os.environ | {"VAENOTES_STORE": str(tmp_path / "store")}
    run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert run.returncode == 0 and "does not end in" not in run.stderr, run.stderr[-2000:]
    cells = nbformat.read(tmp_path / told[2], as_version=4).cells
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    shown = "".join(output.data.get("text/plain", "") for output in outputs if "data" in output)
    assert f"Computed with profile = 'quick', data = '{told[3]}'" in shown
    said = [output.text for output in outputs if output.get("name") == "stderr"]
    assert "Warning" not in "".join(said), said
