"""The profile "paper", the notes' own sizes: what it takes, and a run of it that is cut short.

    pip install -r benchmarks/requirements.txt         # for peers.py
    taskset -c 0 python benchmarks/faithful.py cost    # rates, memory, resuming; the whole, told
    python benchmarks/faithful.py run 40               # minutes; vaenotes/results/paper.json

The files say which commit made them; commit your changes first. A folder named after the minutes
keeps the replicas.
"""

import json
import os
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np
import psutil
import torch
from measuring import Row, in_turns, report
from peers import flops_an_image, product

import vaenotes as vn
from vaenotes import data, paper, runs, training
from vaenotes.config import Config
from vaenotes.store import Store, checkpoint_key
from vaenotes_facts import commit, hardware, installed_versions

ROUNDS, STEPS = 3, 8
SHORT = {"precision": "bfloat16", "epoch_steps": 576}  # a twentieth of the grid in each epoch
SHORT_EPOCHS, SHORT_SEEDS = 40, 2  # as many epochs, if there is time
# What the estimate for a GPU stands on: assumed, not measured.
GPU_FLOPS = 10e12  # a second, of convolutions so small as these
GPU_OPERATION = 10e-6  # seconds to launch one


def settled(replicas: int = 1, epochs: int | None = None, **changes: Any) -> list[Config]:
    settings = vn.Settings(profile="paper", seeds=replicas, epochs=epochs)
    return vn.arm(settings, **changes)


class Steps:
    """An ensemble on the whole grid, and its rate in images x replicas per CPU second."""

    def __init__(self, replicas: int, precision: str):
        configs = settled(replicas, precision=precision)
        self.ensemble = training.Ensemble(configs, [runs.load_data(configs[0])] * replicas)
        self.shape = replicas, configs[0].batch
        self.take(3)  # record the step; make room in memory

    def take(self, steps: int) -> None:
        for _ in range(steps):
            self.ensemble.step(torch.randint(0, self.ensemble.pool.count, self.shape))

    def draw(self, steps: int) -> None:
        for _ in range(steps):
            self.ensemble.pool.batch(torch.randint(0, self.ensemble.pool.count, self.shape))

    def rate(self, what: str = "take") -> float:
        start = time.process_time()
        getattr(self, what)(STEPS)
        return STEPS * self.shape[0] * self.shape[1] / (time.process_time() - start)


def watched(
    command: list[str], store: str, limit: float = float("inf")
) -> tuple[float, float, int]:
    """CPU seconds and the most memory, GB, of a command and all that it starts; how it ended. It
    is killed after `limit` seconds of the clock."""
    start = time.perf_counter()
    environment = os.environ | {"VAENOTES_STORE": store, "OMP_NUM_THREADS": "1"}
    process = psutil.Popen([sys.executable, __file__, *command], env=environment)
    seconds: dict[int, float] = {}
    most = 0
    while process.poll() is None:
        memory = 0
        for one in [process, *process.children(recursive=True)]:
            with suppress(psutil.NoSuchProcess):  # it ended meanwhile
                memory += one.memory_info().rss
                times = one.cpu_times()
                seconds[one.pid] = times.user + times.system
        most = max(most, memory)
        if time.perf_counter() - start > limit:
            process.kill()  # its workers end with it
        time.sleep(0.5)
    return sum(seconds.values()), most / 2**30, process.returncode


class Killed(Store):
    """Ends its process once it holds the checkpoint of the first epoch."""

    def save(self, key: str, arrays: Any, meta: Any) -> None:
        super().save(key, arrays, meta)
        if meta.get("epoch") == 1:
            os._exit(9)


def resumed() -> tuple[float, float]:
    """Two short epochs at the paper's size, at once and with a kill between them: how many arrays
    of the results differ, and the most memory, GB."""
    with tempfile.TemporaryDirectory() as whole, tempfile.TemporaryDirectory() as stopped:
        ended = [
            watched(["child", how], folder)
            for folder, how in ((whole, "Store"), (stopped, "Killed"), (stopped, "Store"))
        ]
        assert [code for _, _, code in ended] == [0, 9, 0], ended
        (one,) = child_configs()
        results = [Store(folder).load(runs.store_key(one)) for folder in (whole, stopped)]
    a, b = (result.arrays for result in results)
    differ = [name for name in a.keys() | b.keys() if not np.array_equal(a[name], b[name])]
    return float(len(differ)), max(memory for _, memory, _ in ended)


def child_configs() -> list[Config]:
    return settled(epochs=2, epoch_steps=2)


def operations(ensemble: training.Ensemble) -> int:
    """Of a recorded step, views left out: about what a GPU would have to launch, Adam apart."""
    views = ("view", "reshape", "expand", "permute", "transpose", "detach", "unsqueeze", "squeeze",
             "select", "slice", "alias", "as_strided", "t.default", "getitem")  # fmt: skip
    called = [node for node in ensemble.recorded.graph.nodes if node.op == "call_function"]
    return sum(not any(view in str(node.target) for view in views) for node in called)


def cost() -> None:
    (whole,) = settled()
    one = Steps(1, "float32")
    others = {
        "one replica, float32": one,
        "one replica, bfloat16": Steps(1, "bfloat16"),
        "two replicas together, float32": Steps(2, "float32"),
        "two replicas together, bfloat16": Steps(2, "bfloat16"),
    }
    work = {name: steps.rate for name, steps in others.items()}
    work |= {"making the pictures": lambda: one.rate("draw"), "peak": product}
    with training.freed_memory_kept():
        found = in_turns(work, ROUNDS)
    small = data.load("sprites", images=64, size=whole.size)
    flops = flops_an_image(whole, small)
    images, steps = whole.epochs * whole.images, whole.epochs * (whole.images // whole.batch)
    launches = operations(one.ensemble)
    differ, memory = resumed()
    hours = {name: images / found[name] / 3600 for name in others}
    speed = "images x replicas / s"
    best = "one replica, bfloat16"
    gpu = {
        "products": images * flops / GPU_FLOPS / 3600,
        "launches": steps * launches * GPU_OPERATION / 3600,
    }
    rows = [
        *(Row.of(name, speed, found[name]) for name in others),
        Row.of("making the pictures alone", speed, found["making the pictures"]),
        Row.of("of a step, making the pictures",
               "1", found["one replica, float32"] / found["making the pictures"], "<= 0.1"),
        Row.of("peak of float32 products", "GFLOP / s", found["peak"]),
        Row.of("an image, forward and backward", "MFLOP", flops / 1e6),
        Row.of("float32, of the peak", "1",
               flops * found["one replica, float32"] / found["peak"] / 1e9),
        Row.of("most memory of all its processes", "GB", memory, "<= 6"),
        Row.of("arrays that differ after a kill and a new start", "1", differ, "<= 0"),
        Row.of("steps of the whole profile", "1", steps),
        Row.of("an epoch here, one replica, float32", "minutes",
               60 * hours["one replica, float32"] / whole.epochs),
        Row.of("the whole here, one replica, float32", "hours", hours["one replica, float32"]),
        Row.of("the whole here, one replica, bfloat16", "hours", hours[best]),
        Row.of("operations of a step", "1", launches),
        Row.of("estimate for a GPU, its products", "hours", gpu["products"]),
        Row.of("estimate for a GPU, its launches", "hours", gpu["launches"]),
    ]  # fmt: skip
    report(
        "paper",
        f"One core, CPU seconds; sprites of {whole.size} x {whole.size} pixels, convolutions, "
        f"batch {whole.batch}, {whole.images:,} images that are made when asked for, "
        f"{whole.epochs} epochs. The estimates assume {GPU_FLOPS / 1e12:.0f} TFLOP/s and "
        f"{GPU_OPERATION * 1e6:.0f} µs for each operation of a step; nobody has measured them.",
        rows,
    )


def short_configs(epochs: int) -> list[Config]:
    return settled(SHORT_SEEDS, epochs, **SHORT)


def shortened(store: Store) -> int:
    """Let replicas that were stopped end with the epoch that the furthest of them has reached:
    nothing in training depends on how many epochs there will be. Returns how many."""
    asked = {runs.store_key(config): config for config in short_configs(SHORT_EPOCHS)}
    entries = {name: store.load(name) for name in store.unfinished()}
    epochs = max(entry.meta["epoch"] for entry in entries.values())
    for name, entry in entries.items():
        fewer = [replace(asked[key], epochs=epochs) for key in entry.meta["keys"]]
        keys = [runs.store_key(config) for config in fewer]
        store.save(checkpoint_key(keys), entry.arrays, entry.meta | {"keys": keys})
        store.remove(name)
    return epochs


def run(minutes: float, store: str) -> None:
    before = commit(paper.FOLDER)
    start = time.perf_counter()
    os.environ["VAENOTES_STORE"] = store
    epochs = SHORT_EPOCHS
    seconds, memory, code = watched(["train", str(epochs)], store, 60 * minutes)
    if code:
        time.sleep(5)  # until the workers have noticed
        epochs = shortened(Store())
        more, later, code = watched(["train", str(epochs)], store)
        seconds, memory = seconds + more, max(memory, later)
    clock = time.perf_counter() - start
    if code:
        raise SystemExit(f"training ended with {code}")
    configs = short_configs(epochs)
    found = runs.run(configs)  # all are stored
    images = len(configs) * configs[0].epochs * configs[0].epoch_images
    kept = {
        "commit": before,
        "hardware": hardware(),
        "versions": installed_versions(),
        "config": {k: v for k, v in vars(configs[0]).items() if k != "seed"},
        "images": images // len(configs),
        "steps": configs[0].epochs * configs[0].epoch_steps,
        "cpu_seconds": round(seconds, 1),
        "clock_seconds": round(clock, 1),
        "images_per_cpu_second": round(images / seconds, 1),
        "peak_gb": round(memory, 3),
        "runs": paper.packed(found),
    }
    paper.path().write_text(json.dumps(kept) + "\n")
    print({name: value for name, value in kept.items() if name != "runs"})


if __name__ == "__main__":
    command, *arguments = sys.argv[1:]
    if command == "child":
        runs.fetch(child_configs(), {"Store": Store, "Killed": Killed}[arguments[0]]())
    elif command == "train":
        runs.fetch(short_configs(int(arguments[0])), Store())
    elif command == "run":
        with tempfile.TemporaryDirectory() as folder:
            run(float(arguments[0]), folder if len(arguments) == 1 else arguments[1])
    else:
        cost()
