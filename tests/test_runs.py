import os
import subprocess
import sys
import time
from contextlib import suppress

import numpy as np
import psutil
import pytest
import torch
import xarray as xr

from vaenotes import trace
from vaenotes.config import Config
from vaenotes.data.load import load
from vaenotes.errors import ParameterError, StoreError
from vaenotes.lab import runs as runs_module
from vaenotes.lab import workers
from vaenotes.lab.runs import load_data, load_model, run, run_arms
from vaenotes.lab.store import Store
from vaenotes.training import Ensemble, train

SMALL = {"images": 128, "size": 16, "hidden": 8, "epochs": 2, "batch": 64}


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path)


def test_a_run_has_named_axes(store):
    runs = run([Config(**SMALL, seed=seed) for seed in (4, 2)], store)
    assert runs.ratio.dims == ("replica", "epoch", "node", "dim")
    assert runs.image_posterior_mean.dims == ("replica", "image", "node", "dim")
    assert list(runs.node.values) == ["shape", "scale", "orientation", "x", "y"]
    assert list(runs.dim.values) == [1, 2] and list(runs.seed.values) == [4, 2]
    assert runs.knockout_nats.dims == ("replica", "node", "dim")
    assert set(runs.data_vars) == {*trace.QUANTITIES, *trace.FINAL_QUANTITIES}
    assert runs.factors.dims == ("image", "node") and runs.kl_weight.dims == ("replica",)
    assert runs.kl_nats.attrs["units"] == "nats"


def test_nothing_is_trained_twice(store, monkeypatch):
    trained = []
    original = workers.train

    def counting(configs, *rest):
        trained.extend(config.seed for config in configs)
        return original(configs, *rest)

    monkeypatch.setattr(workers, "train", counting)
    configs = [Config(**SMALL, seed=seed) for seed in range(4)]
    first = run(configs[:3], store)
    again = run(configs, store)
    assert sorted(trained) == [0, 1, 2, 3]
    xr.testing.assert_identical(
        first.drop_vars("seconds"), again.isel(replica=slice(3)).drop_vars("seconds")
    )
    run([configs[0], configs[0]], store)
    assert len(trained) == 4


@pytest.fixture
def epochs_trained(monkeypatch):
    """Numbers of the epochs that ensembles were trained in, as they come."""
    numbers = []
    original = Ensemble.epoch
    monkeypatch.setattr(
        Ensemble, "epoch", lambda self, number: numbers.append(number) or original(self, number)
    )
    return numbers


@pytest.mark.parametrize("writes", range(7))
def test_a_run_goes_on_from_the_last_epoch_or_result_that_was_written(
    store, tmp_path, monkeypatch, epochs_trained, writes
):
    """Two epochs and three results are written; the run ends before each of these, and after."""
    configs = [Config(**SMALL, seed=seed) for seed in range(3)]
    whole = run(configs, Store(tmp_path / "whole")).drop_vars("seconds")
    epochs_trained.clear()
    left = [None] * writes

    def some(write):
        def one(*arguments):
            if not left:
                raise KeyboardInterrupt
            left.pop()
            write(*arguments)

        return one

    with monkeypatch.context() as patched, suppress(KeyboardInterrupt):
        patched.setattr(Store, "save", some(Store.save))
        patched.setattr(Store, "remove", some(Store.remove))  # of the checkpoint: the last
        run(configs, store)
    epochs_trained.clear()
    xr.testing.assert_identical(run(configs, store).drop_vars("seconds"), whole)
    assert epochs_trained == [1, 2][writes:]
    if writes == 5:  # all results are there, and a checkpoint of them
        assert store.unfinished()
        run([Config(**SMALL, seed=9)], store)
    assert {file.state for file in store.files()} == {"whole"}


def test_a_damaged_checkpoint_is_named_and_training_starts_anew(store, monkeypatch, epochs_trained):
    config = Config(**SMALL)
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Store, "remove", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        run([config], store)
    store.path(runs_module.store_key(config)).unlink()
    (name,) = store.unfinished()
    store.path(name).write_bytes(store.path(name).read_bytes()[:-1])
    epochs_trained.clear()
    with pytest.warns(UserWarning, match=rf"{name}\.npz is damaged"):
        run([config], store)
    assert epochs_trained == [1, 2]


def test_a_result_is_not_kept_under_data_that_changed_meanwhile(store, tmp_path, monkeypatch):
    path = tmp_path / "d.npz"
    path.write_bytes(b"one")
    monkeypatch.setattr(runs_module.data, "load", lambda name, **rest: load("sprites", **rest))
    monkeypatch.setattr(workers, "train", lambda *rest: path.write_bytes(b"two") and train(*rest))
    with pytest.raises(ParameterError, match=r"data changed while it was used, got .*d\.npz"):
        run([Config(**SMALL, data=str(path))], store)
    assert not [file for file in store.files() if file.state == "whole"]


def test_a_worker_of_another_library_refuses_to_train(tmp_path):
    task = workers.Task([Config(**SMALL)], ["k"], "n", {})
    with pytest.raises(StoreError, match="the library was changed while it was running"):
        workers._train(task, [], "cpu", print, tmp_path, None, "another digest")


ASK = """
import os, sys
import numpy as np
from vaenotes import runs, workers
from vaenotes.config import Config
workers.WORTH_PROCESSES = 10**9 if len(sys.argv) == 2 else 0
small = dict(images=128, size=16, hidden=8, epochs=2, batch=64)
found = runs.run([Config(**small, seed=seed) for seed in eval(sys.argv[1])])
print(float(found.kl_nats.sum()))
"""


@pytest.mark.slow
def test_eight_processes_that_want_the_same_train_each_replica_once(store, tmp_path):
    wanted = [
        range(6),
        range(3, 9),
        range(6),
        range(4),
        range(2, 8),
        range(6),
        range(9),
        range(5, 7),
    ]
    used = [tmp_path / f"used{number}" for number in range(8)]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", ASK, repr(seeds)],
            env=os.environ | {"VAENOTES_STORE": str(store.folder), "VAENOTES_USED": str(path)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for seeds, path in zip(wanted, used, strict=True)
    ]
    answers = [process.communicate() for process in processes]
    assert [process.returncode for process in processes] == [0] * 8, answers
    noted = [line.split() for path in used for line in path.read_text().splitlines()]
    assert len([key for how, key in noted if how == "trained"]) == 9
    assert len({key for how, key in noted if how == "trained"}) == 9
    assert len([key for how, key in noted if how == "found"]) == sum(map(len, wanted))
    configs = {seed: Config(**SMALL, seed=seed) for seed in range(9)}
    for seeds, (answer, _) in zip(wanted, answers, strict=True):
        alone = run([configs[seed] for seed in seeds], Store(tmp_path / "alone"))
        assert float(answer) == float(alone.kl_nats.sum())


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="SIGKILL")
def test_who_waits_goes_on_when_the_one_that_trains_is_killed(store, tmp_path):
    """With workers: they end as well, though nobody told them."""
    environment = os.environ | {"VAENOTES_STORE": str(store.folder), "LOKY_MAX_CPU_COUNT": "2"}
    command = [sys.executable, "-c", ASK.replace("epochs=2", "epochs=100"), "range(4)", "workers"]
    first = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    while len(store.unfinished()) < 2:
        assert first.poll() is None
        time.sleep(0.1)
    workers = psutil.Process(first.pid).children(recursive=True)
    for worker in workers:
        worker.suspend()  # or they might be done too early
    second = subprocess.Popen(
        command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert "waiting for another process" in second.stderr.readline()
    first.kill()
    first.wait()
    for worker in workers:
        worker.resume()
    _, alive = psutil.wait_procs(workers, timeout=10)
    assert not alive
    answer, said = second.communicate()
    assert second.returncode == 0 and said.count("going on with 2 replicas after epoch") == 2
    configs = [Config(**SMALL | {"epochs": 100}, seed=seed) for seed in range(4)]
    assert float(answer) == float(run(configs, Store(tmp_path / "alone")).kl_nats.sum())


def test_several_arms_are_the_same_as_each_alone(store, tmp_path):
    arms = {
        "a": [Config(**SMALL, seed=seed) for seed in range(2)],
        "b": [Config(**SMALL | {"epochs": 1}, prior="diagonal")],
    }
    together = run_arms(arms, store)
    for name, configs in arms.items():
        alone = run(configs, Store(tmp_path / name))
        xr.testing.assert_identical(together[name].drop_vars("seconds"), alone.drop_vars("seconds"))


def test_results_do_not_depend_on_how_replicas_are_divided(tmp_path, monkeypatch):
    configs = [Config(**SMALL, seed=seed) for seed in range(5)]
    configs += [Config(**SMALL | {"hidden": 4}, seed=9)]
    cnns = [Config(**SMALL | {"encoder": "cnn"}, seed=seed) for seed in range(2)]
    runs = []
    for together, cores in ((16, 1), (2, 2)):
        monkeypatch.setattr(workers, "TOGETHER", together)
        monkeypatch.setattr(workers, "WORTH_PROCESSES", 0)
        monkeypatch.setattr(workers, "cpu_count", lambda cores=cores: cores)
        runs.append(run(configs, Store(tmp_path / str(together))).drop_vars("seconds"))
        beside = run(cnns, Store(tmp_path / f"cnn {together}")).drop_vars("seconds")
        alone = run(cnns[1:], Store(tmp_path / f"alone {together}")).drop_vars("seconds")
        xr.testing.assert_identical(beside.isel(replica=[1]), alone)
    xr.testing.assert_identical(*runs)


def test_convolutions_of_any_encoder_are_the_same_alone_and_beside_others(tmp_path):
    small = SMALL | {"encoder": "multiscale", "size": 32, "images": 64, "epochs": 1}
    configs = [Config(**small, seed=seed) for seed in range(2)]
    beside = run(configs, Store(tmp_path / "beside")).drop_vars("seconds")
    alone = run(configs[1:], Store(tmp_path / "alone")).drop_vars("seconds")
    xr.testing.assert_identical(beside.isel(replica=[1]), alone)


def test_a_trained_model_comes_back_as_a_plain_module(store):
    config = Config(**SMALL | {"precision": "float32"}, seed=1)
    runs, model = run([config], store), load_model(config, store)
    images = torch.from_numpy(load_data(config).images).flatten(1).float() / 255
    mean, _ = model.encode(images)
    expected = runs.image_posterior_mean.isel(replica=0)
    np.testing.assert_allclose(mean.detach().numpy(), expected, rtol=1e-4, atol=1e-5)


def test_a_model_just_trained_is_the_one_found_later(store):
    """Also its scalars, as the noise of a learned likelihood, and what its regressions predict."""
    config = Config(**SMALL, likelihood="gaussian_learned")
    trained, found = (load_model(config, store).state_dict() for _ in range(2))
    assert trained["noise_logvar"].shape == () and trained.keys() == found.keys()
    assert all(torch.equal(trained[name], found[name]) for name in found)
    raw = torch.from_numpy(load_data(config).factors)
    torch.testing.assert_close(found["factor_mean"], raw.mean(0))
    torch.testing.assert_close(found["factor_std"], raw.std(0, correction=0))


def test_the_number_of_threads_is_left_as_it_was(store):
    before = torch.get_num_threads()
    run([Config(**SMALL)], store)
    assert torch.get_num_threads() == before


def test_a_data_files_content_is_part_of_the_key(tmp_path):
    path = tmp_path / "d.npz"
    keys = set()
    for content in (b"one", b"two"):
        path.write_bytes(content)
        keys.add(runs_module.store_key(Config(data=str(path))))
    path.rename(tmp_path / "e.npz")
    keys.add(runs_module.store_key(Config(data=str(tmp_path / "e.npz"))))
    assert len(keys) == 2


def test_one_replica_has_the_same_axes_as_many(store):
    runs = run([Config(**SMALL)], store)
    assert runs.seed.dims == runs.diverged.dims == runs.ratio.dims[:1] == ("replica",)


def test_bad_requests_are_one_clear_line(store):
    for configs in ([], [Config(**SMALL), Config(**SMALL | {"epochs": 3})]):
        with pytest.raises(ParameterError, match="configs must be one or more that agree in data"):
            run(configs, store)


def test_equal_configurations_have_one_key():
    assert Config(kl_weight=1) == Config(kl_weight=1.0)
    assert runs_module.store_key(Config(kl_weight=1)) == runs_module.store_key(
        Config(kl_weight=1.0)
    )
    listed = Config(edges=[["shape", "scale"]])
    assert listed == Config(edges=(("shape", "scale"),)) and hash(listed)


def test_progress_goes_where_it_is_told(store, monkeypatch, tmp_path):
    monkeypatch.setenv("VAENOTES_PROGRESS", str(tmp_path / "progress"))
    (tmp_path / "progress").touch()
    run([Config(**SMALL)], store)
    shown = (tmp_path / "progress").read_text()
    assert "training 1 replicas: 100%" in shown and "img/s" in shown
    assert "1 of 1 ensembles" in shown


def test_a_replica_that_diverges_is_named(store):
    small = SMALL | {"kl_warmup": 0}
    configs = [Config(**small, seed=0), Config(**small, seed=1, kl_weight=1e38, prior_logvar=-20)]
    with pytest.warns(UserWarning, match=r"seed 1 diverged in epoch 1, step \d+") as caught:
        runs = run(configs, store)
    assert len(caught) == 1
    assert runs.diverged.values.tolist() == [-1, 1]


def test_what_was_trained_and_what_was_found_is_noted(store, monkeypatch, tmp_path):
    configs = [Config(**SMALL, seed=seed) for seed in range(2)]
    run(configs[:1], store)
    monkeypatch.setenv("VAENOTES_USED", str(tmp_path / "used"))
    run(configs, store)
    first, second = (runs_module.store_key(config) for config in configs)
    noted = (tmp_path / "used").read_text().splitlines()
    assert noted == [f"trained {second}", f"found {first}", f"found {second}"]


def test_waiting_for_another_process_is_said(store, monkeypatch, tmp_path):
    monkeypatch.setenv("VAENOTES_PROGRESS", str(tmp_path / "progress"))
    (tmp_path / "progress").touch()
    hold = "import filelock, sys, time; l = filelock.FileLock(sys.argv[1]); l.acquire(); "
    hold += "print('held', flush=True); time.sleep(3)"
    path = str(store.folder / "training.lock")
    with subprocess.Popen([sys.executable, "-c", hold, path], stdout=subprocess.PIPE) as other:
        other.stdout.readline()
        run([Config(**SMALL)], store)
    assert "waiting for another process" in (tmp_path / "progress").read_text()
