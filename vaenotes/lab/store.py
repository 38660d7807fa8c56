"""Results on disk, each under a key made of what was asked and of the code that answers.

An entry is one .npz file: arrays, and a description as JSON. It is written to a temporary file
and renamed, so it is there whole or not at all. Its last 32 bytes, a comment as far as zip is
concerned, are the sha256 of all before: nothing is read from a file in which a bit has changed, and
nothing is ever unpickled. Changed training code, torch or numpy changes every key: old entries are
never served.
"""

import hashlib
import io
import json
import os
import re
import stat
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from filelock import FileLock, Timeout
from platformdirs import user_cache_path

from vaenotes.errors import StoreError, check
from vaenotes.lab.code import code_digest
from vaenotes.lab.progress import say

META = "meta.json"
SEAL = hashlib.sha256().digest_size  # bytes
UNFINISHED = "unfinished-"  # what the key of a checkpoint starts with
NESTED = "what a prior or a data set needs must be trained before it is asked for"
TEMPORARY, MARK = "vaenotes-written-", "vaenotes-run-"  # what the names of files begin with
OWN_NAMES = rf"({UNFINISHED})?[0-9a-f]{{16}}-[0-9a-f]{{64}}\.npz|({TEMPORARY}|{MARK})\w{{8}}\.tmp"


class Entry(NamedTuple):
    """A stored result: arrays by name, and JSON-like facts about them."""

    arrays: dict[str, np.ndarray]
    meta: dict[str, Any]


def key(description: Mapping[str, Any]) -> str:
    """The key of a result, from a JSON-like description of everything that was asked."""
    return _of_this_code(json.dumps(description, sort_keys=True, allow_nan=False))


def checkpoint_key(keys: Iterable[str]) -> str:
    """The key of a checkpoint of the replicas with these keys."""
    return UNFINISHED + _of_this_code("".join(keys))


def _of_this_code(asked: str) -> str:
    return f"{code_digest()[:16]}-{hashlib.sha256(asked.encode()).hexdigest()}"


def default_folder() -> Path:
    """VAENOTES_STORE if that is set, else the user's cache folder."""
    return Path(os.environ.get("VAENOTES_STORE") or user_cache_path("vaenotes"))


class Store:
    """A folder of entries, shared by notebooks, papermill and scripts.

    Raises StoreError where the folder cannot be used: it is full, not to be written, no folder.
    """

    def __init__(self, folder: Path | str | None = None):
        fits = folder is None or (isinstance(folder, str | Path) and "\0" not in str(folder))
        check(fits, "folder must be a path", folder)
        try:
            self.folder = Path(folder or default_folder()).expanduser().absolute()
        except (OSError, RuntimeError) as error:  # there is no such home, or no folder to start at
            raise StoreError(f"{error} (VAENOTES_STORE may name a folder)") from None
        with storage_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        self.told: set[int] = set()  # damaged entries, of each of which it is said once

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Held while training, so that two builds never train the same thing twice; it is said
        where another process holds it. It ends with its holder, however that ends."""
        lock = FileLock(self.folder / "training.lock")
        with storage_errors(self.folder):
            # Where it cannot be made, whoever waits for it never ends; a link may lead anywhere,
            # and at a pipe all would wait.
            safely = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
            handle = os.open(lock.lock_file, os.O_CREAT | safely, 0o644)
            regular = stat.S_ISREG(os.fstat(handle).st_mode)
            os.close(handle)
            if not regular:
                raise OSError(f"{lock.lock_file} is no file")
            try:
                lock.acquire(timeout=1)
            except Timeout:
                say(f"waiting for another process that trains into {self.folder}{_holder(lock)}")
                try:
                    lock.acquire()
                except RuntimeError:  # this very thread holds it
                    raise StoreError(NESTED) from None
        try:
            yield
        finally:
            lock.release()

    @contextmanager
    def mark(self) -> Iterator[Path]:
        """A file in this folder while a run goes on, whose process holds the lock: whoever sees it
        elsewhere sees this folder, and no other of its name."""
        with storage_errors(self.folder):
            for left in self.folder.glob(f"{MARK}{'?' * 8}.tmp"):  # by a run that was killed
                if left.is_file():
                    left.unlink(missing_ok=True)
            handle, name = tempfile.mkstemp(dir=self.folder, prefix=MARK, suffix=".tmp")
            os.close(handle)
        try:
            yield Path(name)
        finally:
            Path(name).unlink(missing_ok=True)

    def unfinished(self) -> list[str]:
        """The keys of this version's checkpoints."""
        names = f"{UNFINISHED}{code_digest()[:16]}-*.npz"
        return sorted(path.stem for path in self.folder.glob(names) if path.is_file())

    def path(self, key: str) -> Path:
        fits = isinstance(key, str) and re.fullmatch(r"[\w.-]+", key) is not None
        check(fits, "key must be of letters, digits, '.', '_' and '-'", key)
        return self.folder / f"{key}.npz"

    def load(self, key: str, check: Callable[[Entry], Any] = lambda entry: None) -> Entry | None:
        """The entry under this key, or None. Of a damaged one it is said that it is: it stays until
        the new one takes its place, as it may have done already. check: raises ValueError of an
        entry that is whole and cannot be what was asked for; it counts as damaged."""
        path, data = self.path(key), None
        with storage_errors(path), suppress(FileNotFoundError):
            if path.is_file() or path.is_dir():  # nobody may ever fill a pipe
                data = path.read_bytes()
        if data is None:
            return None
        try:
            entry = _unsealed(data, key)
            check(entry)
            return entry
        except Exception as error:  # a damaged file makes readers raise almost anything
            damaged = f"stored result {path.name} is damaged ({error})"
            if hash(data) not in self.told:
                self.told.add(hash(data))
                warnings.warn(f"{damaged}: it will be computed again", stacklevel=2)
            return None

    def save(self, key: str, arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> None:
        """Write an entry whole or not at all."""
        facts = json.dumps({"key": key, "meta": meta})
        parts = _sealed({**arrays, META: np.array(facts)})
        with storage_errors(self.folder):
            handle, temporary = tempfile.mkstemp(dir=self.folder, prefix=TEMPORARY, suffix=".tmp")
            try:
                with os.fdopen(handle, "wb") as file:
                    file.writelines(parts)
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(temporary, self.path(key))
            except BaseException:
                os.unlink(temporary)
                raise

    def remove(self, key: str) -> None:
        """Forget an entry, if it is there."""
        with storage_errors(self.path(key)):
            self.path(key).unlink(missing_ok=True)

    def prune(self) -> tuple[int, int]:
        """Delete what this version of the library never reads: entries of other versions,
        half-written files; never a result or a checkpoint of its own, nor what is not the store's.
        Returns how many files these were, and their bytes. Waits while others train."""
        served = rf"({UNFINISHED})?{code_digest()[:16]}-\w+\.npz"
        count = size = 0
        with self.locked(), storage_errors(self.folder):
            for path in self.folder.iterdir():
                own = re.fullmatch(OWN_NAMES, path.name)
                if own and not re.fullmatch(served, path.name) and path.is_file():
                    count, size = count + 1, size + path.lstat().st_size
                    path.unlink()
        return count, size


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Tell what the system says of a path in one line, a StoreError."""
    try:
        yield
    except (OSError, MemoryError) as error:
        advice = "VAENOTES_STORE may name another folder"
        said = getattr(error, "strerror", None) or str(error) or "it is too large for the memory"
        raise StoreError(f"the store cannot use {path}: {said} ({advice})") from error


def _holder(lock: FileLock) -> str:
    """How to end the process that holds a lock, in brackets, where Linux tells which: also one that
    is stopped holds it."""
    with suppress(OSError, ValueError):
        file = os.stat(lock.lock_file)
        for line in Path("/proc/locks").read_text().splitlines():
            *_, kind, _, _, process, inode, _, _ = line.split()
            if kind == "FLOCK" and inode.endswith(f":{file.st_ino}"):
                if int(process) == os.getpid():
                    return ": another thread of this one"
                return f" (kill -9 {process} ends it; what it has trained is kept)"
    return ""


def _sealed(arrays: Mapping[str, np.ndarray]) -> list[bytes | memoryview]:
    """The bytes of an .npz file whose comment is the sha256 of all before it, in two parts."""
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.comment = bytes(SEAL)
    data = memoryview(buffer.getvalue())[:-SEAL]
    return [data, hashlib.sha256(data).digest()]


def _unsealed(data: bytes, key: str) -> Entry:
    """What _sealed bytes hold; raises almost anything unless they are whole and of this key."""
    if hashlib.sha256(memoryview(data)[:-SEAL]).digest() != data[-SEAL:]:
        raise ValueError("wrong checksum")
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        if any(part.compress_type for part in archive.infolist()):  # it may grow without end
            raise ValueError("it is compressed")
    with np.load(io.BytesIO(data), allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    facts = json.loads(str(arrays.pop(META)))
    if facts["key"] != key:
        raise ValueError(f"it belongs to {facts['key']}")
    return Entry(arrays, facts["meta"])
