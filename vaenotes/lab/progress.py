"""How far training is, shown where it can be seen: at the terminal, or in a file that is named."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event, Thread
from typing import TextIO

from tqdm import tqdm


@contextmanager
def progress(what: str, images: int) -> Iterator[tuple[Path, tqdm]]:
    """A file to which workers append how many images they have just trained on, one number a
    line, and the bar that shows their sum."""
    with (
        TemporaryDirectory() as folder,
        _shown_in() as file,
        tqdm(desc=what, total=images, unit="img", unit_scale=True, file=file) as bar,
    ):
        path = Path(folder) / "images"
        path.touch()
        over = Event()

        def follow() -> None:
            with path.open() as lines:
                while True:
                    last = over.wait(0.5)
                    bar.update(sum(map(int, lines.read().split())))
                    if last:
                        return

        follower = Thread(target=follow)
        follower.start()
        try:
            yield path, bar
        finally:
            over.set()
            follower.join()


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
