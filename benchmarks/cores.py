"""Two cores against one: the same replicas, trained as the book trains them.

python benchmarks/cores.py
"""

import os
import time
from tempfile import TemporaryDirectory

from measuring import Row, in_turns, report

from vaenotes.config import Config
from vaenotes.lab import runs, workers
from vaenotes.lab.store import Store
from vaenotes.speed import best_precision

ROUNDS, REPLICAS, EPOCHS = 3, 32, 20  # long beside the start of two processes


def rate(cores: int) -> float:
    """Images x replicas per second of the clock."""
    os.environ["LOKY_MAX_CPU_COUNT"] = str(cores)
    workers.WORTH_PROCESSES = 0
    asked = {"epochs": EPOCHS, "precision": best_precision()}
    configs = [Config(**asked, seed=seed) for seed in range(REPLICAS)]
    datasets = dict.fromkeys(configs, runs.load_data(configs[0]))
    start = time.perf_counter()
    with TemporaryDirectory() as folder:
        results = workers.train_all(dict.fromkeys(configs), datasets, Store(folder))
        assert len(list(results)) == REPLICAS
    return REPLICAS * EPOCHS * configs[0].images / (time.perf_counter() - start)


def main() -> None:
    rate(2)  # what is read from disk is read once
    found = in_turns({"one": lambda: rate(1), "two": lambda: rate(2)}, ROUNDS)
    speed = "images x replicas / s"
    rows = [
        Row.of("one core", speed, found["one"]),
        Row.of("two cores, a process each", speed, found["two"]),
        Row.of("two over one", "1", found["two"] / found["one"], ">= 1.9"),
    ]
    setting = f"{REPLICAS} replicas of the book's profile, {EPOCHS} epochs; by the clock."
    report("cores", setting, rows)


if __name__ == "__main__":
    main()
