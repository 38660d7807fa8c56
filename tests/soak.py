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

import nbformat
import numpy as np
import psutil
from bs4 import BeautifulSoup
from small_book import SmallBook
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).parents[1] / "book" / "_ext"))

from vaenotes.config import Config
from vaenotes.lab import runs, workers
from vaenotes.lab.store import Entry, Store
from vaenotes.training import Ensemble
from vaenotes_book.facts import commit, hardware

HERE = Path(__file__).parent
ROOT = HERE.parent
RESULT = HERE / "soak.json"
PATIENCE = 300  # seconds, for work that takes a few
SMALL = {"images": 2048, "hidden": 16, "batch": 64, "epochs": 12}
ENSEMBLES = [
    [Config(**SMALL, prior=prior, seed=seed) for seed in range(2)]
    for prior in ("exogenous", "diagonal")
]
CONFIGS = [config for together in ENSEMBLES for config in together]
TINY = Config(images=64, hidden=4, batch=64, epochs=1)
ENTRIES = range(20)


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
    for config, entry in entries.items():
        for name, values in sorted(entry.arrays.items()):
            total.update(f"{config} {name}".encode() + values.tobytes())
    return total.hexdigest()


# Work to be killed: each piece has a folder of its own, with a store, and leaves its answer there


def train(folder: Path) -> None:
    """Train two ensembles one after the other, and note every epoch."""
    original = Ensemble.epoch

    def epoch(self: Ensemble, number: int) -> None:
        with (folder / "epochs").open("a") as file:
            file.write(f"{number}\n")
        original(self, number)

    Ensemble.epoch = epoch  # this is a process of its own
    workers.WORTH_PROCESSES = 10**9
    (folder / "answer").write_text(digest(runs.fetch(CONFIGS, Store(folder / "store"))))


def train_in_workers(folder: Path) -> list[str]:
    """The command that trains both at once, in two processes more."""
    lines = [
        "import sys",
        "from pathlib import Path",
        f"sys.path.insert(0, {str(HERE)!r})",
        "import soak",
        "soak.workers.WORTH_PROCESSES = 0",
        "answer = soak.digest(soak.runs.fetch(soak.CONFIGS, soak.Store()))",
        "Path('answer').write_text(answer)",
    ]
    return [sys.executable, "-c", "\n".join(lines)]


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


CELL = """
from myst_nb import glue

small = {small}
runs = lab.run([vn.Config(**small, prior="{prior}", seed=seed) for seed in range(2)])
print([value.hex() for value in runs.kl_nats.sum(("node", "dim")).values.ravel().tolist()])
glue("answer", float(runs.kl_nats.sum()))
"""


def make_book(folder: Path) -> None:
    """A small book with the real settings, extensions and library, if it is not there yet."""
    if not (folder / "book").exists():
        book = SmallBook(folder, real=True)
        book.add("page", CELL.format(small=SMALL, prior="exogenous"))
        book.add("other", CELL.format(small=SMALL, prior="diagonal"))
        book.edit("book/index.md", "answer:d", "answer:.12f")


def run_page(folder: Path) -> list[str]:
    """The command that runs a page by papermill."""
    make_book(folder)
    return [sys.executable, "-m", "papermill", "book/page.md", "out.ipynb"]


def read_page(folder: Path) -> str:
    cells = nbformat.read(folder / "out.ipynb", 4).cells
    return "".join(o.text for c in cells for o in c.get("outputs", ()) if o.get("name") == "stdout")


def build_book(folder: Path) -> list[str]:
    """The command that builds a book of two such pages, and one that shows a number of theirs."""
    make_book(folder)
    jupyter_book = Path(sys.executable).with_name("jupyter-book")
    return [str(jupyter_book), "build", "book", "-W", "-n", "--keep-going"]


def read_book(folder: Path) -> str:
    html = folder / "book" / "_build" / "html"
    pages = [(html / f"{name}.html").read_text() for name in ("index", "page", "other")]
    return "".join(BeautifulSoup(page, "html.parser").article.get_text() for page in pages)


def read_answer(folder: Path) -> str:
    return (folder / "answer").read_text()


@dataclass
class Work:
    what: str
    do: Callable[[Path], None] | None = None  # in a child of this process, or
    command: Callable[[Path], list[str]] | None = None
    read: Callable[[Path], str] = read_answer

    def start(self, folder: Path) -> psutil.Process:
        """What it says, and the library's progress, are in the file log."""
        log = folder / "log"
        log.write_text("")
        told = {"VAENOTES_STORE": str(folder / "store"), "VAENOTES_PROGRESS": str(log)}
        if self.do is not None:
            fork = multiprocessing.get_context("fork")
            child = fork.Process(target=_in_child, args=(self.do, folder, told))
            child.start()
            return psutil.Process(child.pid)
        told |= {"VAENOTES_PARAMETERS": "", "LOKY_MAX_CPU_COUNT": "2", "PYTHONPATH": str(ROOT)}
        with log.open("a") as out:
            return psutil.Popen(
                self.command(folder), cwd=folder, env=os.environ | told, stdout=out, stderr=out
            )


def _in_child(do: Callable[[Path], None], folder: Path, told: dict[str, str]) -> None:
    os.environ.update(told)
    do(folder)


WORKS = {
    "training": Work("training", train),
    "workers": Work("training in worker processes", command=train_in_workers),
    "writing": Work("writing into the store", write),
    "page": Work("a page run by papermill", command=run_page, read=read_page),
    "book": Work("a book being built", command=build_book, read=read_book),
}


def epochs_written(store: Store) -> int:
    """How many epochs of the two ensembles need not be trained again."""
    total, checkpoints = 0, [store.load(name).meta for name in store.unfinished()]
    for together in ENSEMBLES:
        keys = [runs.store_key(config) for config in together]
        if all(store.path(key).exists() for key in keys):
            total += SMALL["epochs"]
        else:
            total += max((c["epoch"] for c in checkpoints if set(keys) & set(c["keys"])), default=0)
    return total


def lines(path: Path) -> list[str]:
    return path.read_text().split() if path.exists() else []


# Trials


def kill(name: str, trials: int, generator: np.random.Generator) -> Row:
    """Start a piece of work, kill it (that process alone) at a moment drawn from its whole time,
    and start it again in the same folder, which stays if that does not go well."""
    work = WORKS[name]
    row, went_on = Row(f"killed: {work.what}"), 0
    folder = new_folder()
    start = time.perf_counter()
    assert work.start(folder).wait(PATIENCE) == 0, (folder / "log").read_text()
    seconds, answer = time.perf_counter() - start, work.read(folder)
    with tqdm(total=trials, desc=row.what) as bar:
        while row.tried < trials:
            shutil.rmtree(folder, ignore_errors=True)
            folder = new_folder()
            process = work.start(folder)
            time.sleep(seconds * (row.tried + generator.random()) / trials)
            if process.status() == psutil.STATUS_ZOMBIE:  # it was faster than the first
                process.wait()
                seconds *= 0.98
                continue
            helpers = process.children(recursive=True)
            process.kill()
            process.wait()
            well = start_again(work, folder) and not psutil.wait_procs(helpers, timeout=10)[1]
            row.judge(well, well and work.read(folder) == answer)
            went_on += "going on with" in (folder / "log").read_text()
            bar.update()
            if row.survived < row.tried:
                print(f"not survived, {row.what}: {folder}", file=sys.stderr)
                folder = new_folder()
    shutil.rmtree(folder, ignore_errors=True)
    if work.do is not write:
        row.note = f"{went_on} went on from a checkpoint"
    return row


def new_folder() -> Path:
    return Path(mkdtemp(prefix="soak-"))


def start_again(work: Work, folder: Path) -> bool:
    """Whether work that was killed ends well, none of what was written is missing, and no epoch of
    which there is a checkpoint is trained again."""
    store = Store(folder / "store")
    well = all(store.load(number) for number in lines(folder / "written"))
    well &= {file.state for file in store.files()} <= {"whole", "unfinished", "temporary"}
    epochs = len(ENSEMBLES) * SMALL["epochs"] - epochs_written(store)
    (folder / "epochs").unlink(missing_ok=True)
    well &= work.start(folder).wait(PATIENCE) == 0
    if work.do is train:
        well &= len(lines(folder / "epochs")) == epochs
    return well and not store.unfinished()


def damage(
    what: str,
    change: Callable[[bytes, np.random.Generator], bytes],
    trials: int,
    generator: np.random.Generator,
) -> Row:
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
        row.judge(len(said) == 1, found == answer)
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
    row = Row("eight processes at once, one of them killed")
    fork = multiprocessing.get_context("fork")
    answers = runs.fetch(CONFIGS, Store(new_folder()))
    trained_twice = 0
    for _ in tqdm(range(rounds), desc=row.what):
        folder = new_folder()
        wanted = [[c for c in CONFIGS if generator.random() < 0.7] or CONFIGS for _ in range(8)]
        children = [
            fork.Process(target=ask, args=(folder, number, configs))
            for number, configs in enumerate(wanted)
        ]
        for child in children:
            child.start()
        time.sleep(generator.random())
        victim = int(generator.integers(8))
        children[victim].kill()
        for child in children:
            child.join(PATIENCE)
        trained = [line for line in (folder / "used").read_text().splitlines() if "trained" in line]
        trained_twice += len(trained) - len(set(trained))
        for number, configs in enumerate(wanted):
            if number != victim:
                well = children[number].exitcode == 0
                expected = digest({config: answers[config] for config in configs})
                row.judge(well, well and (folder / f"answer{number}").read_text() == expected)
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


def soak(scale: float = 1.0) -> list[Row]:
    """All trials; scale: how many, as a share of the full numbers."""

    def count(full: int) -> int:
        return max(round(full * scale), 1)

    generator = np.random.default_rng(0)
    kills = {"book": 10, "page": 15, "workers": 15, "training": 40, "writing": 20}
    rows = [kill(name, count(trials), generator) for name, trials in kills.items()]
    rows.append(damage("one bit flipped", flip, count(1000), generator))
    rows.append(damage("cut short", cut, count(200), generator))
    rows.append(damage("zeros from somewhere on", half_written, count(200), generator))
    rows.append(together(count(10), generator))
    return rows


def main() -> None:
    start = time.perf_counter()
    rows = soak()
    kept = {
        "commit": commit(ROOT),
        "hardware": hardware(),
        "minutes": (time.perf_counter() - start) / 60,
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
