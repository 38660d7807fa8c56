"""The targets of three papers, and what is computed for them, against other routes."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.distributions import Normal, kl_divergence

import vaenotes as vn
from vaenotes.lab import runs
from vaenotes.lab.summary import Interval
from vaenotes.report import known, reproduced
from vaenotes.report import known_linear as linear
from vaenotes.report.settings import Settings
from vaenotes.theory import ppca

TINY = Settings(profile="quick", seeds=2, epochs=1)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (Interval(1.0, 0.95, 1.05, 8), "right"),
        (Interval(1.0, 0.85, 1.05, 8), "undecided"),
        (Interval(1.2, 1.15, 1.3, 8), "wrong"),
        (Interval(0.5, 0.4, 0.6, 8), "wrong"),
        (Interval(0.5, 0.4, 2.0, 8), "undecided"),
        (Interval(1.0, 0.95, 1.05, 5), "undecided"),
        (Interval(np.nan, np.nan, np.nan, 0), "undecided"),
    ],
)
def test_a_target_is_right_wrong_or_undecided(found, expected):
    assert reproduced.score(reproduced.Target("", 0.9, 1.1), found) == expected


def test_the_table_has_target_and_outcome():
    found = {"one_dims": Interval(1.0, 1.0, 1.0, 8), "annealing": Interval(1.2, 1.1, 1.3, 8)}
    table = reproduced.targets_table(found)
    assert table["target"].tolist() == ["1", "0 to 0.95"]
    assert table["right?"].tolist() == ["right", "wrong"]
    counted = {"targets": 2, "targets_right": 1, "targets_wrong": 1}
    assert reproduced.target_numbers(found) == counted


def black(pixels):
    picture = np.zeros((1, 1, pixels), np.uint8)
    return vn.Dataset("black", picture, np.zeros((1, 2), np.float32), ("a", "b"), ())


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
def test_curvature_is_the_hessian_of_a_decoder_that_is_linear_in_pieces(likelihood):
    torch.manual_seed(0)
    config = vn.Config(likelihood=likelihood, noise_logvar=-1.0, hidden=16)
    model = vn.VAE(config, black(9)).double()
    z = torch.randn(5, 2, 2, dtype=torch.float64)
    found = reproduced.curvature(model, z).detach()
    for place, one in enumerate(z):

        def nats(code):
            pixels = model.decode(code.reshape(1, 2, 2))
            if likelihood == "bernoulli":
                return -torch.distributions.Bernoulli(logits=pixels).log_prob(pixels * 0).sum()
            return -Normal(0.0, np.exp(-0.5)).log_prob(pixels).sum()

        hessian = torch.autograd.functional.hessian(nats, one.ravel())
        torch.testing.assert_close(found[place].ravel(), hessian.diagonal(), atol=1e-9, rtol=1e-6)


@pytest.mark.parametrize(("factor", "weight"), [(1.0, 1.0), (4.0, 1.0), (1.0, 0.3)])
def test_at_the_optimum_of_a_linear_vae_the_prediction_is_the_variance(factor, weight, monkeypatch):
    config = replace(known.configs(TINY, "digits_diagonal")[0], kl_weight=weight)
    x = known.digits()
    best = ppca.optimum(known.digit_eigenvalues(), 5)
    model = vn.VAE(config, runs.load_data(config))
    std = np.array([0.3, 1.0, 5.0, 0.1, 2.0])  # any
    ppca.install(model, x, ppca.solution(x, weight * best.noise, std))
    model.noise_logvar.data.fill_(np.log(best.noise))
    model.posterior_network.logvar.data += np.log(factor)
    monkeypatch.setattr(runs, "load_model", lambda _: model)
    found = reproduced.log_predicted_over_measured(config)
    assert found.shape == (reproduced.FOLLOWED, 1, 5)
    np.testing.assert_allclose(np.exp(found), 1 / factor, rtol=1e-3)


def test_dims_in_use_and_others_are_taken_apart():
    log = np.log([[[2.0, 8.0]], [[4.0, 8.0]]])  # two images, a node, two dims
    pair = (log, np.array([[True, False]]))
    idle = (log, np.array([[False, False]]))
    logs = {"curvature_linear": [pair], "curvature": [pair, idle], "curvature_gaussian": [pair]}
    found = reproduced.curvature_intervals(logs)
    assert found["curvature_used"][::3] == pytest.approx((8**0.5, 1))
    assert found["curvature_gaussian_unused"].value == pytest.approx(8)
    assert reproduced.image_factor(logs) == pytest.approx(2**0.5)


def test_dims_are_active_passive_or_mixed_by_the_variance():
    one = np.array([[0.05, 1.05, 1.0, 0.5, 1.2]] * 4)  # (image, dim)
    one[:, 2] = [0.0, 2.0, 0.0, 2.0]  # around 1, but not steady
    found = reproduced.kinds(one[None, :, None])
    assert found.tolist() == [[["active", "passive", "mixed", "mixed", "mixed"]]]


def test_the_linear_loss_is_the_mean_of_a_sampled_one():
    generator = torch.Generator().manual_seed(0)
    covariance, decoder, encoder = (
        0.5 * torch.randn(*shape, generator=generator, dtype=torch.float64)
        for shape in ((6, 6), (3, 2), (2, 6))
    )
    covariance = covariance @ covariance.T + torch.eye(6)
    from_x = torch.randn(3, 3, generator=generator, dtype=torch.float64)
    logvar, prior_logvar = torch.tensor([[-0.5, 0.3], [0.7, -1.0]], dtype=torch.float64)
    own = torch.eye(3, dtype=torch.float64)
    gap = torch.cat([-from_x, own], -1) - decoder @ encoder
    found = linear.linear_loss(
        gap[None], decoder[None], encoder[None], (logvar[None], prior_logvar[None]), covariance,
        torch.tensor([0.7]),
    )  # fmt: skip

    torch.manual_seed(1)
    both = torch.randn(400_000, 6, dtype=torch.float64) @ torch.linalg.cholesky(covariance).T
    posterior = Normal(both @ encoder.T, torch.exp(logvar / 2))
    pixel = posterior.sample() @ decoder.T + both[:, :3] @ from_x.T
    kl = kl_divergence(posterior, Normal(0, torch.exp(prior_logvar / 2))).sum(-1)
    each = 0.5 * (both[:, 3:] - pixel).square().sum(-1) + 0.7 * kl
    assert abs(each.mean() - found) < 4 * each.std() / 400_000**0.5


@pytest.mark.parametrize("beta", [0.5, 1.5, 2.5])
def test_the_formulas_of_one_factor_in_noise_are_those_of_the_loss_at_its_least(beta):
    """Against a minimum found from a random start, and against probabilistic PCA."""
    torch.manual_seed(0)
    n, dims = linear.LENGTH, 2
    factor = torch.full((n, n), linear.SIGNAL / n, dtype=torch.float64)
    covariance = factor + linear.NOISE * torch.eye(n, dtype=torch.float64)
    shapes = ((1, n, dims), (1, dims, n), (1, dims))
    decoder, encoder, logvar = (
        (0.3 * torch.randn(*shape, dtype=torch.float64)).requires_grad_() for shape in shapes
    )
    optimizer = torch.optim.LBFGS([decoder, encoder, logvar], max_iter=500)

    def closure():
        optimizer.zero_grad()
        gap = torch.eye(n) - decoder @ encoder
        logvars = (logvar, torch.zeros_like(logvar))
        loss = linear.linear_loss(gap, decoder, encoder, logvars, covariance, torch.tensor([beta]))
        loss.sum().backward()
        return loss.sum()

    optimizer.step(closure)
    error = linear._error(decoder.detach())
    expected = linear.error_formula(np.array([beta]), dims)
    np.testing.assert_allclose(error, expected, atol=1e-3)
    values = np.linalg.eigvalsh(covariance)[::-1]
    used = ppca.optimum(values, dims, noise=1.0, kl_weight=beta).ratio < 1
    assert used.sum() == linear.dims_formula(np.array([beta]), dims)


def test_one_pass_follows_the_formula_and_annealed_arms_start_alike(monkeypatch):
    monkeypatch.setattr(linear, "BETAS", (1.0, 2.8))
    monkeypatch.setattr(linear, "STEPS", 1500)
    found = linear.one_pass(1, range(3))
    assert found.error.shape == found.dims.shape == (3, 2) and found.reached.shape == (3, 4)
    np.testing.assert_allclose(found.error, [[0.0, 1.0]] * 3, atol=0.1)
    assert found.dims.tolist() == [[1, 0]] * 3
    assert np.isfinite(found.reached).all() and found.reached.min() > 0


def test_a_step_is_reached_where_the_error_stays_small():
    error = np.array([[0.5, 0.5, 0.0], [0.05, 0.5, 0.0], [0.2, 0.2, 0.0], [0.01, 0.3, 0.0]])
    np.testing.assert_array_equal(linear._reached(error), [3, np.nan, 0])


@pytest.mark.parametrize("seen", linear.SEEN)
def test_what_x_leaves_of_y_has_the_eigenvalues_stated(seen):
    generator = torch.Generator().manual_seed(0)
    size = len(linear.SPECTRUM)
    both = linear.conditional_covariance(torch.tensor([seen], dtype=torch.float64), generator)[0]
    x, cross, y = both[:size, :size], both[:size, size:], both[size:, size:]
    left = np.linalg.eigvalsh(y - cross.T @ np.linalg.solve(x, cross))[::-1]
    np.testing.assert_allclose(left, (1 - seen**2) * np.array(linear.SPECTRUM), atol=1e-12)


@pytest.mark.parametrize("learned", [False, True])
def test_a_conditional_vae_ends_at_the_formula(learned, monkeypatch):
    monkeypatch.setattr(linear, "CONDITIONAL_STEPS", 800)
    grid = [(0.0, 1.0), (0.9, 0.5)]
    seen, beta = torch.tensor(grid, dtype=torch.float64).T
    covariance = linear.conditional_covariance(seen, torch.Generator().manual_seed(3))
    found = linear.train_conditional(covariance, beta, learned, 4)
    expected = [linear.conditional_formula(*setting) for setting in grid]
    assert (np.array(expected) > 0).sum(1).tolist() == [3, 1]
    np.testing.assert_allclose(found, expected, atol=0.05)


def test_every_target_is_found(tmp_path, monkeypatch):
    monkeypatch.setenv("VAENOTES_STORE", str(tmp_path))
    monkeypatch.setattr(linear, "STEPS", 20)
    monkeypatch.setattr(linear, "CONDITIONAL_STEPS", 20)
    replicas = reproduced.linear_replicas(TINY)
    found = (
        reproduced.curvature_intervals(reproduced.curvature_logs(TINY))
        | reproduced.kinds_intervals(TINY)
        | reproduced.linear_intervals(replicas)
        | reproduced.conditional_intervals(TINY)
    )
    assert list(found) == list(reproduced.TARGETS)
    (panel,) = reproduced.linear_panels(replicas)["dims offered: 2"].values()
    assert panel[0].shape == panel[1].shape == (2 * len(linear.BETAS),)
