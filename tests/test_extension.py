"""The book's Sphinx extension, piece by piece."""

import ast
import html
import io
import json
import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import jupytext
import nbformat
import pytest
import yaml
from docutils.core import publish_doctree
from myst_nb.core.config import NbParserConfig
from myst_parser.config.main import MdParserConfig
from small_book import FRONT_MATTER, PAGE, ROOT

import vaenotes
import vaenotes_book
from vaenotes.report import Settings
from vaenotes.report.page import CELL, with_parameters
from vaenotes_book import build, progress, seen
from vaenotes_book.api import OUTER, as_rst, modules
from vaenotes_book.execute import PageError, execute
from vaenotes_book.facts import DATA, citation, codemeta, commit, licences, repository
from vaenotes_book.pages import calls_in, colab_address, description, installs, readable
from vaenotes_book.progress import EVERY, Lines
from vaenotes_book.toolchain import Cache


def test_a_log_is_told_the_newest_state_of_a_bar_now_and_then_and_every_line():
    lines = Lines()
    assert lines.of("going on with 2\nbar 0 %", 0) == "going on with 2\nbar 0 %\n"
    assert lines.of("\rbar 1 %\rbar 2 %", EVERY / 2) == ""
    assert lines.of("\rbar 3 %", EVERY) == "bar 3 %\n"
    assert lines.of("", 9 * EVERY) == ""  # nothing new
    assert lines.of("\rbar 100 %\nwaiting\n", 9 * EVERY) == "bar 100 %\nwaiting\n"


def test_what_kernels_add_to_the_file_reaches_a_builds_standard_error(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    monkeypatch.setenv("VAENOTES_PROGRESS", "")  # so that it is taken back
    monkeypatch.delenv("VAENOTES_PROGRESS")
    monkeypatch.setattr(progress, "LOOK", 0.01)
    progress.relay(tmp_path / "progress")
    with open(os.environ["VAENOTES_PROGRESS"], "a") as file:
        file.write("training 2 replicas\n")
    end = time.monotonic() + 10
    while "training 2 replicas\n" not in sys.stderr.getvalue():
        assert time.monotonic() < end
        time.sleep(0.01)
    progress.relay(tmp_path / "another")  # where it is set, it goes there
    assert not (tmp_path / "another").exists()


@pytest.mark.attack("wrong")
def test_state_knows_the_library_its_data_every_package_and_the_data_file(tmp_path, monkeypatch):
    library, data = tmp_path / "library", tmp_path / "some.npz"
    metadata = tmp_path / "thing-1.dist-info" / "METADATA"
    for folder in (library / "report", library / "__pycache__", metadata.parent):
        folder.mkdir(parents=True)
    monkeypatch.setattr(seen, "HOME", library)
    monkeypatch.syspath_prepend(tmp_path)

    def set_version(number: int) -> None:
        metadata.write_text(f"Metadata-Version: 2.1\nName: thing\nVersion: {number}\n")

    def state() -> tuple[str, list[int]]:
        return seen.state(str(data))

    set_version(1)
    known = {state()[0]}
    for path in (library / "kl.py", library / "report" / "claims.toml", data):
        for content in ("one", "two"):
            path.write_text(content)
            known.add(state()[0])
    set_version(2)
    known.add(state()[0])
    assert len(known) == 8

    before = state()
    (library / "__pycache__" / "kl.pyc").touch()
    assert state() == before
    data.rename(tmp_path / "old")
    (tmp_path / "old").rename(data)
    assert state()[0] == before[0] and state() != before  # changed, and back again
    link, data = tmp_path / "link.npz", tmp_path / "link.npz"
    states = []
    for target in ("some.npz", "library/kl.py", "some.npz"):
        link.unlink(missing_ok=True)
        link.symlink_to(tmp_path / target)
        states.append(state())
    first, _, back = states
    assert first[0] == back[0] and first != back


@pytest.mark.parametrize(
    ("argument", "anew"),
    [("--all", True), ("-E", True), ("-aE", True), ("-qa", True), ("--write-all", True),
     ("-b", False), ("-n", False), ("--keep-going", False), ("a", False)],
)  # fmt: skip
def test_a_build_may_be_asked_for_anew(argument, anew):
    assert bool(build.ANEW.fullmatch(argument)) is anew


@pytest.mark.attack("wrong")
def test_equal_cells_in_two_folders_are_two_pages(tmp_path):
    one = build.Build.__new__(build.Build)
    one.settings, one.book = Settings(), tmp_path
    text = f"{CELL} python3\nprint(open('values.txt').read())\n```\n"
    one.sources = {tmp_path / name: text for name in ("x.md", "a/x.md", "a/y.md", "b/x.md")}
    first, *others = map(one._source, one.sources)
    assert first == with_parameters(text, asdict(Settings()))
    assert len({first, *others}) == 3 and others[0] == others[1]
    cells = jupytext.reads(others[0], fmt="md").cells
    assert cells[0].source.startswith("# in a\nprofile: ")


@pytest.mark.attack("wrong")
def test_what_pages_read_beside_them_is_known_and_what_a_build_writes_is_not(tmp_path):
    book, others = tmp_path / "book", tmp_path / "others"
    for folder in (book / "a" / "_data", others / "in"):
        folder.mkdir(parents=True)
    (book / "_toc.yml").write_text("format: jb-book\nroot: page\n")
    (book / "data").symlink_to(others)
    (others / "back").symlink_to(others)

    def digest():
        return str(
            [(p, one.digest) for p, one in seen.lying(book).items() if one.by == seen.BESIDE]
        )

    known = {digest()}
    (book / "assets").mkdir()
    names = ("helper.py", "a/_data/values.txt", "table.md", "old.ipynb", "data/in/values.txt",
             "assets/measured.csv", "a/references.bib", "shown.js")  # fmt: skip
    for name in names:
        for content in ("one", "three"):
            (book / name).write_text(content)
            known.add(digest())
    assert len(known) == 1 + 2 * len(names)
    for name in ("_build/x.json", ".cache/x", "assets/x.css", "__pycache__/x.pyc", "page.md",
                 "references.bib", "conf.py", "_ext/x.py"):  # fmt: skip
        (book / name).parent.mkdir(exist_ok=True)
        (book / name).touch()
    assert digest() in known


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ("profil=quick", "unknown parameter 'profil'; did you mean 'profile'?"),
        ("data=none.npz", "data must be "),
        ("seeds", "parameters must be name=value pairs, got 'seeds'"),
    ],
)
@pytest.mark.attack("line")
def test_parameters_are_refused_before_anything_is_done(parameters, message, monkeypatch):
    monkeypatch.setenv("VAENOTES_PARAMETERS", parameters)
    with pytest.raises(SystemExit) as caught:
        build.Build(None)
    assert str(caught.value).startswith(f"VAENOTES_PARAMETERS: {message}")
    assert "\n" not in str(caught.value)


@pytest.mark.attack("wrong")
def test_a_build_that_imports_another_library_than_the_book_s_is_refused(tmp_path):
    build.check_place(tmp_path / "book", tmp_path)
    shutil.copytree(build.HOME, own := tmp_path / "vaenotes")
    build.check_place(tmp_path / "book", tmp_path)
    (own / "kl.py").write_text("")
    with pytest.raises(SystemExit, match=f"this book's library is {own}, but here {build.HOME} is"):
        build.check_place(tmp_path / "book", tmp_path)


@pytest.mark.parametrize("name", ["50%20", "a*", "a?", "[a]"])
@pytest.mark.attack("line")
def test_a_folder_that_sphinx_or_its_extensions_would_misread_is_one_line(name, tmp_path):
    odd = tmp_path / name
    for places in ((odd / "book", tmp_path), (tmp_path / "book", odd)):
        with pytest.raises(SystemExit, match=rf"with [%*?[] in its name: {re.escape(str(odd))}$"):
            build.check_place(*places)


@pytest.mark.attack("line")
def test_pages_are_not_written_among_those_they_are_made_of(tmp_path):
    book = tmp_path / "book"
    for fine in ("book/_build/html", "book/a/_build/html", "books", "site"):
        build.check_place(book, tmp_path / fine)
    for out in (book, book / "site"):
        with pytest.raises(SystemExit, match=f"made of: use {book}/_build or .*, not {out}$"):
            build.check_place(book, out)


@pytest.mark.attack("lost")
def test_a_relative_store_is_the_same_for_every_page(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VAENOTES_STORE", "store")
    monkeypatch.setenv("VAENOTES_PROGRESS", "")  # on standard error
    build.name_absolutely()
    assert os.environ["VAENOTES_STORE"] == str(tmp_path / "store")
    assert os.environ["VAENOTES_PROGRESS"] == ""


@pytest.mark.attack("wrong")
def test_a_kernel_that_imports_another_library_is_refused(tmp_path, monkeypatch):
    """As where a kernelspec of the same name stands before this environment's."""
    other = tmp_path / "vaenotes" / "__init__.py"
    other.parent.mkdir()
    other.touch()
    (folder := tmp_path / "kernels" / "python3").mkdir(parents=True)
    argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    spec = {"argv": argv, "display_name": "", "env": {"PYTHONPATH": str(tmp_path)}}
    (folder / "kernel.json").write_text(json.dumps(spec))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    notebook = nbformat.v4.new_notebook()
    with pytest.raises(PageError, match=f"^its kernel ran vaenotes {other} instead of .*py$"):
        execute(notebook, tmp_path / "page.md", 60, set())
    assert notebook.cells == []


@pytest.mark.attack("lost")
def test_a_damaged_notebook_cache_is_made_anew(tmp_path):
    path = tmp_path / "cache"
    env = SimpleNamespace(mystnb_config=SimpleNamespace(execution_cache_path=str(path)))
    cell = nbformat.v4.new_code_cell("1", execution_count=1)
    for left in (b"garbage" * 999, None):
        path.mkdir(exist_ok=True)
        if left:
            (path / "global.db").write_bytes(left)
        cache = Cache(env)
        notebook = nbformat.v4.new_notebook(cells=[cell])
        assert (cache.find(notebook) is None) == bool(left)
        cache.keep(notebook, tmp_path / "page.md", 1.0)
        assert Cache(env).find(notebook).cells[0].source == "1"


@pytest.mark.attack("line")
def test_a_folder_that_cannot_be_written_to_is_one_line(tmp_path):
    (tmp_path / "_build").touch()
    app = SimpleNamespace(srcdir=tmp_path / "book", outdir=tmp_path / "_build" / "html")
    with pytest.raises(SystemExit, match=rf"^the book cannot be built into {app.outdir}: \[Errno "):
        vaenotes_book.setup(app)


@pytest.mark.attack("lost")
def test_a_build_deletes_what_builds_wrote_and_refuses_a_folder_with_anything_else(tmp_path):
    html = tmp_path / "html"
    app = SimpleNamespace(outdir=html, doctreedir=html / ".doctrees")
    app.doctreedir.mkdir(parents=True)
    (app.doctreedir / "env").touch()

    def build_of(*pages, killed=False, failed=False, meanwhile=False):
        one = build.Build.__new__(build.Build)
        one.written, one.folder = tmp_path / "html.written", tmp_path
        one._refuse_files_of_others(app)
        if failed:
            raise SystemExit
        if meanwhile:
            (html / "theirs.html").touch()
            with pytest.raises(SystemExit, match=r"theirs\.html was written by no build"):
                one._remove_old_pages(app, None)
            (html / "theirs.html").unlink()
        one._remove_old_pages(app, None)
        for page in pages:
            (html / page).parent.mkdir(exist_ok=True)
            (html / page).touch()
        if not killed:
            one._list_pages(app, None)
        assert build.files_in(app) == sorted(pages)

    def refuses(other):
        before = build.files_in(app)
        with pytest.raises(SystemExit, match=f"^{other} was written by no build of this book: "):
            build_of("a.html")
        assert build.files_in(app) == before

    (html / "theirs.html").touch()
    refuses(html / "theirs.html")
    (html / "theirs.html").unlink()
    with pytest.raises(SystemExit):  # as a build whose pages fail, before any is written
        build_of(failed=True)
    (html / "theirs.html").touch()
    refuses(html / "theirs.html")
    (html / "theirs.html").unlink()
    build_of("a.html", "b/b.html")
    build_of("a.html", meanwhile=True)
    build_of("a.html", "c.html", killed=True)
    (html / "theirs.html").touch()
    build_of("a.html")
    (left,) = tmp_path.glob("left-*")
    assert sorted(path.name for path in left.iterdir()) == ["a.html", "c.html", "theirs.html"]
    (html / "notes").symlink_to(tmp_path)
    refuses(html / "notes")


@pytest.mark.attack("wrong")
def test_a_page_with_cells_that_would_not_be_executed_has_failed(tmp_path):
    env = SimpleNamespace(doc2path=tmp_path.joinpath)
    env.myst_config, env.mystnb_config = MdParserConfig(), NbParserConfig()
    pages = {
        "prose.md": "# Prose\n",
        "marked.md": "\ufeff" + PAGE,  # which some editors put before a text
        "bare.md": PAGE.removeprefix(FRONT_MATTER),
        "homeless.md": PAGE.replace("kernelspec:", "spec:"),
        "own.ipynb": "{}",
    }
    for name, text in pages.items():
        (tmp_path / name).write_text(text)
    one, failed = build.Build.__new__(build.Build), {}
    one.settings, one.sources, one.book = Settings(), {}, tmp_path
    waiting = one._read(env, list(pages), SimpleNamespace(find=lambda notebook: None), failed)
    assert list(waiting) == ["marked.md"]
    assert [Path(path).name for path in failed] == ["bare.md", "homeless.md", "own.ipynb"]
    assert {str(error).partition(" with")[0] for error in failed.values()} == {"a page"}


def test_who_draws_is_read_off_a_cell():
    source = """
    lab.plots.ratios(figures.heat(r), page.figures.no()); vn.lab.plots.no()
    report.sliders.units(); lab.plots.ratios(x)"""
    calls = [("lab.plots", "ratios"), ("figures", "heat"), ("report.sliders", "units")]
    assert calls_in(source) == calls


@pytest.mark.parametrize(
    ("number", "printed"),
    [
        ("-0.00", "0.00"), ("+0.000", "0.000"), ("0.0e+00", "0.0"), ("-0%", "0%"),
        ("2e-07", "2 × 10⁻⁷"), ("-1.5e+12", "−1.5 × 10¹²"), ("-0.15", "−0.15"), ("+4", "+4"),
        ("7 of 9", "7 of 9"), ("up-to-date", "up-to-date"), ("nan", "nan"),
    ],
)  # fmt: skip
def test_numbers_read_as_one_prints_them(number, printed):
    assert readable(number) == printed


def test_docstrings_are_prose_in_which_only_code_is_markup():
    block = "    t_ = 2 * s\n\n    u = t_\n"
    prose = f"KL(q || p), z* and z_ of `run`:\n{block}where `` a` `` is `code\nin` two lines."
    first = "KL(q \\|\\| p), z\\* and z\\_ of ``run``:\n"
    last = "where ``a``` is ``code in`` two lines."
    assert as_rst(prose) == f"{first}\n::\n\n{block}\n{last}"


def test_the_page_of_the_library_has_every_module_once():
    circles = ["vaenotes", *OUTER]
    listed = [name for circle in circles for name in modules(import_module(circle))]
    files = Path(vaenotes.__file__).parent.rglob("*.py")
    assert len(listed) + len(circles) == len(list(files)) and len(set(listed)) == len(listed)


@pytest.mark.attack("wrong")
def test_the_commit_is_that_of_this_very_folder_and_says_what_is_not_in_it(tmp_path, monkeypatch):
    def git(*words):
        own = ["-c", "user.name=a", "-c", "user.email=a@b.org"]
        subprocess.run(["git", *own, *words], cwd=tmp_path, check=True, capture_output=True)

    root, inner = tmp_path, tmp_path / "unpacked"
    for folder in (root / "book", inner / "book"):
        folder.mkdir(parents=True)
    assert commit(root) == "unknown"
    git("init", "-q")
    git("commit", "-q", "--allow-empty", "-m", "first")
    (root / ".gitignore").write_text("*.ipynb\n")
    git("add", ".gitignore")
    git("commit", "-q", "-m", "second")
    clean = commit(root)
    assert re.fullmatch("[0-9a-f]{7,}", clean)
    assert commit(inner) == "unknown"  # an outer repository's is not its own
    monkeypatch.setenv("GIT_DIR", str(ROOT / ".git"))
    assert commit(root) == clean
    for name in ("out.ipynb", "notes.txt", "book/made.ipynb"):
        (root / name).touch()
    assert commit(root) == clean
    (root / "book" / "new.md").touch()
    assert commit(root) == f"{clean}-dirty"
    (root / ".gitignore").write_text("")
    assert commit(root) == f"{clean}-dirty"


@pytest.mark.attack("wrong")
@pytest.mark.parametrize("way", ["--skip-worktree", "--assume-unchanged", "exclude", "read"])
def test_a_commit_has_no_files_at_which_git_is_told_not_to_look(tmp_path, way):
    (tmp_path / "vaenotes").mkdir()
    (tmp_path / "vaenotes" / "kl.py").touch()
    for words in ("init -q", "add .", "-c user.name=a -c user.email=a@b.org commit -q -m first"):
        subprocess.run(["git", *words.split()], cwd=tmp_path, check=True)
    assert "dirty" not in (clean := commit(tmp_path))
    if way == "read":
        (tmp_path / ".git" / "info" / "exclude").write_text("*.csv\n")
        (tmp_path / "book").mkdir()
        (tmp_path / "book" / "measured.csv").touch()
        assert commit(tmp_path) == clean
        assert commit(tmp_path, [tmp_path / "book" / "measured.csv"]) == f"{clean}-dirty"
        return
    if way == "exclude":
        (tmp_path / ".git" / "info" / "exclude").write_text("own.py\n")
        (tmp_path / "vaenotes" / "own.py").touch()
    else:
        subprocess.run(["git", "update-index", way, "vaenotes/kl.py"], cwd=tmp_path, check=True)
        (tmp_path / "vaenotes" / "kl.py").write_text("1")
    assert commit(tmp_path) == f"{clean}-dirty"


CITATION = ROOT / "CITATION.cff"


def test_the_citation_is_the_one_of_the_file():
    facts = yaml.safe_load(CITATION.read_text())
    assert facts["version"] == vaenotes.__version__
    text, bibtex = citation(CITATION, "2026", "abc1234")
    for fact in (facts["title"], facts["version"], facts["authors"][0]["name"], "2026", "abc1234"):
        assert fact in html.unescape(text) and fact in bibtex
    assert bibtex.count("{") == bibtex.count("}") and "url" not in bibtex
    text, bibtex = citation(CITATION, "2026", "abc1234", "https://example.org/a/b")
    assert (
        text.endswith(" https://example.org/a/b") and "url = {https://example.org/a/b}," in bibtex
    )


@pytest.mark.attack("run")
def test_a_citation_is_text(tmp_path):
    known = yaml.safe_load(CITATION.read_text()) | {"title": "<b>{{ 7 * 7 }}</b> *a*"}
    (tmp_path / "CITATION.cff").write_text(yaml.safe_dump(known))
    text, _ = citation(tmp_path / "CITATION.cff", "2026", "abc1234")
    assert not set("<{`[") & set(text) and text.count("*") == 2
    assert html.unescape(text).count("*<b>{{ 7 * 7 }}</b> *a**") == 1


@pytest.mark.attack("line")
def test_a_citation_may_have_persons_and_leave_out_what_may_be_left_out(tmp_path):
    orcid = "https://orcid.org/0000-0001-2345-6789"
    person = {"family-names": "Doe", "given-names": "Jane", "orcid": orcid}
    known = {"cff-version": "1.2.0", "message": "Cite.", "title": "T", "authors": [person]}
    (file := tmp_path / "CITATION.cff").write_text(yaml.safe_dump(known))
    text, bibtex = citation(file, "2026", "abc1234")
    assert text == "Jane Doe (2026). *T*. Commit abc1234." and "version" not in bibtex
    told = json.loads(codemeta(file, "A book", "abc1234", {}))
    assert told["author"] == [{"@type": "Person", "name": "Jane Doe", "@id": orcid}]
    assert not {"license", "version", "keywords", "description", "datePublished"} & told.keys()


def test_the_report_is_described_for_programs_with_versions_commit_parameters_and_licences():
    told = json.loads(codemeta(CITATION, "A book", "abc1234", {"profile": "quick"}))
    facts = yaml.safe_load(CITATION.read_text())
    assert told["@context"] == "https://w3id.org/codemeta/3.0" and told["identifier"] == "abc1234"
    assert (told["name"], told["version"]) == (facts["title"], facts["version"])
    assert told["datePublished"] == str(facts["date-released"])
    assert told["license"] == "https://spdx.org/licenses/MIT"
    needed = {one["name"]: one["version"] for one in told["softwareRequirements"]}
    assert {"torch", "numpy"} <= needed.keys() and all(needed.values())
    assert told["hasPart"]["description"] == "Pages executed with profile = 'quick'"
    assert [one["license"] for one in told["supportingData"]] == [one.url for one in DATA]
    assert "codeRepository" not in told
    told = json.loads(codemeta(CITATION, "A book", "abc1234", {}, "https://example.org/a/b"))
    assert told["codeRepository"] == "https://example.org/a/b"


def test_every_data_set_that_is_not_ours_has_its_terms_in_the_readme_too():
    readme = (ROOT / "README.md").read_text()
    for one in DATA:
        assert one.name in licences() and one.name in readme
        assert one.terms.split(",")[0] in licences() and one.terms.split(",")[0] in readme


@pytest.mark.parametrize(
    ("environment", "address"),
    [
        ({}, ""),
        ({"GITHUB_REPOSITORY": ""}, ""),
        ({"GITHUB_REPOSITORY": "no address"}, ""),
        ({"GITHUB_REPOSITORY": "someone/notes"}, "https://github.com/someone/notes"),
        (
            {"GITHUB_REPOSITORY": "someone/notes", "GITHUB_SERVER_URL": "https://git.example.org"},
            "https://git.example.org/someone/notes",
        ),
    ],
)
@pytest.mark.attack("run")
def test_the_repository_is_known_where_its_workflow_runs_alone(environment, address):
    assert repository(environment) == address


def test_colab_opens_the_notebook_that_the_workflow_has_put_into_the_repository():
    where = "https://colab.research.google.com/github/someone/notes/blob/notebooks/means.ipynb"
    assert colab_address("https://github.com/someone/notes", "means") == where
    assert colab_address("https://git.example.org/someone/notes", "means") == ""
    assert colab_address("", "means") == ""
    cell = installs("https://github.com/someone/notes", "abc1234").source
    assert 'git+https://github.com/someone/notes@abc1234"' in cell
    assert "@" not in installs("https://x.org/a/b", "abc1234-dirty").source.partition("git+")[2]


@pytest.mark.parametrize(
    ("page", "told"),
    [
        ("Title\n=====\n\nIt is 1.5 e.g.\nhere. And more.\n", "It is 1.5 e.g. here."),
        (
            "Title\n=====\n\nFirst.\n\n.. admonition:: Why?\n\n   **Answer.** So it is. More.\n",
            "So it is.",
        ),
        ("Title\n=====\n\n.. admonition:: Why?\n\n   Because.\n\nText.\n", "Because."),
        ("Title\n=====\n\n* a list\n", ""),
        (f"Title\n=====\n\n{'word ' * 100}\n", f"{'word ' * 59}word …"),
    ],
)
def test_a_page_is_described_by_its_answer_or_else_its_first_sentence(page, told):
    assert description(publish_doctree(page)) == told


def test_every_word_of_the_glossary_is_explained_in_one_or_two_plain_sentences():
    """As that is what a reader sees where the word stands: no mathematics, no links."""
    text = (ROOT / "book" / "notation.md").read_text()
    blocks = "\n\n".join(re.findall(r"```\{glossary\}\n(.*?)```", text, re.DOTALL)).split("\n\n")
    words = [block for block in blocks if block.strip() and not block.startswith(" ")]
    assert len(words) > 30
    for block in words:
        meaning = " ".join(line.strip() for line in block.splitlines() if line.startswith("  "))
        assert 1 <= len(re.findall(r"\.(?=\s|$)", meaning)) <= 2, block
        assert not re.search(r"[$`\\\]]", meaning), block


def imported(file: Path) -> set[str]:
    nodes = list(ast.walk(ast.parse(file.read_text())))
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    return names | {str(node.module) for node in nodes if isinstance(node, ast.ImportFrom)}


def test_the_insides_of_myst_nb_and_jupyter_cache_are_imported_in_one_place():
    files = [
        file
        for top in ("vaenotes", "benchmarks", "book/_ext")
        for file in (ROOT / top).rglob("*.py")
    ]
    inside = [
        file.name
        for file in files
        if any(name.startswith(("myst_nb.", "jupyter_cache")) for name in imported(file))
    ]
    assert inside == ["toolchain.py"]
