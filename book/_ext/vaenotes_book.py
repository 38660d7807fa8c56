"""Sphinx extension: a build never shows stale results, and can be made under other parameters.

jupyter-cache takes up old outputs whenever a page's code cells and kernelspec are the same as
before. So a digest of all else that the outputs depend on is written into the kernelspec as the
page is read, and what is read is a copy: neither the files nor the downloads change. Nothing else
is kept from one build to the next, and what changes during a build makes it fail.

VAENOTES_PARAMETERS="profile=quick seeds=4" sets parameters for every page, as papermill's -p does.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import platform
import re
from functools import partial
from importlib.metadata import distributions
from pathlib import Path
from shutil import rmtree
from typing import Any, NamedTuple

import yaml
from filelock import FileLock, Timeout
from markdown_it import MarkdownIt
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.errors import ConfigError

FRONT_MATTER = re.compile(r"\A---\n(.*?\n)---\n", re.DOTALL)
LIBRARY = (".py", ".toml", ".json", ".csv", ".npz", ".typed")
"""The kinds of files that the library consists of."""
PARAMETERS_TAG = re.compile(r"^:?tags: *\[.*\bparameters\b.*\]", re.MULTILINE)


def library() -> Path:
    """The folder of the library. Raises ConfigError if it is not installed."""
    spec = importlib.util.find_spec("vaenotes")
    if spec is None or spec.origin is None:
        raise ConfigError("the package vaenotes is not installed: pip install -r requirements.txt")
    return Path(spec.origin).parent


def checked(text: str) -> dict[str, Any]:
    """The parameters that VAENOTES_PARAMETERS holds. Stops the build before anything is executed if
    a page would refuse them."""
    library()
    from vaenotes.errors import ParameterError
    from vaenotes.report.experiments import check_arms
    from vaenotes.report.notebook import check_parameters, read_parameters

    try:
        parameters = read_parameters(text)
        check_arms(check_parameters(parameters))
    except ParameterError as error:
        raise ConfigError(f"VAENOTES_PARAMETERS: {error}") from None
    return parameters


class State(NamedTuple):
    """All that the outputs of pages depend on, besides their own code."""

    digest: str
    changed: list[int]
    """When each file behind it was last changed: so a change that was taken back shows too."""


def state(parameters: dict[str, Any]) -> State:
    """That of the library with its data files, every package installed, and the parameters with
    the file that they name."""
    home = library()
    files = [path for path in sorted(home.glob("**/*")) if path.suffix in LIBRARY]
    total = hashlib.sha256()
    for path in files:
        total.update(f"{path.relative_to(home)} {_file_digest(path)}\n".encode())
    data = Path(str(parameters.get("data", "")))
    if data.is_file():
        files.append(data)
        total.update(_file_digest(data).encode())
    packages = sorted(f"{one.name} {one.version}" for one in distributions())
    total.update(json.dumps([platform.python_version(), packages, parameters]).encode())
    return State(total.hexdigest(), [path.stat().st_ctime_ns for path in files])


def _file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_unchanged(app: Sphinx) -> None:
    """Stop the build if what its pages depend on is no longer as it was when the build began:
    kernels started since may have run either."""
    if state(app.config.vaenotes_parameters) != app.config.vaenotes_state:
        what = "the library, a package or the data file"
        raise SystemExit(f"{what} changed while the book was being built: build again")


def stamp(text: str, mark: str) -> str:
    """Write the mark into an executed page's kernelspec; no line moves. Prose stays as it is."""
    match = FRONT_MATTER.match(text)
    if match is None:
        return text
    front_matter = yaml.safe_load(match[1])
    if not isinstance(front_matter, dict) or "kernelspec" not in front_matter:
        return text
    front_matter["kernelspec"]["vaenotes"] = mark
    # JSON is YAML on one line; the empty lines keep the line numbers of warnings right.
    one_line = json.dumps(front_matter, default=str)
    padding = "\n" * match[1].count("\n")
    return f"---\n{one_line}{padding}---\n{text[match.end() :]}"


def inject(text: str, parameters: dict[str, Any]) -> str:
    """Add a cell that sets the parameters right after the cell tagged `parameters`."""
    if not parameters:
        return text
    cell = ["", "```{code-cell} python3", ":tags: [injected-parameters, hide-input]", ""]
    cell += ["# Set for this build by VAENOTES_PARAMETERS"]
    cell += [f"{name} = {value!r}" for name, value in parameters.items()]
    cell += ["```"]
    for token in MarkdownIt().parse(text):
        is_cell = token.type == "fence" and token.info.startswith("{code-cell}")
        if is_cell and token.map and PARAMETERS_TAG.search(token.content):
            lines = text.split("\n")
            lines[token.map[1] : token.map[1]] = cell
            return "\n".join(lines)
    return text


def _on_source_read(texts: dict[str, str], app: Sphinx, docname: str, content: list[str]) -> None:
    # The text of the first reading holds for the whole build: what is shown is what was executed.
    text = texts.setdefault(docname, content[0])
    content[0] = stamp(text, app.config.vaenotes_state.digest)
    if content[0] != text:  # an executed page
        content[0] = inject(content[0], app.config.vaenotes_parameters)


def _check_end(texts: dict[str, str], app: Sphinx, error: Exception | None) -> None:
    if error is not None:
        return
    check_unchanged(app)
    for name, text in texts.items():
        path = Path(app.env.doc2path(name))
        if path.read_text(encoding="utf-8") != text:
            raise SystemExit(f"{path} changed while the book was being built: build again")


def _remove_old_pages(app: Sphinx, env: BuildEnvironment) -> None:
    """As the new ones are about to be written: so old and new are never mixed, and none is left
    of what is no longer in the book."""
    for page in Path(app.outdir).rglob("*.html"):
        page.unlink()
    rmtree(Path(app.outdir) / "_sources", ignore_errors=True)


def _locked(folder: Path) -> FileLock:
    """Keep other builds out of this folder: each would show numbers of the other."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / "build.lock")
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise SystemExit(
            f"another build is writing into {folder}: wait for it, or use --path-output"
        ) from None
    return lock


def _show_progress() -> None:
    """Let kernels report training where this build reports: they cannot write to its standard
    error, but on Linux to its name. Not if that is a file, where two writers would overwrite
    each other."""
    terminal = Path(f"/proc/{os.getpid()}/fd/2")
    if terminal.exists() and not terminal.is_file():
        os.environ.setdefault("VAENOTES_PROGRESS", str(terminal))


def setup(app: Sphinx) -> dict[str, Any]:
    try:
        parameters = checked(os.environ.get("VAENOTES_PARAMETERS", ""))
        start = state(parameters)
    except ConfigError as error:  # which Jupyter Book would bury under a traceback of its own
        raise SystemExit(str(error)) from None
    _show_progress()
    app.vaenotes_lock = _locked(Path(app.outdir).parent)  # until the process ends
    # Nothing that Sphinx or myst-nb kept of earlier builds is used: they notice no change of an
    # extension, and a glued value outlives the cell that glued it. Reading anew takes seconds.
    for kept in (Path(app.doctreedir), Path(app.outdir).parent / "jupyter_execute"):
        rmtree(kept, ignore_errors=True)
    app.add_config_value("vaenotes_parameters", parameters, "")
    app.add_config_value("vaenotes_state", start, "")
    texts: dict[str, str] = {}  # of every page, as first read
    app.connect("source-read", partial(_on_source_read, texts))
    app.connect("env-updated", _remove_old_pages)
    app.connect("build-finished", partial(_check_end, texts))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
