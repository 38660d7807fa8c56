import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch

from vaenotes import trace, training
from vaenotes.config import Config
from vaenotes.data.dataset import Pictures, pixels
from vaenotes.data.load import load, load_split
from vaenotes.errors import ParameterError
from vaenotes.model import VAE
from vaenotes.objective import Weights, terms, total
from vaenotes.theory.surgery import surgery

SMALL = {"images": 256, "size": 16, "hidden": 16, "epochs": 2, "batch": 64, "learning_rate": 1e-3}


def train(configs, dataset, **options):
    """All on one data set."""
    return training.train(configs, [dataset] * len(configs), **options)


def Ensemble(configs, dataset):
    return training.Ensemble(configs, [dataset] * len(configs))


@pytest.fixture(scope="module")
def dataset():
    return load("sprites", images=256, size=16)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"encoder": "cnn", "epochs": 1, "kl_warmup": 0, "hidden": 4},
        {"likelihood": "gaussian_learned", "noise_logvar": -1.0, "decoder_start": "uniform"},
        {"prior_rate": 3.0, "posterior_rate": 0.1, "kl_warmup": 2, "epochs": 3},
        {"targets": "standard", "kl_warmup": 0, "noise_inputs": 3, "graph_hidden": 7},
    ],
)
def test_an_ensemble_does_what_a_plain_loop_over_one_module_does(dataset, options):
    small = SMALL | options
    configs = [
        Config(**small, seed=seed, kl_weight=0.1 * seed, supervision_weight=0.05 * seed)
        for seed in (1, 2, 3)
    ]
    results = train(configs, dataset)
    for config, result in zip(configs, results, strict=True):
        generator = torch.Generator().manual_seed(config.seed)
        model = VAE(config, dataset).initialise(generator)
        parts = {
            "prior": config.prior_rate,
            "encoder": config.posterior_rate,
            "posterior_network": config.posterior_rate,
        }
        optimizer = torch.optim.Adam(
            {"params": [p], "lr": config.learning_rate * parts.get(name.split(".")[0], 1.0)}
            for name, p in model.named_parameters()
        )
        images = pixels(torch.from_numpy(dataset.images).flatten(1))
        standard = torch.from_numpy(dataset.standard_factors)
        asked = standard if config.targets == "standard" else torch.from_numpy(dataset.factors)
        for epoch in range(1, config.epochs + 1):
            kl_weight = config.kl_weight if epoch > config.kl_warmup else 0.0
            for chosen in torch.randperm(256, generator=generator).split(config.batch):
                drawn = torch.randn(config.batch, 5, config.noise_inputs + 2, generator=generator)
                noise, z0 = drawn[..., :-2], drawn[..., -2:]
                output = model(images[chosen], standard[chosen], noise, z0)
                found = terms(model, output, images[chosen], standard[chosen])
                found = found._replace(squared_error=(asked[chosen] - output.predicted) ** 2)
                loss = total(found, Weights(0.8, kl_weight, config.supervision_weight))
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        for name, value in model.state_dict().items():
            np.testing.assert_allclose(result.weights[name], value.numpy(), atol=2e-4, rtol=2e-3)


def different(one, other):
    """The names of what is not the same to the last bit in two results."""
    return [
        name
        for a, b in ((one.weights, other.weights), (one.trace, other.trace))
        for name in a.keys() | b.keys()
        if not np.array_equal(a[name], b[name], equal_nan=True)
    ]


@pytest.mark.parametrize(
    "options",
    [
        {"precision": "bfloat16"},
        {"dims": 3, "shared": False, "prior": "cholesky", "likelihood": "gaussian_learned"},
        {"prior": "diagonal", "batch": 32},
    ],
)
def test_a_replica_is_bit_identical_alone_and_beside_any_others(dataset, options):
    def config(seed):
        return Config(**SMALL | options, seed=seed)

    (alone,) = train([config(7)], dataset)
    for seeds in ([1, 7, 2], [9, *range(20, 25), 7, 8]):
        together = train([config(seed) for seed in seeds], dataset)[seeds.index(7)]
        assert not different(alone, together), seeds


@pytest.mark.parametrize(
    "options",
    [
        {"prior": "matched", "posterior_rate": 0.0, "regauge": (2.0, 0.5)},
        {"encoder": "cnn", "hidden": 4, "precision": "bfloat16", "batch": 128},
        {"repeats": 2, "kl_warmup": 1, "prior": "cholesky", "likelihood": "gaussian_learned"},
    ],
)
def test_a_recorded_step_changes_no_bit(dataset, monkeypatch, options):
    configs = [Config(**SMALL | options, seed=seed) for seed in range(2)]
    monkeypatch.setattr(training, "WORTH_RECORDING", 10**9)
    plain = train(configs, dataset)
    monkeypatch.setattr(training, "WORTH_RECORDING", 0)
    for one, other in zip(plain, train(configs, dataset), strict=True):
        assert not different(one, other)


@pytest.mark.parametrize(
    "options",
    [
        {"precision": "bfloat16", "decay": True, "epoch_steps": 9},
        {"prior": "matched", "posterior_rate": 0.0, "regauge": (2.0, 0.5)},
        {"prior": "cholesky", "swapped": True},
        {"repeats": 2, "kl_warmup": 2},
        {"learning_rate": 1e4},
    ],
)
def test_taken_up_after_any_epoch_it_ends_in_the_same_bits(dataset, options):
    """By some of the replicas, in another order; the others may have been stored already."""
    configs = [Config(**SMALL | {"epochs": 3} | options, seed=seed) for seed in range(3)]
    kept = []
    whole = train(configs, dataset, on_epoch=lambda ensemble: kept.append(ensemble.checkpoint()))
    assert [checkpoint.epoch for checkpoint in kept] == [1, 2, 3]
    assert (whole[0].diverged is not None) == ("learning_rate" in options)
    for checkpoint in (kept[0], kept[0], kept[2]):  # a checkpoint can be used again
        epochs = []
        resumed = train(
            [configs[2], configs[0]],
            dataset,
            on_epoch=lambda ensemble, epochs=epochs: epochs.append(ensemble.epochs_done),
            checkpoint=checkpoint.of([2, 0]),
        )
        assert epochs == list(range(checkpoint.epoch + 1, 4))
        for result, place in zip(resumed, (2, 0), strict=True):
            assert not different(result, whole[place])
            assert result.diverged == whole[place].diverged
            assert result.seconds > checkpoint.seconds / 3


def test_pictures_made_when_asked_for_train_to_the_same_bits(dataset):
    """Also beside another data set, made or held."""
    rows = np.random.default_rng(0).permutation(256)
    made = replace(dataset, images=Pictures(np.argsort(rows), dataset.images[rows].__getitem__, 16))
    other = load("sprites", images=256, size=16, seed=1)
    configs = [Config(**SMALL, seed=seed) for seed in range(2)]
    held = training.train(configs, [dataset, other])
    for datasets in ([made, other], [made, replace(other, images=other.images[:])]):
        for one, two in zip(held, training.train(configs, datasets), strict=True):
            assert not different(one, two)
    alone = training.train(configs, [made, made])
    assert not different(alone[0], held[0]) and different(alone[1], held[1])


def shown(config, dataset, epochs=2):
    """The images that a replica sees in each epoch, (step, image) each."""
    ensemble, found = Ensemble([config], dataset), []
    fine = torch.ones(1, dtype=bool)
    ensemble.step = lambda chosen, _: found[-1].append(chosen[0].numpy()) or fine
    for number in range(1, epochs + 1):
        found.append([])
        ensemble.epoch(number)
    return [np.array(epoch) for epoch in found]


@pytest.mark.parametrize(("repeats", "steps"), [(3, None), (3, 20), (2, 5)])
def test_repeated_batches_come_in_blocks_in_one_order_in_every_epoch(dataset, repeats, steps):
    config = Config(**SMALL, repeats=repeats, epoch_steps=steps)
    first, second = shown(config, dataset)
    block = [np.arange(64 * place, 64 * place + 64) for place in range(4) for _ in range(repeats)]
    expected = np.array(2 * block)[: steps or 12]
    assert np.array_equal(first, expected) and np.array_equal(second, expected)
    other = shown(replace(config, seed=1), dataset, epochs=1)[0]
    assert np.array_equal(other, expected)  # whatever the seed


def test_passes_of_one_epoch_are_shuffled_each_and_show_every_image_once(dataset):
    """A last batch that would be short is left out of each, as its images are in the next."""
    config = Config(**SMALL | {"batch": 100}, epoch_steps=5)
    first, second = shown(config, dataset)
    assert first.shape == second.shape == (5, 100)
    passes = [epoch[start : start + 2] for epoch in (first, second) for start in (0, 2)]
    for one in passes:  # two of the 256 images' batches, and the first of a third pass
        assert len(np.unique(one)) == 200
    assert len({one.tobytes() for one in passes}) == 4
    assert not np.array_equal(shown(replace(config, seed=1), dataset)[0], first)
    short = shown(replace(config, epoch_steps=1), dataset, epochs=1)[0]
    assert np.array_equal(short, first[:1])  # a short epoch is the start of a long one


@pytest.mark.parametrize("warmup", [0, 2])
def test_while_the_kl_does_not_count_the_prior_stays_as_it_starts(dataset, monkeypatch, warmup):
    """And the posterior learns without it, also where its step is recorded. Of two weights of the
    KL, also where one is 0."""
    monkeypatch.setattr(training, "WORTH_RECORDING", 0)
    weights = (0.15, 0.0, 0.6)
    configs = [Config(**SMALL | {"epochs": 3}, kl_weight=w, kl_warmup=warmup) for w in weights]
    ensemble = Ensemble(configs, dataset)
    before = {name: value.detach().clone() for name, value in ensemble.parameters.items()}
    for number in (1, 2, 3):
        ensemble.epoch(number)
        own = ensemble.parameters
        for name, start in before.items():
            for replica, weight in enumerate(weights):
                stays = name.startswith("prior.") and (number <= warmup or weight == 0)
                same = torch.equal(own[name][replica], start[replica])
                if stays or not name.startswith("regression"):  # no term asks for those
                    assert same == stays, (name, number, weight)
        encoder = own["encoder.stages.0.0.weight"]
        assert torch.equal(encoder[0], encoder[2]) == (number <= warmup)


def test_a_batch_shown_again_is_encoded_with_other_noise(dataset):
    """The images repeat, the noise does not: two steps on one batch are not two equal steps."""
    ensemble = Ensemble([Config(**SMALL, repeats=2)], dataset)
    drawn, draw = [], ensemble.draw
    ensemble.draw = lambda *rest: drawn.append(draw(*rest)) or drawn[-1]
    ensemble.epoch(1)
    assert len(drawn) == 8
    assert drawn[0][0].shape == (1, 64, 5, 9) and drawn[0][1].shape == (1, 64, 5, 2)
    for part in range(2):
        assert len({noise[part].numpy().tobytes() for noise in drawn}) == 8


def test_a_replica_that_diverges_is_named_and_the_others_go_on(dataset):
    small = SMALL | {"kl_warmup": 0}
    calm, wild = Config(**small, seed=0), Config(**small, seed=1, kl_weight=1e38, prior_logvar=-20)
    results = train([calm, wild], dataset)
    assert results[0].diverged is None
    assert results[1].diverged is not None and results[1].diverged[0] == 1
    assert np.isfinite(results[0].trace["kl_nats"]).all()
    assert np.isnan(results[1].trace["kl_nats"][1:]).all()
    (alone,) = train([calm], dataset)
    assert np.array_equal(alone.weights["decoder.0.weight"], results[0].weights["decoder.0.weight"])


def test_harm_done_by_the_very_last_step_is_noticed(dataset):
    config = Config(**SMALL | {"epochs": 1, "batch": 256, "learning_rate": 1e30})
    (result,) = train([config], dataset)
    assert result.diverged == (1, 0)


def test_graphs_and_weights_may_differ_within_an_ensemble(dataset):
    configs = [Config(**SMALL, edges=()), Config(**SMALL), Config(**SMALL, prior_logvar=-3.0)]
    together = train(configs, dataset)
    for config, result in zip(configs, together, strict=True):
        (alone,) = train([config], dataset)
        assert np.array_equal(alone.trace["prior_variance"], result.trace["prior_variance"])
    first = [result.trace["prior_variance"][0] for result in together]
    assert not np.array_equal(first[0], first[1])
    np.testing.assert_allclose(first[2], np.exp(-3) * first[1], rtol=1e-5)


def test_a_swapped_replica_mirrors_its_twin(dataset):
    twin, swapped = train([Config(**SMALL), Config(**SMALL, swapped=True)], dataset)
    for name in ("ratio", "kl_nats", "posterior_mean", "prior_variance", "knockout_nats"):
        np.testing.assert_allclose(
            swapped.trace[name], twin.trace[name][..., ::-1], rtol=1e-3, atol=1e-4
        )


def test_units_change_at_the_start_or_halfway_and_nothing_else(dataset):
    """And a start in other units that is changed back goes on as one in the first."""
    units, back = (3.0, 0.2), (1 / 3, 5.0)
    twin, regauged, other, returned = train(
        [
            Config(**SMALL),
            Config(**SMALL, regauge=units),
            Config(**SMALL, units=units),
            Config(**SMALL, units=units, regauge=back),
        ],
        dataset,
    )
    for name in ("ratio", "kl_nats", "reconstruction_nats"):
        plain, same = twin.trace[name], regauged.trace[name]
        np.testing.assert_allclose(same[:2], plain[:2], rtol=1e-4)
        np.testing.assert_allclose(other.trace[name][0], plain[0], rtol=1e-4)
        for changed in (same, other.trace[name]):
            assert not np.allclose(changed[2], plain[2], rtol=1e-4)
    for name in ("posterior_variance", "prior_variance"):
        for one, reference, epoch in (
            (regauged, twin, 1),
            (other, twin, 0),
            (other, returned, 1),
        ):
            expected = reference.trace[name][epoch] * np.array([9.0, 0.04])
            np.testing.assert_allclose(one.trace[name][epoch], expected, rtol=1e-5)


def test_the_optimisers_running_means_change_units_too(dataset):
    ensemble = Ensemble([Config(**SMALL), Config(**SMALL, regauge=(3.0, 0.2))], dataset)
    ensemble.epoch(1)

    def moments():
        found = {
            k: m.clone() for k, n, m in ensemble.optimizer.moments() if n == "decoder.0.weight"
        }
        return found["exp_avg"], found["exp_avg_sq"]

    before = moments()
    ensemble.regauge()
    scale = torch.tensor([3.0, 0.2]).repeat(5)[:, None]
    for power, old, new in zip((1, 2), before, moments(), strict=True):
        torch.testing.assert_close(new[0], old[0])
        torch.testing.assert_close(new[1], old[1] * scale**power)


def test_a_decaying_rate_falls_to_zero_along_a_straight_line(dataset):
    ensemble = Ensemble([Config(**SMALL, decay=True, prior_rate=2.0)], dataset)
    rates = []
    step = ensemble.step

    def recorded(chosen, weights):
        rates.append([group["lr"] for group in ensemble.optimizer.optimizer.param_groups])
        return step(chosen, weights)

    ensemble.step = recorded
    ensemble.epoch(1)
    ensemble.epoch(2)
    left = 1 - np.arange(8) / 8  # two epochs of four steps
    np.testing.assert_allclose(np.sort(rates), 1e-3 * left[:, None] * [1.0, 2.0])


def test_what_may_differ_within_an_ensemble_changes_no_bit_of_the_others():
    """Rates, warm-ups, targets, starts; and how many images there are, and in which order."""
    changes = [
        {},
        {"learning_rate": 3e-3, "prior_rate": 10.0},
        {"posterior_rate": 0.0, "kl_warmup": 0},
        {"targets": "standard", "supervision_weight": 1.0},
        {"decoder_start": "uniform", "prior_rate": 10.0},
        {"images": 1600, "epoch_steps": 4},
        {"repeats": 2, "epoch_steps": 4},
    ]
    base = SMALL | {"images": 1024, "batch": 256}
    configs = [Config(**base | change, seed=3) for change in changes]
    datasets = [load_split("sprites", config.images, size=16) for config in configs]
    together = training.train(configs, datasets)
    for config, dataset, result in zip(configs, datasets, together, strict=True):
        (alone,) = training.train([config], [dataset])
        assert not different(alone, result), config


def test_replicas_of_another_batch_key_are_not_trained_together(dataset):
    with pytest.raises(ParameterError, match=r"must be of one kind, and differ only in .*, got 2"):
        Ensemble([Config(**SMALL), Config(**SMALL | {"hidden": 8})], dataset)
    data = [load(name, images=128, size=20) for name in ("manifold_2", "linear_3")]
    configs = [Config(data=d.name, **SMALL | {"images": 128, "size": 20}) for d in data]
    with pytest.raises(ParameterError, match=r"must be of one kind, and differ only in .*, got 2"):
        training.train(configs, data)


def test_what_is_measured_at_the_end_agrees_with_other_routes(dataset):
    """Knock-outs and forces by plain recomputation on the trained module, in float64."""
    config = Config(**SMALL, supervision_weight=0.05)
    (result,) = train([config], dataset)
    model = VAE(config, dataset)
    model.load_state_dict({n: torch.as_tensor(v) for n, v in result.weights.items()})
    model.double()
    images = pixels(torch.from_numpy(dataset.images).flatten(1)).double()
    raw = torch.from_numpy(dataset.factors).double()
    factors = (raw - raw.mean(0)) / raw.std(0, correction=0)
    generator = torch.Generator().manual_seed(trace.EVALUATION_SEED + config.seed)
    noise, z0 = torch.randn((256, 5, 9 + 2), generator=generator).double().split([9, 2], -1)
    weights = Weights(0.8, 0.0, 0.05)

    def loss_at(
        shift, sign=1
    ):  # the loss but for the KL, if log s of node 1, dim 0 were larger by this
        output = model(images, factors, noise, z0)
        wider = z0 * sign
        wider[:, 1, 0] *= np.exp(shift)
        z = output.posterior.mean + torch.exp(output.posterior.logvar / 2) * wider
        read = output._replace(z=z, decoded=model.decode(z), predicted=model.regress(z))
        return total(terms(model, read, images, factors), weights).item(), read

    draws = (1, -1)  # a draw, and its mirror image about the mean
    slope = sum(loss_at(1e-3, s)[0] - loss_at(-1e-3, s)[0] for s in draws) / 4e-3
    assert result.trace["noise_force"][1, 0] == pytest.approx(slope, rel=1e-3, abs=1e-4)
    _, output = loss_at(0.0)
    z = output.z.clone()
    z[:, 2, 1] = output.posterior.mean[:, 2, 1].mean()
    read = output._replace(z=z, decoded=model.decode(z), predicted=model.regress(z))
    full, fixed = (terms(model, out, images, factors) for out in (output, read))
    lost = (fixed.reconstruction_nats - full.reconstruction_nats).mean().item()
    assert result.trace["knockout_nats"][2, 1] == pytest.approx(lost, abs=1e-3)
    error = (fixed.squared_error - full.squared_error).mean(0)[2] / raw[:, 2].var(correction=0)
    assert result.trace["knockout_r2"][2, 1] == pytest.approx(error.item(), abs=1e-4)
    unexplained = (raw - output.predicted).square().mean(0) / raw.var(0, correction=0)
    np.testing.assert_allclose(result.trace["r2"][-1], 1 - unexplained.detach(), atol=1e-4)
    squared = (2 * (output.posterior.logvar - output.prior.logvar) / 2).exp().mean(0)
    np.testing.assert_allclose(result.trace["squared_ratio"], squared.detach(), rtol=1e-4)
    of_dims = surgery(output.posterior, output.prior, torch.Generator().manual_seed(1))
    information, error = (part.detach().numpy() for part in of_dims.dim_mutual_information)
    assert (abs(result.trace["information_nats"] - information) < 5 * error + 1e-3).all()


def test_what_is_held_out_is_measured_on_and_not_trained_on(dataset):
    """Other images held out: another measurement of the same training. Other images in training:
    another training."""
    first = replace(dataset, held_out=64)
    swapped = replace(first, images=np.concatenate([dataset.images[:192], dataset.images[:64]]))
    config = Config(**SMALL | {"images": 192})
    (one,), (other,) = train([config], first), train([config], swapped)
    assert all((one.weights[name] == other.weights[name]).all() for name in one.weights)
    for name in trace.FINAL_QUANTITIES | trace.QUANTITIES:
        of_training = name in ("noise_force", "squared_ratio") or name.startswith("training")
        blind = name.startswith(("prior", "image_prior"))  # that of the notes
        same = np.array_equal(one.trace[name], other.trace[name])
        assert same == (of_training or blind), name
    trained = np.concatenate([dataset.images[64:128], dataset.images[64:]])
    (third,) = train([config], replace(first, images=trained))
    assert any((one.weights[name] != third.weights[name]).any() for name in one.weights)


def test_training_learns(dataset):
    config = Config(**SMALL | {"epochs": 10, "learning_rate": 1e-2})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (result,) = train([config], dataset)
    nats = result.trace["reconstruction_nats"]
    assert nats[-1] < 0.5 * nats[0]


def test_the_trace_has_the_axes_that_its_table_states(dataset):
    (result,) = train([Config(**SMALL | {"prior": "diagonal", "dims": 3})], dataset)
    sizes = {"node": 5, "dim": 3, "quantile": len(trace.QUANTILES)}
    sizes |= {"image": 256, "followed": trace.FOLLOWED_IMAGES}
    for table, leading in ((trace.QUANTITIES, [3]), (trace.FINAL_QUANTITIES, [])):
        for name, quantity in table.items():
            expected = (*leading, *(sizes[axis] for axis in quantity.axes))
            assert result.trace[name].shape == expected, name


def test_the_trace_measures_what_its_table_says(dataset):
    """Recomputed from the images' own codes with numpy, by other formulas."""
    (result,) = train([Config(**SMALL)], dataset)
    t = result.trace
    mean, variance = t["image_posterior_mean"], np.exp(t["image_posterior_logvar"])
    prior_mean, prior_variance = t["image_prior_mean"], np.exp(t["image_prior_logvar"])
    close = {"rtol": 1e-4, "atol": 1e-6}
    np.testing.assert_allclose(t["posterior_variance"][-1], variance.mean(0), **close)
    np.testing.assert_allclose(t["prior_variance"][-1], prior_variance.mean(0), **close)
    np.testing.assert_allclose(t["posterior_spread"][-1], mean.std(0), **close)
    np.testing.assert_allclose(t["prior_mean"][-1], prior_mean.mean(0), **close)
    np.testing.assert_allclose(t["posterior_quantiles"][-1, 0], mean.min(0), **close)
    np.testing.assert_allclose(t["posterior_quantiles"][-1, -1], mean.max(0), **close)
    levels = (0, 0.07, 0.16, 0.31, 0.5, 0.69, 0.84, 0.93, 1)  # of 256 images: the nearest ranks
    for name, of in (
        ("posterior", mean),
        ("prior", prior_mean),
        ("posterior_std", np.sqrt(variance)),
        ("prior_std", np.sqrt(prior_variance)),
    ):
        expected = np.quantile(of, levels, axis=0, method="nearest")
        np.testing.assert_allclose(t[f"{name}_quantiles"][-1], expected, **close)
    ratio = np.exp(np.log(np.sqrt(variance / prior_variance)).mean(0))
    np.testing.assert_allclose(t["ratio"][-1], ratio, **close)
    kl = 0.5 * (
        np.log(prior_variance / variance)
        + (variance + (mean - prior_mean) ** 2) / prior_variance
        - 1
    )
    np.testing.assert_allclose(t["kl_nats"][-1], kl.mean(0), **close)
    followed = slice(trace.FOLLOWED_IMAGES)
    np.testing.assert_array_equal(t["followed_posterior_mean"][-1], mean[followed])
    np.testing.assert_array_equal(np.exp(t["followed_posterior_logvar"][-1]), variance[followed])
    parts = t["kl_variance_nats"] + t["kl_mean_nats"] + t["kl_offset_nats"]
    np.testing.assert_allclose(parts, t["kl_nats"], **close)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")
def test_a_gpu_trains_the_same_replicas(dataset):
    (host,) = train([Config(**SMALL)], dataset)
    (gpu,) = train([Config(**SMALL)], dataset, device="cuda")
    np.testing.assert_allclose(gpu.trace["kl_nats"], host.trace["kl_nats"], rtol=1e-2, atol=1e-3)


@pytest.mark.attack("wrong")
def test_what_a_configuration_says_of_its_data_is_true(dataset):
    """What has run is named by its configuration, in results and in the store."""
    for changes, words in (
        ({"images": 128}, "a data set must have images=128 to train on, got 256"),
        ({"size": 32}, r"a data set must have images of size=32, got \(16, 16\)"),
    ):
        with pytest.raises(ParameterError, match=words):
            train([Config(**SMALL | changes)], dataset)
    light = dataset.images.astype(np.float32)
    for images, got in ((light, r"0\.0, 255\.0"), (light / 127.5 - 1, r"-1\.0, 1\.0")):
        other = replace(dataset, images=images)
        rule = rf"must be in 0\.\.1 where likelihood is bernoulli, got \({got}\)"
        with pytest.raises(ParameterError, match=rule):
            train([Config(**SMALL)], other)
        train([Config(**SMALL | {"epochs": 0}, likelihood="gaussian")], other)
    train([Config(**SMALL | {"epochs": 0})], replace(dataset, images=light / 255))
    with pytest.raises(ParameterError, match=r"datasets must be one for each config, .*, got 0"):
        training.train([], [])


@pytest.mark.attack("wrong")
def test_pictures_of_0_and_1_are_not_taken_for_black_ones(dataset):
    binary = dataset.images > 100
    with pytest.raises(
        ParameterError, match=r"in 0\.\.255 \(those in 0\.\.1 are float32\), got 'no more"
    ):
        replace(dataset, images=binary.astype(np.uint8))
    turned = replace(dataset, images=255 * binary.astype(np.uint8)[:, ::-1, ::-1])  # a view
    light = replace(dataset, images=binary[:, ::-1, ::-1].astype(np.float32))
    (one,), (other,) = (train([Config(**SMALL)], data) for data in (turned, light))
    assert not different(one, other)


@pytest.mark.attack("wrong")
@pytest.mark.parametrize("name", ["images", "factors"])
def test_a_mask_is_refused_as_training_would_not_see_it(dataset, name):
    masked = np.ma.masked_less(getattr(dataset, name), 1)
    with pytest.raises(ParameterError, match=f"{name} must have no mask"):
        replace(dataset, **{name: masked})
