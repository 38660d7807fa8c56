"""The workers of a Dask cluster, whose scheduler VAENOTES_SCHEDULER names, asked first whether they
could give the same results as this process."""

import asyncio
import os
import pickle
import re
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Executor, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, NamedTuple

import cloudpickle
import torch

from vaenotes.data.dataset import Dataset
from vaenotes.errors import ClusterError, ParameterError, check
from vaenotes.lab.code import code_digest, is_ours
from vaenotes.priors import Prior
from vaenotes.state import instructions

PATIENCE = 10  # seconds for a scheduler to answer, and then for a first worker to be there

Priors = dict[str, type[Prior]]  # what their names mean to whoever asked


class Workers(NamedTuple):
    """Who trains. executor: None for this process itself; number: how many there are; send: what
    takes a data set to them, once for all tasks."""

    executor: Executor | None
    number: int
    send: Callable[[Dataset], Any]


def check_scheduler() -> None:
    """Raise ClusterError unless a scheduler answers where VAENOTES_SCHEDULER says, if it is set:
    called before the store is locked, as it may take PATIENCE."""
    address = os.environ.get("VAENOTES_SCHEDULER")
    if not address:
        return
    fits = re.fullmatch(r"(tcp|tls)://\S+:\d{1,5}", address)
    check(bool(fits), "VAENOTES_SCHEDULER must be tcp://host:port or tls://host:port", address)
    try:
        from distributed import Security
        from distributed.comm.core import connect
    except ImportError:
        raise ClusterError("VAENOTES_SCHEDULER needs Dask: pip install distributed") from None

    async def ask() -> None:  # Client would wait for ever for who takes a call and says nothing
        async with asyncio.timeout(PATIENCE):
            await (await connect(address, **Security().get_connection_args("client"))).close()

    # In a thread of its own, as a notebook's has a loop that runs.
    with _told_of(address), ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, ask()).result()


@contextmanager
def _told_of(address: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # what is no scheduler may say anything
        said = str(error) or f"it says nothing in {PATIENCE} s"
        raise ClusterError(f"no Dask scheduler answers at {address}: {said}") from None


@contextmanager
def cluster(address: str, device: str, priors: bytes) -> Iterator[Workers]:
    """The workers of the cluster whose scheduler is at this address, all of which could give the
    same results as this process. Raises ClusterError, also where they fail meanwhile."""
    from distributed import Client, KilledWorker

    with _told_of(address):
        client = Client(address, timeout=PATIENCE, set_as_default=False)

    def send(dataset: Dataset) -> Any:  # a task, so that another worker can do it should one die
        return client.submit(lambda: dataset, pure=False)

    with client:
        try:
            client.wait_for_workers(1, timeout=PATIENCE)
        except TimeoutError:
            raise ClusterError(f"the scheduler at {address} has no worker") from None
        for worker, code in client.run(_code, device, priors, on_error="return").items():
            check_code(worker, code)
        try:
            yield Workers(client.get_executor(pure=False), len(client.nthreads()), send)
        except KilledWorker as error:
            raise ClusterError(f"workers keep dying, for want of memory perhaps: {error}") from None
        except CancelledError:
            raise ClusterError(f"the scheduler at {address} is gone") from None


def packed(priors: Priors) -> bytes:
    """Priors as this process has them: a worker that imported a module of theirs would have what
    its file holds by now. Raises ParameterError for what cannot be pickled."""
    own = [prior for prior in priors.values() if not is_ours(prior)]
    modules = {sys.modules[prior.__module__] for prior in own} - {sys.modules["__main__"]}
    for module in modules:
        cloudpickle.register_pickle_by_value(module)
    try:
        return bytes(cloudpickle.dumps(priors))
    except Exception as error:
        rule = "a prior of your own must refer to values that can be pickled"
        raise ParameterError(f"{rule}, got {', '.join(priors)}: {error}") from None
    finally:
        for module in modules:
            cloudpickle.unregister_pickle_by_value(module)


def _code(device: str, priors: bytes) -> str:
    """Asked of each of a cluster's workers first: one that cannot import the library or a prior
    would not refuse a task, but die of it."""
    torch.empty(0, device=device)
    pickle.loads(priors)
    return behind()


def behind() -> str:
    """What has to be the same wherever some of a run's replicas are trained."""
    return f"{code_digest()} {instructions()}"


def check_code(whose: str, code: str | Exception) -> None:
    if isinstance(code, Exception):
        raise ClusterError(f"{whose} lacks what training needs: {code}")
    if code != behind():
        other = "other code, other packages or a processor of another kind"
        raise ClusterError(f"{whose} has {other}: start again, with the same")
