"""Training on a Dask cluster: a real scheduler and real workers, each a process of its own."""

import json
import os
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import replace
from threading import Thread

import numpy as np
import pytest
from test_foreign import defined

from vaenotes.config import Config
from vaenotes.errors import ClusterError, ParameterError
from vaenotes.lab import cluster, runs, workers
from vaenotes.lab.store import Store
from vaenotes.priors import PRIORS

SMALL = {"images": 128, "size": 16, "hidden": 8, "batch": 64}
EPOCHS = 80  # long enough for what happens in the middle


class Local:
    """A scheduler on loopback and its workers."""

    def __init__(self, folder, **environment):
        self.folder, self.processes = folder, []
        about = folder / "scheduler.json"
        options = ("--host", "127.0.0.1", "--port", "0", "--scheduler-file", str(about))
        self.scheduler = self.start("scheduler", *options, **environment)
        self.wait_until(about.exists)
        self.address = json.loads(about.read_text())["address"]

    def start(self, what, *options, **environment):
        process = subprocess.Popen(
            [sys.executable, "-m", f"distributed.cli.dask_{what}", *options, "--no-dashboard"],
            cwd=self.folder,
            env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
            stderr=subprocess.DEVNULL,
        )
        self.processes.append(process)
        return process

    def worker(self, threads=1, **environment):
        """Start a worker; it has joined when this returns."""
        from distributed import Client

        options = ("--nthreads", str(threads), "--no-nanny", "--host", "127.0.0.1")
        options += ("--local-directory", str(self.folder / f"{len(self.processes)}"))
        with Client(self.address, set_as_default=False) as client:
            before = set(client.nthreads())
            worker = self.start("worker", self.address, *options, **environment)
            self.wait_until(lambda: len(set(client.nthreads()) - before) == 1)
        return worker

    def stop(self, process):
        process.kill()
        process.wait()

    @staticmethod
    def wait_until(happens, seconds=60):
        end = time.monotonic() + seconds
        while not happens():
            assert time.monotonic() < end, "waited in vain"
            time.sleep(0.02)


@pytest.fixture
def local(tmp_path, monkeypatch, request):
    local = Local(tmp_path, **getattr(request, "param", {}))
    monkeypatch.setenv("VAENOTES_SCHEDULER", local.address)
    yield local
    for process in local.processes:
        local.stop(process)


def epochs_done(store):
    """The epoch of each checkpoint in the store."""
    entries = [store.load(name) for name in store.unfinished()]
    return [entry.meta["epoch"] for entry in entries if entry]


@contextmanager
def meanwhile(store, ensembles, act):
    """Act in the middle of a run: as soon as so many ensembles have done five epochs."""
    done = []

    def wait():
        Local.wait_until(lambda: sum(epoch >= 5 for epoch in epochs_done(store)) == ensembles)
        act()
        done.extend(epochs_done(store))

    thread = Thread(target=wait)
    thread.start()
    yield done
    thread.join()


def assert_same(found, expected):
    """All but the seconds that it took."""
    assert found.keys() == expected.keys()
    for config in expected:
        assert found[config].meta["diverged"] == expected[config].meta["diverged"]
        one, other = found[config].arrays, expected[config].arrays
        assert one.keys() == other.keys() and any("weights/prior" in name for name in one)
        assert {name for name in one if one[name].tobytes() != other[name].tobytes()} == set()


@pytest.mark.slow
def test_a_worker_that_is_killed_costs_no_result_and_no_bit(local, tmp_path, monkeypatch):
    from distributed import Client

    configs = [Config(**SMALL, epochs=EPOCHS, seed=seed) for seed in range(4)]
    store, victim = Store(tmp_path / "store"), local.worker()
    local.worker()
    with Client(local.address, set_as_default=False) as client:
        with meanwhile(store, 2, victim.kill) as then:  # both workers are in training
            found = runs.fetch(configs, store)
        events = client.get_events()
    assert len(then) == 2 and max(then) < EPOCHS
    # The survivor went on where the other was: each epoch of both was trained once, but for one
    # that may have been trained and not kept, or kept and not reported.
    (reported,) = (events[topic] for topic in events if topic.endswith("images"))
    assert abs(len(reported) - 2 * EPOCHS) <= 2
    assert {images for _, images in reported} == {2 * SMALL["images"]}
    monkeypatch.delenv("VAENOTES_SCHEDULER")
    alone = runs.fetch(configs, Store(tmp_path / "alone"))
    assert_same(found, alone)
    assert_same({config: store.load(runs.store_key(config)) for config in configs}, alone)
    # besides, at most, what the victim was writing
    assert {file.state for file in store.files()} - {"temporary"} == {"whole"}
    assert not list(store.folder.glob("mark*"))


CHILD = """
from vaenotes import runs
from vaenotes.config import Config
runs.fetch([Config(**{small}, epochs=10**4)], runs.Store())
"""


@pytest.mark.slow
def test_a_worker_stops_training_for_a_run_that_was_killed(local, tmp_path):
    store = Store(tmp_path / "store")
    local.worker()
    asking = subprocess.Popen(
        [sys.executable, "-c", CHILD.format(small=SMALL)],
        env=os.environ | {"VAENOTES_STORE": str(store.folder)},
        stderr=subprocess.DEVNULL,
    )
    local.processes.append(asking)
    local.wait_until(lambda: any(epochs_done(store)))
    assert asking.poll() is None
    local.stop(asking)

    def stands_still():
        before = epochs_done(store)
        time.sleep(1.5)  # many epochs
        return before == epochs_done(store)

    local.wait_until(stands_still, seconds=20)
    assert max(epochs_done(store)) < 10**4


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("local", "victim", "message"),
    [
        ({}, "scheduler", r"the scheduler at tcp://127.* is gone"),
        ({"DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "0"}, "worker", "workers keep dying"),
    ],
    indirect=["local"],
)
def test_a_run_that_cannot_go_on_says_why(local, tmp_path, victim, message):
    store, worker = Store(tmp_path / "store"), local.worker()
    kill = {"scheduler": local.scheduler.kill, "worker": worker.kill}[victim]
    with meanwhile(store, 1, kill), pytest.raises(ClusterError, match=message) as caught:
        runs.fetch([Config(**SMALL, epochs=10**4)], store)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_a_run_waits_for_a_worker_where_none_is_left(local, tmp_path):
    store, worker = Store(tmp_path / "store"), local.worker()

    def replace_worker():
        local.stop(worker)
        local.worker()

    config = Config(**SMALL, epochs=EPOCHS)
    with meanwhile(store, 1, replace_worker) as then:
        found = runs.fetch([config], store)
    assert found.keys() == {config} and then != []


@pytest.mark.slow
def test_workers_that_could_not_give_the_same_results_are_refused(local, tmp_path, monkeypatch):
    monkeypatch.setattr(cluster, "PATIENCE", 1)
    config, store = Config(**SMALL, epochs=1), Store(tmp_path / "store")

    def refused(message):
        with pytest.raises(ClusterError, match=message) as caught:
            runs.fetch([config], store)
        assert "\n" not in str(caught.value)

    refused(f"the scheduler at {local.address} has no worker")
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "vaenotes.py").write_text("raise ImportError('too old')")
    worker = local.worker(PYTHONPATH=str(broken))
    refused("tcp://127.*cannot import this version of the library.*too old")
    local.stop(worker)
    worker = local.worker(threads=2)
    refused("a worker must have one thread, tcp://127.* has 2")
    with monkeypatch.context() as patch:  # as if it had joined later
        patch.setattr(cluster, "_check_workers", lambda *_: None)
        refused("a worker must have one thread, tcp://127.* has 2")
    local.stop(worker)
    local.worker()
    with pytest.raises(ClusterError, match=r"127.* has no GPU"), cluster.connected("cuda"):
        pass
    with monkeypatch.context() as patch:
        patch.setattr(cluster, "code_digest", lambda: "another")
        refused("127.* has other code")
    # and one that could takes a prior that its library does not know
    monkeypatch.setitem(PRIORS, "floored", defined()["Floored"])
    own = [replace(config, prior="floored")]
    found = runs.fetch(own, store)
    monkeypatch.delenv("VAENOTES_SCHEDULER")
    assert_same(found, runs.fetch(own, Store(tmp_path / "alone")))


@pytest.mark.parametrize("address", ["here", "tcp://here", "tcp://a b:1", "tcp://:1", "tcp://a:0"])
def test_what_is_no_address_is_refused(address, monkeypatch, tmp_path):
    monkeypatch.setenv("VAENOTES_SCHEDULER", address)
    with pytest.raises(ParameterError, match=f"VAENOTES_SCHEDULER must be .* got '{address}'"):
        runs.fetch([Config(**SMALL)], Store(tmp_path))


def test_a_scheduler_that_does_not_answer_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(cluster, "PATIENCE", 0.5)
    monkeypatch.setenv("VAENOTES_SCHEDULER", "tcp://127.0.0.1:1")
    with pytest.raises(ClusterError, match=r"no Dask scheduler answers at .*=tcp://127\.0\.0\.1:1"):
        runs.fetch([Config(**SMALL)], Store(tmp_path))


def test_without_dask_it_is_said_how_to_get_it(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "distributed", None)
    monkeypatch.setenv("VAENOTES_SCHEDULER", "tcp://127.0.0.1:1")
    with pytest.raises(ParameterError, match=r"pip install distributed"):
        runs.fetch([Config(**SMALL)], Store(tmp_path))


def test_a_worker_without_the_stores_folder_keeps_nothing(tmp_path):
    """It may have a folder of this name: the mark of the right one is missing there."""
    config, store = Config(**SMALL, epochs=1), Store(tmp_path / "store")
    dataset, code = runs.load_data(config), workers.code_digest()
    task, reported = workers.Task([config], ["k"], "n", {}), []
    with store.mark() as mark:
        pass
    common = [dataset], "cpu", reported.append, mark, store, code
    name, (result,) = workers._train(task, *common)
    assert name == "n" and reported == [SMALL["images"]] and not list(store.files())
    with store.mark() as mark:
        again = [dataset], "cpu", reported.append, mark, store, code
        _, (seen,) = workers._train(task, *again)
        assert [file.state for file in store.files()] == ["temporary", "whole"]
    for table in ("trace", "weights"):
        one, other = getattr(result, table), getattr(seen, table)
        assert all(np.array_equal(one[name], other[name], equal_nan=True) for name in one)
