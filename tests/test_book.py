"""The book's sources keep the contract, and its Sphinx extension keeps builds fresh and strict."""

import ast
import os
import re
import shutil
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import jupytext
import nbformat
import pytest
import yaml
from bs4 import BeautifulSoup
from docutils import nodes
from joblib import cpu_count
from sphinx.errors import ConfigError

import vaenotes
from vaenotes.settings import Settings
from vaenotes_api import as_rst
from vaenotes_book import digest, inject, read_parameters, stamp
from vaenotes_execute import replicas
from vaenotes_facts import banner, citation
from vaenotes_figures import commit_node

ROOT = Path(__file__).parents[1]
BOOK = ROOT / "book"

FRONT_MATTER = """\
---
jupytext:
  text_representation:
    extension: .md
    format_name: myst
kernelspec:
  name: python3
  display_name: Python 3
  language: python
---
"""
CHECK = "import vaenotes as vn\nsettings = vn.check_parameters(globals())\nsettings"


def parameters_cell() -> str:
    """The code of the `parameters` cell, from the one definition of its names and defaults."""

    def type_name(annotation: object) -> str:  # papermill's parser does not know `int | None`
        name = getattr(annotation, "__name__", str(annotation))
        return {"int | None": "Optional[int]"}.get(str(annotation), name)

    lines = [
        f"{field.name}: {type_name(field.type)} = {field.default!r}" for field in fields(Settings)
    ]
    return "\n".join(["from typing import Optional", *lines])


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


def test_the_library_page_has_every_module_in_the_readmes_order():
    described = re.findall(r"automodule:: vaenotes\.(\w+)", (BOOK / "api.md").read_text())
    assert described == re.findall(r"`(\w+)\.py`", (ROOT / "README.md").read_text())
    modules = {path.stem for path in (ROOT / "vaenotes").glob("*.py")} - {"__init__"}
    assert set(described) == modules


# The extension, piece by piece

PAGE = f"""\
{FRONT_MATTER}
# A page

```{{code-cell}} python3
:tags: [parameters]

{parameters_cell()}
```

```{{code-cell}} python3
{CHECK}
```

```{{code-cell}} python3
from myst_nb import glue
from vaenotes.data import ANSWER, fetch
fetch()
glue("answer", ANSWER + 1)
glue("profile", settings.profile, display=False)
```

The profile is {{glue:text}}`profile`.
"""


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


def test_read_parameters_types_values_as_papermill_does():
    text = "profile=quick seeds=4 epochs=None rate=1e-3 on=True data='a b.npz'"
    assert read_parameters(text) == {
        "profile": "quick",
        "seeds": 4,
        "epochs": None,
        "rate": 1e-3,
        "on": True,
        "data": "a b.npz",
    }
    for bad in ["profile", "=quick", "first-seed=3"]:
        with pytest.raises(ConfigError, match="name=value"):
            read_parameters(bad)


def test_digest_knows_the_parameters_and_the_file_they_name(tmp_path):
    parameters = {"data": "some.npz"}
    seen = {digest({}, tmp_path), digest(parameters, tmp_path)}
    for content in [b"one", b"two"]:
        (tmp_path / "some.npz").write_bytes(content)
        seen.add(digest(parameters, tmp_path))
    assert len(seen) == 4


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


def test_the_citation_is_the_one_of_the_file():
    facts = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert facts["version"] == vaenotes.__version__
    text, bibtex = citation(ROOT / "CITATION.cff", "2026", "abc1234")
    for fact in (facts["title"], facts["version"], facts["authors"][0]["name"], "2026", "abc1234"):
        assert fact in text and fact in bibtex
    assert bibtex.count("{") == bibtex.count("}")


# The extension at work, in a small book with the real settings and a stand-in library

LIBRARY_DATA = '''
import os
import warnings

ANSWER = 41
DATASETS = ["sprites"]

def fetch():
    """As if one replica had been trained, and two found."""
    warnings.warn("a warning names this file")
    if path := os.environ.get("VAENOTES_USED"):
        with open(path, "a") as file:
            file.write("found a\\nfound b\\ntrained c\\nfound c\\n")
'''

LIBRARY_EXPERIMENTS = """
from types import SimpleNamespace

from vaenotes.errors import ParameterError

PROFILES = ["quick", "book"]
ARMS = {"notes": SimpleNamespace(edges=None)}

def arm(settings, name):
    if settings.first_seed == 13:
        raise ParameterError("regauge must be None with this prior")
"""


class SmallBook:
    """A project of three pages: `page` is executed, `index` shows a value that it glues, and
    `status` is the book's own."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.html = root / "book" / "_build" / "html"
        book = root / "book"
        book.mkdir()
        shutil.copy(ROOT / "_config.yml", book)
        shutil.copy(ROOT / "CITATION.cff", root)
        shutil.copytree(BOOK / "_ext", book / "_ext")
        shutil.copytree(BOOK / "assets", book / "assets")
        (book / "references.bib").touch()
        (book / "_toc.yml").write_text(
            "format: jb-book\nroot: index\nchapters:\n- file: page\n- file: status\n"
        )
        (book / "index.md").write_text("# Index\n\nIt is {glue:text}`page.md::answer:d`.\n")
        (book / "page.md").write_text(PAGE)
        shutil.copy(BOOK / "status.md", book)

        library = root / "vaenotes"
        library.mkdir()
        for name in ["errors.py", "notebook.py", "settings.py"]:
            shutil.copy(ROOT / "vaenotes" / name, library)
        (library / "__init__.py").write_text("from vaenotes.notebook import check_parameters\n")
        (library / "data.py").write_text(LIBRARY_DATA)
        (library / "priors.py").write_text("PRIORS = ['exogenous']\n")
        (library / "experiments.py").write_text(LIBRARY_EXPERIMENTS)

    def edit(self, name: str, old: str, new: str) -> None:
        path = self.root / name
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))

    def build(self, parameters: str = "") -> tuple[int, str]:
        """Exit code and output of a strict build."""
        environment = os.environ | {
            "PYTHONPATH": str(self.root),
            "PYTHONDONTWRITEBYTECODE": "1",
            "VAENOTES_PARAMETERS": parameters,
        }
        jupyter_book = Path(sys.executable).with_name("jupyter-book")
        run = subprocess.run(
            [jupyter_book, "build", "book", "-W", "-n", "--keep-going"],
            cwd=self.root,
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        return run.returncode, run.stdout

    def shows(self, page: str, text: str) -> bool:
        return text in (self.html / f"{page}.html").read_text()

    def soup(self, page: str) -> BeautifulSoup:
        return BeautifulSoup((self.html / f"{page}.html").read_text(), "html.parser")

    def executed(self) -> list[list[str]]:
        """The rows of the status page's first table."""
        rows = self.soup("status").find("table").tbody.find_all("tr")
        return [[cell.get_text() for cell in row.find_all("td")] for row in rows]


@pytest.fixture
def small_book(tmp_path):
    return SmallBook(tmp_path)


@pytest.mark.slow
def test_results_are_kept_when_they_hold_and_made_anew_when_not(small_book):
    def build_executes() -> bool:
        exit_code, output = small_book.build()
        assert exit_code == 0, output
        assert "Executing notebook" not in output  # by our extension, or not at all
        return "page executed in" in output

    assert build_executes()
    assert small_book.shows("index", ">42<")

    small_book.edit("book/page.md", "The profile is", "Its profile is")
    assert not build_executes()
    assert small_book.shows("page", "Its profile is")

    # Another page's value, in a page that was not read anew.
    small_book.edit("book/page.md", "ANSWER + 1", "ANSWER + 2")
    small_book.edit("book/page.md", "fetch()\n", "")
    assert build_executes()
    assert small_book.shows("index", ">43<")
    assert small_book.executed()[0][3:] == ["0", "0"]

    small_book.edit("vaenotes/data.py", "41", "51")
    assert build_executes()
    assert small_book.shows("index", ">53<")


@pytest.mark.slow
def test_what_was_executed_can_be_downloaded_and_is_in_the_status_table(small_book):
    small_book.edit(
        "book/page.md", "The profile is", "{doc}`/index` {glue:text}`page.md::answer:.1f`,"
    )

    exit_code, output = small_book.build()
    assert exit_code == 0, output
    page, total = rows = small_book.executed()
    assert page[0] == "A page" and page[1].startswith("20")
    assert page[3:] == total[3:] == ["1", "2"]
    assert not small_book.shows("page", "not the published pages")

    assert small_book.shows("page", 'href="_sources/page.ipynb"')
    assert not small_book.shows("index", ".ipynb")
    text = (small_book.html / "_sources" / "page.ipynb").read_text()
    notebook = nbformat.reads(text, as_version=4)
    nbformat.validate(notebook)
    assert notebook.cells[-1].source == "{doc}`/index` 42.0, book."
    assert [output.data for output in notebook.cells[-2].outputs] == [{"text/plain": "42"}]
    assert set(notebook.metadata) == {"kernelspec", "language_info"}
    for mark in [str(small_book.root), "papermill", 'vaenotes":']:
        assert mark not in text

    exit_code, output = small_book.build()
    assert exit_code == 0, output
    assert small_book.executed() == rows  # what the execution took, not this build


@pytest.mark.slow
def test_parameters_of_a_whole_build(small_book):
    library = "# Library\n\n```{eval-rst}\n.. automodule:: vaenotes.data\n```\n"
    (small_book.root / "book" / "library.md").write_text(library)
    small_book.edit("book/_toc.yml", "- file: page", "- file: page\n- file: library")
    exit_code, output = small_book.build("profile=quick")
    assert exit_code == 0, output
    assert small_book.shows("page", ">quick</span>")
    assert small_book.shows("page", "pages executed with profile=quick.")
    assert (small_book.html / "_sources" / "page.md").read_text() == PAGE

    assert small_book.shows("index", "not the published pages: they were computed with profile = ")
    assert "profile = 'quick', data = 'sprites', prior" in small_book.soup("status").get_text()

    # viewcode's listings are pages of this build too.
    listing = "_modules/vaenotes/data"
    assert small_book.shows(listing, "def</span>") and small_book.shows(
        listing, "not the published"
    )
    exit_code, output = small_book.build()
    assert exit_code == 0, output
    assert not small_book.shows(listing, "not the published pages")

    exit_code, output = small_book.build("profil=quick")
    assert exit_code != 0 and "executed" not in output
    last = output.splitlines()[-1]
    assert last.startswith("VAENOTES_PARAMETERS: unknown parameter 'profil'; did you mean 'prof")
    assert "Traceback" not in output

    exit_code, output = small_book.build("first_seed=13")  # as a prior that some arm does not admit
    assert exit_code != 0 and "executed" not in output
    assert output.splitlines()[-1] == "VAENOTES_PARAMETERS: regauge must be None with this prior"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("ANSWER + 1", "ANSWER / 0", "ZeroDivisionError"),
        ("{glue:text}`profile`", "{glue:text}`profil`", "No key 'profil' found"),
    ],
    ids=["failing cell", "missing value"],
)
def test_a_broken_page_fails_the_build(small_book, old, new, message):
    small_book.edit("book/page.md", old, new)
    exit_code, output = small_book.build()
    assert exit_code != 0
    assert message in output and "page.md" in output


FIGURE = """
```{code-cell} python3
---
mystnb: {figure: {name: fig-shown, caption: Shown.}}
---
import vaenotes.plots
vn.plots.dot(0)
```
"""
DRAW = """
from IPython.display import SVG

def dot(x):
    circle = f'<circle cx="{x}" cy="9" r="5"/>'
    return SVG(f'<svg xmlns="http://www.w3.org/2000/svg">\\n{circle}\\n</svg>')
"""


@pytest.mark.slow
def test_a_figure_names_its_source_or_the_build_fails(small_book):
    (small_book.root / "vaenotes" / "plots.py").write_text(DRAW)
    small_book.edit("book/page.md", "The profile is", f"{FIGURE}\nThe profile is")
    exit_code, output = small_book.build()
    assert exit_code == 0, output
    page = BeautifulSoup((small_book.html / "page.html").read_text(), "html.parser")
    note = page.find("figure", id="fig-shown").select_one(".figure-source")
    assert note.get_text() == " Source: plots.dot at unknown"
    assert note.a["href"] == "_modules/vaenotes/plots.html#dot"

    small_book.edit("book/page.md", "vn.plots.dot(0)", "draw = vn.plots.dot\ndraw(0)")
    exit_code, output = small_book.build()
    assert exit_code != 0
    assert "no source to link" in output and "page.md" in output


def test_where_github_builds_the_commit_is_a_link(monkeypatch):
    monkeypatch.delenv("GITHUB_REPOSITORY", raising=False)
    assert commit_node("abc1234").astext() == "abc1234"
    monkeypatch.setenv("GITHUB_SERVER_URL", "https://github.com")
    monkeypatch.setenv("GITHUB_REPOSITORY", "some/where")
    assert isinstance(commit_node("unknown"), nodes.Text)
    link = commit_node("abc1234-dirty")
    assert link["refuri"] == "https://github.com/some/where/commit/abc1234"
    assert link.astext() == "abc1234-dirty"


@pytest.mark.slow
@pytest.mark.skipif(cpu_count() < 2, reason="pages are executed one by one on a single core")
def test_pages_are_executed_side_by_side_after_the_first(small_book):
    """Two pages wait for each other: one after the other, neither would ever end."""
    meet = """
import time
from pathlib import Path
Path("{mine}").touch()
end = time.time() + 60
while not Path("{other}").exists():
    assert time.time() < end, "alone"
    time.sleep(0.1)
"""
    pages = {"one": meet.format(mine="1", other="2"), "two": meet.format(mine="2", other="1")}
    for name, cell in pages.items():
        page = PAGE.replace('glue("answer", ANSWER + 1)', cell).split('glue("profile"')[0] + "```\n"
        (small_book.root / "book" / f"{name}.md").write_text(page)
    small_book.edit("book/_toc.yml", "- file: page", "- file: page\n- file: one\n- file: two")
    (small_book.root / "book" / "index.md").write_text(PAGE)
    exit_code, output = small_book.build()
    assert exit_code == 0, output
    assert "[1/4] index executed" in output and "[4/4]" in output


@pytest.fixture(scope="module")
def shared_store(tmp_path_factory):
    return tmp_path_factory.mktemp("store")


@pytest.mark.slow
@pytest.mark.parametrize("page", executed_pages(), ids=lambda page: page.stem)
def test_every_page_reruns_with_one_seed_from_elsewhere(page, tmp_path, shared_store):
    command = [sys.executable, "-m", "papermill", str(page), "out.ipynb", "-p", "profile", "quick"]
    command += ["-p", "seeds", "1", "-p", "epochs", "1", "-p", "first_seed", "1000"]
    environment = os.environ | {"VAENOTES_STORE": str(shared_store)}
    run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-2000:]
