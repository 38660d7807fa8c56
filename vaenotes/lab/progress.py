"""How far training is, shown where it can be seen: at the terminal, or in a file that is named."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import TextIO

from tqdm import tqdm

from vaenotes.errors import ClusterError


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
        with open(os.open(path, os.O_WRONLY | os.O_APPEND), "w") as file:  # not made if gone
            file.write(f"{images}\n")
    except FileNotFoundError:
        raise ClusterError("the run that this worker trains for has ended") from None


@contextmanager
def _shown_in() -> Iterator[TextIO]:
    """Where progress is shown: the file named by VAENOTES_PROGRESS (a notebook cannot write to
    the terminal that its book is built from, but to its name), else standard error."""
    path = os.environ.get("VAENOTES_PROGRESS")
    if path and os.access(path, os.W_OK):
        with open(path, "a") as file:
            yield file
    else:
        yield sys.stderr


def say(line: str) -> None:
    """Show a line where progress is shown."""
    with _shown_in() as file:
        print(line, file=file)
