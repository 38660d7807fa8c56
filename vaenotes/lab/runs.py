"""Replicas found in the store or trained, and returned with named axes.

runs = run(configs)                        # an xarray.Dataset
runs.ratio.sel(node="shape", dim=2)        # (replica, epoch)
"""

import copy
import json
import math
import os
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, fields
from functools import partial
from pathlib import Path

import numpy as np
import torch
import xarray as xr

from vaenotes import trace
from vaenotes.config import Config
from vaenotes.data.dataset import Dataset
from vaenotes.data.load import DATASETS
from vaenotes.errors import ParameterError, StoreError, check, check_choice, number
from vaenotes.lab.cluster import check_scheduler
from vaenotes.lab.code import check_same, check_unchanged, definitions, version_of
from vaenotes.lab.files import File, Files, shared_data
from vaenotes.lab.progress import append_to, say
from vaenotes.lab.store import NESTED, Entry, Store, key
from vaenotes.lab.workers import train_all
from vaenotes.model import VAE
from vaenotes.priors import PRIORS
from vaenotes.state import computing, instructions, torch_as_it_starts
from vaenotes.training import Result

IMPORTED = definitions()
ALIKE = ("data", "images", "size", "dims", "epochs")  # in replicas of one Dataset


def run(configs: Sequence[Config], store: Store | None = None) -> xr.Dataset:
    """The traces of these replicas, trained where the store does not hold them.

    Returns a Dataset with the quantities of trace.QUANTITIES over (replica, epoch, ...), those of
    trace.FINAL_QUANTITIES over (replica, ...), and per replica its configuration as JSON, its
    seed, its weight of the KL, seconds of training, and the epoch and step in which it diverged
    (-1: it did not). Nodes have their factors' names; dims count from 1; `factors` are those of the
    images kept, standardised, and `pictures` their pixels.

    A prior or data set of your own is stored under its name and its `version`, an attribute of the
    class or function: raise it where you change the code. One that has none is not stored: its
    replicas are trained in every call that asks for them.

    Raises ParameterError, before anything is trained, unless there is a replica and all have the
    same data, dims and epochs; StoreError where results cannot be kept; ClusterError where
    workers fail.
    """
    return run_arms({"": configs}, store)[""]


def run_arms(
    arms: Mapping[str, Sequence[Config]], store: Store | None = None
) -> dict[str, xr.Dataset]:
    """The same for several arms at once: what is missing of any is trained together."""
    check(isinstance(arms, Mapping), "arms must be a dict of lists of Config", arms)
    for configs in arms.values():
        check(isinstance(configs, list | tuple), "configs must be a list of Config", configs)
        agree: set[object] = {
            type(config) is Config and tuple(getattr(config, name) for name in ALIKE)
            for config in configs
        }
        if len(agree) != 1 or False in agree:
            raise ParameterError(
                f"configs must be one or more that agree in {', '.join(ALIKE)}, got {len(configs)}"
            )
        again = [f"seed {one.seed}" for one, count in Counter(configs).items() if count > 1]
        check(not again, "configs must all differ, as a replica counts once", again)
    every = [config for configs in arms.values() for config in configs]
    entries = _fetch(every, files := Files(every), store)
    found = {}
    for name, configs in arms.items():
        dataset = shared_data(configs[0], files)
        runs = with_axes([entries[config] for config in configs], dataset.factor_names)
        shown = np.arange(len(dataset.images))[dataset.measured_on][: runs.sizes["image"]]
        pixels = dataset.images[shown].reshape(len(shown), -1)
        found[name] = runs.assign_coords(
            factors=(("image", "node"), dataset.standard_factors[shown]),
            pictures=(("image", "pixel"), pixels),
        )
    return found


def fetch(configs: Sequence[Config], store: Store) -> dict[Config, Entry]:
    """The entry of every configuration; what the store does not hold is trained, each once."""
    return _fetch(configs, Files(configs), store)


def _fetch(configs: Iterable[Config], files: Files, store: Store | None) -> dict[Config, Entry]:
    store = Store() if store is None else store
    check(isinstance(store, Store), "store must be a Store", store)
    keys = {config: _key(config, files[config.data]) for config in configs}
    check_unchanged()
    check_same(IMPORTED)
    _note_use()  # which is refused before anything is trained
    found = _found(keys, store)
    if len(found) < len(keys):
        check_scheduler()
        if computing():  # for a process that waits for this one, and has the lock
            raise StoreError(NESTED)
        with store.locked():  # who held it before may have trained some of what is missing
            found |= _found({c: k for c, k in keys.items() if c not in found}, store)
            missing = {config: key for config, key in keys.items() if config not in found}
            versions = {name: v for config in missing for name, v in _versions(config).items()}
            for name, version in versions.items():
                if version is None:
                    say(f"trained but not stored, as it has no version: {name}")
            datasets = {config: shared_data(config, files) for config in missing}
            for result in train_all(missing, datasets, store, _device()):
                config, entry = result.config, _pack(result)
                if (entry_key := keys[config]) is not None:
                    store.save(entry_key, *entry)
                found[config] = entry
                _note_use("trained", entry_key or f"unstored{hash(config)}")
    for config, entry_key in keys.items():
        _note_use("found", entry_key or f"unstored{hash(config)}")
        if found[config].meta["diverged"]:
            _say_diverged(config, *found[config].meta["diverged"])
    return found


def _found(keys: Mapping[Config, str | None], store: Store) -> dict[Config, Entry]:
    """What the store holds of these."""
    return {
        config: entry
        for config, key in keys.items()
        if key and (entry := store.load(key, partial(check_entry, config)))
    }


def _say_diverged(config: Config, epoch: int, step: int) -> None:
    """Warn, whether it was trained now or found; with what tells it from others of its seed."""
    changed = ", ".join(
        f"{field.name}={value!r}"
        for field in fields(config)
        if (value := getattr(config, field.name)) != field.default
    )
    warnings.warn(
        f"replica with seed {config.seed} diverged in epoch {epoch}, step {step}: it is no longer "
        f"finite, and recorded as NaN from there on ({changed or 'all defaults'})",
        stacklevel=4,
    )


def _note_use(*line: str) -> None:
    """Add a line to the file that VAENOTES_USED names, if it names one: "trained", or "found" in
    the store, and the replica's key. So whoever runs a notebook can tell what stands behind it.
    Raises ParameterError if that cannot be done."""
    if path := os.environ.get("VAENOTES_USED"):
        try:
            Path(path).touch()
            with open(append_to(path), "w") as file:
                file.write(" ".join(line) + "\n" if line else "")
        except OSError as error:
            raise ParameterError(f"VAENOTES_USED must be a file, got {path!r}: {error}") from None


def load_data(config: Config) -> Dataset:
    """The data set that a replica is trained on, the same for all seeds, and what of it is held
    out: a `Dataset` of your own to change, whose images are (image, height, width), of a large file
    `Pictures`, which are made as they are asked for: images[:] is an array of all. Raises
    ParameterError if its file cannot be read."""
    return copy.deepcopy(shared_data(config, Files([config])))


def load_model(config: Config, store: Store | None = None, files: Files | None = None) -> VAE:
    """A trained replica as the plain module, in evaluation mode, on the CPU; trained first if the
    store does not hold it. files: what was read for it before. Raises StoreError if the store
    cannot be used."""
    files = Files([config]) if files is None else files
    entry = _fetch([config], files, store)[config]
    return _model(config, shared_data(config, files), entry.arrays)


@torch_as_it_starts
def _model(config: Config, dataset: Dataset, arrays: Mapping[str, np.ndarray]) -> VAE:
    weights = {
        name.removeprefix("weights/"): torch.from_numpy(array)
        for name, array in arrays.items()
        if name.startswith("weights/")
    }
    model = VAE(config, dataset)
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:  # sealed by somebody else
        raise StoreError(f"stored weights do not fit their configuration: {error}") from None
    return model.eval()


def store_key(config: Config, files: Files | None = None) -> str | None:
    """A replica's key in the store: its whole configuration, its data file's content, the version
    of a prior or data set that is not the library's, and the kind of device and processor, since
    each rounds otherwise. None if such a prior or data set has no version: it is not stored.
    files: as in load_model."""
    return _key(config, (Files([config]) if files is None else files)[config.data])


def _key(config: Config, file: File | None) -> str | None:
    versions = _versions(config)
    if None in versions.values():
        return None
    device = f"{_device()} {instructions()}"
    asked = asdict(config) | {"device": device, "versions": list(versions.values())}
    if file:  # wherever it lies
        asked["data"] = file.digest
    return key(asked)


def _versions(config: Config) -> dict[str, str | None]:
    """The version of what may be somebody's own, by kind and name."""
    check_choice("prior", config.prior, PRIORS)
    return {
        f"prior {config.prior!r}": version_of(PRIORS[config.prior]),
        f"data {config.data!r}": version_of(DATASETS.get(config.data)),
    }


def _device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def _pack(result: Result) -> Entry:
    arrays = {f"trace/{name}": array for name, array in result.trace.items()}
    arrays |= {f"weights/{name}": array for name, array in result.weights.items()}
    facts = {"diverged": result.diverged, "seconds": result.seconds}
    return Entry(arrays, {"config": asdict(result.config), **facts})


def check_entry(config: Config, entry: Entry) -> None:
    """Raise ValueError unless an entry can be this replica's: whoever edits one can seal it too."""
    known = json.loads(json.dumps(asdict(config)))
    facts, arrays = dict(entry.meta), entry.arrays
    if facts.pop("config") | {"data": ""} != known | {"data": ""}:  # a file may lie elsewhere
        raise ValueError("it is of another configuration")
    diverged, seconds = facts.pop("diverged"), facts.pop("seconds")
    fits = diverged is None or [type(place) for place in diverged] == [int, int]
    if not fits or not 0 <= number(seconds) < math.inf or facts:
        raise ValueError("its facts are none of a result's")
    sizes = {"epoch": config.epochs + 1, "dim": config.dims, "quantile": len(trace.QUANTILES)}
    for leading, table in (("epoch",), trace.QUANTITIES), ((), trace.FINAL_QUANTITIES):
        for name, (axes, _, _) in table.items():
            array = arrays[f"trace/{name}"]
            named = dict(zip((*leading, *axes), array.shape, strict=True))
            if array.dtype != np.float32 or any(sizes.get(n, s) != s for n, s in named.items()):
                raise ValueError(f"{name} is {array.dtype} {array.shape}")
            sizes |= named
            undefined = name in trace.UNDEFINED_IF_CONSTANT
            allowed = ~np.isinf(array) if undefined else np.isfinite(array)
            if diverged is None and not allowed.all():
                raise ValueError(f"{name} is not finite")
    weights = {name: array.dtype for name, array in arrays.items() if name.startswith("weights/")}
    if set(weights.values()) != {np.dtype(np.float32)}:
        raise ValueError("its weights are no weights")


def with_axes(entries: Sequence[Entry], nodes: Sequence[str]) -> xr.Dataset:
    """The traces of replicas that agree in ALIKE, with named axes, over (replica, ...)."""
    variables = {}
    for leading, table in ((["epoch"], trace.QUANTITIES), ([], trace.FINAL_QUANTITIES)):
        for name, (axes, unit, meaning) in table.items():
            if f"trace/{name}" in entries[0].arrays:
                stacked = np.stack([entry.arrays[f"trace/{name}"] for entry in entries])
                about = {"units": unit, "long_name": meaning}
                variables[name] = (("replica", *leading, *axes), stacked, about)
    configs = [entry.meta["config"] for entry in entries]
    diverged = [entry.meta["diverged"] or (-1, -1) for entry in entries]
    return xr.Dataset(
        variables,
        coords={
            "epoch": np.arange(configs[0]["epochs"] + 1),
            "quantile": list(trace.QUANTILES),
            "node": list(nodes),
            "dim": np.arange(1, configs[0]["dims"] + 1),
            "config": ("replica", [json.dumps(config, sort_keys=True) for config in configs]),
            "seed": ("replica", [config["seed"] for config in configs]),
            "kl_weight": ("replica", [config["kl_weight"] for config in configs]),
            "seconds": ("replica", [entry.meta["seconds"] for entry in entries]),
            "diverged": ("replica", [epoch for epoch, _ in diverged]),
            "diverged_step": ("replica", [step for _, step in diverged]),
        },
    )
