"""Training on a Dask cluster: a real scheduler and real workers, each a process of its own."""

import json
import os
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

import pytest

from vaenotes.config import Config
from vaenotes.errors import ClusterError, ParameterError
from vaenotes.lab import cluster, runs
from vaenotes.lab.store import Store
from vaenotes.priors import PRIORS

SMALL = {"images": 128, "size": 16, "batch": 64}
EPOCHS = 120  # long enough for what happens in the middle


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
    """Act in the middle of a run: as soon as so many ensembles have left a checkpoint."""
    done = []

    def wait():
        Local.wait_until(lambda: len(epochs_done(store)) == ensembles)
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
        assert {name for name in one if one[name].tobytes() != other[name].tobytes()} == set()


@pytest.mark.slow
@pytest.mark.attack("lost")
def test_a_worker_that_is_killed_costs_no_result_and_no_bit(local, tmp_path, monkeypatch):
    """Nor does one with several threads, nor one that does not see the store."""
    register(monkeypatch)
    configs = [Config(**SMALL, epochs=EPOCHS, seed=seed) for seed in range(4)]
    own = [Config(**SMALL, epochs=9, prior="halved", hidden=hidden) for hidden in (7, 8, 9)]
    store, victim = Store(tmp_path / "store"), local.worker()
    survivor = local.worker()
    with meanwhile(store, 2, victim.kill) as then:  # both workers are in training
        found = runs.fetch(configs, store)
    assert len(then) == 2 and max(then) < EPOCHS and survivor.poll() is None
    assert store.unfinished() == [] and not list(store.folder.glob("mark*"))
    local.stop(survivor)
    local.worker(threads=3)
    found |= runs.fetch(own, store)  # three ensembles at once
    monkeypatch.setattr(Store, "mark", unseen)
    found |= runs.fetch(fresh := [Config(**SMALL, epochs=1, seed=9)], store)
    monkeypatch.undo()
    register(monkeypatch)
    monkeypatch.delenv("VAENOTES_SCHEDULER", raising=False)
    assert_same(found, runs.fetch([*configs, *own, *fresh], Store(tmp_path / "alone")))


def register(monkeypatch):
    """A prior that the workers' library does not know."""
    space = {"__name__": "__main__"}
    exec(
        "from vaenotes.priors import DiagonalPrior\n"
        "class Halved(DiagonalPrior):\n"
        "    version = '1'\n"
        "    def forward(self, noise, factors, z):\n"
        "        prior = super(Halved, self).forward(noise, factors, z)\n"
        "        return prior._replace(mean=prior.mean / 2)\n",
        space,
    )
    monkeypatch.setitem(PRIORS, "halved", space["Halved"])


class Unseen(type(Path())):
    """A file that is there, but for those who get it by pickle: on a machine without the folder."""

    def __reduce__(self):
        return Path, (f"{self}.elsewhere",)


@contextmanager
def unseen(self, mark=Store.mark):
    with mark(self) as path:
        yield Unseen(path)


CHILD = """
from vaenotes.lab import runs
from vaenotes.config import Config
runs.fetch([Config(**{small}, epochs=10**4)], runs.Store())
"""


@pytest.mark.slow
@pytest.mark.attack("hang")
def test_a_worker_stops_training_for_a_run_that_was_killed_when_another_begins(local, tmp_path):
    store = Store(tmp_path / "store")
    local.worker()
    asking = subprocess.Popen(
        [sys.executable, "-c", CHILD.format(small=SMALL)],
        env=os.environ | {"VAENOTES_STORE": str(store.folder)},
        stderr=subprocess.DEVNULL,
    )
    local.processes.append(asking)
    local.wait_until(lambda: any(epochs_done(store)))
    local.stop(asking)
    config = Config(**SMALL, epochs=1)
    assert runs.fetch([config], store).keys() == {config}  # by the only worker there is
    assert 0 < max(epochs_done(store)) < 10**4


@pytest.mark.slow
@pytest.mark.parametrize(
    ("local", "victim", "message"),
    [
        ({}, "scheduler", r"the scheduler at tcp://127.* is gone"),
        ({"DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "0"}, "worker", "workers keep dying"),
    ],
    indirect=["local"],
)
@pytest.mark.attack("hang")
def test_a_run_that_cannot_go_on_says_why(local, tmp_path, victim, message):
    store, worker = Store(tmp_path / "store"), local.worker()
    kill = {"scheduler": local.scheduler.kill, "worker": worker.kill}[victim]
    with meanwhile(store, 1, kill), pytest.raises(ClusterError, match=message) as caught:
        runs.fetch([Config(**SMALL, epochs=10**4)], store)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
@pytest.mark.attack("wrong")
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
    refused("tcp://127.* lacks what training needs: .*too old")
    local.stop(worker)
    worker = local.worker()
    with monkeypatch.context() as patched:
        patched.setattr(cluster, "code_digest", lambda: "another")
        refused("tcp://127.* has other code")
    (broken / "further.py").touch()
    mine = "import further\nfrom vaenotes.priors import DiagonalPrior\nclass Mine(DiagonalPrior):"
    (broken / "mine.py").write_text(f"{mine}\n    def reset(self): return further")
    monkeypatch.syspath_prepend(broken)  # of this process, not of the worker
    monkeypatch.setitem(PRIORS, "exogenous", __import__("mine").Mine)
    refused("tcp://127.* lacks what training needs: .*No module named 'further'")
    assert worker.poll() is None


@pytest.mark.parametrize("address", ["here", "tcp://here", "tcp://a b:1", "tcp://:x", "http://a:1"])
@pytest.mark.attack("line")
def test_what_is_no_address_is_refused(address, monkeypatch, tmp_path):
    monkeypatch.setenv("VAENOTES_SCHEDULER", address)
    with pytest.raises(ParameterError, match=f"VAENOTES_SCHEDULER must be .* got '{address}'"):
        runs.fetch([Config(**SMALL)], Store(tmp_path))


@pytest.mark.attack("line")
def test_a_scheduler_that_does_not_answer_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(cluster, "PATIENCE", 0.5)
    monkeypatch.setenv("VAENOTES_SCHEDULER", "tcp://127.0.0.1:1")
    with pytest.raises(ClusterError, match=r"no Dask scheduler answers at tcp://127\.0\.0\.1:1"):
        runs.fetch([Config(**SMALL)], Store(tmp_path))


@pytest.mark.parametrize(
    "said", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", bytes(99), b"\xff" * 99]
)
@pytest.mark.attack("hang")
def test_what_answers_otherwise_or_not_at_all_is_named_and_keeps_nobody_waiting(
    said, monkeypatch, tmp_path
):
    """As Dask's own dashboard would, whose address looks much the same."""
    monkeypatch.setattr(cluster, "PATIENCE", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"tcp://127.0.0.1:{server.getsockname()[1]}"
        monkeypatch.setenv("VAENOTES_SCHEDULER", address)
        Thread(
            target=lambda: server.accept()[0].sendall(said) or time.sleep(5), daemon=True
        ).start()
        start = time.monotonic()
        with pytest.raises(
            ClusterError, match=f"no Dask scheduler answers at {address}: .+"
        ) as line:
            runs.fetch([Config(**SMALL)], Store(tmp_path))
    assert "\n" not in str(line.value) and time.monotonic() - start < 5
    assert not (tmp_path / "training.lock").exists()


@pytest.mark.attack("line")
def test_certificates_that_are_missing_are_one_line(monkeypatch, tmp_path):
    monkeypatch.setenv("VAENOTES_SCHEDULER", "tls://127.0.0.1:1")
    with pytest.raises(ClusterError, match=r"no Dask scheduler answers at tls://.* configuration"):
        runs.fetch([Config(**SMALL)], Store(tmp_path))


def test_without_dask_it_is_said_how_to_get_it(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "distributed", None)
    monkeypatch.setenv("VAENOTES_SCHEDULER", "tcp://127.0.0.1:1")
    with pytest.raises(ClusterError, match=r"pip install distributed"):
        runs.fetch([Config(**SMALL)], Store(tmp_path))
