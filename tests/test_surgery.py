"""The split of the KL against other routes to the same numbers."""

import math

import pytest
import torch
from scipy import integrate

from vaenotes.diagnosis.surgery import surgery
from vaenotes.errors import ParameterError
from vaenotes.kl import Diagonal, Full, kl_nats


def gaussians(images, nodes=2, dims=2, spread=2.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    mean, logvar = torch.randn(2, images, nodes, dims, generator=generator).double()
    return Diagonal(spread * mean, 0.3 * logvar - 1)


def generator():
    return torch.Generator().manual_seed(1)


def close(estimate, exact, sigmas=4.0):
    assert ((estimate.mean - exact).abs() <= sigmas * estimate.standard_error + 1e-12).all()


def test_the_parts_add_up_to_the_closed_form_within_their_errors():
    q, p = gaussians(900), gaussians(900, seed=3)
    found = surgery(q, p, generator())
    parts = (found.mutual_information, found.aggregate_kl, found.mixture_gain)
    total = sum(part.mean for part in parts)
    error = math.sqrt(sum(part.standard_error**2 for part in parts))
    assert abs(total - kl_nats(q, p).sum((-2, -1)).mean()) < 4 * error


def test_four_terms_of_a_small_mixture_against_direct_integration():
    """Many copies of three posteriors: the mixture stays, the Monte Carlo error shrinks."""
    means, logvars = [-0.7, 0.9, 2.0], [0.1, -0.8, 0.4]
    prior_means = [0.3, -1.0, 0.8]  # log-variance 0.5
    copies = 400
    q = Diagonal(*(torch.tensor(v).repeat(copies)[:, None, None] for v in (means, logvars)))
    # every noise meets every image: shifted by one more place in each third of the copies
    shifted = [prior_means[i:] + prior_means[:i] for i in range(3)]
    thirds = [torch.tensor(third).repeat(copies // 3) for third in shifted]
    p_mean = torch.cat([*thirds, torch.tensor(prior_means)])
    p = Diagonal(p_mean[:, None, None], torch.full((3 * copies, 1, 1), 0.5))
    found = surgery(q, p, generator())

    def normal(z, mean, logvar):
        return math.exp(-0.5 * ((z - mean) ** 2 / math.exp(logvar) + logvar)) / math.sqrt(
            2 * math.pi
        )

    def mixture(z):
        return sum(normal(z, m, v) for m, v in zip(means, logvars, strict=True)) / 3

    def prior(z):
        return sum(normal(z, m, 0.5) for m in p_mean[:3].tolist()) / 3

    def integral(f):
        return integrate.quad(f, -12, 12, limit=200)[0]

    entropy = integral(lambda z: -mixture(z) * math.log(mixture(z)))
    own = sum(0.5 * (math.log(2 * math.pi) + 1 + v) for v in logvars) / 3
    close(found.mutual_information, entropy - own)
    aggregate = integral(lambda z: mixture(z) * math.log(mixture(z) / prior(z)))
    close(found.aggregate_kl, aggregate)
    # one dim: the parts by dim are the parts
    close(found.dim_mutual_information, entropy - own)
    close(found.dim_kl, aggregate)
    assert found.total_correlation.mean.abs() < 1e-12
    gain = kl_nats(q, p).mean().item() - (entropy - own) - aggregate
    close(found.mixture_gain, gain)
    assert gain > 0


def test_posteriors_that_do_not_overlap_say_which_image_it_is():
    q = gaussians(64, spread=1e4)
    found = surgery(q, gaussians(64, seed=3), generator())
    assert found.mutual_information.mean == pytest.approx(math.log(64), abs=1e-9)
    assert found.mutual_information.standard_error < 1e-9


def test_one_posterior_for_all_images_says_nothing():
    one = Diagonal(torch.full((50, 2, 2), 0.3), torch.full((50, 2, 2), -0.5))
    prior = Diagonal(torch.zeros(2, 2), torch.zeros(2, 2))
    found = surgery(one, prior, generator())
    assert found.mutual_information.mean.abs() < 1e-12
    assert found.total_correlation.mean.abs() < 1e-12
    assert found.mixture_gain.mean.abs() < 1e-12
    close(found.aggregate_kl, kl_nats(one, prior).sum((-2, -1)).mean())


def test_a_prior_that_sees_the_image_gains_nothing_by_mixing():
    """For p = q the KL is 0, and the mixture only loses: the gain is -I(x; z)."""
    q = gaussians(300)
    found = surgery(q, q, generator())
    assert found.aggregate_kl.mean.abs() < 1e-12
    torch.testing.assert_close(found.mixture_gain.mean, -found.mutual_information.mean)


def test_dims_that_move_together_have_total_correlation():
    """Both dims show the same number: q(z) is a Gaussian of correlation r, nearly."""
    spread, std = 2.0, 1.0
    x = spread * torch.randn(3000, 1, 1, generator=generator(), dtype=torch.float64)
    q = Diagonal(x.expand(-1, 1, 2), torch.zeros(3000, 1, 2))
    r = spread**2 / (spread**2 + std**2)
    found = surgery(q, Diagonal(torch.zeros(1, 2), torch.zeros(1, 2)), generator())
    assert found.total_correlation.mean.item() == pytest.approx(-0.5 * math.log(1 - r**2), abs=0.05)


@pytest.mark.parametrize(
    "p",
    [
        gaussians(4, nodes=3),
        Diagonal(*(part[0, 0] for part in gaussians(4))),
        Full(torch.zeros(2, 2), torch.eye(4)),
    ],
)
def test_a_prior_of_another_kind_or_shape_is_one_clear_line(p):
    with pytest.raises(
        ParameterError, match=r"p must be a Diagonal of \(4, 2, 2\) or \(2, 2\), got a"
    ):
        surgery(gaussians(4), p, generator())


@pytest.mark.parametrize("images", [0, 1])
def test_too_few_images_are_refused(images):
    with pytest.raises(ParameterError, match=r"q must be .* 2 images or more"):
        surgery(gaussians(images), gaussians(images), generator())
