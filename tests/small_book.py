"""A small book with the real settings and extension and a stand-in library, to build in tests."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from bs4 import BeautifulSoup

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
OPENING = """\
# A page

```{code-cell} python3
from vaenotes import report

page = report.Page(globals())
page
```
"""
PAGE = f"""\
{FRONT_MATTER}
{OPENING}
```{{code-cell}} python3
from myst_nb import glue
from vaenotes.answers import ANSWER
glue("answer", ANSWER + 1)
glue("profile", page.settings.profile, display=False)
```

The profile is {{glue:text}}`profile`.
"""

STATUS = """\
# Status

{{ commit }} {{ hardware }} {parameters}`all`

```{nb-exec-table}
```

{{ versions }}

{{ soak }} {{ attacks }}
"""

LIBRARY = {
    "__init__.py": "",
    "errors.py": "class ParameterError(ValueError):\n    pass\n",
    "answers.py": "import warnings\n\nANSWER = 41\nwarnings.warn('a warning names this file')\n",
    "lab/__init__.py": "from vaenotes.lab import plots\n",
    "lab/plots.py": """
from IPython.display import SVG

def dot(x):
    'A circle at x.'
    circle = f'<circle cx="{x}" cy="9" r="5"/>'
    return SVG(f'<svg xmlns="http://www.w3.org/2000/svg">\\n{circle}\\n</svg>')
""",
    "report/__init__.py": "from vaenotes.report.page import Page\n",
    "report/page.py": """
from dataclasses import asdict, dataclass, fields
from vaenotes.errors import ParameterError

CELL = "```{code-cell}"

@dataclass(frozen=True)
class Settings:
    profile: str = "book"
    data: str = "sprites"
    seeds: int | None = None

    @property
    def changed(self):
        values = {one.name: getattr(self, one.name) for one in fields(self)}
        return ", ".join(f"{k} = {v!r}" for k, v in values.items() if v != getattr(Settings, k))

class Page:
    def __init__(self, namespace):
        self.settings = Settings(**{one.name: namespace[one.name] for one in fields(Settings)})

def read_parameters(text):
    words = dict(word.split("=") for word in text.split())
    return {name: int(word) if word.isdigit() else word for name, word in words.items()}

def check_parameters(values):
    if unknown := values.keys() - asdict(Settings()).keys():
        raise ParameterError(f"unknown parameter {unknown.pop()!r}")
    return Settings(**values)

def with_parameters(text, values={}, note=""):
    before, cell, after = text.partition(CELL)
    if not cell:
        return text
    lines = [f"# {note}", *(f"{k} = {v!r}" for k, v in (asdict(Settings()) | values).items())]
    fence = [cell + " python3", ":tags: [parameters, remove-input]", "", *lines, "```", "", ""]
    return before + "\\n".join(fence) + cell + after
""",
}


def environment_in(root: Path) -> dict[str, str]:
    """In which the project's library is found, and no bytecode hides a quick change of it."""
    return os.environ | {
        "PYTHONPATH": str(root),
        "GITHUB_REPOSITORY": "",  # a book of nobody's
        "PYTHONDONTWRITEBYTECODE": "1",
        "VAENOTES_STORE": str(root / "store"),
    }


class SmallBook:
    """A project of three pages: `page` is executed, `index` shows a value that it glues, and
    `status` shows what the extension tells. real: with the real library, not the stand-in."""

    def __init__(self, root: Path, real: bool = False) -> None:
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
        (book / "status.md").write_text(STATUS)
        if real:
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / "vaenotes", root / "vaenotes", ignore=ignored)
            return
        for name, source in LIBRARY.items():
            path = root / "vaenotes" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(source)

    def edit(self, name: str, old: str, new: str) -> None:
        path = self.root / name
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))

    def start(
        self, parameters: str = "", command: str = "jupyter-book build book", **environment: str
    ) -> subprocess.Popen[str]:
        """Start a strict build."""
        program, *arguments = command.split()
        return subprocess.Popen(
            [Path(sys.executable).with_name(program), *arguments, "-W", "-n", "--keep-going"],
            cwd=self.root,
            env=self.environment | {"VAENOTES_PARAMETERS": parameters} | environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def build(self, parameters: str = "", **environment: str) -> tuple[int, str]:
        """Exit code and output of a strict build."""
        with self.start(parameters, **environment) as build:
            output, _ = build.communicate()
        return build.returncode, output

    @property
    def environment(self) -> dict[str, str]:
        return environment_in(self.root)

    def add(self, name: str, *cells: str) -> None:
        """Add a page that opens as all do and has these cells."""
        fences = [f"```{{code-cell}} python3\n{cell}\n```\n" for cell in cells]
        path = self.root / "book" / f"{name}.md"
        path.parent.mkdir(exist_ok=True)
        path.write_text("\n".join([FRONT_MATTER, OPENING, *fences]))
        if name not in (self.root / "book" / "_toc.yml").read_text():
            self.edit("book/_toc.yml", "- file: status", f"- file: {name}\n- file: status")

    def edit_on(self, event: str, *paths: Path) -> None:
        """Have an extension lengthen these files on an event of Sphinx."""
        lines = [f"    open({str(path)!r}, 'a').write('#')" for path in paths]
        setup = ["def setup(app):", f"    app.connect({event!r}, edit)", ""]
        editor = "\n".join(["def edit(*_):", *lines, *setup])
        (self.root / "book" / "_ext" / "editor.py").write_text(editor)
        ours = "      - vaenotes_book"
        self.edit("book/_config.yml", ours, f"{ours}\n      - editor")

    def shows(self, page: str, text: str) -> bool:
        return text in (self.html / f"{page}.html").read_text()

    def soup(self, page: str) -> BeautifulSoup:
        return BeautifulSoup((self.html / f"{page}.html").read_text(), "html.parser")
