"""The linear VAE's closed forms against PCA as scikit-learn has it, autograd and plain sums."""

import math

import numpy as np
import pytest
import torch
from made_up import blank
from scipy import stats

from vaenotes.config import Config
from vaenotes.kl import Diagonal, Full
from vaenotes.model import VAE
from vaenotes.objective import Weights, terms, total
from vaenotes.theory.ppca import (
    exact_terms,
    install,
    optimum,
    relative_spectrum,
    solution,
    spectrum,
)

DIMS = 4
ROTATION = stats.ortho_group(DIMS, seed=5).rvs()


@pytest.fixture(scope="module")
def x():
    """200 images of 9 pixels with a falling spectrum, off centre."""
    rng = np.random.default_rng(0)
    return rng.standard_normal((200, 9)) @ np.diag(np.linspace(2, 0.3, 9)) + rng.uniform(size=9)


def linear_vae(prior, pixels=9, noise=1.0, likelihood="gaussian"):
    config = Config(dims=DIMS, prior=prior, encoder="linear", likelihood=likelihood)
    model = VAE(config, blank(("code",), pixels)).double()
    with torch.no_grad():
        model.noise_logvar.fill_(math.log(noise))
    return model


def test_log_likelihood_is_that_of_the_gaussian_it_stands_for(x):
    values, vectors = spectrum(x)
    for noise in (0.5, None):
        found = optimum(values, DIMS, noise)
        explained = np.r_[np.maximum(values[:DIMS], found.noise), np.full(5, found.noise)]
        model = stats.multivariate_normal(x.mean(0), vectors @ np.diag(explained) @ vectors.T)
        assert found.log_likelihood == pytest.approx(model.logpdf(x).mean(), abs=1e-10)


@pytest.mark.parametrize("noise", [0.05, 0.8, 20.0])
@pytest.mark.parametrize(
    "prior, rotation", [("diagonal", None), ("cholesky", None), ("cholesky", ROTATION)]
)
def test_every_solution_reaches_the_likelihood_and_is_a_stationary_point(x, noise, prior, rotation):
    """Any units of the code, and for a full covariance any rotation; also where dims are unused."""
    std = np.array([0.3, 1.0, 2.0, 0.01])
    model = install(linear_vae(prior, noise=noise), x, solution(x, noise, std, rotation))
    nats, kl = exact_terms(model, torch.from_numpy(x))
    best = optimum(spectrum(x)[0], DIMS, noise)
    assert -(nats + kl.sum()).item() == pytest.approx(best.log_likelihood, abs=1e-10)
    (nats + kl.sum()).backward()
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            assert parameter.grad.abs().max() < 1e-8 * max(1, 1 / std.min()), name


@pytest.mark.attack("wrong")
def test_eigenvalues_may_be_in_any_order():
    values = np.array([0.087, 3.85, 9.51, 0.268, 2.23, 0.976])
    found, best = optimum(values, 3), optimum(np.sort(values)[::-1], 3)
    assert found.log_likelihood == best.log_likelihood and (found.ratio == best.ratio).all()
    assert best.noise == pytest.approx(np.sort(values)[:3].mean())
    assert best.ratio == pytest.approx((best.noise / np.array([9.51, 3.85, 2.23])) ** 0.5)


def test_best_noise_is_a_stationary_point_too(x):
    best = optimum(spectrum(x)[0], DIMS)
    model = linear_vae("standard", noise=best.noise, likelihood="gaussian_learned")
    install(model, x, solution(x, best.noise, best.ratio))  # prior std 1
    nats, kl = exact_terms(model, torch.from_numpy(x))
    assert -(nats + kl.sum()).item() == pytest.approx(best.log_likelihood, abs=1e-10)
    np.testing.assert_allclose(kl.detach().numpy()[0], best.kl_nats, atol=1e-12)
    nats.backward()
    assert model.noise_logvar.grad.abs() < 1e-10


def test_autograd_finds_no_better_optimum(x):
    """L-BFGS from random weights, on the exact loss in float64."""
    noise, kl_weight = 0.4, 0.3
    model = linear_vae("cholesky", noise=noise).initialise(torch.Generator().manual_seed(1))
    images = torch.from_numpy(x)
    optimizer = torch.optim.LBFGS(
        model.parameters(), max_iter=500, tolerance_change=1e-11,
        line_search_fn="strong_wolfe",
    )  # fmt: skip

    def closure():
        optimizer.zero_grad()
        nats, kl = exact_terms(model, images)
        loss = nats + kl_weight * kl.sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    best = optimum(spectrum(x)[0], DIMS, noise, kl_weight)
    nats, kl = exact_terms(model, images)
    # at another weight: the squares of the model with kl_weight * noise, its volume added
    squares = (nats - 9 / 2 * math.log(2 * math.pi * noise)) / kl_weight
    volume = 9 / 2 * math.log(2 * math.pi * kl_weight * noise)
    elbo = -(squares + kl.sum() + volume).item()
    assert elbo == pytest.approx(best.log_likelihood, abs=1e-7)
    posterior = model.encode(images)
    std = torch.exp(0.5 * posterior.logvar[0]).detach().numpy()
    p = model.prior(torch.zeros(200, 1, DIMS), images[:, :1], posterior.mean)
    found = relative_spectrum(std, type(p)(*(part.detach() for part in p)))
    np.testing.assert_allclose(found, best.ratio**2, atol=2e-4)


def test_exact_terms_are_the_mean_over_samples(x):
    model = linear_vae("diagonal", noise=0.5).initialise(torch.Generator().manual_seed(2))
    images = torch.from_numpy(x)
    exact = sum(part.sum() for part in exact_terms(model, images)).item()
    generator = torch.Generator().manual_seed(3)
    losses = []
    for _ in range(100):
        z0 = torch.randn(200, 1, DIMS, generator=generator).double()
        output = model(images, images[:, :1], torch.zeros_like(z0), z0)
        found = terms(model, output, images, images[:, :1])
        losses.append(total(found, Weights(1.0, 1.0, 0.0)).item())
    error = np.std(losses) / math.sqrt(len(losses))
    assert abs(np.mean(losses) - exact) < 4 * error


def test_a_dim_is_used_where_its_eigenvalue_exceeds_the_noise():
    eigenvalues = np.array([4.0, 2.0, 1.0, 0.5])
    for noise, used in ((3.0, 1), (1.5, 2), (0.6, 3), (5.0, 0)):
        for kl_weight in (1.0, 0.5):
            found = optimum(eigenvalues, 4, noise / kl_weight, kl_weight)
            assert (found.ratio < 1).sum() == used
            np.testing.assert_allclose(found.kl_nats, -np.log(found.ratio))


def test_relative_spectrum_of_a_diagonal_prior_is_the_squared_ratio():
    std = np.array([0.1, 2.0, 0.5])
    prior = Diagonal(torch.zeros(1, 3), torch.tensor([[0.2, 0.1, -1.0]]))
    expected = np.sort(std**2 / np.exp([0.2, 0.1, -1.0]))
    np.testing.assert_allclose(relative_spectrum(std, prior), expected, rtol=1e-6)
    full = Full(prior.mean, torch.diag_embed(torch.exp(0.5 * prior.logvar)).squeeze(0))
    np.testing.assert_allclose(relative_spectrum(std, full), expected, rtol=1e-6)
