"""What kernels tell of training, passed on to where the build reports.

A kernel cannot write to the standard error of its book's build. So it adds to a file (see
vaenotes.lab.progress), which one thread of the build reads: a terminal, a pipe, a socket and a log
file are all served, and no two write into one file.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from threading import Thread
from time import monotonic, sleep
from typing import TextIO

LOOK = 0.5  # seconds between two looks at the file
EVERY = 20  # seconds between two lines of one bar, where it cannot be drawn over


def relay(path: Path) -> None:
    """Pass on what will be written to this file until the process ends. Where VAENOTES_PROGRESS is
    set, it goes there instead."""
    if "VAENOTES_PROGRESS" in os.environ:
        return
    path.write_text("")
    os.environ["VAENOTES_PROGRESS"] = str(path)
    Thread(target=_follow, args=(path, sys.stderr), daemon=True).start()


def _follow(path: Path, out: TextIO) -> None:
    lines = Lines()
    with path.open(errors="replace", newline="") as file:
        while True:
            said = file.read()
            out.write(said if out.isatty() else lines.of(said, monotonic()))
            out.flush()
            sleep(LOOK)


class Lines:
    """Bars that are drawn over themselves, as lines of a log: of each state only the newest, the
    first at once and then one every so many seconds; whole lines as they are."""

    def __init__(self) -> None:
        self.said, self.shown, self.last = "", "", -float("inf")

    def of(self, text: str, now: float) -> str:
        """What a log is told of this further text, at this time in seconds."""
        *lines, self.said = (self.said + text).replace("\r\n", "\n").split("\n")
        found = [line.split("\r")[-1] for line in lines]
        state = self.said.split("\r")[-1].rstrip()
        if state and state != self.shown and now - self.last >= EVERY:
            found.append(state)
            self.shown, self.last = state, now
        return "".join(f"{line.rstrip()}\n" for line in found if line.strip())
