import subprocess
import sys

import numpy as np
import pytest
import torch
import xarray as xr

from vaenotes import runs as runs_module
from vaenotes import trace
from vaenotes.config import Config
from vaenotes.errors import ParameterError
from vaenotes.runs import load_data, load_model, run, run_arms
from vaenotes.store import Store

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
    original = runs_module.train

    def counting(configs, *rest):
        trained.extend(config.seed for config in configs)
        return original(configs, *rest)

    monkeypatch.setattr(runs_module, "train", counting)
    configs = [Config(**SMALL, seed=seed) for seed in range(4)]
    first = run(configs[:3], store)
    again = run(configs, store)
    assert sorted(trained) == [0, 1, 2, 3]
    xr.testing.assert_identical(
        first.drop_vars("seconds"), again.isel(replica=slice(3)).drop_vars("seconds")
    )
    run([configs[0], configs[0]], store)
    assert len(trained) == 4


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
    runs = []
    for together, workers in ((16, 1), (2, 2)):
        monkeypatch.setattr(runs_module, "TOGETHER", together)
        monkeypatch.setattr(runs_module, "WORTH_PROCESSES", 0)
        monkeypatch.setattr(runs_module, "cpu_count", lambda workers=workers: workers)
        runs.append(run(configs, Store(tmp_path / str(together))).drop_vars("seconds"))
    xr.testing.assert_identical(*runs)


def test_a_trained_model_comes_back_as_a_plain_module(store):
    config = Config(**SMALL | {"precision": "float32"}, seed=1)
    runs, model = run([config], store), load_model(config, store)
    images = torch.from_numpy(load_data(config).images).flatten(1).float() / 255
    mean, _ = model.encode(images)
    expected = runs.image_posterior_mean.isel(replica=0)
    np.testing.assert_allclose(mean.detach().numpy(), expected, rtol=1e-4, atol=1e-5)


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
    configs = [Config(**SMALL, seed=0), Config(**SMALL, seed=1, kl_weight=1e38, prior_logvar=-20)]
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
    path = str(store.lock().lock_file)
    with subprocess.Popen([sys.executable, "-c", hold, path], stdout=subprocess.PIPE) as other:
        other.stdout.readline()
        run([Config(**SMALL)], store)
    assert "waiting for another process" in (tmp_path / "progress").read_text()
