"""Replicas found in the store or trained, and returned with named axes.

runs = run(configs)                        # an xarray.Dataset
runs.ratio.sel(node="shape", dim=2)        # (replica, epoch)
"""

import hashlib
import os
import sys
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, fields
from functools import cache, lru_cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event, Thread
from typing import NamedTuple, TextIO

import numpy as np
import torch
import xarray as xr
from joblib import Parallel, cpu_count, delayed
from tqdm import tqdm

from vaenotes import data, memory, trace
from vaenotes.config import Config
from vaenotes.errors import ParameterError, StoreError, shown
from vaenotes.model import VAE
from vaenotes.store import Entry, Store, checkpoint_key, code_digest, key
from vaenotes.training import (
    Checkpoint,
    Ensemble,
    Result,
    build,
    company,
    freed_memory_kept,
    train,
)

TOGETHER = 32  # replicas in one ensemble at most: more would need memory and be no faster
WORTH_PROCESSES = 6  # seconds of one core; less is done before processes have started


def run(configs: Sequence[Config], store: Store | None = None) -> xr.Dataset:
    """The traces of these replicas, trained where the store does not hold them.

    Returns a Dataset with the quantities of trace.QUANTITIES over (replica, epoch, ...), those of
    trace.FINAL_QUANTITIES over (replica, ...), and per replica its seed, its weight of the KL,
    seconds of training, and the epoch and step in which it diverged (-1: it did not). Nodes have
    their factors' names; dims count from 1; `factors` are those of the images kept, standardised.
    Raises ParameterError, before anything is trained, unless there is a replica and all have the
    same data, dims and epochs.
    """
    return run_arms({"": configs}, store)[""]


def run_arms(
    arms: Mapping[str, Sequence[Config]], store: Store | None = None
) -> dict[str, xr.Dataset]:
    """The same for several arms at once: what is missing of any is trained together."""
    alike = ("data", "images", "size", "dims", "epochs")
    for configs in arms.values():
        agree = {
            isinstance(config, Config) and tuple(getattr(config, name) for name in alike)
            for config in configs
        }
        if len(agree) != 1 or False in agree:
            raise ParameterError(
                f"configs must be one or more that agree in {', '.join(alike)}, got {len(configs)}"
            )
    entries = fetch([config for configs in arms.values() for config in configs], store or Store())
    found = {}
    for name, configs in arms.items():
        dataset = load_data(configs[0])
        replicas = [_as_dataset(entries[config], dataset.factor_names) for config in configs]
        runs = xr.concat(replicas, dim="replica", join="exact")
        shown = dataset.standard_factors[: runs.sizes["image"]]
        found[name] = runs.assign_coords(factors=(("image", "node"), shown))
    return found


def fetch(configs: Sequence[Config], store: Store) -> dict[Config, Entry]:
    """The store's entry of every configuration; what is missing is trained, each once."""
    keys = {config: store_key(config) for config in configs}
    entries = {config: store.load(keys[config]) for config in keys}
    missing = [config for config, entry in entries.items() if entry is None]
    if missing:
        memory.check(memory.counted(configs))
        message = f"waiting for another process that trains into {store.folder}"
        with store.locked(partial(_say, message)):  # which may train some of what is missing
            entries |= {config: store.load(keys[config]) for config in missing}
            missing = [config for config in missing if entries[config] is None]
            for result in train_all(missing, store):
                config, entry = result.config, _pack(result)
                if store_key(config) != keys[config]:
                    raise ParameterError(f"data changed while it was used, got {config.data!r}")
                store.save(keys[config], *entry)
                entries[config] = entry
                _note_use("trained", keys[config])
    for entry_key in keys.values():
        _note_use("found", entry_key)
    found = {config: entry for config, entry in entries.items() if entry is not None}
    for config, one in found.items():
        if one.meta["diverged"]:
            _say_diverged(config, *one.meta["diverged"])
    return found


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


def _note_use(how: str, key: str) -> None:
    """Add a line to the file that VAENOTES_USED names, if it names one: "trained", or "found" in
    the store, and the replica's key. So whoever runs a notebook can tell what stands behind it."""
    if path := os.environ.get("VAENOTES_USED"):
        with open(path, "a") as file:
            file.write(f"{how} {key}\n")


class Task(NamedTuple):
    """Replicas to be trained together, from the start or from where a checkpoint of them stands.

    keys: theirs in the store; name: the key of their checkpoints there.
    """

    configs: list[Config]
    keys: list[str]
    name: str
    checkpoint: Checkpoint | None = None


def train_all(configs: Sequence[Config], store: Store | None = None) -> Iterator[Result]:
    """Train replicas in ensembles, one per core at a time, each core with a process of its own;
    yields results as they come. The store, if there is one, holds a checkpoint of every ensemble
    after each of its epochs, until all its results were taken.

    A replica does not depend on its company, so how they are divided changes nothing.
    """
    datasets = {config: load_data(config) for config in configs}
    asked = memory.counted(configs)
    with torch.device("meta"):  # a model that cannot be is refused before any is trained
        for config in asked:
            build(config, load_data(config))
    tasks = list(_stopped(configs, store)) if store else []
    stopped = {config for task in tasks for config in task.configs}
    groups: dict[tuple, list[Config]] = {}
    for config in dict.fromkeys(configs):
        if config not in stopped:
            groups.setdefault(company(config, datasets[config]), []).append(config)
    images = sum(map(_images_left, tasks))
    images += sum(config.epochs * config.images for group in groups.values() for config in group)
    steps = sum(one.epochs * one.images // one.batch for one, *_ in groups.values())
    seconds = 0.01 * steps + images / 60_000  # about
    workers = cpu_count() if _device() == "cpu" and seconds >= WORTH_PROCESSES else 1
    workers, together = memory.plan(asked, workers, TOGETHER)
    # As few ensembles as keep every core busy: each step of each has a price of its own.
    share = -(-workers // max(len(groups), 1))
    for group in groups.values():
        count = max(-(-len(group) // together), min(share, len(group)))
        for some in (group[i::count] for i in range(count)):
            keys = list(map(store_key, some))
            tasks.append(Task(some, keys, checkpoint_key(keys)))
    tasks.sort(key=_pixels_left, reverse=True)  # the short ones last: all cores end together
    with _progress(f"training {len(configs)} replicas", images) as (progress, bar):
        common = progress, store, os.getpid(), code_digest()
        jobs = (
            delayed(_train)(task, [datasets[config] for config in task.configs], *common)
            for task in tasks
        )
        # max_nbytes: data go to the workers through a pipe, never as a pickle on disk
        parallel = Parallel(
            n_jobs=workers, return_as="generator_unordered", max_nbytes=None, pre_dispatch=workers
        )
        for done, (name, results) in enumerate(parallel(jobs), 1):
            bar.set_postfix_str(f"{done} of {len(tasks)} ensembles")
            yield from results
            if store:
                store.remove(name)


def _stopped(configs: Sequence[Config], store: Store) -> Iterator[Task]:
    """What others of these replicas were stopped in: their checkpoints."""
    waiting = {store_key(config): config for config in configs}
    for name in store.unfinished():
        entry = store.load(name)
        if entry is None:
            continue
        facts = dict(entry.meta)
        keys = facts.pop("keys")
        places = [place for place, key in enumerate(keys) if key in waiting]
        if places:
            facts["diverged"] = [at and tuple(at) for at in facts["diverged"]]  # JSON has lists
            checkpoint = Checkpoint(entry.arrays, **facts).of(places)
            keys = [keys[place] for place in places]
            found = [waiting.pop(key) for key in keys]
            done = f"{checkpoint.epoch} of {found[0].epochs}"
            _say(f"going on with {len(found)} replicas after epoch {done}")
            yield Task(found, keys, name, checkpoint)
        elif all(store.path(key).exists() for key in keys):  # stopped after its last result
            store.remove(name)


def _train(
    task: Task,
    datasets: Sequence[data.Dataset],
    progress: Path,
    store: Store | None,
    parent: int,
    code: str,
) -> tuple[str, list[Result]]:
    """What a worker does: train one ensemble on one thread, which is also what makes sums come
    out the same; after each epoch leave a checkpoint, and add to the file of progress."""
    if code_digest() != code:  # a process of its own imports the library as it is now
        raise StoreError("the library was changed while it was running: start again")
    if os.getpid() != parent:
        _end_with(parent)

    def on_epoch(ensemble: Ensemble) -> None:
        if store:
            facts = vars(ensemble.checkpoint())
            store.save(task.name, facts.pop("arrays"), facts | {"keys": task.keys})
        with progress.open("a") as file:
            file.write(f"{len(task.configs) * ensemble.count}\n")

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with freed_memory_kept():
            results = train(task.configs, datasets, on_epoch, _device(), task.checkpoint)
            return task.name, results
    finally:
        torch.set_num_threads(threads)


@cache
def _end_with(parent: int) -> None:
    """Let this process end when that one has, killed perhaps: nobody would take its results."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.2)
        os._exit(1)

    Thread(target=watch, daemon=True).start()


def _images_left(task: Task) -> int:
    """How many images a task is yet to be trained on, epochs times images times replicas."""
    done = task.checkpoint.epoch if task.checkpoint else 0
    return sum((config.epochs - done) * config.images for config in task.configs)


def _pixels_left(task: Task) -> int:
    """How much work a task is."""
    return _images_left(task) * task.configs[0].size ** 2


@contextmanager
def _progress(what: str, images: int) -> Iterator[tuple[Path, tqdm]]:
    """A file to which workers append how many images they have just trained on, one number a
    line, and the bar that shows their sum."""
    with (
        TemporaryDirectory() as folder,
        _progress_file() as file,
        tqdm(desc=what, total=images, unit="img", unit_scale=True, file=file) as bar,
    ):
        path = Path(folder) / "images"
        path.touch()
        over = Event()

        def follow() -> None:
            with path.open() as lines:
                while True:
                    last = over.wait(0.5)
                    bar.update(sum(map(int, lines.read().split())))
                    if last:
                        return

        follower = Thread(target=follow)
        follower.start()
        try:
            yield path, bar
        finally:
            over.set()
            follower.join()


@contextmanager
def _progress_file() -> Iterator[TextIO]:
    """Where progress is shown: the file named by VAENOTES_PROGRESS (a notebook cannot write to
    the terminal that its book is built from, but to its name), else standard error."""
    path = os.environ.get("VAENOTES_PROGRESS")
    if path and os.access(path, os.W_OK):
        with open(path, "a") as file:
            yield file
    else:
        yield sys.stderr


def _say(line: str) -> None:
    """Show a line where progress is shown."""
    with _progress_file() as file:
        print(line, file=file)


@lru_cache(maxsize=32)  # more than there are data sets in a book
def _load_data(name: str, images: int, size: int, content: str | None) -> data.Dataset:
    return data.load(name, images=images, size=size)


def load_data(config: Config) -> data.Dataset:
    """The data set that a replica is trained on (the same for all seeds)."""
    return _load_data(config.data, config.images, config.size, _file_digest(config))


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
    """A replica's key in the store: its whole configuration, its data file's content, and the
    kind of device, since a GPU rounds otherwise."""
    data = _file_digest(config) or config.data
    return key(asdict(config) | {"data": data, "device": _device()})


def _device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def _file_digest(config: Config) -> str | None:
    if not (config.data.endswith(".npz") and os.path.isfile(config.data)):
        return None
    try:
        with open(config.data, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ParameterError(f"data must be readable, got {shown(config.data)}: {error}") from None


def _pack(result: Result) -> Entry:
    arrays = {f"trace/{name}": array for name, array in result.trace.items()}
    arrays |= {f"weights/{name}": array for name, array in result.weights.items()}
    meta = {
        "config": asdict(result.config),
        "diverged": result.diverged,
        "seconds": result.seconds,
    }
    return Entry(arrays, meta)


def _as_dataset(entry: Entry, nodes: Sequence[str]) -> xr.Dataset:
    """One replica's trace with named axes, of which "replica" has length one."""
    variables = {}
    for leading, table in ((["epoch"], trace.QUANTITIES), ([], trace.FINAL_QUANTITIES)):
        for name, (axes, unit, meaning) in table.items():
            array = entry.arrays[f"trace/{name}"]
            about = {"units": unit, "long_name": meaning}
            variables[name] = (("replica", *leading, *axes), array[None], about)
    meta = entry.meta
    diverged_epoch, diverged_step = meta["diverged"] or (-1, -1)
    epochs = meta["config"]["epochs"]
    return xr.Dataset(
        variables,
        coords={
            "epoch": np.arange(epochs + 1),
            "quantile": list(trace.QUANTILES),
            "node": list(nodes),
            "dim": np.arange(1, meta["config"]["dims"] + 1),
            "seed": ("replica", [meta["config"]["seed"]]),
            "kl_weight": ("replica", [meta["config"]["kl_weight"]]),
            "seconds": ("replica", [meta["seconds"]]),
            "diverged": ("replica", [diverged_epoch]),
            "diverged_step": ("replica", [diverged_step]),
        },
    )
