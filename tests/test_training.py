import warnings

import numpy as np
import pytest
import torch

from vaenotes import trace
from vaenotes.config import Config
from vaenotes.data import load
from vaenotes.objective import Weights, terms, total
from vaenotes.training import Ensemble, build, pixels, train

SMALL = {"images": 256, "size": 16, "hidden": 16, "epochs": 2, "precision": "float32"}


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def dataset():
    return load("sprites", images=256, size=16)


@pytest.mark.parametrize("encoder", ["mlp", "cnn"])
def test_an_ensemble_does_what_a_plain_loop_over_one_module_does(dataset, encoder):
    small = SMALL | {"encoder": encoder}
    configs = [Config(**small, seed=seed, kl_weight=0.1 * seed) for seed in (1, 2, 3)]
    results = train(configs, dataset)
    for config, result in zip(configs, results, strict=True):
        generator = torch.Generator().manual_seed(config.seed)
        model = build(config, dataset).initialise(generator)
        optimizer = torch.optim.Adam(model.parameters(), lr=config.learning_rate)
        images = pixels(torch.from_numpy(dataset.images).flatten(1))
        factors = torch.from_numpy(dataset.standard_factors)
        for _ in range(config.epochs):
            for chosen in torch.randperm(256, generator=generator).split(config.batch):
                noise, z0 = torch.randn(2, config.batch, 5, 2, generator=generator)
                output = model(images[chosen], factors[chosen], noise, z0)
                weights = Weights(0.8, config.kl_weight, 1.0)
                loss = total(terms(model, output, images[chosen], factors[chosen]), weights)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        for name, value in model.state_dict().items():
            np.testing.assert_allclose(result.weights[name], value.numpy(), atol=2e-4, rtol=2e-3)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"dims": 3, "shared": False, "prior": "cholesky", "likelihood": "gaussian_learned"},
        {"prior": "diagonal", "batch": 32},
    ],
)
def test_a_replica_is_bit_identical_alone_and_in_any_company(dataset, precision, options):
    def config(seed):
        return Config(**SMALL | {"precision": precision} | options, seed=seed)

    (alone,) = train([config(7)], dataset)
    for seeds in ([1, 7, 2], [9, *range(20, 30), 7, 8]):
        together = train([config(seed) for seed in seeds], dataset)[seeds.index(7)]
        for name in alone.weights:
            assert np.array_equal(alone.weights[name], together.weights[name]), (seeds, name)
        for name in alone.trace:
            assert np.array_equal(alone.trace[name], together.trace[name]), (seeds, name)


def test_seeds_differ_from_the_first_step(dataset):
    first, second = train([Config(**SMALL, seed=0), Config(**SMALL, seed=1)], dataset)
    assert not np.array_equal(first.trace["ratio"][0], second.trace["ratio"][0])


def test_a_replica_that_diverges_is_named_and_the_others_go_on(dataset):
    calm, wild = Config(**SMALL, seed=0), Config(**SMALL, seed=1, kl_weight=1e38)
    with pytest.warns(UserWarning, match=r"seed 1 diverged in epoch 1, step \d+") as caught:
        results = train([calm, wild], dataset)
    assert len(caught) == 1
    assert results[0].diverged is None
    assert results[1].diverged is not None and results[1].diverged[0] == 1
    assert np.isfinite(results[0].trace["kl_nats"]).all()
    assert np.isnan(results[1].trace["kl_nats"][1:]).all()
    (alone,) = train([calm], dataset)
    assert np.array_equal(alone.weights["decoder.0.weight"], results[0].weights["decoder.0.weight"])


def test_harm_done_by_the_very_last_step_is_noticed(dataset):
    config = Config(**SMALL | {"epochs": 1, "batch": 256}, learning_rate=1e30)
    with pytest.warns(UserWarning, match="seed 0 diverged in epoch 1, step 0"):
        (result,) = train([config], dataset)
    assert result.diverged == (1, 0)


def test_only_what_may_differ_may_differ(dataset):
    with pytest.raises(ValueError, match="may differ only in"):
        Ensemble([Config(**SMALL), Config(**SMALL | {"hidden": 8})], dataset)


def test_graphs_and_weights_may_differ_within_an_ensemble(dataset):
    configs = [Config(**SMALL, edges=()), Config(**SMALL), Config(**SMALL, prior_logvar=-3.0)]
    together = train(configs, dataset)
    for config, result in zip(configs, together, strict=True):
        (alone,) = train([config], dataset)
        assert np.array_equal(alone.trace["prior_variance"], result.trace["prior_variance"])
    first = [result.trace["prior_variance"][0] for result in together]
    assert not np.array_equal(first[0], first[1])
    np.testing.assert_allclose(first[2], np.exp(-3) * first[1], rtol=1e-5)


def test_training_learns(dataset):
    config = Config(**SMALL | {"epochs": 30, "learning_rate": 3e-3})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (result,) = train([config], dataset)
    nats = result.trace["reconstruction_nats"]
    assert nats[-1] < 0.5 * nats[0]


def test_the_trace_has_the_axes_that_its_table_states(dataset):
    (result,) = train([Config(**SMALL | {"prior": "diagonal", "dims": 3})], dataset)
    sizes = {"node": 5, "dim": 3, "quantile": len(trace.QUANTILES), "image": 256}
    for table, leading in (
        (trace.QUANTITIES, 3),
        (trace.SNAPSHOT_QUANTITIES, len(trace.snapshot_epochs(2))),
    ):
        for name, quantity in table.items():
            expected = (leading, *(sizes[axis] for axis in quantity.axes))
            assert result.trace[name].shape == expected, name


def test_the_trace_measures_what_its_table_says(dataset):
    """Recomputed from the snapshots with numpy, by other formulas."""
    (result,) = train([Config(**SMALL)], dataset)
    t = result.trace
    mean, variance = t["image_posterior_mean"][-1], np.exp(t["image_posterior_logvar"][-1])
    prior_mean, prior_variance = t["image_prior_mean"][-1], np.exp(t["image_prior_logvar"][-1])
    close = {"rtol": 1e-4, "atol": 1e-6}
    np.testing.assert_allclose(t["posterior_variance"][-1], variance.mean(0), **close)
    np.testing.assert_allclose(t["prior_variance"][-1], prior_variance.mean(0), **close)
    np.testing.assert_allclose(t["posterior_spread"][-1], mean.std(0), **close)
    np.testing.assert_allclose(t["prior_mean"][-1], prior_mean.mean(0), **close)
    np.testing.assert_allclose(t["posterior_quantiles"][-1, 0], mean.min(0), **close)
    np.testing.assert_allclose(t["posterior_quantiles"][-1, -1], mean.max(0), **close)
    ratio = np.exp(np.log(np.sqrt(variance / prior_variance)).mean(0))
    np.testing.assert_allclose(t["ratio"][-1], ratio, **close)
    kl = 0.5 * (
        np.log(prior_variance / variance)
        + (variance + (mean - prior_mean) ** 2) / prior_variance
        - 1
    )
    np.testing.assert_allclose(t["kl_nats"][-1], kl.mean(0), **close)
    parts = t["kl_variance_nats"] + t["kl_mean_nats"] + t["kl_offset_nats"]
    np.testing.assert_allclose(parts, t["kl_nats"], **close)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")
def test_a_gpu_trains_the_same_replicas(dataset):
    (host,) = train([Config(**SMALL)], dataset)
    (gpu,) = train([Config(**SMALL)], dataset, device="cuda")
    np.testing.assert_allclose(gpu.trace["kl_nats"], host.trace["kl_nats"], rtol=1e-2, atol=1e-3)
