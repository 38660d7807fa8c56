"""The checks' declarations, and what is computed of their runs, against plain routes."""

import math

import numpy as np
import pytest
import torch

from vaenotes.data.load import load
from vaenotes.errors import ParameterError
from vaenotes.lab.runs import load_model
from vaenotes.priors import PRIORS
from vaenotes.report import checks
from vaenotes.report.checks import check_configs, check_runs
from vaenotes.report.settings import PROFILES, Settings
from vaenotes.theory import ppca

TINY = Settings(profile="quick", seeds=2, epochs=1)


@pytest.mark.parametrize("name", checks.checks())
def test_every_check_is_a_set_of_valid_configurations_on_data_that_are_there(name):
    configs = check_configs(TINY, name)
    assert [config.seed for config in configs] == [0, 1]
    config, check = configs[0], checks.checks()[name]
    assert config.epochs == check.rounds
    dataset = load(config.data, images=config.images, size=config.size)
    latent = config.dims * len(dataset.factor_names)
    assert check.dims is None or check.dims <= latent
    if name.startswith(("rank", "manifold")) and "seen" not in name:
        rank = int(config.data.split("_")[1])
        assert check.dims in (None, min(rank, latent))
    # the true ELBO, whatever the profile's weights
    assert (config.reconstruction_weight, config.kl_weight, config.supervision_weight) == (1, 1, 0)
    assert config.kl_warmup == 0


def test_titles_are_all_different():
    titles = [check.title for check in checks.checks().values()]
    assert len(set(titles)) == len(titles)


def test_profiles_scale_seeds_and_epochs():
    for profile in ("quick", "book", "full"):
        of = PROFILES[profile]
        whole = check_configs(Settings(profile=profile), "digits_diagonal")
        half = check_configs(Settings(profile=profile, first_seed=5), "rank_3_12_20_diagonal")
        assert len(whole) == of.seeds and len(half) == math.ceil(of.seeds / 2)
        assert whole[0].epochs == 6 * of.epochs and half[0].seed == 5


def test_the_noise_lies_between_neighbouring_eigenvalues():
    values = checks.digit_eigenvalues()
    for name, check in checks.checks().items():
        if name.startswith("columns"):
            noise = math.exp(check.changes["noise_logvar"])
            assert (values > noise).sum() == check.dims
            ratio = ppca.optimum(values, checks.COLUMNS, noise).ratio
            assert (ratio < check.below).sum() == check.dims


def test_an_unknown_check_is_one_clear_line():
    with pytest.raises(ParameterError, match=r"check must be one of digits_standard, .* got 'x'"):
        check_configs(TINY, "x")


@pytest.fixture(scope="module")
def runs():
    return check_runs(TINY, ["digits_diagonal", "digits_cholesky", "columns_2", "manifold_10_seen"])


def test_shortfall_is_the_gap_of_a_sampled_elbo(runs):
    """Against many samples of the loss's own terms, by torch.distributions."""
    x = torch.from_numpy(checks.digits()).double()
    best = ppca.optimum(checks.digit_eigenvalues(), 5).log_likelihood
    short, errors = [], []
    for config in check_configs(TINY, "digits_diagonal"):
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
    found = checks.shortfall(TINY, "digits_diagonal")
    assert abs(found.value - np.median(short)) < 5 * max(errors)
    assert found.replicas == 2 and found.low < found.high
    (row,) = checks.shortfall_table({"digits_diagonal": found}).to_dict("records")
    assert row["nats short (median)"] == f"{found.value:.3f}" and row["replicas"] == 2


def test_relative_spectra_of_a_diagonal_prior_are_the_squared_ratios(runs):
    spectra = checks.relative_spectra(check_configs(TINY, "digits_diagonal"))
    own = np.sort(runs["digits_diagonal"].ratio.isel(epoch=-1).values.reshape(2, 5) ** 2)
    np.testing.assert_allclose(spectra, own, rtol=1e-5)
    full = checks.relative_spectra(check_configs(TINY, "digits_cholesky"))
    assert full.shape == (2, 5) and (np.diff(full) >= 0).all()


def test_counts_and_tables_show_what_is_in_the_runs(runs):
    found = {name: runs[name] for name in ("columns_2", "manifold_10_seen")}
    found["columns_2"].ratio[:, -1] = 1.0
    found["columns_2"].ratio[0, -1, 0, :2] = 0.5
    found["manifold_10_seen"].ratio[:, -1] = 0.6
    found["manifold_10_seen"].ratio[:, -1, :, 3] = 0.4
    expected, used = checks.expected_and_used(found)
    assert expected.tolist() == [2, 2, 5, 5] and used.tolist() == [2, 0, 5, 5]
    table = checks.dims_table(found)
    assert table["exactly so"].tolist() == ["1 of 2", "2 of 2"]
    assert table["median"].tolist() == ["1", "5"]
    formula, measured = checks.columns_by_formula({"columns_2": found["columns_2"]})
    assert measured.tolist() == [0.5, 0.5, *[1] * 14]
    noise = math.exp(checks.checks()["columns_2"].changes["noise_logvar"])
    ratios = np.sqrt(np.minimum(1, noise / checks.digit_eigenvalues()[:8]))
    np.testing.assert_allclose(formula, np.tile(np.sort(ratios), 2))


def test_the_priors_of_the_checks_are_those_that_their_titles_name():
    for name, check in checks.checks().items():
        assert check.changes["prior"] in PRIORS
        if name.startswith("rank") and name.endswith(("standard", "diagonal")):
            assert ("fixed" in check.title) == (check.changes["prior"] == "standard")
