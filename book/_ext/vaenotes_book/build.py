"""No build shows stale results, or under other parameters than it says.

The notebook cache lies in a folder named after a digest of all that outputs depend on besides the
page's own code, which is the cache's key. Nothing else is kept from one build to the next, and what
changes during a build makes it fail. Where the same command built the same commit before, and its
pages lie there as they were written, there is nothing to do.

VAENOTES_PARAMETERS="profile=quick seeds=4" sets parameters for every page, as papermill's -p does.
"""

from __future__ import annotations

import gc
import hashlib
import os
import re
import sys
from concurrent.futures import Future
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from shutil import rmtree

from filelock import FileLock, Timeout
from nbformat import NotebookNode
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.environment import BuildEnvironment
from sphinx.util import logging

from vaenotes.errors import ParameterError
from vaenotes.report.page import CELL, check_parameters, read_parameters, with_parameters
from vaenotes_book import facts
from vaenotes_book.execute import PageError, Pages, side_by_side, warnings_in
from vaenotes_book.progress import relay
from vaenotes_book.seen import BESIDE, HOME, SPHINX, changed_at, digests, lying, state
from vaenotes_book.toolchain import Cache, cell_timeout, keep_outputs_in, read_notebook

logger = logging.getLogger(__name__)

ANEW = re.compile("--(all|write-all|fresh-env)|-[ENPQTWanqv]*[aE][ENPQTWanqv]*")
"""How all is asked for anew, of either command."""


def check_place(book: Path, out: Path) -> None:
    """Refuse folders whose names others misread, pages that would be written among those they are
    made of, and a book beside a library that is not the one that is imported."""
    root = book.parent
    for path in (root, out):
        if odd := set(str(path)) & set("%*?["):
            message = f"what builds the book cannot work in a folder with {min(odd)} in its name"
            raise SystemExit(f"{message}: {path}")
    if out.is_relative_to(book) and "_build" not in out.relative_to(book).parts:
        message = "pages cannot be written among those they are made of"
        raise SystemExit(f"{message}: use {book / '_build'} or another folder, not {out}")
    own = root / "vaenotes"
    if own.is_dir() and not own.samefile(HOME) and digests(own) != digests(HOME):
        message = f"this book's library is {own}, but here {HOME} is imported"
        raise SystemExit(f"{message}: pip install -e {root}")


def name_absolutely() -> None:
    """The store and the log are those seen from here: kernels start in folders of their own."""
    for name in ("VAENOTES_STORE", "VAENOTES_PROGRESS"):
        if path := os.environ.get(name):
            os.environ[name] = os.path.abspath(os.path.expanduser(path))


def files_in(app: Sphinx) -> list[str]:
    """All that lies where pages are written but Sphinx's own notes, which `sphinx-build` keeps
    there, by its name there."""
    out, notes = Path(app.outdir), {Path(app.doctreedir), Path(app.outdir) / ".doctrees"}
    files = [path for path in out.rglob("*") if path.is_symlink() or not path.is_dir()]
    return sorted(str(path.relative_to(out)) for path in files if not notes & {*path.parents})


def _own_folder(place: Path) -> Path:
    """Where a build keeps what is its own, beside the folder of pages, which may be anywhere."""
    folder = place / ".vaenotes"
    folder.mkdir(parents=True, exist_ok=True)
    if folder.is_symlink() or folder.stat().st_uid != os.getuid():
        message = "must be a folder of your own: move it away, or use"
        raise SystemExit(f"{folder} {message} --path-output")
    return folder


class Build:
    """One build: what it began with, which has to hold to its end, and its executed pages."""

    def __init__(self, app: Sphinx):
        try:
            parameters = read_parameters(os.environ.get("VAENOTES_PARAMETERS", ""))
            self.settings = check_parameters(parameters)
        except ParameterError as error:  # which Jupyter Book would bury under a traceback
            raise SystemExit(f"VAENOTES_PARAMETERS: {error}") from None
        self.book = Path(app.srcdir)
        check_place(self.book, Path(app.outdir))
        name_absolutely()
        self.lies = lying(self.book)
        self.state = state(self.settings.data)
        self.beside = {path: seen for path, seen in self.lies.items() if seen.by == BESIDE}
        self.commit = facts.commit(self.book.parent, self.beside)
        self.sources: dict[Path, str] = {}
        """Of every page."""
        self.notebooks: dict[str, NotebookNode] = {}
        """The executed pages, with their outputs."""

        self.folder = _own_folder(Path(app.outdir).parent)
        self.written = self.folder / f"{Path(app.outdir).name}.written"
        """Lists what the last build wrote; empty while one writes."""
        self.lock = FileLock(self.folder / "build.lock")  # until the process ends
        builder = self.folder / "builder"  # who has locked it
        try:
            self.lock.acquire(blocking=False)
        except Timeout:  # each would show numbers of the other
            who = builder.read_text() if builder.is_file() else ""
            message = f"another build{who} is writing into {self.folder.parent}: wait for it"
            raise SystemExit(f"{message}, or use --path-output") from None
        # Else kernels run what a user has for startup, and draw in the user's own style.
        os.environ["IPYTHONDIR"] = str(self.folder / "ipython")
        os.environ.pop("PYTHONSTARTUP", None)
        (self.folder / "matplotlibrc").touch()
        os.environ["MATPLOTLIBRC"] = str(self.folder / "matplotlibrc")
        own = os.getpid()
        builder.write_text(f", process {own}, begun {datetime.now():%H:%M} (kill {own} ends it),")
        # The trees of a book are millions of objects that stay to its end: looking through them for
        # garbage, again and again, takes a quarter of a build.
        gc.disable()
        self._refuse_files_of_others(app)
        self.finished = self.folder / "finished"
        """Of the last build that came to its end: `_digest`."""
        self._stop_if_finished(app)
        relay(self.folder / "progress")
        # Nothing that Sphinx or myst-nb kept of earlier builds is used: they notice no change of
        # an extension, and a glued value outlives the cell that glued it.
        rmtree(self.folder / "outputs", ignore_errors=True)
        (Path(app.doctreedir) / "environment.pickle").unlink(missing_ok=True)
        app.connect("config-inited", self._choose_cache)
        app.connect("builder-inited", self._keep_outputs, priority=900)
        app.connect("env-before-read-docs", self._execute_pages)
        app.connect("source-read", self._give_source)
        app.connect("env-updated", self._remove_old_pages)
        app.connect("build-finished", self._check_end, priority=900)
        app.connect("build-finished", self._list_pages, priority=999)  # the last to write any

    def _stop_if_finished(self, app: Sphinx) -> None:
        known = self._digest(app)
        last = self.finished.read_text() if self.finished.is_file() else ""
        if known and known == last and not any(map(ANEW.fullmatch, sys.argv)):
            message = f"Nothing changed since commit {self.commit} was built: its pages are in"
            logger.info(f"{message} {app.outdir} (--all builds them anew)")
            raise SystemExit(0)
        self.finished.unlink(missing_ok=True)

    def _digest(self, app: Sphinx) -> str:
        """Of what the book was made from, as the build began, how it was asked for, and the files
        written, as they lie; "" unless a commit names all that is read."""
        if not re.fullmatch("[0-9a-f]+", self.commit):
            return ""
        asked = (self.settings, sys.argv[1:], facts.repository(os.environ))
        read = [(str(path), seen.digest) for path, seen in self.lies.items()]
        wrote = [(name, changed_at(Path(app.outdir, name))) for name in files_in(app)]
        made = (self.state[0], self.commit, asked, read, wrote)
        return hashlib.sha256(repr(made).encode()).hexdigest()

    def check_unchanged(self) -> None:
        """Stop the build if what it began with has changed: kernels may have run either."""
        read = {path: seen for path, seen in self.lies.items() if seen.by != SPHINX}
        changed = [str(path) for path, seen in read.items() if changed_at(path) != seen.changed]
        if state(self.settings.data) != self.state:
            changed.append("the library, a package or the data file")
        if changed:
            what = ", ".join(changed)
            raise SystemExit(f"{what} changed while the book was being built: build again")

    def _choose_cache(self, app: Sphinx, config: Config) -> None:
        """The notebook cache of this state; those of others are of no more use."""
        caches = self.folder / "cache"
        beside = [(str(path), seen.digest) for path, seen in self.beside.items()]
        digest = hashlib.sha256(repr((self.state[0], beside)).encode()).hexdigest()[:16]
        (caches / digest).mkdir(parents=True, exist_ok=True)
        for other in caches.iterdir():
            if other.name != digest:
                rmtree(other, ignore_errors=True)
        if config.nb_execution_mode != "cache":  # no other reads what was executed
            mode = config.nb_execution_mode
            raise SystemExit(f"execute_notebooks (nb_execution_mode) must be cache, got {mode!r}")
        config.nb_execution_cache_path = str(caches / digest)
        config.exclude_patterns.append("**/_build")  # it may be asked to write inside the book

    def _keep_outputs(self, app: Sphinx) -> None:
        keep_outputs_in(app.env, self.folder / "outputs")

    def _execute_pages(self, app: Sphinx, env: BuildEnvironment, names: list[str]) -> None:
        """The first page goes first, alone: it trains what the others show. The rest is executed
        even if some fail, so that one build tells all that is wrong; then it ends, and says so."""
        cache = Cache(env)
        done, failed = 0, dict[str, PageError]()
        waiting = self._read(env, sorted(names), cache, failed)

        def keep(name: str, future: Future[float]) -> None:
            nonlocal done
            done += 1
            notebook, path = waiting[name]
            try:
                seconds = future.result()
            except PageError as error:
                failed[str(path)] = error
                logger.info(f"[{done}/{len(waiting)}] {name} failed")
                return
            self.check_unchanged()  # else what is new would be kept as if it were old
            cache.keep(notebook, path, seconds)
            self.notebooks[name] = notebook
            logger.info(f"[{done}/{len(waiting)}] {name} executed in {seconds:.0f} s")
            for warning in warnings_in(notebook):
                logger.info(f"{name}: {warning}")

        first = {name: page for name, page in waiting.items() if name == app.config.root_doc}
        rest = {name: page for name, page in waiting.items() if name not in first}
        for together in (first, rest):
            if not failed:
                side_by_side(together, cell_timeout(env), keep)
        if failed:
            reports = [f"{path}: {error}" for path, error in failed.items()]
            last = f"The book was not built, as these pages failed: {', '.join(failed)}"
            raise SystemExit("\n\n".join(["", *reports, last]))

    def _read(
        self, env: BuildEnvironment, names: list[str], cache: Cache, failed: dict[str, PageError]
    ) -> Pages:
        """Read all pages; those that are to be executed and are not in the cache are returned, as
        myst-nb will read them. Those that it would not execute have failed."""
        waiting = {}
        for name in names:
            path = Path(env.doc2path(name))
            self.sources[path] = path.read_text("utf-8")
            text = self._source(path)
            is_page = path.suffix != ".ipynb"
            notebook = read_notebook(env, path, text) if is_page else None
            if is_page and notebook is None and CELL not in text:  # prose
                continue
            if notebook is None or "kernelspec" not in notebook.metadata:
                rule = "a page with cells must be a .md file that begins as the others do"
                failed[str(path)] = PageError(f"{rule}, with a format and a kernelspec")
                continue
            if "execution_mode" in notebook.metadata.get("mystnb", {}):
                failed[str(path)] = PageError("a page must have no execution_mode of its own")
                continue
            if (executed := cache.find(notebook)) is None:
                waiting[name] = notebook, path
            else:
                self.notebooks[name] = executed
        return waiting

    def _give_source(self, app: Sphinx, name: str, content: list[str]) -> None:
        content[0] = self._source(Path(app.env.doc2path(name)))

    def _source(self, path: Path) -> str:
        """A page's text as it is executed. Its folder is said in a comment, where it is not the
        book's: equal cells read other files there, and the cache knows a page by its cells."""
        folder = path.parent.relative_to(self.book)
        note = f"in {folder}" if folder != Path() else ""
        return with_parameters(self.sources[path], asdict(self.settings), note)

    def _remove_old_pages(self, app: Sphinx, env: BuildEnvironment) -> None:
        """As the new ones are about to be written: so old and new are never mixed, and none is
        left of what is no longer in the book. What a killed build left may have others' files in
        it, and is moved away."""
        self._refuse_files_of_others(app)  # which may have come meanwhile
        left = None
        if not self.written.read_text("utf-8"):
            left = self.folder / f"left-{datetime.now():%Y-%m-%d-%H%M%S-%f}"
            left.mkdir()
            logger.info(f"what an interrupted build left where pages are written is now in {left}")
        for old in Path(app.outdir).iterdir():
            if old.name == ".doctrees" or old == Path(app.doctreedir):  # Sphinx's own notes
                continue
            if left:
                old.rename(left / old.name)
            else:
                rmtree(old) if old.is_dir() and not old.is_symlink() else old.unlink()
        self.written.write_text("")

    def _list_pages(self, app: Sphinx, error: Exception | None) -> None:
        if error is None:
            self.written.write_text("\n".join(files_in(app)), "utf-8")

    def _refuse_files_of_others(self, app: Sphinx) -> None:
        """All is deleted where pages are written, so it has to be what a build wrote there."""
        listed = self.written.read_text("utf-8") if self.written.exists() else "none"
        others = set(files_in(app)) - set(listed.split("\n")) if listed else set()
        if others:
            one = Path(app.outdir) / min(others)
            message = "was written by no build of this book: move it away, or use"
            raise SystemExit(f"{one} {message} --path-output")
        if not self.written.exists():
            self.written.write_text("\n")  # nothing

    def _check_end(self, app: Sphinx, error: Exception | None) -> None:
        if error is None:
            self.check_unchanged()
            self.finished.write_text(self._digest(app))
