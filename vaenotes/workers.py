"""Replicas trained side by side: an ensemble per core at a time, each in a process of its own, that
leaves a checkpoint after every epoch.
"""

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from threading import Thread
from typing import NamedTuple

import torch
from joblib import Parallel, cpu_count, delayed

from vaenotes import memory
from vaenotes.config import Config
from vaenotes.data import Dataset
from vaenotes.errors import StoreError
from vaenotes.progress import progress, say
from vaenotes.store import Store, checkpoint_key, code_digest
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


class Task(NamedTuple):
    """Replicas to be trained together, from the start or from where a checkpoint of them stands.

    keys: theirs in the store; name: the key of their checkpoints there.
    """

    configs: list[Config]
    keys: list[str]
    name: str
    checkpoint: Checkpoint | None = None


def train_all(
    wanted: Mapping[Config, str],
    datasets: Mapping[Config, Dataset],
    device: str = "cpu",
    store: Store | None = None,
) -> Iterator[Result]:
    """Train replicas in ensembles, one per core at a time, each core with a process of its own;
    yields results as they come. A replica does not depend on its company, so how they are divided
    changes nothing.

    wanted: each replica's key in the store, which holds a checkpoint of every ensemble after each
    of its epochs until all its results were taken, and from which ensembles that were stopped go
    on; without a store nothing is kept. datasets: what each replica is trained on.
    """
    if not wanted:
        return
    asked = memory.counted(wanted)
    with torch.device("meta"):  # a model that cannot be is refused before any is trained
        for config in {replace(config, seed=0): config for config in wanted}.values():
            build(config, datasets[config])
    tasks = list(_stopped(wanted, store)) if store else []
    stopped = {config for task in tasks for config in task.configs}
    groups: dict[tuple, list[Config]] = {}
    for config in wanted:
        if config not in stopped:
            # Convolutions gain nothing from company, and would be rounded otherwise in it.
            alone = config if config.encoder == "cnn" else None
            groups.setdefault((company(config, datasets[config]), alone), []).append(config)
    images = sum(map(_images_left, tasks))
    images += sum(
        config.epochs * config.epoch_images for group in groups.values() for config in group
    )
    steps = sum(one.epochs * one.epoch_images // one.batch for one, *_ in groups.values())
    seconds = 0.01 * steps + images / 60_000  # about
    workers = cpu_count() if device == "cpu" and seconds >= WORTH_PROCESSES else 1
    workers, together = memory.plan(asked, workers, TOGETHER)
    # As few ensembles as keep every core busy: each step of each has a price of its own.
    share = -(-workers // max(len(groups), 1))
    for group in groups.values():
        count = max(-(-len(group) // together), min(share, len(group)))
        for some in (group[i::count] for i in range(count)):
            keys = [wanted[config] for config in some]
            tasks.append(Task(some, keys, checkpoint_key(keys)))
    tasks.sort(key=_pixels_left, reverse=True)  # the short ones last: all cores end together
    with progress(f"training {len(wanted)} replicas", images) as (path, bar):
        common = device, path, store, code_digest()
        jobs = (
            delayed(_train)(task, [datasets[config] for config in task.configs], *common)
            for task in tasks
        )
        # max_nbytes: data go to the workers through a pipe, never as a pickle on disk
        parallel = Parallel(
            n_jobs=workers,
            return_as="generator_unordered",
            max_nbytes=None,
            pre_dispatch=workers,
            initializer=_end_with,
            initargs=(os.getpid(),),
        )
        for done, (name, results) in enumerate(parallel(jobs), 1):
            bar.set_postfix_str(f"{done} of {len(tasks)} ensembles")
            yield from results
            if store:
                store.remove(name)


def _stopped(wanted: Mapping[Config, str], store: Store) -> Iterator[Task]:
    """Those of these replicas whose training was stopped, with their checkpoints."""
    waiting = {key: config for config, key in wanted.items()}
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
            say(f"going on with {len(found)} replicas after epoch {done}")
            yield Task(found, keys, name, checkpoint)
        elif all(store.path(key).exists() for key in keys):  # stopped after its last result
            store.remove(name)


def _train(
    task: Task,
    datasets: Sequence[Dataset],
    device: str,
    path: Path,
    store: Store | None,
    code: str,
) -> tuple[str, list[Result]]:
    """What a worker does: train one ensemble on one thread, which is also what makes sums come
    out the same; after each epoch leave a checkpoint, and add to the file of progress at `path`."""
    if code_digest() != code:  # a process of its own imports the library as it is now
        raise StoreError("the library was changed while it was running: start again")

    def on_epoch(ensemble: Ensemble) -> None:
        if store:
            facts = vars(ensemble.checkpoint())
            store.save(task.name, facts.pop("arrays"), facts | {"keys": task.keys})
        with path.open("a") as file:
            file.write(f"{len(task.configs) * ensemble.config.epoch_images}\n")

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with freed_memory_kept():
            results = train(task.configs, datasets, on_epoch, device, task.checkpoint)
            return task.name, results
    finally:
        torch.set_num_threads(threads)


def _end_with(parent: int) -> None:
    """Let this worker end when that process has, killed perhaps: nobody would take its results,
    and a worker that waits for its next task would wait for ever."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.2)
        os._exit(1)

    Thread(target=watch, daemon=True).start()


def _images_left(task: Task) -> int:
    """How many images a task is yet to be trained on, epochs times images times replicas."""
    done = task.checkpoint.epoch if task.checkpoint else 0
    return sum((config.epochs - done) * config.epoch_images for config in task.configs)


def _pixels_left(task: Task) -> int:
    """How much work a task is."""
    return _images_left(task) * task.configs[0].size ** 2
