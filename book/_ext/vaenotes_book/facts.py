"""What the book was built from, and how to cite it."""

import json
import os
import platform
import re
import subprocess
from importlib.metadata import version
from pathlib import Path

import yaml

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
    info = Path("/proc/cpuinfo")  # where platform knows only the architecture: Linux
    named = re.search(r"^model name\s*: (.+)", info.read_text() if info.is_file() else "", re.M)
    processor = named[1] if named else platform.processor() or platform.machine()
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    return f"{processor}, {os.cpu_count()} cores, {memory:.0f} GiB of memory"


def citation(file: Path, year: str, revision: str) -> tuple[str, str]:
    """How to cite the report that a CITATION.cff describes: as text, and as BibTeX."""
    facts = yaml.safe_load(file.read_text())
    title, release = facts["title"], facts["version"]
    authors = [author["name"] for author in facts["authors"]]
    text = f"{', '.join(authors)} ({year}). *{title}*. Version {release}, commit {revision}."
    names = " and ".join(f"{{{author}}}" for author in authors)
    bibtex = f"""\
@software{{vaenotes,
  author = {{{names}}},
  title = {{{{{title}}}}},
  year = {{{year}}},
  version = {{{release}}},
  note = {{Commit {revision}}},
}}"""
    return text, bibtex


def soak(file: Path) -> str:
    """What the soak found, as prose and a table."""
    if not file.is_file():
        return "It has not been run."
    found = json.loads(file.read_text())
    counts = ("tried", "survived", "lost", "wrong")
    lines = [f"Commit `{found['commit']}`, {found['hardware']}, {found['minutes']:.0f} minutes."]
    lines += [
        "",
        f"| what was done | {' | '.join(counts)} | besides |",
        "|---|--:|--:|--:|--:|---|",
    ]
    for row in found["rows"]:
        numbers = " | ".join(str(row[name]) for name in counts)
        lines.append(f"| {row['what']} | {numbers} | {row['note']} |")
    return "\n".join(lines)
