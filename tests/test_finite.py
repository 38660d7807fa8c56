"""Numbers stay finite, or the replica is said to have diverged: extreme rates, weights, starts and
data. What is NaN by definition is so in trace.UNDEFINED_IF_CONSTANT alone."""

import warnings

import numpy as np
import pytest
from synthetic import FIRST, make_runs

from vaenotes import trace, training
from vaenotes.config import Config
from vaenotes.data.dataset import Dataset
from vaenotes.data.load import load
from vaenotes.lab import measures, runs, summary
from vaenotes.lab.store import Store
from vaenotes.report import known

SMALL = {"images": 256, "hidden": 8, "epochs": 2, "batch": 64, "seed": 3}
SPRITES = load("sprites", images=256, size=16)
LEARNED = {"likelihood": "gaussian_learned"}


def like_sprites(images=SPRITES.images, factors=SPRITES.factors):
    return Dataset("sprites", images, factors, SPRITES.factor_names, SPRITES.edges)


def with_constant(place: int) -> np.ndarray:
    factors = SPRITES.factors.copy()
    factors[:, place] = 0.7
    return factors


def measured(changes, dataset, store, monkeypatch):
    """The runs of one configuration, and what was said."""
    monkeypatch.setattr(runs, "shared_data", lambda config, files: dataset)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        found = runs.run([Config(**SMALL | changes)], store)
        for name in measures.MEASURES:
            interval = measures.median_of(name, found)
            assert np.isfinite(interval).all() == (interval.replicas > 0), name
            assert interval.replicas <= (found.diverged.item() < 0), name
    return found, [str(warning.message) for warning in said]


# What is asked for, and the (epoch, step) at which its numbers stop being finite, or None.
EXTREME = {
    "rate 3e38": ({"learning_rate": 3e38}, (1, 1)),
    "KL weight 1e25: Adam's squares": ({"kl_weight": 1e25, "kl_warmup": 0}, (1, 0)),
    "KL weight 1e38 from the second epoch on": ({"kl_weight": 1e38}, (2, 0)),
    "supervision weight 1e38": ({"supervision_weight": 1e38}, (1, 0)),
    "posterior e-1000": ({"posterior_logvar": -1000.0}, None),
    "prior e-1000": ({"prior_logvar": -1000.0}, (0, 0)),
    "noise e-100, learned": (LEARNED | {"noise_logvar": -100.0}, (0, 0)),
    "units 1e-30 and 1e30": ({"units": (1e-30, 1e30)}, (0, 0)),
    "nothing trained": ({"epochs": 0}, None),
    "closed form, no spread": ({"prior": "matched", "posterior_logvar": -1000.0}, None),
}


@pytest.mark.parametrize(("changes", "diverged"), EXTREME.values(), ids=EXTREME)
def test_an_extreme_replica_is_finite_or_said_to_diverge(changes, diverged, tmp_path, monkeypatch):
    found, said = measured(changes, SPRITES, Store(tmp_path), monkeypatch)
    if diverged is None:
        assert found.diverged.item() == -1 and not any("diverged" in line for line in said)
        assert all(np.isfinite(values).all() for values in found.data_vars.values())
        return
    assert (found.diverged.item(), found.diverged_step.item()) == diverged
    (line,) = [line for line in said if "diverged" in line]
    assert line.startswith("replica with seed 3 diverged in epoch {}, step {}:".format(*diverged))
    assert summary.counts(found)["diverged"] == 1
    weights = runs.load_model(Config(**SMALL | changes), Store(tmp_path)).parameters()
    assert all(weight.isnan().all() for weight in weights)


def test_nothing_is_said_where_nothing_is_wrong(tmp_path, monkeypatch):
    found, said = measured({}, SPRITES, Store(tmp_path), monkeypatch)
    assert said == [] and found.sizes["epoch"] == 3


CONSTANT = {
    "all black": (like_sprites(np.zeros_like(SPRITES.images)), ()),
    "a constant factor": (like_sprites(factors=with_constant(1)), (1,)),
    "one image": (
        like_sprites(SPRITES.images[:1].repeat(256, 0), SPRITES.factors[:1].repeat(256, 0)),
        range(5),
    ),
}


@pytest.mark.parametrize(("dataset", "constant"), CONSTANT.values(), ids=CONSTANT)
@pytest.mark.parametrize("prior", ["exogenous", "matched"])
def test_r2_of_a_constant_factor_is_nan_and_all_else_is_finite(
    dataset, constant, prior, tmp_path, monkeypatch
):
    found, said = measured({"prior": prior}, dataset, Store(tmp_path), monkeypatch)
    assert found.diverged.item() == -1 and not any("diverged" in line for line in said)
    unknown = np.isin(np.arange(5), list(constant))
    for name, values in found.data_vars.items():
        if name in trace.UNDEFINED_IF_CONSTANT:
            axes = [axis for axis in values.dims if axis != "node"]
            assert (values.isnull().all(axes) == unknown).all(), name
            assert (values.isnull().any(axes) == unknown).all(), name
        else:
            assert np.isfinite(values).all(), name
    means = {**trace.QUANTITIES, **trace.FINAL_QUANTITIES}
    assert all("NaN" in means[name].meaning for name in trace.UNDEFINED_IF_CONSTANT)


def test_what_the_end_alone_measures_is_finite_too(monkeypatch):
    measure = trace.measure_training

    def overflowing(model, *rest):
        found = measure(model, *rest)
        return found | {"noise_force": found["noise_force"] / 0}

    monkeypatch.setattr(trace, "measure_training", overflowing)
    (result,) = training.train([Config(**SMALL)], [SPRITES])
    assert result.diverged == (2, 3)


def test_who_diverged_is_said_of_what_is_found_in_the_store_as_well(tmp_path):
    """Of arms that share a seed, each."""
    configs = [Config(**SMALL, learning_rate=rate) for rate in (1e30, 1e31)]
    for _ in range(2):
        with pytest.warns(UserWarning, match="seed 3 diverged in epoch 1, step 1") as caught:
            runs.run(configs, Store(tmp_path))
        for warning, rate in zip(caught, ("1e+30", "1e+31"), strict=True):
            assert f"learning_rate={rate}" in str(warning.message)


def half_diverged():
    """Two replicas, of which the second diverged."""
    found = make_runs([FIRST, FIRST])
    found.diverged[1] = 2
    for name in ("ratio", "kl_nats", "posterior_variance", "prior_variance"):
        found[name][1] = np.nan
    return found


@pytest.mark.parametrize("name", measures.PAIRED)
def test_a_diverged_replica_is_nobodys_twin(name):
    found = half_diverged()
    assert measures.paired(name, found, found).replicas == 1
    gone = found.isel(replica=[1])
    assert measures.paired(name, gone, gone).replicas == 0


def test_a_diverged_replica_does_not_count_as_one_without_dims_in_use():
    found = {"columns_1": half_diverged().isel(replica=[1, 0])}
    expected, used = known.expected_and_used(found)
    assert expected.tolist() == [1] and used.tolist() == [2]
    assert known.dims_table(found, "columns")["exactly so"].tolist() == ["0 of 1"]
