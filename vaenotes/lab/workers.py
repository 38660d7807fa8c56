"""Replicas trained side by side, in ensembles that leave a checkpoint every few seconds.

An ensemble is a task for an executor of concurrent.futures' kind: processes on this machine, one a
core, or the workers of a `cluster`, if VAENOTES_SCHEDULER names one. What is done before processes
have started is trained in this one.
"""

import math
import os
import pickle
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor, as_completed
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from threading import Thread
from typing import Any, NamedTuple

import numpy as np
import torch
from loky import BrokenProcessPool, ProcessPoolExecutor, cpu_count
from loky.backend.context import LokyContext

from vaenotes.config import Config
from vaenotes.data.dataset import Dataset
from vaenotes.errors import ClusterError
from vaenotes.lab.cluster import Priors, Workers, behind, check_code, cluster, packed
from vaenotes.lab.progress import add, progress, say
from vaenotes.lab.store import Entry, Store, checkpoint_key
from vaenotes.model import VAE
from vaenotes.nets import LEAST
from vaenotes.priors import PRIORS
from vaenotes.speed import freed_memory_kept
from vaenotes.state import ONE_THREAD, check_held, held, torch_as_it_starts
from vaenotes.trace import EVALUATION_IMAGES
from vaenotes.training import Checkpoint, Ensemble, Result, batch_key, train

TOGETHER = 32  # replicas in one ensemble at most: more would be no faster
ENSEMBLE_BYTES = 2**31  # of memory, which one ensemble should not much exceed
WEIGHT_COPIES = 11  # gradients twice, Adam's two moments, a checkpoint and its file
UNIT_BYTES = 32  # of each pixel and each hidden unit of an image that is measured
BETWEEN_CHECKPOINTS = 10  # seconds at least: what is lost where training is stopped
WORTH_PROCESSES = 6  # seconds of one core; less is done before processes have started
LARGE_PAGES = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}  # 7 % faster; other libraries ignore it


class Task(NamedTuple):
    """Replicas to be trained together, from the start or from where a checkpoint of them stands.

    keys: theirs in the store, None where nothing is to be kept."""

    configs: list[Config]
    keys: list[str | None]
    checkpoint: Checkpoint | None = None

    @property
    def name(self) -> str:
        """The key of their checkpoints in the store, "" if there are none."""
        known = [key for key in self.keys if key is not None]
        return checkpoint_key(known) if known else ""

    @property
    def images(self) -> int:
        """How many are yet to be trained on, epochs times images times replicas."""
        done = self.checkpoint.epoch if self.checkpoint else 0
        return sum((config.epochs - done) * config.epoch_images for config in self.configs)


def train_all(
    wanted: Mapping[Config, str | None],
    datasets: Mapping[Config, Dataset],
    store: Store,
    device: str = "cpu",
) -> Iterator[Result]:
    """Train replicas in ensembles, as many at a time as there are workers; yields results as they
    come. A replica does not depend on those beside it, so how they are divided changes nothing.

    wanted: each replica's key in the store, which holds a checkpoint of every ensemble, after its
    first epoch and then every few seconds, until all its results were taken; from these go on
    ensembles that were stopped; nothing is kept of replicas whose key is None. datasets: what each
    replica is trained on. store: its lock is held. Raises ClusterError where workers fail.
    """
    if not wanted:
        return
    for config in {replace(config, seed=0): config for config in wanted}.values():
        _bytes(config, datasets[config])  # what cannot be is refused before any is trained
    tasks = list(_stopped(wanted, store))
    tasks += _groups(wanted, datasets, {config for task in tasks for config in task.configs})
    images = sum(task.images for task in tasks)
    priors = {config.prior: PRIORS[config.prior] for config in wanted}
    with (
        _workers(device, tasks, priors) as workers,
        store.mark() as mark,
        progress(f"training {len(wanted)} replicas", images, mark) as bar,
    ):
        tasks = _divided(tasks, datasets, workers.number)
        distinct = {id(dataset): dataset for dataset in datasets.values()}
        sent = {number: workers.send(dataset) for number, dataset in distinct.items()}
        common = packed(priors) if workers.executor else b"", device, behind(), store, mark
        theirs = ([sent[id(datasets[config])] for config in task.configs] for task in tasks)
        jobs = [(task, some, *common) for task, some in zip(tasks, theirs, strict=True)]
        for done, (task, results, shared) in enumerate(_outcomes(workers.executor, jobs), 1):
            if not shared:
                add(mark, task.images)
            bar.set_postfix_str(f"{done} of {len(tasks)} ensembles")
            yield from results
            if task.name:
                store.remove(task.name)
        _forget_finished(store)


def _stopped(wanted: Mapping[Config, str | None], store: Store) -> Iterator[Task]:
    """Those of these replicas whose training was stopped, with their checkpoints."""
    waiting = {key: config for config, key in wanted.items()}
    for name in store.unfinished():
        entry = store.load(name, check_checkpoint)
        if entry is None:  # it is damaged, and nobody may take its place
            store.remove(name)
        keys = entry.meta["keys"] if entry else []
        places = [place for place, key in enumerate(keys) if key in waiting]
        if entry and places:
            checkpoint = _checkpoint(entry).of(places)
            found = [waiting.pop(keys[place]) for place in places]
            done = f"{checkpoint.epoch} of {found[0].epochs}"
            say(f"going on with {len(found)} replicas after epoch {done}")
            yield Task(found, [keys[place] for place in places], checkpoint)


def _forget_finished(store: Store) -> None:
    """Remove checkpoints all of whose results are there: some were asked for with others."""
    for name in store.unfinished():
        entry = store.load(name, check_checkpoint)
        if entry and all(store.path(key).exists() for key in entry.meta["keys"]):
            store.remove(name)


def _groups(
    wanted: Mapping[Config, str | None], datasets: Mapping[Config, Dataset], but: set[Config]
) -> list[Task]:
    """The replicas that could be trained together, as if each group were one ensemble."""
    groups: dict[Any, Task] = {}
    for config, key in wanted.items():
        if config not in but:
            # Convolutions gain nothing from others beside them, and would be rounded otherwise.
            alone = config if config.encoder in LEAST else None
            group = batch_key(config, datasets[config]), alone, key is None
            task = groups.setdefault(group, Task([], []))
            task.configs.append(config)
            task.keys.append(key)
    return list(groups.values())


def _divided(tasks: list[Task], datasets: Mapping[Config, Dataset], workers: int) -> list[Task]:
    """Groups as few ensembles as keep every worker busy, since each step of each has a price of its
    own, and none much larger than ENSEMBLE_BYTES; the longest first, so that all workers end
    together."""
    ensembles = [task for task in tasks if task.checkpoint]
    groups = [task for task in tasks if not task.checkpoint]
    for configs, keys, _ in groups:
        count, first = len(configs), configs[0]
        together = max(1, min(TOGETHER, ENSEMBLE_BYTES // _bytes(first, datasets[first])))
        share = math.ceil(workers / len(groups))
        parts = max(math.ceil(count / together), min(share, count))
        ensembles += [Task(configs[i::parts], keys[i::parts]) for i in range(parts)]
    return sorted(ensembles, key=lambda task: -task.images * task.configs[0].size ** 2)


@torch_as_it_starts
def _bytes(config: Config, dataset: Dataset) -> int:
    """About what a replica takes of memory while it is trained; nothing is allocated. Raises
    ParameterError unless there can be such a model."""
    with torch.device("meta"):
        weights = sum(parameter.nbytes for parameter in VAE(config, dataset).parameters())
    units = math.prod(dataset.images.shape[1:]) + config.hidden
    images = max(config.batch, min(EVALUATION_IMAGES, config.images))
    return WEIGHT_COPIES * weights + UNIT_BYTES * units * images


def _workers(device: str, tasks: list[Task], priors: Priors) -> AbstractContextManager[Workers]:
    """Those who train these tasks."""
    if address := os.environ.get("VAENOTES_SCHEDULER"):
        return cluster(address, device, packed(priors))
    firsts = [task.configs[0] for task in tasks]
    steps = sum(one.epochs * one.epoch_images // one.batch for one in firsts)
    seconds = 0.01 * steps + sum(task.images for task in tasks) / 60_000  # about
    if device == "cpu" and seconds >= WORTH_PROCESSES and cpu_count() > 1:
        return _processes(cpu_count())
    return nullcontext(Workers(None, 1, _as_it_is))


def _as_it_is(dataset: Dataset) -> Dataset:
    return dataset


@contextmanager
def _processes(workers: int) -> Iterator[Workers]:
    context = LokyContext()  # asked for by its name it is joblib's, where that is imported
    executor = ProcessPoolExecutor(
        workers, context=context, initializer=_end_with, initargs=(os.getpid(),), env=LARGE_PAGES
    )
    try:
        yield Workers(executor, workers, _as_it_is)
    except BrokenProcessPool:
        raise ClusterError(
            "a worker process was killed, for want of memory perhaps; "
            "the next run goes on where it was a few seconds before"
        ) from None
    finally:
        executor.shutdown(kill_workers=True)


def _end_with(parent: int) -> None:
    """Let this worker end when that process has, killed perhaps: nobody would take its results,
    and a worker that waits for its next task would wait for ever."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.2)
        os._exit(1)

    Thread(target=watch, daemon=True).start()


def _outcomes(
    executor: Executor | None, jobs: Sequence[tuple[Any, ...]]
) -> Iterator[tuple[Task, list[Result], bool]]:
    """Each job's task and what came of it, as they come."""
    if executor is None:
        for job in jobs:
            yield job[0], *_train(*job)
        return
    tasks = {executor.submit(_train, *job): job[0] for job in jobs}
    try:
        for future in as_completed(tasks):
            yield tasks[future], *future.result()
    finally:
        for future in tasks:
            future.cancel()


def _train(
    task: Task,
    datasets: Sequence[Dataset],
    priors: bytes,
    device: str,
    code: str,
    store: Store,
    mark: Path,
) -> tuple[list[Result], bool]:
    """What a worker does: train one ensemble on one thread, which is also what makes sums come out
    the same. Where it sees the run's mark, which is there while the run goes on, it shares the
    store's folder, leaves checkpoints there, and says how many images it was; the second of what it
    returns is whether it does."""
    check_code("the run", code)  # a process of its own imports the library as it is now
    shared = mark.exists()
    kept = shared and bool(task.name)

    due = 0.0  # when the next checkpoint is

    def on_epoch(ensemble: Ensemble) -> None:
        nonlocal due
        if kept and time.monotonic() >= due:
            check_held()
            facts = vars(ensemble.checkpoint())
            store.save(task.name, facts.pop("arrays"), facts | {"keys": task.keys})
            due = time.monotonic() + BETWEEN_CHECKPOINTS
        if shared:
            add(mark, len(task.configs) * ensemble.config.epoch_images)

    with freed_memory_kept():
        if priors:
            PRIORS.update(pickle.loads(priors))  # as the run has them
        # Another worker may have been killed in the middle of this task.
        newest = store.load(task.name, check_checkpoint) if kept else None
        checkpoint = _checkpoint(newest) if newest else task.checkpoint
        return _on_one_thread(task.configs, datasets, on_epoch, device, checkpoint), shared


@torch_as_it_starts
def _on_one_thread(*arguments: Any) -> list[Result]:
    with held(ONE_THREAD):  # of the process: others may train in it, one at a time
        return train(*arguments)


def _checkpoint(entry: Entry) -> Checkpoint:
    facts = {name: fact for name, fact in entry.meta.items() if name != "keys"}
    facts["diverged"] = [at and tuple(at) for at in facts["diverged"]]  # JSON has lists
    return Checkpoint(entry.arrays, **facts)


def check_checkpoint(entry: Entry) -> None:
    """Raise ValueError unless an entry can be a checkpoint's: whoever edits one can seal it too."""
    keys, found = entry.meta["keys"], _checkpoint(entry)
    shapes = {name: array.shape for name, array in entry.arrays.items()}
    traces = {shape[:2] for name, shape in shapes.items() if name.startswith("trace/")}
    fits = {shape[0] for shape in shapes.values()} == {len(keys)} == {len(found.diverged)}
    if not fits or traces != {(len(keys), found.epoch + 1)}:
        raise ValueError("it is not of one epoch of its replicas")
    for name, array in entry.arrays.items():
        kind, _, what = name.partition("/")
        own = shapes.get(f"parameters/{what}") if kind.startswith("exp_avg") else array.shape
        if array.dtype != (np.uint8 if kind == "generator" else np.float32) or array.shape != own:
            raise ValueError(f"{name} is {array.dtype} {array.shape}")
