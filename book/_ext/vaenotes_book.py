"""Sphinx extension: a build never shows stale results, and can be made under other parameters.

jupyter-cache takes up old outputs whenever a page's code cells and kernelspec are the same as
before. So a digest of all else that the outputs depend on is written into the kernelspec as the
page is read, and what is read is a copy: neither the files nor the downloads change.

VAENOTES_PARAMETERS="profile=quick seeds=4" sets parameters for every page, as papermill's -p does.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import re
import shlex
from pathlib import Path
from typing import Any

import yaml
from markdown_it import MarkdownIt
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.errors import ConfigError

from vaenotes_facts import installed_versions

FRONT_MATTER = re.compile(r"\A---\n(.*?\n)---\n", re.DOTALL)
PARAMETERS_TAG = re.compile(r"^:?tags: *\[.*\bparameters\b.*\]", re.MULTILINE)


def read_parameters(text: str) -> dict[str, Any]:
    """Parse "name=value name=value"; a value becomes what papermill's -p would make of it."""
    parameters = {}
    for pair in shlex.split(text):
        name, equals, value = pair.partition("=")
        if not (name.isidentifier() and equals):
            raise ConfigError(f"VAENOTES_PARAMETERS must hold name=value pairs, got {pair!r}")
        parameters[name] = _literal(value)
    return parameters


def _literal(text: str) -> bool | int | float | str | None:
    words = {"True": True, "False": False, "None": None}
    if text in words:
        return words[text]
    for number in (int, float):
        try:
            return number(text)
        except ValueError:
            pass
    return text


def check(parameters: dict[str, Any]) -> None:
    """Stop the build before anything is executed if a page would refuse these parameters."""
    from vaenotes.errors import ParameterError  # late: the library may not be installed
    from vaenotes.experiments import ARMS, arm
    from vaenotes.notebook import check_parameters

    try:
        settings = check_parameters(parameters)
        for name, one in ARMS.items():  # some priors do not admit what some arms change
            if one.edges is None:  # those with edges of their own would have to load the data
                arm(settings, name)
    except ParameterError as error:
        raise ConfigError(f"VAENOTES_PARAMETERS: {error}") from None


def digest(parameters: dict[str, Any], folder: Path) -> str:
    """Digest of the library with its data files, the packages under it, and the parameters with
    the file that they name.

    folder: the one that pages are executed in, which a relative path starts from.
    """
    total = hashlib.sha256()
    spec = importlib.util.find_spec("vaenotes")
    if spec is None or spec.origin is None:
        raise ConfigError("the package vaenotes is not installed: pip install -r requirements.txt")
    library = Path(spec.origin).parent
    for path in sorted(library.glob("**/*")):
        if path.suffix not in (".py", ".toml", ".json"):
            continue
        total.update(f"{path.relative_to(library)} {_file_digest(path)}\n".encode())
    data = folder / str(parameters.get("data", ""))
    data_digest = _file_digest(data) if data.is_file() else None
    total.update(json.dumps([installed_versions(), parameters, data_digest]).encode())
    return total.hexdigest()


def _file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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


def _on_source_read(app: Sphinx, docname: str, content: list[str]) -> None:
    stamped = stamp(content[0], app.config.vaenotes_digest)
    if stamped != content[0]:  # an executed page
        content[0] = inject(stamped, app.config.vaenotes_parameters)


def _write_every_page(app: Sphinx, env: BuildEnvironment) -> list[str]:
    # A page shows values glued in others, and Sphinx does not know which.
    return sorted(env.found_docs)


def _show_progress() -> None:
    """Let kernels report training where this build reports: they cannot write to its standard
    error, but on Linux to its name. Not if that is a file, where two writers would overwrite
    each other."""
    terminal = Path(f"/proc/{os.getpid()}/fd/2")
    if terminal.exists() and not terminal.is_file():
        os.environ.setdefault("VAENOTES_PROGRESS", str(terminal))


def setup(app: Sphinx) -> dict[str, Any]:
    try:
        parameters = read_parameters(os.environ.get("VAENOTES_PARAMETERS", ""))
        mark = digest(parameters, Path(app.srcdir))
        check(parameters)
    except ConfigError as error:  # which Jupyter Book would bury under a traceback of its own
        raise SystemExit(str(error)) from None
    _show_progress()
    # "env": Sphinx reads every page anew when one of these changes.
    app.add_config_value("vaenotes_parameters", parameters, "env")
    app.add_config_value("vaenotes_digest", mark, "env")
    app.connect("source-read", _on_source_read)
    app.connect("env-updated", _write_every_page)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
