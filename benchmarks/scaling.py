"""Whether cost grows with the work, and no faster: replicas and images, on one core.

    pip install -r benchmarks/requirements.txt    # pythae, to compare with
    taskset -c 0 python benchmarks/scaling.py

Every run has a process of its own, so that its largest memory is its own.
"""

import json
import logging
import os
import resource
import subprocess
import sys
from tempfile import TemporaryDirectory

import numpy as np
from measuring import Row, cpu_seconds, in_turns, report
from peers import flops_an_image, plain_loop, product, pythae

from vaenotes.config import Config
from vaenotes.lab import runs, workers
from vaenotes.lab.store import Store
from vaenotes.speed import best_precision

ROUNDS, EPOCHS = 3, 2
SIZES = [(8, 10_000), (32, 10_000), (128, 10_000), (8, 20_000), (8, 40_000), (8, 80_000)]
BASE = SIZES[0]
PIXELS = {16: (32, 10_000, 16), 32: (32, 10_000, 32)}  # of a side: replicas, images, that side


def alone(replicas: int, images: int, size: int = 16) -> None:
    """Train, and print CPU seconds and the largest memory, GB."""
    asked = {"images": images, "size": size, "epochs": EPOCHS, "precision": best_precision()}
    configs = [Config(**asked, seed=seed) for seed in range(replicas)]
    datasets = dict.fromkeys(configs, runs.load_data(configs[0]))
    with TemporaryDirectory() as folder:
        results = workers.train_all(dict.fromkeys(configs), datasets, Store(folder))
        seconds = cpu_seconds(lambda: list(results))
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(json.dumps([seconds, memory]))


def in_a_process(*asked: int) -> np.ndarray:
    command = [sys.executable, __file__, *map(str, asked)]
    environment = os.environ | {"LOKY_MAX_CPU_COUNT": "1"}
    ran = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
    return np.array(json.loads(ran.stdout))


def main() -> None:
    one = Config()
    dataset = runs.load_data(one)
    logging.disable(logging.WARNING)  # pythae tells of every epoch
    others = {
        "limit of float32 products": lambda: 1e9 * product() / flops_an_image(one, dataset),
        "DataLoader and Adam": lambda: plain_loop(one, dataset),
        "pythae's trainer": lambda: pythae(one, dataset),
    }
    ours = {size: lambda size=size: in_a_process(*size) for size in [*SIZES, *PIXELS.values()]}
    found = in_turns({**others, **ours}, ROUNDS)
    cost = "µs an image and replica"
    rows = [Row.of(name, cost, 1e6 / found[name]) for name in others]
    each = {size: found[size][:, 0] / (size[0] * size[1] * EPOCHS) for size in SIZES}
    for size in SIZES:
        name = f"{size[0]} replicas, {size[1]:,} images"
        rows.append(Row.of(name, cost, 1e6 * each[size]))
        if size != BASE:
            target = "<= 1.15" if size in ((128, BASE[1]), (BASE[0], 80_000)) else ""
            grown = each[size] / each[BASE]
            rows.append(Row.of(f"{name}: over {BASE[0]} and {BASE[1]:,}", "1", grown, target))
        target = "<= 1" if size[0] == 128 else ""
        rows.append(Row.of(f"{name}: memory", "GB", found[size][:, 1], target))
    small, large = (found[size][:, 0] for size in PIXELS.values())
    name = "32 x 32 pixels, 32 replicas: over four times 16 x 16"
    rows.append(Row.of(name, "1", large / small / 4, "<= 1.15"))
    setting = f"One core; the book's profile, {EPOCHS} epochs, the first and last measure included."
    report("scaling", setting, rows)


if __name__ == "__main__":
    if len(sys.argv) > 2:
        alone(*map(int, sys.argv[1:]))
    else:
        main()
