"""The equation of state: what the shared bias of a log-variance feels, and where it is at rest."""

import math

import numpy as np
import pytest
import torch
from test_gauge import EDGES, inputs, loss_terms, make
from test_ppca import linear_vae

from vaenotes import trace
from vaenotes.objective import Weights, total
from vaenotes.theory import supervised_std
from vaenotes.theory.ppca import exact_terms, install, optimum, solution, spectrum

WEIGHTS = Weights(0.8, 0.15, 0.05)
BLIND = ("exogenous", "shuffled", "nodes", "factors", "diagonal", "variance", "standard")
"""Priors that do not see the code, dim by dim."""


def imbalance(model):
    """Push of the data terms less that of the KL, (node, dim), and the loss: both of the draws and
    of their mirror images about the posterior's mean."""
    images, factors, noise, z0 = inputs()
    output = model(images, factors, noise, z0)
    found = trace.measure_training(model, output, images, factors, WEIGHTS)
    halves = [loss_terms(model, images, factors, noise, sign * z0) for sign in (1, -1)]
    whole = sum(total(half, WEIGHTS) for half in halves) / 2
    return found["noise_force"] - WEIGHTS.kl * (1 - found["squared_ratio"]), whole


@pytest.mark.parametrize("prior", BLIND)
def test_the_shared_bias_feels_both_sides_of_the_law_summed_over_nodes(prior):
    apart, whole = imbalance(model := make(prior))
    (slope,) = torch.autograd.grad(whole, model.posterior_network.second.bias)
    torch.testing.assert_close(2 * slope[0, 2:], apart.sum(0), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("prior", BLIND)
def test_biases_of_their_own_are_at_rest_only_where_the_law_holds_in_every_node(prior):
    """Their slopes are an invertible map of what is missing in each node, along any edges."""
    apart, whole = imbalance(model := make(prior, shared=False, edges=EDGES))
    (slope,) = torch.autograd.grad(whole, model.posterior_network.second.bias)
    averaging = model.posterior_network.second.averaging
    torch.testing.assert_close(2 * slope[:, 2:], averaging.T @ apart, rtol=1e-10, atol=1e-12)
    assert torch.linalg.matrix_rank(averaging) == 3


@pytest.mark.parametrize("prior", ["parents", "ordered"])
def test_a_prior_that_hears_the_code_moves_with_the_width_and_breaks_the_law(prior):
    apart, whole = imbalance(model := make(prior))
    (slope,) = torch.autograd.grad(whole, model.posterior_network.second.bias)
    assert (2 * slope[0, 2:] - apart.sum(0)).abs().max() > 1e-3


def test_the_priors_bias_is_at_rest_where_its_variance_is_the_codes_second_moment():
    images, factors, noise, z0 = inputs()
    output = (model := make("exogenous"))(images, factors, noise, z0)
    q, p = output.posterior, output.prior
    moment = (q.logvar.exp() + (q.mean - p.mean).square()) * torch.exp(-p.logvar)
    _, whole = imbalance(model)
    (slope,) = torch.autograd.grad(whole, model.prior.network.second.bias)
    expected = WEIGHTS.kl * (1 - moment.mean(-3)).sum(0)
    torch.testing.assert_close(2 * slope[0, 2:], expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("kl_weight", [0.3, 1.0])
@pytest.mark.parametrize("prior", ["diagonal", "standard"])
def test_the_law_holds_at_the_optimum_of_the_linear_case_and_not_beside_it(prior, kl_weight):
    """With the push of the noise exact, by autograd."""
    x = np.random.default_rng(0).standard_normal((200, 9)) @ np.diag(np.linspace(2, 0.3, 9))
    found = optimum(spectrum(x)[0], 4, 0.5, kl_weight)
    assert (found.ratio < 1).sum() > 0
    std = found.ratio if prior == "standard" else np.array([0.3, 1.0, 2.0, 0.01])
    model = install(linear_vae(prior, noise=0.5), x, solution(x, kl_weight * 0.5, std))
    bias = model.posterior_network.logvar

    def both_sides():
        nats, _ = exact_terms(model, torch.from_numpy(x))
        (push,) = torch.autograd.grad(2 * nats, bias)
        return push, kl_weight * (1 - (bias.detach() - model.prior.logvar.detach()).exp())

    torch.testing.assert_close(*both_sides(), rtol=1e-9, atol=1e-9)
    with torch.no_grad():
        bias += math.log(1.1)
    push, held = both_sides()
    assert ((push - held).abs() > 0.01).all()


def test_the_width_that_a_regression_asks_for_is_where_the_pushes_are_equal():
    for push in (0.0, 0.1):
        s = supervised_std(1.3, np.array([0.0, 4.0]), 0.15, 0.05, push)
        asked = push + 2 * 0.05 * np.array([0.0, 4.0]) ** 2 * s**2
        np.testing.assert_allclose(asked, 0.15 * (1 - s**2 / 1.3**2))
    assert supervised_std(1.3, 0.0, 0.15, 0.05) == pytest.approx(1.3)
    assert supervised_std(1.3, 4.0, 0.15, 0.05) < math.sqrt(0.15 / 0.1) / 4
    assert np.isnan(supervised_std(1.3, 4.0, 0.15, 0.05, 0.2))
