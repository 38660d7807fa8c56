"""How many attacks of the tests the library holds against, by what they aim at.

    python tests/attacks.py       # minutes; keeps the counts for the book's status page

An attack is a test that is marked with its aim, @pytest.mark.attack(AIM); each of its cases is one.
It is *held* if the test passes, and else *broken*.
"""

import json
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "book" / "_ext"))

from vaenotes_book.facts import commit, hardware

RESULT = Path(__file__).with_name("attacks.json")
AIMS = {
    "wrong": "a wrong number, or a right one under a wrong name",
    "run": "text or data of a user is run, or parsed",
    "lost": "work or files lost",
    "hang": "it waits for ever, or leaves processes behind",
    "line": "a traceback, or no word, where one line is promised",
}


class Counts:
    """Counts attacks as pytest runs them."""

    def __init__(self) -> None:
        self.rows = {
            aim: {"what": what, "tried": 0, "held": 0, "broken": 0} for aim, what in AIMS.items()
        }

    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo[None]) -> None:
        mark = item.get_closest_marker("attack")
        failed = call.excinfo is not None
        if mark is None or (failed and call.excinfo.errisinstance(pytest.skip.Exception)):
            return
        if call.when == "call" or failed:
            row = self.rows[mark.args[0]]
            row["tried"] += 1
            row["broken" if failed else "held"] += 1


def main() -> None:
    counts, begin = Counts(), time.perf_counter()
    code = pytest.main(["-m", "attack", "-q", str(Path(__file__).parent)], [counts])
    kept = {
        "commit": commit(),
        "hardware": hardware(),
        "minutes": (time.perf_counter() - begin) / 60,
        "rows": list(counts.rows.values()),
    }
    RESULT.write_text(json.dumps(kept, indent=1) + "\n")
    raise SystemExit(code)


if __name__ == "__main__":
    main()
