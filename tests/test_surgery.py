"""The split of the KL against other routes to the same numbers."""

import math

import numpy as np
import pytest
import torch
from scipy import integrate, stats

from vaenotes.kl import Diagonal, kl_nats
from vaenotes.theory.surgery import surgery


def gaussians(images, nodes=2, dims=2, spread=2.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    mean, logvar = torch.randn(2, images, nodes, dims, generator=generator).double()
    return Diagonal(spread * mean, 0.3 * logvar - 1)


def split(q, p):
    return surgery(q, p, torch.Generator().manual_seed(1))


def close(estimate, exact, sigmas=4.0):
    assert ((estimate.mean - exact).abs() <= sigmas * estimate.standard_error + 1e-12).all()


def test_the_parts_add_up_to_the_closed_form_within_their_errors():
    q, p = gaussians(900), gaussians(900, seed=3)
    parts = split(q, p)[:3]
    total = sum(part.mean for part in parts)
    error = math.sqrt(sum(part.standard_error**2 for part in parts))
    assert abs(total - kl_nats(q, p).sum((-2, -1)).mean()) < 4 * error


def test_four_terms_of_a_small_mixture_against_direct_integration():
    """Many copies of three posteriors: the mixture stays, the Monte Carlo error shrinks."""
    means, logvars = [-0.7, 0.9, 2.0], [0.1, -0.8, 0.4]
    prior_means, copies = [0.3, -1.0, 0.8], 400  # of log-variance 0.5
    q = Diagonal(*(torch.tensor(v).repeat(copies)[:, None, None] for v in (means, logvars)))
    # every noise meets every image: shifted by one more place in each third of the copies
    shifted = [prior_means[i:] + prior_means[:i] for i in range(3)]
    thirds = [torch.tensor(third).repeat(copies // 3) for third in shifted]
    p_mean = torch.cat([*thirds, torch.tensor(prior_means)])[:, None, None]
    p = Diagonal(p_mean, torch.full_like(p_mean, 0.5))
    found = split(q, p)

    z = np.linspace(-12, 12, 20_001)  # an even grid: for smooth densities as good as any rule
    q_z = stats.norm.pdf(z[:, None], means, np.exp(np.array(logvars) / 2)).mean(1)
    p_z = stats.norm.pdf(z[:, None], prior_means, np.exp(0.5 / 2)).mean(1)
    entropy = integrate.trapezoid(-q_z * np.log(q_z), z)
    information = entropy - np.mean([0.5 * (math.log(2 * math.pi) + 1 + v) for v in logvars])
    aggregate = integrate.trapezoid(q_z * np.log(q_z / p_z), z)
    gain = kl_nats(q, p).mean().item() - information - aggregate
    close(found.mutual_information, information)
    close(found.aggregate_kl, aggregate)
    close(found.mixture_gain, gain)
    assert gain > 0
    # one dim: the parts by dim are the parts
    close(found.dim_mutual_information, information)
    close(found.dim_kl, aggregate)
    assert found.total_correlation.mean.abs() < 1e-12


def test_posteriors_that_do_not_overlap_tell_the_image():
    found = split(gaussians(64, spread=1e4), gaussians(64, seed=3)).mutual_information
    assert found.mean == pytest.approx(math.log(64), abs=1e-9)
    assert found.standard_error < 1e-9


def test_one_posterior_for_all_images_holds_no_information():
    one = Diagonal(torch.full((50, 2, 2), 0.3), torch.full((50, 2, 2), -0.5))
    prior = Diagonal(torch.zeros(2, 2), torch.zeros(2, 2))
    found = split(one, prior)
    for part in (found.mutual_information, found.total_correlation, found.mixture_gain):
        assert part.mean.abs() < 1e-12
    close(found.aggregate_kl, kl_nats(one, prior).sum((-2, -1)).mean())


def test_a_prior_that_sees_the_image_gains_nothing_by_mixing():
    """For p = q the KL is 0, and the mixture only loses: the gain is -I(x; z)."""
    q = gaussians(300)
    found = split(q, q)
    assert found.aggregate_kl.mean.abs() < 1e-12
    torch.testing.assert_close(found.mixture_gain.mean, -found.mutual_information.mean)


def test_dims_that_move_together_have_total_correlation():
    """Both dims show the same number: q(z) is a Gaussian of correlation r, nearly."""
    x = 2 * torch.randn(1000, 1, 1, generator=torch.Generator().manual_seed(1)).double()
    q = Diagonal(x.expand(-1, 1, 2), torch.zeros(1000, 1, 2))
    r = 2**2 / (2**2 + 1)
    found = split(q, Diagonal(torch.zeros(1, 2), torch.zeros(1, 2))).total_correlation
    assert found.mean.item() == pytest.approx(-0.5 * math.log(1 - r**2), abs=0.05)
