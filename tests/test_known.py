"""The arms whose answer is known, and what is computed of their runs, against plain routes."""

import math

import numpy as np
import pytest
import torch

from vaenotes.data.load import load
from vaenotes.lab.runs import load_model
from vaenotes.report import known
from vaenotes.report.known import arms, configs
from vaenotes.report.settings import PROFILES, Settings
from vaenotes.theory import ppca

TINY = Settings(profile="quick", seeds=2, epochs=1)


@pytest.mark.parametrize("name", arms())
def test_an_arm_trains_the_true_elbo_on_data_of_the_dimension_that_it_states(name):
    config, arm = configs(TINY, name)[0], arms()[name]
    dataset = load(config.data, images=config.images, size=config.size)
    kind, rank, *_ = (*config.data.split("_"), "")
    if kind in ("linear", "manifold") and arm.dims is not None and "seen" not in name:
        assert arm.dims == min(int(rank), config.dims * len(dataset.factor_names))
    assert (config.reconstruction_weight, config.kl_weight, config.supervision_weight) == (1, 1, 0)
    assert config.kl_warmup == 0 and config.epochs == arm.rounds
    assert [one.title for one in arms().values()].count(arm.title) == 1


def test_the_profile_gives_seeds_and_epochs():
    book = Settings(first_seed=5)
    seeds = PROFILES["book"].seeds
    assert len(configs(book, "digits_diagonal")) == seeds
    assert len(configs(book, "rank_3_small")) == math.ceil(seeds / 2)
    assert configs(book, "rank_3_small")[0].seed == 5


def test_the_noise_lies_between_neighbouring_eigenvalues():
    values = known.digit_eigenvalues()
    for name in (name for name in arms() if name.startswith("columns")):
        noise = math.exp(arms()[name].changes["noise_logvar"])
        ratio = ppca.optimum(values, known.COLUMNS, noise).ratio
        assert (values > noise).sum() == (ratio < arms()[name].below).sum() == arms()[name].dims


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VAENOTES_STORE", str(tmp_path_factory.mktemp("store")))
        names = ["digits_diagonal", "digits_cholesky", "columns_2", "manifold_10_seen"]
        yield known.run(TINY, names)


def test_shortfall_is_the_gap_of_a_sampled_elbo(runs):
    """Against many samples of the loss's own terms, by torch.distributions."""
    x = torch.from_numpy(known.digits()).double()
    best = ppca.optimum(known.digit_eigenvalues(), 5).log_likelihood
    short, errors = [], []
    for config in configs(TINY, "digits_diagonal"):
        model = load_model(config).double()
        normal = torch.distributions.Normal
        with torch.no_grad():
            q = model.encode(x)
            posterior = normal(q.mean, torch.exp(q.logvar / 2))
            prior = normal(model.prior.mean, torch.exp(model.prior.logvar / 2))
            z = posterior.sample((20,))
            pixel = normal(model.decode(z), torch.exp(model.noise_logvar / 2))
            kl = torch.distributions.kl_divergence(posterior, prior).sum((-2, -1))
            elbos = (pixel.log_prob(x).sum(-1) - kl).mean(1)
        short.append(best - elbos.mean().item())
        errors.append(elbos.std().item() / math.sqrt(20))
    found = known.shortfall(TINY, "digits_diagonal")
    assert abs(found.value - np.median(short)) < 5 * max(errors)
    assert found.replicas == 2 and found.low < found.high


def test_relative_spectra_of_a_diagonal_prior_are_the_squared_ratios(runs):
    spectra = known.relative_spectra(configs(TINY, "digits_diagonal"))
    own = np.sort(runs["digits_diagonal"].ratio.isel(epoch=-1).values.reshape(2, 5) ** 2)
    np.testing.assert_allclose(spectra, own, rtol=1e-5)


def test_dims_in_use_are_counted_in_every_replica_that_did_not_diverge(runs):
    found = {name: runs[name].copy(deep=True) for name in ("columns_2", "manifold_10_seen")}
    found["columns_2"].ratio[:, -1] = 1.0
    found["columns_2"].ratio[0, -1, 0, :2] = 0.5
    found["manifold_10_seen"].ratio[:, -1] = 0.6
    found["manifold_10_seen"].ratio[:, -1, :, 3] = 0.4
    found["manifold_10_seen"].diverged[1] = 1
    expected, used = known.expected_and_used(found)
    assert expected.tolist() == [2, 2, 5] and used.tolist() == [2, 0, 5]
    formula, measured = known.columns_by_formula({"columns_2": found["columns_2"]})
    assert measured.tolist() == [0.5, 0.5, *[1] * 14]
    noise = math.exp(arms()["columns_2"].changes["noise_logvar"])
    ratios = np.sqrt(np.minimum(1, noise / known.digit_eigenvalues()[:8]))
    np.testing.assert_allclose(formula, np.tile(np.sort(ratios), 2))
