"""The trainer on one core, against what the core can do and against others on the same work.

    pip install -r benchmarks/requirements.txt    # pythae, to compare with
    taskset -c 0 python benchmarks/training.py

An epoch of ours is all that training does: batches gathered, forward and backward, Adam, and the
trace at its end. The peak is that of float32 products of 1024 x 1024 matrices.
"""

import logging

import torch
from measuring import Row, cpu_seconds, in_turns, report
from peers import flops_an_image, plain_loop, product, pythae

from vaenotes import trace, training
from vaenotes.config import Config
from vaenotes.data.load import load
from vaenotes.speed import freed_memory_kept

ROUNDS, REPLICAS, IMAGES = 5, 16, 10_000
SETTING = {"images": IMAGES, "size": 32, "hidden": 256, "batch": 64, "learning_rate": 1e-3}
dataset = load("sprites", images=IMAGES, size=32)


class Ours:
    """An ensemble, and its rate in images x replicas per CPU second."""

    def __init__(self, precision: str):
        configs = [
            Config(**SETTING, precision=precision, epochs=ROUNDS + 1, seed=seed)
            for seed in range(REPLICAS)
        ]
        self.ensemble = training.Ensemble(configs, [dataset] * REPLICAS)
        for _ in range(3):  # record the step; make room in memory
            self.ensemble.step(torch.randint(0, IMAGES, (REPLICAS, SETTING["batch"])))

    def epoch(self) -> None:
        self.ensemble.epoch(1)
        self.ensemble.measure(trace.measure, self.ensemble.pool.measured)

    def rate(self) -> float:
        return REPLICAS * IMAGES / cpu_seconds(self.epoch)


def main() -> None:
    logging.disable(logging.WARNING)  # pythae tells of every epoch
    one = Config(**SETTING)
    flops = flops_an_image(one, dataset) / 1e9
    with freed_memory_kept():
        found = in_turns(
            {
                "peak": product,
                "float32": Ours("float32").rate,
                "bfloat16": Ours("bfloat16").rate,
                "loop": lambda: plain_loop(one, dataset),
                "pythae": lambda: pythae(one, dataset),
            },
            ROUNDS,
        )
    speed = "images x replicas / s"
    report(
        "training",
        f"One core; sprites of 32 x 32 pixels, hidden 256, batch 64; {1e3 * flops:.2f} MFLOP an "
        f"image; ours: {REPLICAS} replicas at once, peers: one.",
        [
            Row.of("peak of float32 products", "GFLOP / s", found["peak"]),
            Row.of("ours, float32", speed, found["float32"]),
            Row.of("ours, products in bfloat16", speed, found["bfloat16"]),
            Row.of("DataLoader and Adam", speed, found["loop"]),
            Row.of("pythae's trainer", speed, found["pythae"]),
            Row.of("float32, of the peak", "1", flops * found["float32"] / found["peak"]),
            Row.of(
                "bfloat16, of the float32 peak",
                "1",
                flops * found["bfloat16"] / found["peak"],
                ">= 0.7",
            ),
            Row.of("float32 over DataLoader", "1", found["float32"] / found["loop"], ">= 2"),
            Row.of("float32 over pythae", "1", found["float32"] / found["pythae"], ">= 2.2"),
            Row.of("bfloat16 over DataLoader", "1", found["bfloat16"] / found["loop"]),
            Row.of("bfloat16 over pythae", "1", found["bfloat16"] / found["pythae"]),
        ],
    )


if __name__ == "__main__":
    main()
