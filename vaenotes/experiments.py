"""Experiments: arms of replicas, found in the store or trained, returned with named axes.

runs = run(arm(settings, kl_weight=1.0))     # an xarray.Dataset
runs.ratio.sel(node="shape", dim=2)          # (replica, epoch)
"""

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from joblib import Parallel, delayed
from tqdm import tqdm

from vaenotes import data, trace
from vaenotes.config import Config
from vaenotes.model import VAE
from vaenotes.settings import PROFILES, Settings
from vaenotes.store import Entry, Store, key
from vaenotes.training import Result, build, company, train

TOGETHER = 16  # replicas in one ensemble at most: more would need memory and be no faster
MNIST5K_IMAGES = 5_000


@dataclass(frozen=True)
class Regime:
    """Weights and speed at which replicas come out one way or another."""

    kl_weight: float = Config.kl_weight
    supervision_weight: float = Config.supervision_weight
    faster: float = 1.0  # times the profile's learning rate


REGIMES = {
    "stated weights": Regime(),  # the notes' own
    "one dim per node": Regime(kl_weight=1.0, faster=2),  # what the notes saw
    "both priors shrink": Regime(kl_weight=1.0, supervision_weight=0.0, faster=10),
}


def arm(
    settings: Settings, regime: str = "stated weights", *, half: bool = False, **changes: Any
) -> list[Config]:
    """One configuration per seed: the settings' profile, data and prior, then a regime of
    REGIMES, then `changes`. `half`: only the first half of the seeds, for arms at the side."""
    profile, chosen = PROFILES[settings.profile], REGIMES[regime]
    images = min(profile.images, MNIST5K_IMAGES) if settings.data == "mnist5k" else profile.images
    base = Config(
        data=settings.data,
        images=images,
        size=profile.size,
        prior=settings.prior,
        encoder=profile.encoder,
        hidden=profile.hidden,
        kl_weight=chosen.kl_weight,
        supervision_weight=chosen.supervision_weight,
        learning_rate=profile.learning_rate * chosen.faster,
        epochs=profile.epochs if settings.epochs is None else settings.epochs,
    )
    base = replace(base, **changes)
    seeds = profile.seeds if settings.seeds is None else settings.seeds
    if half:
        seeds = -(-seeds // 2)
    return [replace(base, seed=settings.first_seed + i) for i in range(seeds)]


def run(configs: Sequence[Config], store: Store | None = None) -> xr.Dataset:
    """The traces of these replicas, trained where the store does not hold them.

    Returns a Dataset with the quantities of trace.QUANTITIES over (replica, epoch, node, dim),
    those of trace.SNAPSHOT_QUANTITIES over (replica, snapshot, image, node, dim), and per replica
    its seed, seconds of training, and the epoch in which it diverged (-1: it did not). Nodes have
    their factors' names; dims count from 1. All replicas must have the same epochs and nodes.
    """
    store = store or Store()
    entries = fetch(configs, store)
    first = load_data(configs[0])
    return xr.concat(
        [_as_dataset(entries[config], first.factor_names) for config in configs], dim="replica"
    ).assign_attrs(data=first.name)


def fetch(configs: Sequence[Config], store: Store) -> dict[Config, Entry]:
    """The store's entry of every configuration; what is missing is trained, each once."""
    entries = {config: store.load(store_key(config)) for config in configs}
    if None in entries.values():
        with store.lock():  # somebody else may have trained it while we waited
            missing = [c for c in entries if (entries[c] or store.load(store_key(c))) is None]
            for result in train_all(missing):
                store.save(store_key(result.config), *_pack(result))
        entries = {config: store.load(store_key(config)) for config in configs}
    return {config: entry for config, entry in entries.items() if entry is not None}


def train_all(configs: Sequence[Config]) -> Iterator[Result]:
    """Train replicas in ensembles, one per core at a time; yields results as they come.

    A replica does not depend on its company, so how they are divided changes nothing.
    """
    workers = os.cpu_count() or 1
    groups: dict[tuple, list[Config]] = {}
    for config in configs:
        groups.setdefault(company(config), []).append(config)
    ensembles = []
    for group in groups.values():
        count = max(-(-len(group) // TOGETHER), min(workers, len(group)))
        ensembles += [group[i::count] for i in range(count)]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # one ensemble a core; also what makes sums come out the same
    images = sum(config.epochs * len(load_data(config).images) for config in configs)
    try:
        with tqdm(total=images, unit="img", unit_scale=True, desc="training") as bar:
            bar.set_description(f"training {len(configs)} replicas in {len(ensembles)} ensembles")
            jobs = (delayed(train)(group, load_data(group[0]), bar.update) for group in ensembles)
            for results in Parallel(n_jobs=workers, prefer="threads", return_as="generator")(jobs):
                yield from results
    finally:
        torch.set_num_threads(threads)


@lru_cache(maxsize=4)
def _load_data(name: str, images: int, size: int) -> data.Dataset:
    return data.load(name, images=images, size=size)


def load_data(config: Config) -> data.Dataset:
    """The data set that a replica is trained on (the same for all seeds)."""
    return _load_data(config.data, config.images, config.size)


def load_model(config: Config, store: Store | None = None) -> VAE:
    """A trained replica as the plain module."""
    weights = {
        name.removeprefix("weights/"): torch.from_numpy(array)
        for name, array in fetch([config], store or Store())[config].arrays.items()
        if name.startswith("weights/")
    }
    model = build(config, load_data(config))
    model.load_state_dict(weights)
    return model.eval()


def store_key(config: Config) -> str:
    """A replica's key in the store: all of its configuration, and its data file's content."""
    description = asdict(config)
    if config.data.endswith(".npz"):
        description["data"] = hashlib.sha256(Path(config.data).read_bytes()).hexdigest()
    return key(description)


def _pack(result: Result) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    arrays = {f"trace/{name}": array for name, array in result.trace.items()}
    arrays |= {f"weights/{name}": array for name, array in result.weights.items()}
    meta = {
        "config": asdict(result.config),
        "diverged": result.diverged,
        "seconds": result.seconds,
    }
    return arrays, meta


def _as_dataset(entry: Entry, nodes: Sequence[str]) -> xr.Dataset:
    """One replica's trace with named axes."""
    variables = {}
    for leading, table in (
        ("epoch", trace.QUANTITIES),
        ("snapshot", trace.SNAPSHOT_QUANTITIES),
    ):
        for name, (axes, unit, meaning) in table.items():
            array = entry.arrays[f"trace/{name}"]
            variables[name] = ((leading, *axes), array, {"units": unit, "long_name": meaning})
    meta = entry.meta
    epochs = meta["config"]["epochs"]
    return xr.Dataset(
        variables,
        coords={
            "epoch": np.arange(epochs + 1),
            "snapshot": trace.snapshot_epochs(epochs),
            "quantile": list(trace.QUANTILES),
            "node": list(nodes),
            "dim": np.arange(1, meta["config"]["dims"] + 1),
            "seed": meta["config"]["seed"],
            "seconds": meta["seconds"],
            "diverged": -1 if meta["diverged"] is None else meta["diverged"][0],
        },
    )
