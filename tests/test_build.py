"""Builds of small books: nothing in them is stale, and no failure is silent."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest
from small_book import ROOT, SmallBook

pytestmark = pytest.mark.slow
in_proc = pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")


@pytest.fixture
def small_book(tmp_path):
    return SmallBook(tmp_path)


# Nothing is stale

SHOWN = """\
from myst_nb import glue
from vaenotes.answers import ANSWER
shown = (ANSWER, page.settings.seeds, "own")
glue("shown", "/".join(map(str, shown)), display=False)
glue("half", 0.5)
"""
FIGURE = """---
mystnb: {figure: {name: fig-shown, caption: Shown.}}
---
from vaenotes import lab
lab.plots.dot(0)"""
PROSE = "\nIt shows {glue:text}`shown:s`, and {doc}`/index` {glue:text}`page.md::half:.2f`.\n"


@pytest.fixture
def check(small_book):
    """Builds, and checks what the page and the index show and how many pages were executed."""

    def check(shown: str, executed: int, parameters: str = "") -> str:
        exit_code, output = small_book.build(parameters)
        assert exit_code == 0, output
        for page in ("index", "page"):
            assert small_book.soup(page).select_one(".pasted-text").text == shown
        assert output.count(" executed in ") == executed, output
        assert "Executing notebook" not in output  # by our extension, or not at all
        return output

    return check


@pytest.mark.attack("wrong")
def test_every_change_shows_and_nothing_of_an_earlier_build_is_left(small_book, check):
    """One page shows a number of every origin; another page shows it too."""
    book = small_book.root / "book"
    small_book.add("questions/gone", "1 + 1")
    small_book.add("page", SHOWN, FIGURE)
    with (book / "page.md").open("a") as page:
        page.write(PROSE)
    (book / "index.md").write_text("# Index\n\nIt is {glue:text}`page.md::shown:s`.\n")
    first = {name: (book / name).read_text() for name in ("page.md", "index.md", "_toc.yml")}
    library = "# Library\n\n```{eval-rst}\n.. automodule:: vaenotes.lab.plots\n```\n"
    (book / "library.md").write_text(library)
    small_book.edit("book/_toc.yml", "- file: status", "- file: library\n- file: status")

    output = check("41/None/own", 2)
    assert "page: UserWarning: a warning names this file" in output
    assert small_book.shows("page", "pages executed with default parameters.")
    status_of_download_and_figure(small_book)
    assert {path.name for path in small_book.html.rglob("gone*")} == {
        "gone.html", "gone.md", "gone.ipynb",
    }  # fmt: skip

    small_book.edit("vaenotes/answers.py", "41", "51")
    small_book.edit("book/_toc.yml", "- file: questions/gone\n", "")
    check("51/None/own", 1)
    assert list(small_book.html.rglob("gone*")) == []

    small_book.edit("book/page.md", '"own"', '"new"')
    check("51/2/new", 1, "seeds=2")
    assert small_book.shows("index", "not the published pages: they were computed with seeds = 2.")
    assert "seeds = 2" in small_book.soup("status").get_text()
    listing = "_modules/vaenotes/lab/plots"  # viewcode's, which is a page of this build too
    assert small_book.shows(listing, "not the published pages")
    small_book.edit("book/page.md", "It shows", "Now it shows")
    rows = executed(small_book)
    check("51/2/new", 0, "seeds=2")
    assert small_book.shows("page", "Now it shows")
    assert executed(small_book) == rows  # what the execution took, not this build

    # The library and the page as they were at first, and all else changed.
    small_book.edit("vaenotes/answers.py", "51", "41")
    (book / "page.md").write_text(first["page.md"])
    os.utime(book / "page.md", (1e9, 1e9))  # as one that is put back from a copy
    cited = "{cite}`key`\n\n```{bibliography}\n```\n\nAs before, it is"
    small_book.edit("book/index.md", "It is", cited)
    (book / "references.bib").write_text("@misc{key, title={T}, author={Author, An}, year={1999}}")
    small_book.edit("book/_config.yml", "learned prior", "well learned prior")
    small_book.edit("book/_ext/vaenotes_book/pages.py", "Built from commit", "Made from commit")
    check("41/None/own", 1)
    assert small_book.shows("index", "As before, it is") and small_book.shows("index", "Author")
    assert "well learned prior" in small_book.soup("index").title.text
    assert not small_book.shows(listing, "not the published pages")
    assert small_book.shows("status", "Made from commit")

    # As if that build had been killed while it put pages into the cache; and one that fails.
    for path in small_book.html.parent.glob(".vaenotes/cache/*/executed/*/base.ipynb"):
        path.write_text(path.read_text()[:500])
    check("41/None/own", 1)
    small_book.add("page", "lab = 1", FIGURE.replace("lab.plots.dot", "(draw := lab.plots.dot)"))
    exit_code, output = small_book.build()
    assert exit_code != 0 and "'shown' not found in doc 'page'" in output
    assert re.search(r"page\.md.*no source to link", output)
    assert not small_book.shows("index", "41/None/own")


def executed(book: SmallBook) -> list[list[str]]:
    """The rows of the status page's first table."""
    rows = book.soup("status").find("table").tbody.find_all("tr")
    return [[cell.get_text() for cell in row.find_all("td")] for row in rows]


def status_of_download_and_figure(book: SmallBook) -> None:
    """What stands behind the pages of a first build is right."""
    rows = executed(book)
    assert [row[0] for row in rows] == ["page", "questions/gone"]
    assert all(row[1].startswith("20") and float(row[3]) > 0 for row in rows)

    note = book.soup("page").find("figure", id="fig-shown").select_one(".figure-source")
    assert note.get_text() == "Source: lab.plots.dot at unknown"
    file, anchor = note.a["href"].split("#")
    listing = book.soup((Path("page").parent / file).with_suffix(""))
    assert "circle" in listing.find(id=anchor).get_text()

    assert book.shows("page", 'href="_sources/page.ipynb"') and not book.shows("index", ".ipynb")
    text = (book.html / "_sources" / "page.ipynb").read_text()
    notebook = nbformat.reads(text, as_version=4)
    nbformat.validate(notebook)
    assert notebook.cells[-1].source == "It shows 41/None/own, and {doc}`/index` 0.50."
    (parameters,) = [c for c in notebook.cells if "parameters" in c.metadata.get("tags", [])]
    assert "profile = 'book'" in parameters.source
    assert [output.data for output in notebook.cells[3].outputs] == [{"text/plain": "0.5"}]
    assert set(notebook.metadata) == {"kernelspec", "language_info"}
    for mark in [str(book.root), "papermill", "UserWarning"]:
        assert mark not in text
    assert (book.html / "_sources" / "page.md").read_text() == (
        book.root / "book" / "page.md"
    ).read_text()


GIT = ["-c", "user.name=somebody", "-c", "user.email=somebody@example.org"]


def commit_all(book: SmallBook) -> str:
    """Make a repository of it, or add to it; the new commit's short hash."""
    (book.root / ".gitignore").write_text("_build\n__pycache__\nstore\n.#*\n")
    for command in ("init -q", "add .", "commit -q -m all"):
        subprocess.run(["git", *GIT, *command.split()], cwd=book.root, check=True)
    told = ["git", "rev-parse", "--short", "HEAD"]
    return subprocess.run(told, cwd=book.root, check=True, capture_output=True, text=True).stdout


def test_sphinx_alone_builds_it_too_with_its_address_and_a_description(small_book):
    """As the README tells. What was built of this commit by this command is not built again."""
    readme = (ROOT / "README.md").read_text()
    config, build = re.search(
        r"^\.venv/bin/(jupyter-book config .+) && PYTHONPATH=book/_ext \S+/(sphinx-build .+)$",
        readme,
        re.MULTILINE,
    ).groups()
    program, *arguments = config.split()
    command = [Path(sys.executable).with_name(program), *arguments]
    subprocess.run(command, cwd=small_book.root, env=small_book.environment, check=True)
    path = os.pathsep.join([str(small_book.root), "book/_ext"])
    small_book.edit("book/index.md", "It is", "So it is. It is")
    commit = commit_all(small_book).strip()
    (small_book.root / "book" / ".#page.md").symlink_to("an-editor@its-host:1")
    for change, again in (("", False), ("", True), ("GITHUB_REPOSITORY", False)):
        environment = {"PYTHONPATH": path} | ({change: "someone/notes"} if change else {})
        with small_book.start(command=build, **environment) as done:
            output, _ = done.communicate()
        assert done.returncode == 0, output
        assert ("Nothing changed" in output) == again != ("reading sources" in output), output
        assert small_book.soup("index").select_one(".pasted-text").text == "42"
        (tag,) = small_book.soup("index").find_all("meta", {"name": "description"})
        assert tag["content"] == "So it is."
        told = json.loads((small_book.html / "codemeta.json").read_text())
        address = "https://github.com/someone/notes" if change else None
        assert told.get("codeRepository") == address and told["identifier"] == commit
        for page in ("index", "page"):
            links = [link["href"] for link in small_book.soup(page).find_all("a", href=True)]
            assert (address in links) == bool(change)
            assert any("colab" in link for link in links) == (bool(change) and page == "page")
    text = (small_book.html / "_sources" / "page.ipynb").read_text()
    source = nbformat.reads(text, 4).cells[0].source
    assert f"git+https://github.com/someone/notes@{commit}" in source
    for spoil in (
        lambda: (small_book.html / "page.html").write_text("another's"),
        lambda: (small_book.root / "book" / "store").write_text("1"),  # which git ignores
        lambda: small_book.edit("book/index.md", "So it is", "So it was"),
    ):
        spoil()
        with small_book.start(command=build, **environment) as done:
            output, _ = done.communicate()
        assert done.returncode == 0 and "reading sources" in output, output
    assert small_book.shows("index", "So it was") and small_book.shows("page", "profile")


@pytest.mark.attack("run")
def test_what_a_user_typed_is_shown_as_text_and_never_run_nor_parsed(small_book):
    typed = "`{{cycler.__init__.__globals__.os.mkdir('made')}}<i>*x*</i>`"
    exit_code, output = small_book.build(f"data={typed}")
    assert exit_code == 0, output
    assert not list(small_book.root.rglob("made"))
    for page in ("status", "page", "index"):
        soup = small_book.soup(page)
        assert typed.replace("'", "") in soup.text.replace("'", "").replace("\\", "")
        assert soup.find("i", string="*x*") is None and soup.find("em", string="x") is None


EDIT = "path = {path!r}\ntext = open(path).read()\nopen(path, 'w').write(text{more})\n"


@pytest.mark.attack("wrong")
def test_a_library_that_changes_while_pages_are_executed_fails_the_build(small_book):
    library = str(small_book.root / "vaenotes" / "answers.py")
    back = EDIT.format(path=library, more=".replace('41', '51')") + "open(path, 'w').write(text)"
    small_book.add("page", back)
    (small_book.root / "book" / "index.md").write_text("# Index\n")
    exit_code, output = small_book.build()
    assert exit_code != 0
    last = "the library, a package or the data file changed while the book was being built: build"
    assert output.splitlines()[-1].startswith(last)
    assert list(small_book.html.parent.glob(".vaenotes/cache/*/executed/*")) == []


@pytest.mark.attack("wrong")
def test_what_changes_while_pages_are_written_fails_the_build(small_book):
    page = small_book.root / "book" / "page.md"
    small_book.edit_on("env-updated", page, small_book.root / "vaenotes" / "answers.py")
    exit_code, output = small_book.build()
    assert exit_code != 0
    assert output.splitlines()[-1].startswith(f"{page}, the library, a package or the data file ")


@pytest.mark.attack("wrong")
def test_a_file_beside_the_pages_that_changes_meanwhile_fails_the_build(small_book):
    (small_book.root / "book" / "measured.csv").write_text("base")
    back = EDIT.format(path="measured.csv", more=" + 'WIP'") + "print(open('measured.csv').read())"
    small_book.add("page", back + "\nopen('measured.csv', 'w').write(text)")
    (small_book.root / "book" / "index.md").write_text("# Index\n")
    exit_code, output = small_book.build()
    assert exit_code != 0
    assert "measured.csv changed while the book was being built" in output.splitlines()[-1]
    assert list(small_book.html.parent.glob(".vaenotes/cache/*/executed/*")) == []


@pytest.mark.attack("wrong")
def test_a_page_that_changes_before_it_is_read_fails_the_build(small_book):
    page = small_book.root / "book" / "page.md"
    small_book.edit_on("builder-inited", page)
    exit_code, output = small_book.build()
    assert exit_code != 0
    assert output.splitlines()[-1].startswith(f"{page} changed while the book was being built")


@pytest.mark.attack("wrong")
def test_no_page_is_executed_with_what_a_user_has_ipython_do_first(small_book):
    startup = small_book.root / "ipython" / "profile_default" / "startup"
    startup.mkdir(parents=True)
    for path in (startup / "00.py", small_book.root / "first.py"):
        path.write_text("import builtins; builtins.abs = lambda number: 7")
    (small_book.root / "matplotlibrc").write_text("lines.linewidth: 29")
    small_book.add(
        "page",
        "import matplotlib.pyplot as plt\nfrom myst_nb import glue\n"
        'width = plt.rcParams["lines.linewidth"]\nglue("answer", abs(-41) + int(width > 9))',
    )
    exit_code, output = small_book.build(
        IPYTHONDIR=str(small_book.root / "ipython"),
        PYTHONSTARTUP=str(small_book.root / "first.py"),
        MATPLOTLIBRC=str(small_book.root / "matplotlibrc"),
    )
    assert exit_code == 0, output
    assert small_book.soup("index").select_one(".pasted-text").text == "41"


@pytest.mark.attack("lost")
def test_a_build_touches_nothing_beside_the_folder_of_pages_but_its_own(small_book):
    """Into a folder that lies among others of a user's, by either command, one after the other."""
    root = small_book.root
    names = ("progress", "finished", "builder", "site.written", "build.lock", "own.doctree",
             "jupyter_execute/mine.ipynb", ".jupyter_cache/0123456789abcdef/mine")  # fmt: skip
    for name in names:
        (root / "home" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "home" / name).write_text("mine")
    config = subprocess.run(
        [Path(sys.executable).with_name("jupyter-book"), "config", "sphinx", "book"],
        cwd=root, env=small_book.environment, capture_output=True, text=True,
    )  # fmt: skip
    assert config.returncode == 0, config
    path = os.pathsep.join([str(root), "book/_ext"])
    for command in (
        "sphinx-build book home/site",
        "jupyter-book build book",
        "sphinx-build book book/_build/html",
        "jupyter-book build book --path-output book/inside",
        "jupyter-book build book",
    ):
        with small_book.start(command=command, PYTHONPATH=path) as build:
            output, _ = build.communicate()
        assert build.returncode == 0, output
    assert all((root / "home" / name).read_text() == "mine" for name in names)
    assert (root / "home" / "site" / "index.html").is_file()
    (root / "home" / ".vaenotes").rename(root / "another")
    (root / "home" / ".vaenotes").symlink_to(root / "another")
    with small_book.start(command="sphinx-build book home/site", PYTHONPATH=path) as build:
        output, _ = build.communicate()
    assert build.returncode != 0 and ".vaenotes must be a folder of your own: " in output


TRAINED = """\
import numpy as np
from vaenotes import lab
import vaenotes as vn
config = vn.Config(images=64, batch=32, hidden=16, epochs=1, seed=page.settings.first_seed)
number = f"{float(np.abs(lab.run([config]).posterior_mean).sum()):.12g}"
print("number", number)
page.glue(number=number)
"""


def test_a_page_of_the_real_library_shows_what_papermill_does_and_the_library_is_listed(tmp_path):
    """They have stores of their own, and every docstring has to be understood."""
    book = SmallBook(tmp_path, real=True)
    book.add("page", TRAINED)
    with (tmp_path / "book" / "page.md").open("a") as page:
        page.write("\nIt is {glue:text}`number:s`.\n")  # only what is asked for is glued
    (tmp_path / "book" / "index.md").write_text(
        "# Index\n\nIt is {glue:text}`page.md::number:s`.\n"
    )
    (tmp_path / "book" / "api.md").write_text((ROOT / "book" / "api.md").read_text())
    book.edit("book/_toc.yml", "- file: status", "- file: api\n- file: status")
    with book.start("profile=quick first_seed=5") as build:
        command = [sys.executable, "-m", "papermill", "book/page.md", "out.ipynb"]
        command += ["-p", "profile", "quick", "-p", "first_seed", "5"]
        environment = book.environment | {"VAENOTES_STORE": str(tmp_path / "papermills")}
        subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True)
        output, _ = build.communicate()
    assert build.returncode == 0, output
    printed = re.search(r"number ([\d.e+-]+)", (tmp_path / "out.ipynb").read_text())
    assert book.soup("index").select_one(".pasted-text").text == printed[1]
    for name in ("vaenotes.kl.kl_nats", "vaenotes.lab.runs.run", "vaenotes.report.page.Page"):
        assert len(book.soup("api").select(f'a.internal[href="#{name}"]')) == 1, name
        assert book.soup("api").find("dt", id=name), name


# No failure is silent


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


NOTE = "import os, subprocess, time\nprint(os.getpid(), file=open('{root}/{name}', 'a'))\n"
CHILD = """\
child = subprocess.Popen(["sleep", "600"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
print(child.pid, file=open("{root}/{name}", "a"))
"""
MEET = """\
end = time.time() + 60
while not os.path.exists("{root}/{other}"):
    assert time.time() < end, "alone"
    time.sleep(0.1)
"""


def processes(root: Path, *names: str) -> list[int]:
    """The ids that pages have noted."""
    return [int(line) for name in names for line in (root / name).read_text().split()]


@in_proc
@pytest.mark.attack("hang")
def test_pages_are_executed_side_by_side_and_every_failure_is_said(small_book):
    """`meets` and `works` wait for each other: one after the other, neither would ever end."""
    root = small_book.root
    cells = {
        "index": "1 + 1",
        "raises": "1 / 0",
        "hangs": f"{CHILD}time.sleep(500)",
        "dies": f"{CHILD}os.kill(os.getpid(), 9)",
        "greedy": "bytearray(1 << 60)",
        "prints": "print('x' * 30_000_000)",
        "meets": MEET.replace("{other}", "works"),
        "works": MEET.replace("{other}", "meets"),
    }
    for name, cell in cells.items():
        code = (NOTE + cell).replace("{root}", str(root)).replace("{name}", name)
        small_book.add(name, code)
    own = "mystnb: {execution_timeout: 3}\nkernelspec:"
    small_book.edit("book/hangs.md", "kernelspec:", own)
    exit_code, output = small_book.build(LOKY_MAX_CPU_COUNT="3")
    assert exit_code == 1
    book = re.escape(str(root / "book"))
    for found in (
        rf"^{book}/raises\.md: [^$]*?\n1 / 0\n[^$]*?Traceback[^$]*?^ZeroDivisionError: division",
        rf"^{book}/hangs\.md: CellTimeoutError: [^$]*?after 3 seconds[^$]*?^time\.sleep\(500\)",
        rf"^{book}/dies\.md: DeadKernelError: Kernel died\n\nIn this cell:\n[^$]*?^os\.kill",
        rf"^{book}/prints\.md: it shows 30,000,\d+ characters, of which nobody reads over 20,",
        rf"^{book}/greedy\.md: [^$]*?\nbytearray\(1 << 60\)\n[^$]*?Traceback[^$]*?^MemoryError",
    ):
        assert re.search(found, output, re.MULTILINE), (found, output)
    last = output.splitlines()[-1]
    assert last.startswith("The book was not built, as these pages failed: ")
    assert sorted(re.findall(r"(\w+)\.md", last)) == ["dies", "greedy", "hangs", "prints", "raises"]
    assert "\x1b[31m" not in output.partition("raises.md: ")[2]
    assert "[1/9] index executed in" in output
    assert output.count(" works executed in ") == output.count(" meets executed in ") == 1
    for name in cells:  # once, and nothing runs on
        ran = processes(root, name)
        assert len(ran) == (2 if name in ("hangs", "dies") else 1)
        assert not any(map(alive, ran)), name
    assert not (small_book.html / "index.html").exists()


@pytest.mark.attack("wrong")
def test_a_page_that_would_not_be_executed_fails_the_build(small_book):
    own = "mystnb: {execution_mode: 'off'}\nkernelspec:"
    small_book.edit("book/page.md", "kernelspec:", own)
    exit_code, output = small_book.build()
    assert exit_code == 1 and "page.md: a page must have no execution_mode of its own" in output
    for mode in ("off", "force"):  # what pages show is read from the cache
        kept, other = "execute_notebooks: cache", f"execute_notebooks: '{mode}'"
        small_book.edit("book/_config.yml", kept, other)
        exit_code, output = small_book.build()
        assert exit_code == 1 and output.strip().endswith(f"must be cache, got {mode!r}")
        small_book.edit("book/_config.yml", other, kept)


@in_proc
@pytest.mark.attack("hang")
def test_an_interrupted_build_ends_at_once_with_its_kernels_and_no_second_disturbs_it(small_book):
    root = small_book.root
    for name in ("one", "two"):
        small_book.add(name, NOTE.format(root=root, name=name) + "time.sleep(600)")
    with small_book.start(LOKY_MAX_CPU_COUNT="1") as build:
        while not (root / "one").exists():
            assert build.poll() is None
            time.sleep(0.1)
        exit_code, output = small_book.build("seeds=2")
        assert exit_code != 0
        line = rf"another build, process {build.pid}, begun \d+:\d+ \(kill .*\), is writing into "
        assert re.match(line, output.splitlines()[-1])
        build.send_signal(signal.SIGINT)
        end = time.monotonic() + 60
        while build.poll() is None and time.monotonic() < end:
            time.sleep(0.1)
        ended = build.poll()
        build.kill()
    assert ended not in (None, 0)
    assert not any(map(alive, processes(root, "one"))) and not (root / "two").exists()


EXECUTE = """
from pathlib import Path
import nbformat
from vaenotes_book.execute import side_by_side
notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell({cell!r})])
side_by_side({{"page": (notebook, Path({root!r}, "page.md"))}}, 600, print)
"""


@in_proc
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL], ids=lambda how: how.name)
@pytest.mark.attack("hang")
def test_whatever_ends_a_build_ends_its_kernels_and_what_they_have_started(how, tmp_path):
    cell = (NOTE + CHILD).format(root=tmp_path, name="ids") + "time.sleep(600)"
    script = EXECUTE.format(cell=cell, root=str(tmp_path))
    environment = os.environ | {"PYTHONPATH": str(ROOT / "book" / "_ext")}
    with subprocess.Popen([sys.executable, "-c", script], env=environment) as build:
        end = time.monotonic() + 60
        while not (tmp_path / "ids").exists() or len(processes(tmp_path, "ids")) < 2:
            assert build.poll() is None and time.monotonic() < end
            time.sleep(0.1)
        build.send_signal(how)
    while any(map(alive, processes(tmp_path, "ids"))) and time.monotonic() < end:
        time.sleep(0.1)
    assert not any(map(alive, processes(tmp_path, "ids")))
