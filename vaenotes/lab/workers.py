"""Replicas trained side by side: an ensemble per core at a time, each in a process of its own, that
leaves a checkpoint after every epoch. The cores are this machine's, or a cluster's.
"""

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from joblib import Parallel, cpu_count, delayed

from vaenotes.config import Config
from vaenotes.data.dataset import Dataset
from vaenotes.errors import StoreError
from vaenotes.lab import cluster, foreign
from vaenotes.lab.progress import progress, say
from vaenotes.lab.store import Entry, Store, checkpoint_key, code_digest
from vaenotes.model import VAE
from vaenotes.nets import LEAST
from vaenotes.speed import freed_memory_kept
from vaenotes.training import Checkpoint, Ensemble, Result, batch_key, train

if TYPE_CHECKING:
    from distributed import Client

TOGETHER = 32  # replicas in one ensemble at most: more would need memory and be no faster
WORTH_PROCESSES = 6  # seconds of one core; less is done before processes have started


class Task(NamedTuple):
    """Replicas to be trained together, from the start or from where a checkpoint of them stands.

    keys: theirs in the store; name: the key of their checkpoints there; priors: what they need
    of those that the library does not define.
    """

    configs: list[Config]
    keys: list[str]
    name: str
    priors: foreign.Priors
    checkpoint: Checkpoint | None = None


def train_all(
    wanted: Mapping[Config, str],
    datasets: Mapping[Config, Dataset],
    device: str = "cpu",
    store: Store | None = None,
) -> Iterator[Result]:
    """Train replicas in ensembles, one per core at a time, each core with a process of its own;
    yields results as they come. A replica does not depend on those beside it: how they are divided
    changes nothing.

    wanted: each replica's key in the store, which holds a checkpoint of every ensemble after each
    of its epochs until all its results were taken, and from which ensembles that were stopped go
    on; without a store nothing is kept. datasets: what each replica is trained on.
    """
    if not wanted:
        return
    with torch.device("meta"):  # a model that cannot be is refused before any is trained
        for config in {replace(config, seed=0): config for config in wanted}.values():
            VAE(config, datasets[config])
    with cluster.connected(device) as client, ExitStack() as held:
        tasks, workers = _divided(wanted, datasets, device, store, client)
        images = sum(map(_images_left, tasks))
        path, bar = held.enter_context(progress(f"training {len(wanted)} replicas", images))
        report: Callable[[int], None]
        if client:
            parallel, report = cluster.parallel(client), cluster.Report(client, path)
            if store:  # of the file of progress other machines know nothing
                path = held.enter_context(store.mark())
        else:
            # max_nbytes: data go to the workers through a pipe, never as a pickle on disk
            parallel = Parallel(
                n_jobs=workers,
                return_as="generator_unordered",
                max_nbytes=None,
                pre_dispatch=workers,
                initializer=_end_with,
                initargs=(os.getpid(),),
            )
            report = partial(_report, path)
        common = device, report, path, store, code_digest()
        jobs = (
            delayed(_train)(task, [datasets[config] for config in task.configs], *common)
            for task in tasks
        )
        for done, (name, results) in enumerate(parallel(jobs), 1):
            bar.set_postfix_str(f"{done} of {len(tasks)} ensembles")
            yield from results
            if store:
                store.remove(name)


def _divided(
    wanted: Mapping[Config, str],
    datasets: Mapping[Config, Dataset],
    device: str,
    store: Store | None,
    client: "Client | None",
) -> tuple[list[Task], int]:
    """The ensembles, the longest first, and how many are to be trained at a time."""
    tasks = list(_stopped(wanted, store)) if store else []
    stopped = {config for task in tasks for config in task.configs}
    groups: dict[tuple[Any, ...], list[Config]] = {}
    for config in wanted:
        if config not in stopped:
            # Convolutions gain nothing from others beside them, and would be rounded otherwise.
            alone = config if config.encoder in LEAST else None
            groups.setdefault((batch_key(config, datasets[config]), alone), []).append(config)
    images = sum(map(_images_left, tasks))
    images += sum(
        config.epochs * config.epoch_images for group in groups.values() for config in group
    )
    steps = sum(one.epochs * one.epoch_images // one.batch for one, *_ in groups.values())
    seconds = 0.01 * steps + images / 60_000  # about
    workers = cpu_count() if device == "cpu" and seconds >= WORTH_PROCESSES else 1
    if client:
        workers = len(client.nthreads())
    # As few ensembles as keep every core busy: each step of each has a price of its own.
    share = -(-workers // max(len(groups), 1))
    for group in groups.values():
        count = max(-(-len(group) // TOGETHER), min(share, len(group)))
        for some in (group[i::count] for i in range(count)):
            keys = [wanted[config] for config in some]
            tasks.append(Task(some, keys, checkpoint_key(keys), _priors(some)))
    tasks.sort(key=_pixels_left, reverse=True)  # the short ones last: all cores end together
    return tasks, workers


def _stopped(wanted: Mapping[Config, str], store: Store) -> Iterator[Task]:
    """Those of these replicas whose training was stopped, with their checkpoints."""
    waiting = {key: config for config, key in wanted.items()}
    for name in store.unfinished():
        if (entry := store.load(name)) is None:
            continue
        keys = entry.meta["keys"]
        places = [place for place, key in enumerate(keys) if key in waiting]
        if places:
            checkpoint = _checkpoint(entry).of(places)
            keys = [keys[place] for place in places]
            found = [waiting.pop(key) for key in keys]
            done = f"{checkpoint.epoch} of {found[0].epochs}"
            say(f"going on with {len(found)} replicas after epoch {done}")
            yield Task(found, keys, name, _priors(found), checkpoint)
        elif all(store.path(key).exists() for key in keys):  # stopped after its last result
            store.remove(name)


def _priors(configs: Sequence[Config]) -> foreign.Priors:
    return foreign.Priors({config.prior for config in configs})


def _checkpoint(entry: Entry) -> Checkpoint:
    facts = {name: fact for name, fact in entry.meta.items() if name != "keys"}
    facts["diverged"] = [at and tuple(at) for at in facts["diverged"]]  # JSON has lists
    return Checkpoint(entry.arrays, **facts)


def _train(
    task: Task,
    datasets: Sequence[Dataset],
    device: str,
    report: Callable[[int], None],
    mark: Path,
    store: Store | None,
    code: str,
) -> tuple[str, list[Result]]:
    """What a worker does: train one ensemble on one thread, which is also what makes sums come
    out the same; after each epoch leave a checkpoint, and report how many images it was.

    mark: a file that a worker sees which shares this machine's folders; others keep nothing."""
    if code_digest() != code:  # a process of its own imports the library as it is now
        raise StoreError("the library was changed while it was running: start again")
    shared = store if mark.exists() else None
    checkpoint = task.checkpoint
    # Another worker may have been killed in the middle of this task.
    newest = shared.load(task.name) if shared else None
    if newest and newest.meta["keys"] == task.keys:
        checkpoint = _checkpoint(newest)

    def on_epoch(ensemble: Ensemble) -> None:
        if shared:
            facts = vars(ensemble.checkpoint())
            shared.save(task.name, facts.pop("arrays"), facts | {"keys": task.keys})
        report(len(task.configs) * ensemble.config.epoch_images)

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with freed_memory_kept(), foreign.registered(task.priors):
            return task.name, train(task.configs, datasets, on_epoch, device, checkpoint)
    finally:
        torch.set_num_threads(threads)


def _report(path: Path, images: int) -> None:
    """Add to the file of progress."""
    with path.open("a") as file:
        file.write(f"{images}\n")


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
