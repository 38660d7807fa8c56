import os
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from threading import Thread
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
import torch
import xarray as xr

from vaenotes import trace
from vaenotes.config import Config
from vaenotes.errors import ClusterError, ParameterError
from vaenotes.lab import files, workers
from vaenotes.lab import runs as runs_module
from vaenotes.lab.runs import load_data, load_model, run, run_arms
from vaenotes.lab.store import Store
from vaenotes.training import train

SMALL = {"images": 128, "size": 16, "hidden": 8, "epochs": 2, "batch": 64}


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path)


def test_a_run_has_named_axes(store):
    threads = torch.get_num_threads()
    runs = run([Config(**SMALL, seed=seed) for seed in (4, 2)], store)
    assert torch.get_num_threads() == threads
    assert runs.ratio.dims == ("replica", "epoch", "node", "dim")
    assert runs.image_posterior_mean.dims == ("replica", "image", "node", "dim")
    assert list(runs.node.values) == ["shape", "scale", "orientation", "x", "y"]
    assert list(runs.dim.values) == [1, 2] and list(runs.seed.values) == [4, 2]
    assert runs.knockout_nats.dims == ("replica", "node", "dim")
    assert set(runs.data_vars) == {*trace.QUANTITIES, *trace.FINAL_QUANTITIES}
    assert runs.factors.dims == ("image", "node") and runs.kl_weight.dims == ("replica",)
    assert runs.kl_nats.attrs["units"] == "nats"
    one = run([Config(**SMALL, seed=2)], store)
    assert one.drop_vars("factors").equals(runs.isel(replica=[1]).drop_vars("factors"))


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
    runs_module.run_arms({"one": configs[:1], "other": configs[:1]}, store)
    assert len(trained) == 4


@pytest.fixture
def epochs_trained(monkeypatch):
    """Numbers of the epochs that ensembles were trained in, as they come."""
    numbers = []

    def counting(configs, datasets, on_epoch, *rest):
        def counted(ensemble):
            numbers.append(ensemble.epochs_done)
            on_epoch(ensemble)

        return train(configs, datasets, counted, *rest)

    monkeypatch.setattr(workers, "train", counting)
    return numbers


@pytest.mark.parametrize("writes", range(7))
@pytest.mark.attack("lost")
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

    monkeypatch.setattr(workers, "BETWEEN_CHECKPOINTS", 0)
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
    assert not store.unfinished() and store.prune() == (0, 0)


def test_a_checkpoint_is_left_after_the_first_epoch_and_then_every_few_seconds(
    tmp_path, monkeypatch
):
    saved, save = [], Store.save
    monkeypatch.setattr(Store, "save", lambda *given: saved.append(given[1]) or save(*given))
    for seconds, checkpoints in ((3600, 1), (0, 3)):
        monkeypatch.setattr(workers, "BETWEEN_CHECKPOINTS", seconds)
        saved.clear()
        run([Config(**SMALL | {"epochs": 3})], Store(tmp_path / str(seconds)))
        assert sum(key.startswith("unfinished") for key in saved) == checkpoints


@pytest.mark.attack("lost")
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


@pytest.mark.attack("wrong")
def test_what_is_trained_on_is_what_the_key_names_though_the_file_changes(
    store, tmp_path, monkeypatch
):
    """While it is loaded, and back again; and for good, while it is trained on."""
    path, contents = tmp_path / "d.npz", []
    for seed in range(2):
        classes = np.indices((1, 3, 6, 40, 1, 2)).reshape(6, -1).T
        pictures = np.random.default_rng(seed).integers(0, 2, (len(classes), 64, 64), np.uint8)
        np.savez(path, imgs=pictures, latents_classes=classes)
        contents.append(path.read_bytes())
    config, load_split = Config(**SMALL, data=str(path)), files.data.load_split

    def swapped(*given, **options):
        path.write_bytes(contents[0])
        loaded = load_split(*given, **options)
        path.write_bytes(contents[1])
        return loaded

    expected = runs_module.fetch([config], Store(tmp_path / "expected"))[config].arrays
    files._load_data.cache_clear()
    with monkeypatch.context() as patched:
        table = files.data.DATASETS
        patched.setattr(files, "data", SimpleNamespace(load_split=swapped, DATASETS=table))
        found = run([config], store)
    assert found.kl_nats.values.tobytes() == expected["trace/kl_nats"].tobytes()
    another = replace(config, seed=1)
    expected = runs_module.fetch([another], Store(tmp_path / "expected"))[another].arrays
    monkeypatch.setattr(workers, "train", lambda *r: path.write_bytes(contents[0]) and train(*r))
    found = run([another], store)
    assert found.kl_nats.values.tobytes() == expected["trace/kl_nats"].tobytes()


@pytest.mark.attack("wrong")
def test_a_data_file_is_read_once_a_call(store, tmp_path, monkeypatch):
    classes = np.indices((1, 3, 6, 40, 1, 2)).reshape(6, -1).T
    pictures = np.ones((len(classes), 64, 64), np.uint8)
    np.savez(path := tmp_path / "d.npz", imgs=pictures, latents_classes=classes)
    read, names = files._read, []
    monkeypatch.setattr(files, "_read", lambda name: names.append(name) or read(name))
    some = [Config(**SMALL, data=str(path), seed=seed) for seed in range(3)]
    for _ in range(2):
        run_arms({"one": some[:2], "other": some}, store)
        load_model(some[0], store)
    assert names == [str(path)] * 4


@pytest.fixture
def two_workers(monkeypatch):
    monkeypatch.setattr(workers, "WORTH_PROCESSES", 0)
    monkeypatch.setattr(workers, "cpu_count", lambda: 2)


LONG = [Config(**SMALL | {"epochs": 100}, seed=seed) for seed in range(4)]


def children(process):
    """The processes that train for another."""
    found = psutil.Process(process).children(recursive=True)
    return [child for child in found if "loky.backend.popen" in " ".join(child.cmdline())]


def wait_until(happens, seconds=120):
    end = time.monotonic() + seconds
    while not happens():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def assert_same(found, configs, folder):
    """As of a run that was left alone, in this process."""
    alone = runs_module.fetch(configs, Store(folder))
    for config in configs:
        one, other = found[config].arrays, alone[config].arrays
        assert {name for name in one if one[name].tobytes() != other[name].tobytes()} == set()


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="SIGKILL")
@pytest.mark.attack("lost")
def test_a_worker_that_is_killed_is_one_line_and_the_next_run_goes_on(
    store, tmp_path, monkeypatch, two_workers
):
    monkeypatch.setenv("VAENOTES_PROGRESS", str(tmp_path / "progress"))
    (tmp_path / "progress").touch()

    def kill():
        wait_until(lambda: len(store.unfinished()) == 2)
        children(os.getpid())[0].kill()

    killer = Thread(target=kill)
    killer.start()
    with pytest.raises(ClusterError, match=r"a worker process was killed.* next run goes on"):
        runs_module.fetch(LONG, store)
    killer.join()
    assert not children(os.getpid()) and not list(store.folder.glob("vaenotes-run-*"))
    found = runs_module.fetch(LONG, store)
    assert (tmp_path / "progress").read_text().count("going on with 2 replicas after epoch") == 2
    monkeypatch.setattr(workers, "WORTH_PROCESSES", 10**9)
    assert_same(found, LONG, tmp_path / "alone")


ASK = """
from test_runs import LONG, workers
from vaenotes.lab import runs, store
workers.WORTH_PROCESSES = 0
runs.fetch(LONG, store.Store())
"""


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="SIGKILL")
@pytest.mark.attack("lost")
def test_who_waits_goes_on_when_the_one_that_trains_is_killed(store, tmp_path):
    """Its workers end as well, though nobody told them."""
    environment = os.environ | {"VAENOTES_STORE": str(store.folder), "LOKY_MAX_CPU_COUNT": "2"}
    environment["VAENOTES_PROGRESS"] = ""  # on standard error

    def start():
        command = [sys.executable, "-c", ASK]
        return subprocess.Popen(
            command, cwd=Path(__file__).parent, env=environment, text=True, stderr=subprocess.PIPE
        )

    first = start()
    wait_until(lambda: len(store.unfinished()) == 2)
    trainers = children(first.pid)
    for trainer in trainers:
        trainer.suspend()  # or they might be done too early
    second = start()
    line = second.stderr.readline()
    assert "waiting for another process" in line
    if sys.platform == "linux":
        assert f"(kill -9 {first.pid} ends it" in line
    first.kill()
    first.wait()
    first.stderr.close()
    for trainer in trainers:
        trainer.resume()
    assert len(trainers) == 2 and not psutil.wait_procs(trainers, timeout=10)[1]
    _, said = second.communicate()
    assert second.returncode == 0 and said.count("going on with 2 replicas after epoch") == 2
    assert_same(runs_module.fetch(LONG, store), LONG, tmp_path / "alone")


@pytest.mark.slow
@pytest.mark.attack("wrong")
def test_a_worker_with_other_code_is_refused(store, monkeypatch, two_workers):
    """As if the library had been changed while it ran: workers import it as it is now."""
    monkeypatch.setattr(workers, "behind", lambda: "of before")
    with pytest.raises(ClusterError, match="the run has other code") as caught:
        run(LONG, store)
    assert "\n" not in str(caught.value) and not children(os.getpid())


def test_several_arms_are_the_same_as_each_alone(store, tmp_path):
    arms = {
        "a": [Config(**SMALL, seed=seed) for seed in range(2)],
        "b": [Config(**SMALL | {"epochs": 1}, prior="diagonal")],
    }
    together = run_arms(arms, store)
    for name, configs in arms.items():
        alone = run(configs, Store(tmp_path / name))
        xr.testing.assert_identical(together[name].drop_vars("seconds"), alone.drop_vars("seconds"))


@pytest.mark.slow
@pytest.mark.attack("wrong")
def test_results_do_not_depend_on_how_replicas_are_divided(tmp_path, monkeypatch, two_workers):
    configs = [Config(**SMALL, seed=seed) for seed in range(5)]
    configs += [Config(**SMALL | {"hidden": 4}, seed=9)]
    configs += [Config(**SMALL, encoder="cnn", seed=seed) for seed in range(2)]
    monkeypatch.setattr(workers, "TOGETHER", 2)
    found = runs_module.fetch(configs, Store(tmp_path / "divided"))
    monkeypatch.setattr(workers, "TOGETHER", 16)
    monkeypatch.setattr(workers, "WORTH_PROCESSES", 10**9)
    assert_same(found, configs, tmp_path / "together")
    assert_same(found, configs[-1:], tmp_path / "alone")


def test_large_replicas_are_divided_and_small_ones_are_not(monkeypatch, store):
    sizes = []
    original = workers.train
    monkeypatch.setattr(
        workers, "train", lambda some, *rest: sizes.append(len(some)) or original(some, *rest)
    )
    configs = [Config(**SMALL | {"epochs": 0}, seed=seed) for seed in range(6)]
    run(configs, store)
    monkeypatch.setattr(workers, "ENSEMBLE_BYTES", 25 * 10**6)
    run([replace(config, hidden=200) for config in configs], store)
    assert sizes == [6, 2, 2, 2]


def test_a_trained_model_comes_back_as_a_plain_module(store):
    config = Config(**SMALL | {"precision": "float32"}, seed=1)
    runs, model = run([config], store), load_model(config, store)
    dataset = load_data(config)
    images = torch.from_numpy(dataset.images[dataset.measured_on]).flatten(1).float() / 255
    expected = runs.image_posterior_mean.isel(replica=0)
    mean, _ = model.encode(images[: len(expected)])
    np.testing.assert_allclose(mean.detach().numpy(), expected, rtol=1e-4, atol=1e-5)


def test_a_model_just_trained_is_the_one_found_later(store):
    """Also its scalars, as the noise of a learned likelihood, and what its regressions predict."""
    config = Config(**SMALL, likelihood="gaussian_learned")
    trained, found = (load_model(config, store).state_dict() for _ in range(2))
    assert trained["noise_logvar"].shape == () and trained.keys() == found.keys()
    assert all(torch.equal(trained[name], found[name]) for name in found)
    dataset = load_data(config)
    raw = torch.from_numpy(dataset.factors[dataset.trained_on])
    torch.testing.assert_close(found["factor_mean"], raw.mean(0))
    torch.testing.assert_close(found["factor_std"], raw.std(0, correction=0))


@pytest.mark.attack("wrong")
def test_a_data_files_content_is_part_of_the_key(tmp_path):
    path = tmp_path / "d.npz"
    keys = set()
    for content in (b"one", b"two"):
        path.write_bytes(content)
        keys.add(runs_module.store_key(Config(data=str(path))))
    path.rename(tmp_path / "e.npz")
    keys.add(runs_module.store_key(Config(data=str(tmp_path / "e.npz"))))
    assert len(keys) == 2


@pytest.mark.attack("line")
def test_bad_requests_are_one_clear_line(store):
    for configs in ([], [Config(**SMALL), Config(**SMALL | {"epochs": 3})]):
        with pytest.raises(ParameterError, match="configs must be one or more that agree in data"):
            run(configs, store)


@pytest.mark.attack("wrong")
def test_no_replica_counts_twice(store):
    """Of a seed, the generator of torch's CPU takes 32 bits."""
    both = [Config(**SMALL), Config(**SMALL | {"seed": 1})] * 2
    with pytest.raises(ParameterError, match=r"a replica counts once, got \['seed 0', 'seed 1'\]"):
        run(both, store)
    with pytest.raises(ParameterError, match=r"seed must be an integer in 0..4294967295"):
        Config(seed=2**32)
    generators = [torch.Generator().manual_seed(seed) for seed in (0, 2**32 - 1, 2**32)]
    drawn = [torch.randn(3, generator=generator) for generator in generators]
    assert not drawn[0].equal(drawn[1]) and drawn[0].equal(drawn[2])


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


@pytest.mark.parametrize("name", ["pipe", "", "/dev/full", "nowhere/log"])
@pytest.mark.attack("lost")
def test_no_place_that_cannot_be_written_to_ends_training(name, store, monkeypatch, tmp_path):
    os.mkfifo(tmp_path / "pipe")  # that nobody reads
    monkeypatch.setenv("VAENOTES_PROGRESS", str(tmp_path / name))
    run([Config(**SMALL)], store)


@pytest.mark.parametrize("name", ["pipe", "", "nowhere/used"])
@pytest.mark.attack("line")
def test_what_was_used_is_to_be_noted_or_nothing_is_trained(name, store, monkeypatch, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    monkeypatch.setenv("VAENOTES_USED", str(tmp_path / name))
    with pytest.raises(ParameterError, match=f"VAENOTES_USED must be a file, got '{tmp_path}"):
        run([Config(**SMALL)], store)
    assert not list(store.folder.glob("*.npz"))


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
