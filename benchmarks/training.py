"""The trainer on one core, against what the core can do and against others on the same work.

    pip install -r benchmarks/requirements.txt    # pythae, to compare with
    taskset -c 0 python benchmarks/training.py

An epoch of ours is all that training does: batches gathered, forward and backward, Adam, and the
trace at its end. Peaks are those of products of 1024 x 1024 matrices.
"""

import logging
from dataclasses import replace

import torch
from measuring import Row, cpu_seconds, in_turns, report
from peers import flops_an_image, plain_loop, product, pythae

from vaenotes import trace, training
from vaenotes.config import Config
from vaenotes.lab.runs import load_data
from vaenotes.speed import freed_memory_kept

ROUNDS, REPLICAS = 5, 32
BOOK = Config(epochs=ROUNDS + 1)
NOTES = replace(BOOK, images=1024, size=64, encoder="multiscale", hidden=256, learning_rate=1e-4)
PRECISIONS = ("float32", "bfloat16")


class Ours:
    """An ensemble, and its rate in images x replicas per CPU second."""

    def __init__(self, config: Config, replicas: int, precision: str):
        configs = [replace(config, precision=precision, seed=seed) for seed in range(replicas)]
        self.ensemble = training.Ensemble(configs, [load_data(config)] * replicas)
        self.images = replicas * config.epoch_images
        chosen = torch.randint(0, config.images, (replicas, config.batch))
        for _ in range(3):  # record the step; make room in memory
            self.ensemble.step(chosen, self.ensemble.weights)

    def epoch(self) -> None:
        self.ensemble.epoch(2)  # in which the KL counts
        self.ensemble.measure(trace.measure, self.ensemble.pool.measured)

    def rate(self) -> float:
        return self.images / cpu_seconds(self.epoch)


def main() -> None:
    logging.disable(logging.WARNING)  # pythae tells of every epoch
    dataset = load_data(BOOK)
    flops = flops_an_image(BOOK, dataset) / 1e9
    work = {f"peak {p}": lambda p=p: product(getattr(torch, p)) for p in PRECISIONS}
    work |= {f"ours {p}": Ours(BOOK, REPLICAS, p).rate for p in PRECISIONS}
    work |= {f"loop {p}": lambda p=p: plain_loop(BOOK, dataset, p) for p in PRECISIONS}
    work |= {"pythae": lambda: pythae(BOOK, dataset)}
    work |= {f"notes {p}": Ours(NOTES, 1, p).rate for p in PRECISIONS}
    with freed_memory_kept():
        found = in_turns(work, ROUNDS)
    rate, ours = "images x replicas / s", found["ours bfloat16"]
    rows = [Row.of(f"peak of {p} products", "GFLOP / s", found[f"peak {p}"]) for p in PRECISIONS]
    rows += [Row.of(f"ours, {p}", rate, found[f"ours {p}"]) for p in PRECISIONS]
    rows += [Row.of(f"DataLoader and Adam, {p}", rate, found[f"loop {p}"]) for p in PRECISIONS]
    rows += [
        Row.of("pythae's trainer", rate, found["pythae"]),
        Row.of("bfloat16, of its peak", "1", flops * ours / found["peak bfloat16"]),
        Row.of("bfloat16 over float32", "1", ours / found["ours float32"], ">= 2.2"),
        Row.of("bfloat16 over DataLoader in bfloat16", "1", ours / found["loop bfloat16"], ">= 2"),
        Row.of("bfloat16 over pythae", "1", ours / found["pythae"], ">= 4"),
    ]
    rows += [Row.of(f"the notes' own sizes, {p}", rate, found[f"notes {p}"]) for p in PRECISIONS]
    over = found["notes bfloat16"] / found["notes float32"]
    rows += [Row.of("the notes' own sizes, bfloat16 over float32", "1", over, ">= 1.5")]
    report(
        "training",
        f"One core; the book's small system: {1e3 * flops:.2f} MFLOP an image; ours: {REPLICAS} "
        "replicas at once, peers: one. The notes' own sizes: 64 x 64 pixels, convolutions.",
        rows,
    )


if __name__ == "__main__":
    main()
