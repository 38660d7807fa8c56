"""How far training is, shown where it can be seen: at the terminal, or in a file that is named."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event, Thread
from typing import Any

from tqdm import tqdm

from vaenotes.errors import ClusterError, StoreError


@contextmanager
def progress(what: str, images: int, path: Path) -> Iterator[tqdm]:
    """A bar that shows the sum of what workers `add` to the file at this path."""
    over = Event()
    with (
        _shown_in() as file,
        tqdm(desc=what, total=images, unit="img", unit_scale=True, file=file) as bar,
        path.open() as lines,
    ):

        def follow() -> None:
            last = False
            while not last:
                last = over.wait(0.5)
                bar.update(sum(map(int, lines.read().split())))

        follower = Thread(target=follow)
        follower.start()
        try:
            yield bar
        finally:
            over.set()
            follower.join()


def add(path: Path, images: int) -> None:
    """Say that so many images more were trained on. Raises ClusterError once the run has ended."""
    try:
        with open(append_to(path), "w") as file:
            file.write(f"{images}\n")
    except FileNotFoundError:
        if not path.parent.exists():
            raise StoreError(f"the store {path.parent} was deleted while it was used") from None
        raise ClusterError("the run that this worker trains for has ended") from None
    except OSError:  # the disk is full, so that no more is shown
        pass


class _Log:
    """A file, by its number, that is written to if it can be: a full disk ends no training."""

    def __init__(self, number: int):
        self.number = number

    def write(self, text: str) -> None:
        with suppress(OSError):
            os.write(self.number, text.encode())

    def flush(self) -> None: ...


@contextmanager
def _shown_in() -> Iterator[Any]:
    """Where progress is shown: the file named by VAENOTES_PROGRESS (a notebook cannot write to
    the terminal that its book is built from, but to its name), else standard error."""
    try:
        number = append_to(os.environ.get("VAENOTES_PROGRESS", ""))
    except OSError:
        yield sys.stderr or _Log(-1)  # a process may have none
        return
    try:
        yield _Log(number)
    finally:
        os.close(number)


def append_to(path: str | Path) -> int:
    """The number of a file that is there, opened without waiting for who might read a pipe."""
    return os.open(path, os.O_WRONLY | os.O_APPEND | getattr(os, "O_NONBLOCK", 0))


def say(line: str) -> None:
    """Show a line where progress is shown."""
    with _shown_in() as file:
        print(line, file=file)
