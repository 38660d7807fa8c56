"""Ensembles trained on other machines: a Dask cluster, whose scheduler VAENOTES_SCHEDULER names.

joblib's own Dask backend sends them there and takes their results. A worker that could not give the
same results is refused, and named.
"""

import os
import re
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from joblib import Parallel
from joblib._dask import DaskDistributedBackend

from vaenotes.errors import ClusterError, ParameterError, check
from vaenotes.lab.store import code_digest

if TYPE_CHECKING:
    from distributed import Client

PATIENCE = 10  # seconds for a scheduler to answer, and then for a first worker to be there
ADDRESS = r"(tcp|tls)://(\[[0-9a-fA-F:.]+\]|[^\s:/\[\]]+):(\d{1,5})"


class Worker(NamedTuple):
    """What a worker says of itself."""

    code: str
    cuda: bool


@contextmanager
def connected(device: str) -> Iterator["Client | None"]:
    """A client of the cluster that VAENOTES_SCHEDULER names, None if it names none. Its workers
    have this library and `device`, and one thread each.

    Raises ParameterError for an address that is none or without Dask, ClusterError where nobody
    answers, where a worker does not fit, and, within, where an ensemble's workers keep dying.
    """
    address = os.environ.get("VAENOTES_SCHEDULER")
    if not address:
        yield None
        return
    fits = (found := re.fullmatch(ADDRESS, address)) and 0 < int(found[3]) < 2**16
    check(bool(fits), "VAENOTES_SCHEDULER must be tcp://host:port or tls://host:port", address)
    try:
        from distributed import Client, KilledWorker
    except ImportError:
        raise ParameterError(
            f"VAENOTES_SCHEDULER must not be set without Dask (pip install distributed), "
            f"got {address!r}"
        ) from None
    try:
        client = Client(address, timeout=PATIENCE, set_as_default=False)
    except (OSError, ValueError) as error:
        raise ClusterError(
            f"no Dask scheduler answers at VAENOTES_SCHEDULER={address}: {error}"
        ) from None
    with client:
        try:
            client.wait_for_workers(1, timeout=PATIENCE)
        except TimeoutError:
            raise ClusterError(f"the scheduler at {address} has no worker") from None
        _check_workers(client, device)
        try:
            yield client
        except KilledWorker as error:
            raise ClusterError(f"workers keep dying, for want of memory perhaps: {error}") from None
        except CancelledError:
            raise ClusterError(f"the scheduler at {address} is gone") from None


def _check_workers(client: "Client", device: str) -> None:
    """Raise ClusterError, naming the first worker that could not give the same results."""
    for worker, threads in client.nthreads().items():
        _check_threads(worker, threads)
    for worker, found in client.run(describe, on_error="return").items():
        if isinstance(found, Exception):
            raise ClusterError(f"{worker} cannot import this version of the library: {found}")
        if found.code != code_digest():
            raise ClusterError(
                f"{worker} has other code, of the library or of what it computes with"
            )
        if device == "cuda" and not found.cuda:
            raise ClusterError(f"{worker} has no GPU; CUDA_VISIBLE_DEVICES= hides this machine's")


def _check_threads(worker: str, threads: int) -> None:
    if threads != 1:  # several would record their steps (training.recorded) into one another
        advice = "dask worker --nworkers -1 --nthreads 1"
        raise ClusterError(f"a worker must have one thread, {worker} has {threads} ({advice})")


def describe() -> Worker:
    """Asked of each worker."""
    return Worker(code_digest(), torch.cuda.is_available())


class Backend(DaskDistributedBackend):  # type: ignore[misc]  # joblib has no types
    """joblib's, but for two things: where there is only one worker joblib would train here, not
    there; and of a task whose workers died it would never hear, and wait for ever."""

    def effective_n_jobs(self, n_jobs: int) -> int:
        return max(2, n_jobs)

    def submit(self, func: Any, callback: Callable[[Any], None]) -> Future[Any]:
        def failed(future: Future[Any]) -> None:
            if (error := future.exception()) is not None:
                callback(error)

        future = super().submit(func, callback)
        future.add_done_callback(failed)
        return future

    def retrieve_result_callback(self, out: Any) -> Any:
        if isinstance(out, Exception):
            raise out
        return super().retrieve_result_callback(out)


def parallel(client: "Client") -> Parallel:
    """joblib's Parallel over the cluster's workers, which hands out results as they come."""
    workers = len(client.nthreads())
    return Parallel(
        n_jobs=workers,
        backend=Backend(client=client),
        return_as="generator_unordered",
        pre_dispatch=2 * workers,  # each finds its next task waiting
    )


class Report:
    """On a worker: call it with how many images it has trained on. They are added to the file of
    progress at `path`, on the machine that the client is on."""

    def __init__(self, client: "Client", path: Path):
        self.topic = str(path)

        def note(event: tuple[float, int]) -> None:
            with path.open("a") as file:
                file.write(f"{event[1]}\n")

        client.subscribe_topic(self.topic, note)

    def __call__(self, images: int) -> None:
        """Raises ClusterError if nobody waits for this task any longer."""
        from distributed import get_worker
        from distributed.utils import thread_state  # type: ignore[attr-defined]

        worker = get_worker()
        if worker.state.tasks[thread_state.key].state != "executing":
            raise ClusterError("the run that this task belongs to has ended")
        _check_threads(worker.address, worker.state.nthreads)  # it may have joined later
        worker.log_event(self.topic, images)
