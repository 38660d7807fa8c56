"""Kill it at random moments, damage what it stored, ask for the same from many sides: is anything
lost, and is any number wrong?

    python tests/soak.py          # minutes; keeps what it found for the book's status page

A trial is *survived* if all ends well, with the same answer to the last bit as work that was left
alone; *lost* if it does not end well, if work that had been written is done again or if processes
stay behind; *wrong* if the answer is another. test_soak.py makes fewer trials of the same.
"""

import hashlib
import json
import multiprocessing
import os
import shutil
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
import psutil
from small_book import SmallBook, environment_in
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).parents[1] / "book" / "_ext"))

from vaenotes.config import Config
from vaenotes.lab import runs, workers
from vaenotes.lab.store import Entry, Store
from vaenotes_book.facts import commit, hardware

RESULT = Path(__file__).with_name("soak.json")
PATIENCE = 300  # seconds, for work that takes a few
SMALL = {"images": 512, "hidden": 16, "batch": 64, "epochs": 12}
LARGE = {"images": 4096, "hidden": 96, "batch": 64, "epochs": 30}
CONFIGS = [
    Config(**SMALL, prior=prior, seed=seed)
    for prior in ("exogenous", "diagonal")
    for seed in range(2)
]
TINY = Config(images=64, hidden=4, batch=64, epochs=1)
ENTRIES = range(20)
FORK = multiprocessing.get_context("fork")
Change = Callable[[bytes, np.random.Generator], bytes]


@dataclass
class Row:
    """What came of one kind of trial; `note`: what else was seen."""

    what: str
    tried: int = 0
    survived: int = 0
    lost: int = 0
    wrong: int = 0
    note: str = ""

    def judge(self, well: bool, same: bool) -> None:
        self.tried += 1
        self.lost += not well
        self.wrong += well and not same
        self.survived += well and same


def digest(entries: dict[Config, Entry]) -> str:
    """Of all numbers of some replicas."""
    total = hashlib.sha256()
    for config in sorted(entries, key=str):
        for name, values in sorted(entries[config].arrays.items()):
            total.update(f"{config} {name}".encode() + values.tobytes())
    return total.hexdigest()


# Work to be killed: each piece has a folder of its own, with a store, and leaves its answer there


def train(folder: Path, seconds_worth_processes: float = 1e9) -> None:
    """Train two ensembles one after the other."""
    workers.WORTH_PROCESSES = seconds_worth_processes  # this is a process of its own
    (folder / "answer").write_text(digest(runs.fetch(CONFIGS, Store(folder / "store"))))


def train_in_workers(folder: Path) -> None:
    """Train both at once, in two processes more."""
    train(folder, 0)


def write(folder: Path) -> None:
    """Write entries, and note each that was written."""
    store = Store(folder / "store")
    for number in ENTRIES:
        store.save(f"{number}", {"a": np.random.default_rng(number).random(300_000)}, {})
        with (folder / "written").open("a") as file:
            file.write(f"{number}\n")
    entries = (store.load(f"{number}") for number in ENTRIES)
    answer = hashlib.sha256(b"".join(entry.arrays["a"].tobytes() for entry in entries))
    (folder / "answer").write_text(answer.hexdigest())


PAGE = """
from pathlib import Path
import vaenotes as vn

runs = lab.run([vn.Config(**{large}, seed=seed) for seed in range(2)])
answer = [value.hex() for value in runs.kl_nats.sum(("node", "dim")).values.ravel().tolist()]
Path("{answer}").write_text(" ".join(answer))
glue("answer", float(runs.kl_nats.sum()))"""


def build(folder: Path) -> None:
    """Build a small book with the real library, of which a page trains for longer."""
    if not (folder / "book").exists():
        book = SmallBook(folder, real=True)
        cells = PAGE.format(large=LARGE, answer=folder / "answer")
        book.add("page", f"from myst_nb import glue\nfrom vaenotes import lab\n{cells}")
        book.edit("book/index.md", "answer:d", "answer:.12f")
    program = str(Path(sys.executable).with_name("jupyter-book"))
    os.chdir(folder)
    os.execve(
        program, [program, "build", "book", "-W", "-n", "--keep-going"], environment_in(folder)
    )


WORKS = {
    "a book being built": build,
    "training": train,
    "training in worker processes": train_in_workers,
    "writing into the store": write,
}


def start(name: str, folder: Path) -> multiprocessing.Process:
    """What the library says is in the file log; of a book's, that relays it, in errors."""
    for said in ("log", "errors"):
        (folder / said).write_text("")
    child = FORK.Process(target=_in_child, args=(WORKS[name], folder))
    child.start()
    return child


def _in_child(do: Callable[[Path], None], folder: Path) -> None:
    os.environ |= {"VAENOTES_PROGRESS": str(folder / "log"), "LOKY_MAX_CPU_COUNT": "2"}
    with (folder / "errors").open("a") as errors:
        os.dup2(errors.fileno(), 2)
        do(folder)


def ended(child: multiprocessing.Process) -> bool:
    """Whether it ends well."""
    child.join(PATIENCE)
    return child.exitcode == 0


# Trials


def kill(name: str, trials: int, generator: np.random.Generator) -> Row:
    """Start a piece of work, kill it (that process alone) at a moment drawn from its whole time,
    and start it again in the same folder, which stays if that does not go well."""
    row, went_on = Row(f"killed: {name}"), 0
    folder, begin = new_folder(), time.perf_counter()
    assert ended(start(name, folder)), (folder / "errors").read_text()
    seconds, answer = time.perf_counter() - begin, (folder / "answer").read_text()
    with tqdm(total=trials, desc=row.what) as bar:
        while row.tried < trials:
            shutil.rmtree(folder, ignore_errors=True)
            folder = new_folder()
            child = start(name, folder)
            time.sleep(seconds * (row.tried + generator.random()) / trials)
            helpers = psutil.Process(child.pid).children(recursive=True)
            if not child.is_alive():  # it was faster than the first
                seconds *= 0.98
                continue
            child.kill()
            child.join()
            # First its helpers end, which may still be writing: they look for it now and then.
            well = not psutil.wait_procs(helpers, timeout=10)[1] and goes_on(name, folder)
            row.judge(well, well and (folder / "answer").read_text() == answer)
            went_on += "going on with" in told(folder)
            bar.update()
            if row.survived < row.tried:
                print(f"not survived, {row.what}: {folder}", file=sys.stderr)
                folder = new_folder()
    shutil.rmtree(folder, ignore_errors=True)
    row.note = f"{went_on} went on from a checkpoint" if went_on else ""
    return row


def told(folder: Path) -> str:
    return (folder / "log").read_text() + (folder / "errors").read_text()


def new_folder() -> Path:
    return Path(mkdtemp(prefix="soak-"))


def goes_on(name: str, folder: Path) -> bool:
    """Whether work that was killed ends well, nothing that was written is missing, and training
    goes on from every checkpoint of replicas that are not done."""
    store, written = Store(folder / "store"), folder / "written"
    numbers = written.read_text().split() if written.exists() else []
    well = all(store.load(number) for number in numbers)
    checkpoints = [store.load(name).meta for name in store.unfinished()]
    expected = [
        f"after epoch {checkpoint['epoch']} of "
        for checkpoint in checkpoints
        if not all(store.path(key).exists() for key in checkpoint["keys"])
    ]
    well &= ended(start(name, folder))
    said = told(folder)
    return well and all(line in said for line in expected) and not store.unfinished()


def damage(what: str, change: Change, trials: int, generator: np.random.Generator) -> Row:
    """Change the bytes of a stored replica: that must be said, and the replica computed again."""
    row, store = Row(f"damaged: {what}"), Store(new_folder())
    key = runs.store_key(TINY)
    answer = digest(runs.fetch([TINY], store))
    for _ in tqdm(range(trials), desc=row.what):
        store.path(key).write_bytes(change(store.path(key).read_bytes(), generator))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            found = digest(runs.fetch([TINY], store))
        said = [str(w.message) for w in caught if f"{key}.npz is damaged" in str(w.message)]
        row.judge(bool(said), found == answer)
    shutil.rmtree(store.folder)
    return row


def flip(data: bytes, generator: np.random.Generator) -> bytes:
    """One bit is another."""
    place = int(generator.integers(len(data) * 8))
    flipped = bytearray(data)
    flipped[place // 8] ^= 1 << place % 8
    return bytes(flipped)


def cut(data: bytes, generator: np.random.Generator) -> bytes:
    """The end is missing."""
    return data[: generator.integers(len(data))]


def half_written(data: bytes, generator: np.random.Generator) -> bytes:
    """From somewhere on there are zeros, as after a power cut."""
    place = int(generator.integers(len(data) - 64))
    return data[:place] + bytes(len(data) - place)


def together(rounds: int, generator: np.random.Generator) -> Row:
    """Eight processes want overlapping sets of replicas at once, and one of them is killed."""
    row, trained_twice = Row("eight processes at once, one of them killed"), 0
    answers = runs.fetch(CONFIGS, Store(new_folder()))
    for _ in tqdm(range(rounds), desc=row.what):
        folder = new_folder()
        wanted = [[c for c in CONFIGS if generator.random() < 0.7] or CONFIGS for _ in range(8)]
        children = [FORK.Process(target=ask, args=(folder, *each)) for each in enumerate(wanted)]
        for child in children:
            child.start()
        time.sleep(generator.random())
        victim = int(generator.integers(8))
        children[victim].kill()
        well = [ended(child) for child in children]
        trained = [line for line in (folder / "used").read_text().splitlines() if "trained" in line]
        trained_twice += len(trained) - len(set(trained))
        for number, configs in enumerate(wanted):
            if number != victim:
                expected = digest({config: answers[config] for config in configs})
                same = well[number] and (folder / f"answer{number}").read_text() == expected
                row.judge(well[number], same)
        shutil.rmtree(folder)
    row.lost += trained_twice
    row.note = f"{rounds} rounds, {trained_twice} replicas trained twice"
    return row


def ask(folder: Path, number: int, configs: list[Config]) -> None:
    log = folder / f"log{number}"
    log.touch()
    os.environ |= {"VAENOTES_USED": str(folder / "used"), "VAENOTES_PROGRESS": str(log)}
    workers.WORTH_PROCESSES = 10**9
    (folder / f"answer{number}").write_text(digest(runs.fetch(configs, Store(folder / "store"))))


def soak(scale: float = 1.0, books: int = 20) -> list[Row]:
    """All trials; scale: how many, as a share of the full numbers, but of books that are built."""

    def count(full: int) -> int:
        return max(round(full * scale), 1)

    runs.fetch([TINY], Store(new_folder()))  # imports once what each child would import first
    generator = np.random.default_rng(0)
    kills = {"training in worker processes": 20, "training": 60, "writing into the store": 20}
    rows = [kill("a book being built", books, generator)] if books else []
    rows += [kill(name, count(trials), generator) for name, trials in kills.items()]
    rows.append(damage("one bit flipped", flip, count(1000), generator))
    rows.append(damage("cut short", cut, count(200), generator))
    rows.append(damage("zeros from somewhere on", half_written, count(200), generator))
    rows.append(together(count(10), generator))
    return rows


def main() -> None:
    begin = time.perf_counter()
    rows = soak()
    kept = {
        "commit": commit(),
        "hardware": hardware(),
        "minutes": (time.perf_counter() - begin) / 60,
        "rows": [asdict(row) for row in rows],
    }
    RESULT.write_text(json.dumps(kept, indent=1) + "\n")
    for row in rows:
        print(f"{row.what}: {row.tried} tried, {row.survived} survived, {row.lost} lost, "
              f"{row.wrong} wrong; {row.note}")  # fmt: skip
    if any(row.lost or row.wrong for row in rows):
        raise SystemExit("something was lost or wrong")


if __name__ == "__main__":
    main()
