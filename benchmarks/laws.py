"""The runs behind the page on laws, made once; what they were expected to give is in laws.toml.

    python benchmarks/laws.py OUT                  # two processes; goes on where it was stopped
    python benchmarks/laws.py OUT pack COMMIT      # the report's results/laws.npz of what is there

The modules, the loss, the optimiser and the steps are the library's own (training.Ensemble). What
is added: weights that start from those of other replicas, and dims that are deleted for good.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import cache, partial
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vaenotes import trace
from vaenotes.config import Config
from vaenotes.data.dataset import Dataset, Pool
from vaenotes.data.sprites import FACTORS, sprites
from vaenotes.diagnosis.status import ALIVE_NATS
from vaenotes.kl import dim_information, sample
from vaenotes.model import VAE
from vaenotes.objective import Weights, terms, total
from vaenotes.report import results
from vaenotes.speed import freed_memory_kept
from vaenotes.training import Ensemble

SEEDS, HELD_OUT_SEED = range(1000, 1100), 1000  # of replicas; of the images held out
IMAGES, HELD_OUT = 6_400, 512
TIMES = (1, 4, 16, 48, 160, 480)  # the notes' price per pixel
CHEAP, DEAR, BOTH = 1, 16, 0.25
WEIGHT = "decoder.0.weight"  # (replica, node * dim, hidden)
Arrays = dict[str, np.ndarray]


def config(seed: int, times: float = DEAR, size: int = 16, **changes: Any) -> Config:
    """A replica at so many times the notes' price per pixel."""
    return Config(size=size, kl_weight=0.15 * times * size**2 / 64**2, seed=seed, **changes)


@cache
def data(size: int, held_out: bool = False) -> Dataset:
    if held_out:
        return sprites(HELD_OUT, size, HELD_OUT_SEED)
    return sprites(IMAGES, size)


class Trained(Ensemble):
    """Replicas that may start from given weights, by name (replica, ...), and of which some rows of
    the decoder's first layer, bool (replica, node, dim), are kept at 0."""

    def __init__(
        self,
        configs: Sequence[Config],
        start: Mapping[str, np.ndarray] = {},
        deleted: np.ndarray | None = None,
    ):
        super().__init__(configs, [data(config.size) for config in configs])
        self.kept = None if deleted is None else torch.from_numpy(~deleted).flatten(1)[..., None]
        with torch.no_grad():
            for name, value in start.items():
                self.parameters[name].copy_(torch.from_numpy(value))
        self.delete()

    @torch.no_grad()
    def delete(self) -> None:
        if self.kept is not None:
            self.parameters[WEIGHT].mul_(self.kept)

    def step(self, chosen: Tensor, weights: Weights) -> Tensor:
        finite = super().step(chosen, weights)
        self.delete()
        return finite

    def run(self, epochs: int, cool: int = 0, at: Sequence[int] = ()) -> list[Arrays]:
        """Train; the learning rate falls to 0 over the last `cool` epochs. Returns what is measured
        after the epochs `at`."""
        found = [measured(self)] if 0 in at else []
        for epoch in range(1, epochs + 1):
            self.optimizer.leave(min(1, (epochs + 1 - epoch) / (cool + 1)))
            self.epoch(epoch)
            if epoch in at:
                found.append(measured(self))
        return found

    def state(self) -> Arrays:
        return {name: value.numpy(force=True).copy() for name, value in self.parameters.items()}


def read(
    model: VAE, weights: Weights, images: Tensor, factors: Tensor, noise: Tensor, z0: Tensor
) -> dict[str, Tensor]:
    """What is measured of one replica: means over images."""
    output = model(images, factors, noise, z0)
    return {
        "loss": total(terms(model, output, images, factors), weights),
        **trace.measure_training(model, output, images, factors, weights),
    }


def information(model: VAE, images: Tensor, z0: Tensor) -> Tensor:
    """Mutual information of image and dim, (node, dim), as trace has it."""
    posterior = model.encode(images)
    return dim_information(posterior, sample(posterior, z0))


@torch.no_grad()
def measured(ensemble: Trained) -> Arrays:
    """Of every replica (replica, ...): `read` on all training images, the loss on images held out,
    nats of information on these (replica, node, dim), and whether it is at rest: law L1."""
    count, size = len(ensemble.configs), ensemble.config.size
    generators = [torch.Generator().manual_seed(c.seed + 10**6) for c in ensemble.configs]

    def mean_of(pool: Pool, block: int) -> dict[str, Tensor]:
        parts = []
        for first in range(0, len(pool.seen[0]), block):
            chosen = torch.arange(first, first + block).expand(count, block)
            drawn = ensemble.draw(block, generators)
            inputs = (ensemble.weights, *pool.batch(chosen), *drawn)
            parts.append(ensemble.each(read, ensemble.parameters, *inputs))
        return {name: torch.stack([part[name] for part in parts]).mean(0) for name in parts[0]}

    held_out = Pool([data(size, True)] * count)
    found = mean_of(ensemble.pool, 3200 if size == 16 else 800)
    images, _ = held_out.batch(torch.arange(HELD_OUT).expand(count, HELD_OUT))
    z0 = ensemble.draw(HELD_OUT, generators)[1]
    found["information_nats"] = ensemble.each(information, ensemble.parameters, images, z0)
    found["held_out_loss"] = mean_of(held_out, HELD_OUT)["loss"]
    saved = (1 - found["squared_ratio"]).sum((-2, -1))
    force = found.pop("noise_force").sum((-2, -1))
    found["rest"] = force / (ensemble.weights.kl * saved)
    for name in ("kl_nats", "reconstruction_nats"):
        found[name] = found.pop(f"training_{name}")
    return {name: value.float().numpy() for name, value in found.items()}


@torch.no_grad()
def knockouts(ensemble: Trained) -> np.ndarray:
    """Reconstruction lost where a dim is fixed at its mean, on training images."""
    found = ensemble.measure(trace.measure_final, ensemble.pool.seen)
    return found["knockout_nats"].numpy()


# The jobs: each returns arrays by name, and "configs" (replica,) as text.


def told(configs: Sequence[Config], found: Arrays) -> Arrays:
    keys = ("size", "kl_weight", "seed", "units", "targets", "supervision_weight", "dims")
    about = [json.dumps({key: getattr(one, key) for key in keys}) for one in configs]
    return {"configs": np.array(about), **found}


def priced(seeds: Sequence[int], prices: Sequence[float] = TIMES, **changes: Any) -> Arrays:
    """Replicas at every price, as long as the book's."""
    configs = [config(seed, times, **changes) for times in prices for seed in seeds]
    (found,) = Trained(configs).run(30, at=[30])
    return told(configs, found)


def starts() -> Arrays:
    """Solutions of 60 epochs that others start from: weights and what they are like."""
    found: Arrays = {}
    seeds = SEEDS[:6]
    kinds = {"both": BOTH, "one": DEAR, "cheap": CHEAP}
    ensemble = Trained([config(seed, times) for times in kinds.values() for seed in seeds])
    (end,) = ensemble.run(60, at=[60])
    for place, kind in enumerate(kinds):
        own = slice(6 * place, 6 * place + 6)
        found |= {f"{kind}/weights/{name}": v[own] for name, v in ensemble.state().items()}
        found |= {f"{kind}/{name}": value[own] for name, value in end.items()}
    single = Trained([config(seed, dims=1, graph_hidden=4) for seed in seeds])
    single.run(60)
    return found | {f"single/weights/{name}": value for name, value in single.state().items()}


def weights_of(started: Arrays, kind: str) -> Arrays:
    prefix = f"{kind}/weights/"
    return {n.removeprefix(prefix): v for n, v in started.items() if n.startswith(prefix)}


def stacked(parts: Sequence[Arrays]) -> Arrays:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def embedded(single: Arrays, configs: Sequence[Config]) -> Arrays:
    """One dim per node among two: the second as it starts, but for the decoder's rows, which are
    0, so that the first does what it did."""
    wide = Trained(configs).state()
    for name, narrow in single.items():
        own = wide[name]
        if own.shape == narrow.shape:
            own[:] = narrow
        elif name == WEIGHT:  # rows are (node, dim)
            own[:] = 0
            own[:, ::2] = narrow
        elif name.startswith("regression"):
            own[..., :1] = narrow
        else:  # the last layers: means, then log-variances
            own[..., ::2] = narrow
    return wide


def more() -> Arrays:
    """Further seeds at the low price, of which six are chosen."""
    ensemble = Trained([config(seed, BOTH) for seed in SEEDS[6:16]])
    (end,) = ensemble.run(60, at=[60])
    return {f"both/{name}": v for name, v in end.items()} | {
        f"both/weights/{name}": value for name, value in ensemble.state().items()
    }


def chosen(started: Arrays, added: Arrays) -> Arrays:
    """The starts, with the six of all seeds that use the most dims as "both", the first of ties."""
    every = {n: np.concatenate([started[n], v]) for n, v in added.items()}
    used = (every["both/information_nats"] > ALIVE_NATS).sum((-2, -1))
    six = np.sort(np.argsort(-used, kind="stable")[:6])
    return started | {name: value[six] for name, value in every.items()}


SHOWN = (0, 5, 10, 20, 30, 60)
LONG = (0, 30, 60, 100, 200, 300)


def traced(configs: Sequence[Config], shown: Sequence[int], *start: Any) -> Arrays:
    """Everything over (replica, measured epoch, ...), to the last of `shown`."""
    found = Trained(configs, *start).run(shown[-1], 30, shown)
    return told(configs, {name: np.stack([one[name] for one in found], 1) for name in found[0]})


def scratch(times: float, shown: Sequence[int] = SHOWN) -> Arrays:
    return traced([config(seed, times) for seed in SEEDS[:6]], shown)


def single(started: Arrays) -> Arrays:
    configs = [config(s + 20, dims=1, graph_hidden=4, kl_warmup=0) for s in SEEDS[:6]]
    return traced(configs, SHOWN, weights_of(started, "single"))


def dear(started: Arrays) -> Arrays:
    """From both dims, from both with the weaker of each node deleted, and embedded."""
    configs = [config(seed + 20, kl_warmup=0) for seed in SEEDS[:6]]
    both, whole = weights_of(started, "both"), np.zeros((6, 5, 2), bool)
    information = started["both/information_nats"]
    weaker = information == information.min(-1, keepdims=True)
    start = stacked([both, both, embedded(weights_of(started, "single"), configs)])
    return traced(configs * 3, SHOWN, start, np.concatenate([whole, weaker, whole]))


def cheap(started: Arrays) -> Arrays:
    """From both dims, and from one per node, in this order."""
    configs = [config(seed + 20, CHEAP, kl_warmup=0) for seed in SEEDS[:6]]
    start = stacked([weights_of(started, kind) for kind in ("both", "one")])
    return traced(configs * 2, SHOWN, start)


def selection(kind: str, times: float, started: Arrays) -> Arrays:
    """Each dim in use deleted, the rest trained on; the first of a seed's replicas keeps all."""
    used = started[f"{kind}/information_nats"] > ALIVE_NATS
    rows = [(seed, place) for seed in range(6) for place in [-1, *np.flatnonzero(used[seed])]]
    parts = []
    for first in range(0, len(rows), 36):
        chosen = rows[first : first + 36]
        configs = [config(SEEDS[seed] + 40, times, kl_warmup=0, decay=False) for seed, _ in chosen]
        seeds = [seed for seed, _ in chosen]
        start = {name: v[seeds] for name, v in weights_of(started, kind).items()}
        deleted = np.array([np.arange(10) == place for _, place in chosen]).reshape(-1, 5, 2)
        ensemble = Trained(configs, start, deleted)
        (found,) = ensemble.run(20, 20, [20])
        parts.append(told(configs, found | {"knockout_nats": knockouts(ensemble)}))
    return stacked(parts) | {"rows": np.array(rows)}


def coin() -> Arrays:
    """16 starts crossed with four streams of noise and order."""
    crossed = [(start, stream) for start in range(16) for stream in range(4)]
    configs = [config(SEEDS[start]) for start, _ in crossed]
    ensemble = Trained(configs)
    for generator, (_, stream) in zip(ensemble.generators, crossed, strict=True):
        generator.manual_seed(SEEDS[60 + stream])
    (found,) = ensemble.run(20, at=[20])
    return told(configs, found | {"rows": np.array(crossed)})


GRAPHS = {
    1: tuple(pairwise(FACTORS)),
    2: (*pairwise(FACTORS[:3]), *combinations(FACTORS[3:], 2)),
    5: (),
}


def graphs() -> Arrays:
    """Graphs of one, two and five components, 16 replicas of each."""
    rows = [(parts, seed) for parts in GRAPHS for seed in SEEDS[:16]]
    configs = [replace(config(seed), edges=GRAPHS[parts]) for parts, seed in rows]
    (found,) = Trained(configs).run(20, at=[20])
    return told(configs, found | {"rows": np.array(rows)})


RAW = {"supervision_weight": 0.05 * 16**2 / 64**2}


def standard() -> dict[str, Any]:
    variance = float((data(16).moments[1] ** 2).sum())
    return {"targets": "standard", "supervision_weight": RAW["supervision_weight"] * variance / 5}


OFTEN, BETWEEN = TIMES[::2], TIMES[1::2]
JOBS: dict[str, Callable[..., Arrays]] = {
    "starts": starts,
    "16": partial(priced, SEEDS[:6]),
    "more": more,
    "32": partial(priced, SEEDS[:6], size=32),
    "dear": dear,
    "scratch_dear": partial(scratch, DEAR),
    "coin": coin,
    "selection_switched": partial(selection, "both", DEAR),
    "graphs": graphs,
    "64_0": partial(priced, SEEDS[:1], size=64),
    "cheap": cheap,
    "scratch_cheap": partial(scratch, CHEAP),
    "units 0.3_0": partial(priced, SEEDS[:6], OFTEN, units=(0.3, 0.3)),
    "raw_0": lambda: priced(SEEDS[:6], OFTEN, **RAW),
    "64_1": partial(priced, SEEDS[1:2], size=64),
    "64_2": partial(priced, SEEDS[2:3], size=64),
    "units 3_0": partial(priced, SEEDS[:6], OFTEN, units=(3.0, 3.0)),
    "standard_0": lambda: priced(SEEDS[:6], OFTEN, **standard()),
    "selection_dear": partial(selection, "one", DEAR),
    "selection_cheap": partial(selection, "cheap", CHEAP),
    "single": single,
    "scratch_long": partial(scratch, DEAR, LONG),
    "units 0.3_1": partial(priced, SEEDS[:6], BETWEEN, units=(0.3, 0.3)),
    "raw_1": lambda: priced(SEEDS[:6], BETWEEN, **RAW),
    "units 3_1": partial(priced, SEEDS[:6], BETWEEN, units=(3.0, 3.0)),
    "standard_1": lambda: priced(SEEDS[:6], BETWEEN, **standard()),
    **{f"64_{n}": partial(priced, SEEDS[n : n + 1], size=64) for n in (3, 4, 5)},
}
"""By name, the most wanted first."""
FROM_STARTS = ("dear", "cheap", "single", *(name for name in JOBS if "selection" in name))


def do(folder: Path, name: str) -> None:
    """One job, unless it is done; one that goes on from others waits for them."""
    path, first = folder / f"{name}.npz", [folder / f"{n}.npz" for n in ("starts", "more")]
    if path.exists():
        return
    torch.set_num_threads(1)
    arguments = []
    if name in FROM_STARTS:
        while not all(one.exists() for one in first):
            time.sleep(1)
        arguments = [chosen(*(dict(np.load(one)) for one in first))]
    begun = time.perf_counter()
    with freed_memory_kept():
        found = JOBS[name](*arguments)
    np.savez(path.with_suffix(".part.npz"), **found)  # type: ignore[arg-type]
    path.with_suffix(".part.npz").rename(path)
    print(f"{name}: {time.perf_counter() - begun:.0f} s", flush=True)


def pack(folder: Path, commit: str) -> None:
    """What the report reads, of the jobs that are done: no weights."""
    kept = {
        f"{name}/{key}": value
        for name in JOBS
        if (folder / f"{name}.npz").exists()
        for key, value in np.load(folder / f"{name}.npz").items()
        if "/weights/" not in key
    }
    about = {"commit": commit, "torch": torch.__version__}
    np.savez_compressed(results.FOLDER / "laws.npz", about=json.dumps(about), **kept)


if __name__ == "__main__":
    out = Path(sys.argv[1])
    out.mkdir(exist_ok=True)
    if sys.argv[2:3] == ["pack"]:
        pack(out, sys.argv[3])
    else:
        os.environ["OMP_NUM_THREADS"] = "1"
        with ProcessPoolExecutor(2) as pool:
            for done in [pool.submit(do, out, name) for name in JOBS]:
                done.result()
