"""What the outputs of pages depend on besides their own code."""

from __future__ import annotations

import hashlib
import os
import platform
from importlib.metadata import distributions
from pathlib import Path
from typing import NamedTuple

from sphinx_external_toc.parsing import parse_toc_yaml

import vaenotes

HOME = Path(vaenotes.__file__).parent
OF_SPHINX = ("_config.yml", "_ext", "_toc.yml", "assets", "conf.py", "references.bib")
"""What no page reads, in the book's folder itself; of `assets`, styles and scripts."""
OF_BUILDS = ("_build", "__pycache__")
PAGE, BESIDE, SPHINX = "a page", "beside the pages", "Sphinx"


class Seen(NamedTuple):
    """What a file held, and when it was last changed: one that was changed back shows too. By whom
    it is read: it is a page, or pages may import or read it, or Sphinx alone does."""

    digest: str
    changed: int | None
    by: str


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def changed_at(path: Path) -> int | None:
    """When it, or the link that it is, was last changed; None of what is not there."""
    try:
        return max(path.stat().st_ctime_ns, path.lstat().st_ctime_ns)
    except OSError:
        return None


def digests(folder: Path) -> dict[str, str]:
    """sha256 of every file in a folder but what builds and Python write, by its name there."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    files = [path for path in files if not {*OF_BUILDS} & {*path.relative_to(folder).parts}]
    return {str(path.relative_to(folder)): sha256(path) for path in files}


def state(data: str) -> tuple[str, list[int | None]]:
    """A digest of the library, with its data files, of every package installed, and of the data
    file, if `data` is the path of one; and when each file was last changed."""
    found = {HOME / name: digest for name, digest in digests(HOME).items()}
    if (file := Path(data)).is_file():
        found[file] = sha256(file)
    packages = [one.metadata for one in distributions()]
    known = [f"python {platform.python_version()}"]
    known += sorted(f"{one['Name']} {one['Version']}" for one in packages)
    known += [f"{path} {digest}" for path, digest in found.items()]
    digest = hashlib.sha256("\n".join(known).encode()).hexdigest()
    return digest[:16], [changed_at(path) for path in found]


def lying(book: Path) -> dict[Path, Seen]:
    """The files in the book's folder, but hidden ones and what a build writes. Of what lies in
    folders that links lead to, which may be large, size and time of change stand for contents."""
    pages = {*_pages(book / "_toc.yml")}
    found, visited, root = {}, set[str](), os.path.realpath(book)
    for folder, folders, files in os.walk(book, followlinks=True):
        real = os.path.realpath(folder)
        if real in visited:  # a link leads back
            folders.clear()
            continue
        visited.add(real)
        folders[:] = sorted(name for name in folders if name[0] != "." and name not in OF_BUILDS)
        linked = real != os.path.normpath(os.path.join(root, os.path.relpath(folder, book)))
        for path in map(Path(folder).joinpath, sorted(files)):
            if path.name[0] != "." and path.is_file():
                changed = changed_at(path)
                digest = f"{path.stat().st_size} {changed}" if linked else sha256(path)
                found[path] = Seen(digest, changed, _read_by(path.relative_to(book), pages))
    return found


def _read_by(inside: Path, pages: set[str]) -> str:
    if inside.suffix in (".md", ".ipynb") and str(inside.with_suffix("")) in pages:
        return PAGE
    style = inside.parts[0] != "assets" or inside.suffix in (".css", ".js")
    return SPHINX if inside.parts[0] in OF_SPHINX and style else BESIDE


def _pages(toc: Path) -> list[str]:
    return list(parse_toc_yaml(toc)) if toc.is_file() else []
