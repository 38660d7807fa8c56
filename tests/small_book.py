"""A small book with the real settings and extensions and a stand-in library, to build in tests."""

import os
import shutil
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

from bs4 import BeautifulSoup

from vaenotes.report.settings import Settings

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
CHECK = "import vaenotes as vn\nsettings = report.check_parameters(globals())\nsettings"


def parameters_cell() -> str:
    """The code of the `parameters` cell, from the one definition of its names and defaults."""

    def type_name(annotation: object) -> str:  # papermill's parser does not know `int | None`
        name = getattr(annotation, "__name__", str(annotation))
        return {"int | None": "Optional[int]"}.get(str(annotation), name)

    lines = [
        f"{field.name}: {type_name(field.type)} = {field.default!r}" for field in fields(Settings)
    ]
    return "\n".join(["from typing import Optional", *lines])


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
from vaenotes.errors import ParameterError

def check_arms(settings):
    if settings.first_seed == 13:
        raise ParameterError("regauge must be None with this prior")
"""


class SmallBook:
    """A project of three pages: `page` is executed, `index` shows a value that it glues, and
    `status` is the book's own. real: with the real library, not the stand-in."""

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
        shutil.copy(BOOK / "status.md", book)

        library = root / "vaenotes"
        if real:
            shutil.copytree(ROOT / "vaenotes", library, ignore=lambda *_: ["__pycache__"])
            return
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

    def start(self, parameters: str = "", **environment: str) -> subprocess.Popen[str]:
        """Start a strict build."""
        jupyter_book = Path(sys.executable).with_name("jupyter-book")
        return subprocess.Popen(
            [jupyter_book, "build", "book", "-W", "-n", "--keep-going"],
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
        """In which this project's library is found, and no bytecode hides a quick change of it."""
        return os.environ | {
            "PYTHONPATH": str(self.root),
            "PYTHONDONTWRITEBYTECODE": "1",
            "VAENOTES_STORE": str(self.root / "store"),
        }

    def add(self, name: str, *cells: str, front_matter: str = "") -> None:
        """Add a page of the parameters, their check, and these cells."""
        page = PAGE.split("```{code-cell} python3\nfrom myst_nb")[0]
        page = page.replace("kernelspec:", f"{front_matter}kernelspec:")
        page += "\n".join(f"```{{code-cell}} python3\n{cell}\n```\n" for cell in cells)
        path = self.root / "book" / f"{name}.md"
        path.parent.mkdir(exist_ok=True)
        path.write_text(page)
        if name not in (self.root / "book" / "_toc.yml").read_text():
            self.edit("book/_toc.yml", "- file: status", f"- file: {name}\n- file: status")

    def shows(self, page: str, text: str) -> bool:
        return text in (self.html / f"{page}.html").read_text()

    def soup(self, page: str) -> BeautifulSoup:
        return BeautifulSoup((self.html / f"{page}.html").read_text(), "html.parser")

    def executed(self) -> list[list[str]]:
        """The rows of the status page's first table."""
        rows = self.soup("status").find("table").tbody.find_all("tr")
        return [[cell.get_text() for cell in row.find_all("td")] for row in rows]
