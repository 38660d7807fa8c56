"""Whatever is passed to pages and runs ends in a valid run, or in one short line that names the
parameter, its value and what is allowed, before anything is trained."""

import os
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_up import ANYTHING, Mute, drawn, names, one_bad, refusal, some
from test_bad_config import FIELDS, made_up_digits  # noqa: F401

import vaenotes as vn
from vaenotes import report, trace
from vaenotes.config import Config
from vaenotes.data.load import load
from vaenotes.errors import ParameterError
from vaenotes.lab import runs, workers
from vaenotes.lab.store import Store
from vaenotes.model import VAE
from vaenotes.priors import PRIORS
from vaenotes.report.page import PLAIN, check_parameters

HUGE = st.sampled_from([10**6, 10**7, 10**9, 10**12, 2**62, 2**63 - 1])
PARAMETERS = {
    "profile": st.sampled_from(list(report.PROFILES)),
    "data": st.sampled_from(list(vn.DATASETS)),
    "prior": st.sampled_from(list(PRIORS)),
    "seeds": st.none() | st.integers(1, 40),
    "first_seed": st.integers(0, 2**31 - 1),
    "epochs": st.none() | st.integers(1, 100),
}


@pytest.fixture
def no_training(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Store:
    monkeypatch.setattr(workers, "progress", lambda *_: pytest.fail("training has begun"))
    monkeypatch.setenv("VAENOTES_PROGRESS", str(tmp_path / "progress"))
    (tmp_path / "progress").touch()
    return Store(tmp_path / "store")


def before_training(configs: list[Config], store: Store) -> str | None:
    """What `run` refuses configurations with; it must not get as far as training them."""
    try:
        return refusal(runs.run, configs, store)
    except pytest.fail.Exception:
        return None


@given(some({n: s for n, s in FIELDS.items() if n not in ("images", "batch")}, HUGE))
@drawn(80)
def test_what_a_run_refuses_it_refuses_before_training(
    no_training: Store, arguments: dict[str, Any]
) -> None:
    try:
        config = Config(images=64, batch=64, **arguments)
    except ParameterError:
        return
    line = before_training([config], no_training)
    if line is None:  # so the replica can be built, weights and all
        dataset = runs.load_data(config)
        model = VAE(config, dataset)
        assert model.node_shape == (len(dataset.factor_names), config.dims)
    else:
        # a size that nobody gave may not suit a data set that was
        assert any(names(line, name) for name in [*arguments, "size", "name"]), line


@given(one_bad(PARAMETERS, ANYTHING))
@drawn(200)
def test_a_bad_parameter_of_a_page_is_named(argument: tuple[str, Any]) -> None:
    name, value = argument
    assert names(refusal(report.Settings, **{name: value}), name)


@given(
    st.dictionaries(
        st.sampled_from([*PARAMETERS, "sed", "epoch", "Any", "_x", "get_ipython", "a\nb" * 999])
        | st.text(min_size=1),
        ANYTHING,
        max_size=3,
    )
)
@drawn(200)
def test_a_notebooks_names_are_settings_or_refused(namespace: dict[str, Any]) -> None:
    if callable(namespace.get("get_ipython")):  # no parameter: papermill passes no functions
        del namespace["get_ipython"]
    line = refusal(check_parameters, namespace)
    strange = [
        name
        for name, value in namespace.items()
        if isinstance(value, PLAIN) and name not in (*PARAMETERS, "In", "Out") and name[0] != "_"
    ]
    assert line is not None or not strange


CODES = {
    "posterior_mean": st.just(np.zeros((4, 2))),
    "posterior_std": st.sampled_from([1, 0.5, np.ones(2), np.ones((4, 2))]),
    "prior_mean": st.sampled_from([0.0, np.zeros(2), np.zeros((4, 2))]),
    "prior_std": st.sampled_from([1.0, np.ones(2)]),
    "weights": st.sampled_from([np.ones(4), np.ones((4, 2), bool)]),
    "groups": st.sampled_from([1, (1,)]),
    "compared": st.integers(2, 9),
    "seed": st.integers(0, 9),
}


@given(one_bad(CODES, ANYTHING))
@drawn(300)
@pytest.mark.attack("line")
def test_a_bad_argument_of_a_diagnosis_is_named(argument: tuple[str, Any]) -> None:
    name, value = argument
    codes = {"posterior_mean": np.arange(8.0).reshape(4, 2), "posterior_std": 1.0}
    prior = {"prior_mean": 0.0, "prior_std": 1.0}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        line = refusal(vn.diagnose, **codes | prior | {name: value})
    assert names(line, name, f"{name}:", "prior_mean" if name == "prior_std" else name), line


@pytest.mark.parametrize(
    ("call", "value", "words"),
    [
        (lambda v: report.Settings(seeds=v), 10**5000, "seeds.* must .* a value of type int"),
        (lambda v: report.Settings(data=v), "/x" * 5000 + ".npz", "data must be one of .*npz'$"),
        (lambda v: report.Settings(data=v), "linear_3", "data must be one of sprites"),
        (lambda v: report.Settings(prior=v), np.array(["diagonal"]), "prior must"),
        (lambda v: report.Settings(profile=v), Mute(), "profile must .* a value of type Mute"),
    ],
    ids=range(5),
)
@pytest.mark.attack("line")
def test_what_chance_seldom_draws(call: Callable[[Any], Any], value: Any, words: str) -> None:
    line = refusal(call, value)
    assert line and re.search(words, line), line


@pytest.mark.parametrize("prior", [name for name, prior in PRIORS.items() if not prior.OWN_UNITS])
def test_units_can_change_halfway_whatever_the_prior(prior: str, tmp_path: Path) -> None:
    small = Config(images=64, size=8, hidden=4, batch=64, epochs=1, prior=prior, regauge=(2, 0.5))
    assert runs.run([small], Store(tmp_path)).diverged.item() == -1


# ---- files ----


def dsprites_file(path: Path) -> str:
    """A legal file of 24 rows in dSprites' format."""
    classes = np.indices((1, 1, 1, 2, 3, 4)).reshape(6, -1).T.astype(np.int64)
    np.savez(path, imgs=np.ones((24, 64, 64), np.uint8), latents_classes=classes)
    return str(path)


@pytest.mark.attack("line")
def test_an_unreadable_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = dsprites_file(tmp_path / "secret.npz")

    system_open = open

    def refuse(name: Any, *rest: Any, **named: Any) -> Any:  # as the system does, but for root
        if name == path:
            raise PermissionError(13, "Permission denied")
        return system_open(name, *rest, **named)

    monkeypatch.setattr("builtins.open", refuse)
    monkeypatch.setattr("io.open", refuse)
    lines = [refusal(report.Settings, data=path), refusal(load, path, images=4)]
    lines.append(refusal(runs.store_key, Config(data=path)))
    monkeypatch.undo()
    assert all(line and "secret.npz" in line for line in lines)


def test_a_relative_path_is_kept_as_an_absolute_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dsprites_file(tmp_path / "mine.npz")
    monkeypatch.chdir(tmp_path)
    relative = check_parameters({"data": "mine.npz"})
    monkeypatch.chdir("/")  # as pages do, which are executed elsewhere
    assert relative.data == str(tmp_path / "mine.npz") and report.Settings(data=relative.data)
    assert report.arm(relative)[0].data == relative.data


# ---- valid runs ----

train_as_ever = workers.train

EXTREME = {
    "reconstruction_weight": st.sampled_from([0.0, 0.8, 1e-30, 1e30]),
    "kl_weight": st.sampled_from([0.0, 0.15, 1e6, 3e38]),
    "kl_warmup": st.sampled_from([0, 1]),
    "supervision_weight": st.sampled_from([0.0, 1.0, 1e30]),
    "learning_rate": st.sampled_from([0.0, 8e-3, 1.0, 1e6, 3e38]),
    "prior_rate": st.sampled_from([0.0, 1.0, 1e6]),
    "posterior_rate": st.sampled_from([0.0, 1.0, 1e6]),
    "posterior_logvar": st.sampled_from([0.0, -100.0, 100.0, -1e30]),
    "prior_logvar": st.sampled_from([0.0, -100.0, 100.0, 1e38]),
    "noise_logvar": st.sampled_from([0.0, -100.0, 100.0]),
    "data": st.sampled_from(["sprites", "sprites", "mnist5k", "digits", "linear_3", "optdigits"]),
    "size": st.sampled_from([8, 16, 32]),
    "edges": st.sampled_from([None, None, (), (("shape", "y"), ("x", "y"))]),
    "hidden": st.integers(1, 4),
    "dims": st.integers(1, 3),
    "epochs": st.integers(0, 2),
    "seed": st.sampled_from([0, 2**32 - 1]),
    "units": st.sampled_from([(), (), (1e-37, 1e37), (2.0,)]),
    "regauge": st.sampled_from([(), (), (1e-18, 1e18), (0.5,)]),
}


@pytest.mark.slow
@given(st.fixed_dictionaries({}, optional=FIELDS | EXTREME))
@drawn(25)
def test_a_valid_configuration_trains_and_stays_finite_or_says_so(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path_factory: pytest.TempPathFactory,
    arguments: dict[str, Any],
) -> None:
    def train(*rest: Any) -> Any:
        try:
            return train_as_ever(*rest)
        except ParameterError as error:
            raise AssertionError("refused when training had begun") from error

    monkeypatch.setattr(workers, "train", train)
    monkeypatch.setenv("VAENOTES_PROGRESS", os.devnull)
    arguments = {"size": 8, "hidden": 4, "epochs": 1} | arguments | {"images": 64, "batch": 32}
    store = Store(tmp_path_factory.getbasetemp() / "valid")
    found = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        line = refusal(lambda: found.append(runs.run([Config(**arguments)], store)))
    if line is not None:
        assert names(line, *arguments), line
    elif found[0].diverged.item() >= 0:
        assert any("diverged" in str(warning.message) for warning in caught)
    else:
        for name in trace.QUANTITIES:
            if name != "r2":  # of a factor that is constant over the images
                assert np.isfinite(found[0][name]).all(), name
