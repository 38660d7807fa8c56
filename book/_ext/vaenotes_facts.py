"""Sphinx extension: say on every page what it was built from, on the status page with what, and
how to cite it.

Gives the pages substitutions that describe the build itself, `commit`, `versions`, `hardware` and
`parameters`; `soak`, what tests/soak.py last found; and `citation` and `bibtex`. Besides, a line at
the foot, and a banner at the top if the parameters are not the defaults. When each page was
executed is in the table of `executed-pages`.
"""

from __future__ import annotations

import html
import json
import os
import platform
import subprocess
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml
from sphinx.application import Sphinx
from sphinx.config import Config

PACKAGES = ("torch", "numpy", "scipy", "pandas", "matplotlib", "xarray", "mlxtend", "myst-nb")
"""Those that most bear on the pages' numbers and figures: they are named on the status page."""


def installed_versions() -> dict[str, str]:
    """Python's version and that of every one of PACKAGES."""
    return {"python": platform.python_version()} | {name: version(name) for name in PACKAGES}


def commit(folder: str | Path) -> str:
    """The short hash that is checked out, with "-dirty" if files differ; "unknown" outside git."""
    command = ["git", "describe", "--always", "--dirty", "--exclude=*"]
    try:
        run = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return run.stdout.strip()


def hardware() -> str:
    """Processor, cores and memory of this machine, as far as the system tells."""
    processor = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")  # where platform knows only the architecture: Linux
    if cpuinfo.is_file():
        rows = (line.partition(":") for line in cpuinfo.read_text().splitlines())
        processor = next((v.strip() for k, _, v in rows if k.strip() == "model name"), processor)
    facts = [processor, f"{os.cpu_count()} cores"]
    if "SC_PHYS_PAGES" in os.sysconf_names:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        facts.append(f"{memory / 2**30:.0f} GiB of memory")
    return ", ".join(facts)


def banner(changed: str) -> str:
    """What stands above every page of a build with these parameters, as HTML; "" for none."""
    if not changed:
        return ""
    line = f"These are not the published pages: they were computed with {changed}."
    line += " The text describes the defaults; nan stands where no replica has what is asked for."
    return html.escape(line)


def citation(file: Path, year: str, revision: str) -> tuple[str, str]:
    """How to cite the report that a CITATION.cff describes: as text, and as BibTeX."""
    facts = yaml.safe_load(file.read_text())
    title, release = facts["title"], facts["version"]
    authors = [author["name"] for author in facts["authors"]]
    text = f"{', '.join(authors)} ({year}). *{title}*. Version {release}, commit {revision}."
    entry = {
        "author": " and ".join(f"{{{author}}}" for author in authors),
        "title": f"{{{title}}}",
        "year": year,
        "version": release,
        "note": f"Commit {revision}",
    }
    lines = [f"  {name} = {{{value}}}," for name, value in entry.items()]
    return text, "\n".join(["@software{vaenotes,", *lines, "}"])


def soak(file: Path) -> str:
    """What the soak found, as prose and a table."""
    if not file.is_file():
        return "It has not been run."
    found = json.loads(file.read_text())
    counts = ("tried", "survived", "lost", "wrong")
    lines = [f"| what was done | {' | '.join(counts)} | besides |", "|---|--:|--:|--:|--:|---|"]
    for row in found["rows"]:
        lines.append(
            f"| {row['what']} | {' | '.join(str(row[c]) for c in counts)} | {row['note']} |"
        )
    how = f"Commit `{found['commit']}`, {found['hardware']}, {found['minutes']:.0f} minutes."
    return "\n".join([how, "", *lines])


def _tell(app: Sphinx, config: Config) -> None:
    from vaenotes.report.settings import Settings  # late: it stands beside torch

    config.vaenotes_commit = revision = commit(app.srcdir)
    rows = [f"| {name} | {number} |" for name, number in installed_versions().items()]
    settings = Settings(**config.vaenotes_parameters)
    values = [f"`{name} = {value!r}`" for name, value in asdict(settings).items()]
    text, bibtex = citation(Path(app.srcdir).parent / "CITATION.cff", config.copyright, revision)
    facts = {
        "citation": text,
        "soak": soak(Path(app.srcdir).parent / "tests" / "soak.json"),
        "bibtex": f"```bibtex\n{bibtex}\n```",
        "commit": f"`{revision}`",
        "hardware": hardware(),
        "versions": "\n".join(["| package | version |", "|---|---|", *rows]),
        "parameters": ", ".join(values),
    }
    config.myst_substitutions = {**config.myst_substitutions, **facts}
    parameters = os.environ.get("VAENOTES_PARAMETERS", "").strip() or "their default parameters"
    line = f"Built from commit {revision}; pages executed with {parameters}."
    shown = {"extra_footer": html.escape(line), "announcement": banner(settings.changed)}
    config.html_theme_options = {**config.html_theme_options, **shown}


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_config_value("vaenotes_commit", "unknown", "")  # as the build began
    app.connect("config-inited", _tell)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
