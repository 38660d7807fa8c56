"""Builds of small books: nothing in them is stale, and no failure is silent."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import numpy as np
import pytest
from bs4 import BeautifulSoup
from loky import cpu_count
from small_book import PAGE, SmallBook
from test_data import replaced

from vaenotes_execute import Kernels, PageError


@pytest.fixture
def small_book(tmp_path):
    return SmallBook(tmp_path)


# Nothing is stale

SHOWN = """\
import tomllib
from importlib.metadata import version
from pathlib import Path

import numpy as np
from myst_nb import glue

from vaenotes.data import ANSWER

facts = tomllib.loads((Path(vn.__file__).parent / "facts.toml").read_text())
number = np.load(settings.data)["number"] if settings.data.endswith(".npz") else "no"
shown = (ANSWER, facts["fact"], version("tqdm"), settings.seeds, number, "own")
glue("shown", "/".join(map(str, shown)), display=False)
"""


@pytest.mark.slow
def test_every_kind_of_change_shows_and_prose_executes_nothing(small_book):
    """One page two folders deep shows a number of every origin; another page shows it too."""
    root, book = small_book.root, small_book.root / "book"
    library, data, pin = root / "vaenotes", root / "some.npz", root / "tqdm-1.dist-info"
    (library / "facts.toml").write_text("fact = 1")
    small_book.edit("book/_toc.yml", "- file: page\n", "")
    small_book.add("questions/shown", SHOWN)
    with (book / "questions" / "shown.md").open("a") as page:
        page.write("\nIt shows {glue:text}`shown:s`.\n")
    (book / "index.md").write_text("# Index\n\nIt is {glue:text}`questions/shown.md::shown:s`.\n")
    np.savez(data, number=7)
    pin.mkdir()

    def set_pin(number: int) -> None:
        (pin / "METADATA").write_text(f"Metadata-Version: 2.1\nName: tqdm\nVersion: {number}\n")

    def set_number(number: int) -> None:
        np.savez(data, number=number)

    def check(change: str, shown: str, executed: int, parameters: str) -> None:
        exit_code, output = small_book.build(parameters)
        assert exit_code == 0, (change, output)
        for page in ("index", "questions/shown"):
            assert small_book.soup(page).select_one(".pasted-text").text == shown, change
        assert output.count(" executed in ") == executed, (change, output)
        assert "Executing notebook" not in output, change  # by our extension, or not at all

    set_pin(1)
    data_file, two = "data=some.npz", "data=some.npz seeds=2"  # a path from where the build starts
    check("none: the first build", "41/1/1/None/7/own", 1, data_file)
    small_book.edit("vaenotes/data.py", "41", "51")
    check("library", "51/1/1/None/7/own", 1, data_file)
    (library / "facts.toml").write_text("fact = 2")
    check("library's data", "51/2/1/None/7/own", 1, data_file)
    set_pin(2)
    check("pin", "51/2/2/None/7/own", 1, data_file)
    set_number(8)
    check("data file", "51/2/2/None/8/own", 1, data_file)
    check("parameter", "51/2/2/2/8/own", 1, two)
    small_book.edit("book/questions/shown.md", '"own"', '"new"')
    check("own code", "51/2/2/2/8/new", 1, two)

    small_book.edit("book/questions/shown.md", "It shows", "Now it shows")
    cited = "{cite}`key`\n\n```{bibliography}\n```\n\nAs before, it is"
    small_book.edit("book/index.md", "It is", cited)
    entry = "@misc{key, title={T}, author={Author, An}, year={1999}}"
    (book / "references.bib").write_text(entry)
    check("prose", "51/2/2/2/8/new", 0, two)
    assert small_book.shows("questions/shown", "Now it shows")
    assert small_book.shows("index", "As before, it is") and small_book.shows("index", "Author")

    small_book.edit("book/references.bib", "Author, An", "Other, An")
    small_book.edit("book/_config.yml", "learned prior", "well learned prior")
    small_book.edit("book/_ext/vaenotes_execute.py", "| seconds |", "| duration |")
    small_book.edit("book/questions/shown.md", "Now it shows", "It showed")
    os.utime(book / "questions" / "shown.md", (1e9, 1e9))  # as one that is put back from a copy
    check("bibliography, configuration, extension, old file", "51/2/2/2/8/new", 0, two)
    assert small_book.shows("index", "Other")
    assert "well learned prior" in small_book.soup("index").title.text
    assert "duration" in small_book.soup("status").find("table").text
    assert small_book.shows("questions/shown", "It showed")


TRAINED = """\
import numpy as np
from myst_nb import glue

runs = lab.run(report.arm(settings, images=64, batch=32, hidden=16))
means = (runs.prior_mean, runs.posterior_mean)  # one knows the noise measured with, one the data
number = f"{sum(float(np.abs(mean).sum()) for mean in means):.12g}"
print("number", number)
glue("number", number, display=False)
"""


@pytest.mark.slow
def test_changes_show_with_the_real_library_in_pages_and_in_papermills_output(tmp_path):
    """Page and papermill have stores of their own, so each says what the other should show."""
    book = SmallBook(tmp_path, real=True)
    book.add("page", TRAINED)
    (tmp_path / "book" / "index.md").write_text(
        "# Index\n\nIt is {glue:text}`page.md::number:s`.\n"
    )
    rng = np.random.default_rng(0)

    def write_data() -> None:
        replaced(tmp_path / "some.npz", imgs=rng.integers(0, 2, (24, 64, 64), dtype=np.uint8))

    def numbers(first_seed: int) -> tuple[str, str]:
        parameters = f"profile=quick data=some.npz seeds=1 epochs=1 first_seed={first_seed}"
        exit_code, output = book.build(parameters)
        assert exit_code == 0, output
        command = [sys.executable, "-m", "papermill", "book/page.md", "out.ipynb"]
        for pair in parameters.split():
            command += ["-p", *pair.split("=")]
        environment = book.environment | {"VAENOTES_STORE": str(tmp_path / "papermills")}
        subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True)
        printed = re.search(r"number ([\d.e+-]+)", (tmp_path / "out.ipynb").read_text())
        return book.soup("index").select_one(".pasted-text").text, printed[1]

    write_data()
    seen = [numbers(first_seed=0)]
    book.edit("vaenotes/trace.py", "EVALUATION_SEED = 20_231", "EVALUATION_SEED = 20_232")
    seen.append(numbers(first_seed=0))
    write_data()
    seen.append(numbers(first_seed=0))
    seen.append(numbers(first_seed=1))
    for page, papermill in seen:
        assert page == papermill
    assert len(set(seen)) == len(seen)  # none shows an old one


@pytest.mark.slow
def test_nothing_of_an_earlier_build_is_left_or_relied_on(small_book):
    small_book.add("gone", "1 + 1")
    small_book.edit("book/index.md", "It is", "{doc}`gone` It is")
    assert small_book.build()[0] == 0
    pages = {path.name for path in small_book.html.rglob("gone*")}
    assert pages == {"gone.html", "gone.md", "gone.ipynb"}

    # As if that build had been killed while it put pages into the cache.
    kept = list(small_book.html.parent.glob(".jupyter_cache/executed/*/base.ipynb"))
    assert len(kept) == 2
    for path in kept:
        path.write_text(path.read_text()[:500])
    small_book.edit("book/_toc.yml", "- file: gone\n", "")
    small_book.edit("book/index.md", "{doc}`gone` ", "")
    exit_code, output = small_book.build()
    assert exit_code == 0, output
    assert "page executed in" in output and small_book.shows("index", ">42<")
    assert "page: UserWarning: a warning names this file" in output
    assert list(small_book.html.rglob("gone*")) == []

    # As if a disk had changed a number there.
    texts = {path: path.read_text() for path in kept[0].parents[1].glob("*/base.ipynb")}
    (path,) = [path for path, text in texts.items() if '"42"' in text]
    path.write_text(texts[path].replace('"42"', '"24"'))
    exit_code, output = small_book.build()
    assert "page executed in" in output and small_book.shows("index", ">42<")
    assert "executed in" not in small_book.build()[1]

    small_book.add("page", "1 + 1")  # which glues nothing any more
    exit_code, output = small_book.build()
    assert exit_code != 0 and "'answer' not found in doc 'page'" in output
    assert not small_book.shows("index", ">42<")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("edited", "new", "message"),
    [
        ("vaenotes/data.py", "text.replace('41', '51')", "the library, a package or the data file"),
        ("vaenotes/data.py", "text", "the library, a package or the data file"),  # and back again
        ("book/page.md", "text.replace('1 + 1', '1 + 2')", "page.md"),
    ],
    ids=["library", "library and back", "page"],
)
def test_what_changes_during_a_build_fails_it(small_book, edited, new, message):
    path = small_book.root / edited
    edit = f"path = {str(path)!r}\ntext = open(path).read()\nopen(path, 'w').write({new})"
    small_book.add("page", edit, "1 + 1")
    (small_book.root / "book" / "index.md").write_text("# Index\n")
    exit_code, output = small_book.build()
    assert exit_code != 0
    last = output.splitlines()[-1]
    assert last.endswith(f"{message} changed while the book was being built: build again")
    assert "Executing notebook" not in output  # what it has become
    kept = list(small_book.html.parent.glob(".jupyter_cache/executed/*"))
    assert len(kept) == (message == "page.md")  # nothing under a wrong mark


@pytest.mark.slow
def test_what_changes_while_pages_are_written_fails_the_build(small_book):
    editor = f"""
from pathlib import Path

def edit(*arguments):
    path = Path({str(small_book.root / "vaenotes" / "data.py")!r})
    path.write_text(path.read_text() + "#")

def setup(app):
    app.connect("html-page-context", edit)
    return {{}}
"""
    (small_book.root / "book" / "_ext" / "editor.py").write_text(editor)
    small_book.edit("book/_config.yml", "- vaenotes_api", "- vaenotes_api\n      - editor")
    exit_code, output = small_book.build()
    assert exit_code != 0 and output.splitlines()[-1].startswith("the library, a package or")


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


def kernels_of(root: Path, *names: str) -> list[int]:
    """The process ids that pages have noted."""
    return [int(line) for name in names for line in (root / name).read_text().split()]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
@pytest.mark.parametrize("workers", [1, 3])
def test_every_page_that_fails_is_named_with_why(small_book, workers):
    root = small_book.root
    cells = {
        "raises": "1 / 0",
        "hangs": f"{CHILD}time.sleep(40)",
        "dies": f"{CHILD}os.kill(os.getpid(), 9)",
        "greedy": "bytearray(1 << 60)",
        "works": "1 + 1",
    }
    for name, cell in cells.items():
        front_matter = "mystnb:\n  execution_timeout: 3\n" if name == "hangs" else ""
        code = (NOTE + cell).replace("{root}", str(root)).replace("{name}", name)
        small_book.add(name, code, front_matter=front_matter)
    exit_code, output = small_book.build(LOKY_MAX_CPU_COUNT=str(workers))
    assert exit_code == 1
    book = re.escape(str(root / "book"))
    for found in (
        rf"^{book}/raises\.md: [^$]*?\n1 / 0\n[^$]*?Traceback[^$]*?^ZeroDivisionError: division",
        rf"^{book}/hangs\.md: timed out after 3 s in this cell:\n[^$]*?^time\.sleep\(40\)",
        rf"^{book}/dies\.md: its kernel died \(out of memory\?\) in this cell:\n[^$]*?^os\.kill",
        rf"^{book}/greedy\.md: [^$]*?\nbytearray\(1 << 60\)\n[^$]*?Traceback[^$]*?^MemoryError",
    ):
        assert re.search(found, output, re.MULTILINE), (found, output)
    last = output.splitlines()[-1]
    assert last.startswith("The book was not built, as these pages failed: ")
    assert sorted(re.findall(r"(\w+)\.md", last)) == ["dies", "greedy", "hangs", "raises"]
    assert "\x1b[31m" not in output.partition("raises.md: ")[2]
    assert output.count(" works executed in ") == 1
    for name in cells:  # once, and nothing runs on
        processes = kernels_of(root, name)
        assert len(processes) == (2 if name in ("hangs", "dies") else 1)
        assert not any(map(alive, processes)), name
    assert not (small_book.html / "index.html").exists()


@pytest.mark.slow
def test_the_first_page_fails_alone_by_the_books_timeout(small_book):
    small_book.edit("book/page.md", "fetch()", "open('executed', 'w')")
    small_book.add("index", "import time\ntime.sleep(600)")
    config = small_book.root / "book" / "_config.yml"
    config.write_text(re.sub(r"timeout: \S+", "timeout: 2", config.read_text()))
    exit_code, output = small_book.build()
    assert exit_code == 1
    assert f"{small_book.root}/book/index.md: timed out after 2 s in this cell:" in output
    assert output.endswith("/book/index.md\n")
    assert not (small_book.root / "book" / "executed").exists()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
def test_an_interrupted_build_ends_at_once_with_its_kernels(small_book):
    root = small_book.root
    for name in ("one", "two"):
        small_book.add(name, NOTE.format(root=root, name=name) + "time.sleep(600)")
    with small_book.start(LOKY_MAX_CPU_COUNT="1") as build:
        while not (root / "one").exists():
            assert build.poll() is None
            time.sleep(0.1)
        time.sleep(0.5)
        build.send_signal(signal.SIGINT)
        end = time.monotonic() + 20
        while build.poll() is None and time.monotonic() < end:
            time.sleep(0.1)
        ended = build.poll()
        build.kill()
    assert ended not in (None, 0)
    assert not any(map(alive, kernels_of(root, "one"))) and not (root / "two").exists()


@pytest.mark.slow
def test_a_kernel_that_starts_as_the_build_is_stopped_ends_too(tmp_path):
    kernels = Kernels()
    kernels.stop()
    cells = [nbformat.v4.new_code_cell("import time\ntime.sleep(600)")]
    with pytest.raises(PageError, match="kernel died"):
        kernels.execute(nbformat.v4.new_notebook(cells=cells), tmp_path, timeout=60)
    assert not kernels._groups


@pytest.mark.slow
def test_a_missing_value_fails_the_build(small_book):
    small_book.edit("book/page.md", "{glue:text}`profile`", "{glue:text}`profil`")
    exit_code, output = small_book.build()
    assert exit_code != 0
    assert "No key 'profil' found" in output and "page.md" in output


@pytest.mark.slow
def test_a_second_build_into_the_same_folder_is_refused(small_book):
    started = small_book.root / "started"
    small_book.add("page", f"import time\nopen({str(started)!r}, 'w')\ntime.sleep(20)")
    with small_book.start() as build:
        while not started.exists():
            assert build.poll() is None
            time.sleep(0.1)
        exit_code, output = small_book.build("profile=quick")
        build.send_signal(signal.SIGINT)
    assert exit_code != 0
    assert output.splitlines()[-1].startswith("another build is writing into ")


@pytest.mark.slow
def test_a_data_file_that_is_not_there_stops_the_build_in_one_line(small_book):
    exit_code, output = small_book.build("data=none.npz")
    assert exit_code != 0 and "Traceback" not in output
    last = output.splitlines()[-1]
    assert last.startswith("VAENOTES_PARAMETERS: data must be ") and "none.npz'" in last


FIGURE = """
```{code-cell} python3
---
mystnb: {figure: {name: fig-shown, caption: Shown.}}
---
import vaenotes.plots
lab.plots.dot(0)
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

    small_book.edit("book/page.md", "lab.plots.dot(0)", "draw = lab.plots.dot\ndraw(0)")
    exit_code, output = small_book.build()
    assert exit_code != 0
    assert "no source to link" in output and "page.md" in output


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
    small_book.add("one", meet.format(mine="1", other="2"))
    small_book.add("two", meet.format(mine="2", other="1"))
    (small_book.root / "book" / "index.md").write_text(PAGE)
    exit_code, output = small_book.build()
    assert exit_code == 0, output
    assert "[1/4] index executed" in output and "[4/4]" in output
