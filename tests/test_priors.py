import pytest
import torch

from vaenotes.graph import parent_matrix
from vaenotes.kl import Full
from vaenotes.priors import PRIORS, ExogenousPrior, Prior

NODES = ("a", "b", "c")
EDGES = (("a", "b"), ("b", "c"))


def make(name: str, shared: bool = True, logvar: float = 0.0) -> Prior:
    prior = PRIORS[name](parent_matrix(NODES, EDGES), 2, 6, shared, logvar)
    generator = torch.Generator().manual_seed(1)
    for parameter in prior.parameters():
        torch.nn.init.normal_(parameter, std=0.7, generator=generator)
    return prior


def inputs(images=5):
    generator = torch.Generator().manual_seed(2)
    return (
        torch.randn(images, 3, 2, generator=generator),
        torch.randn(images, 3, generator=generator),
        torch.randn(images, 3, 2, generator=generator),
    )


def parameters(gaussian):
    return [part for part in gaussian]


# What each prior is allowed to see of (noise, factors, z).
SEES = {
    "exogenous": {"noise"},
    "diagonal": set(),
    "cholesky": set(),
    "standard": set(),
    "factors": {"factors"},
    "parents": {"z"},
}


@pytest.mark.parametrize("name", PRIORS)
def test_a_prior_sees_just_what_it_should(name):
    prior, given = make(name), dict(zip(("noise", "factors", "z"), inputs(), strict=True))
    base = parameters(prior(**given))
    for argument in given:
        changed = parameters(prior(**given | {argument: given[argument] + 1}))
        same = all(torch.equal(a, b) for a, b in zip(base, changed, strict=True))
        assert same == (argument not in SEES[name]), argument


def test_parents_prior_hears_parents_only():
    prior, (noise, factors, z) = make("parents"), inputs()
    base = prior(noise, factors, z)
    for node in range(3):
        moved = z.clone()
        moved[:, node] += 1
        change = (prior(noise, factors, moved).mean - base.mean).abs().sum((0, 2)) > 0
        children = [(NODES[node], child) in EDGES for child in NODES]
        assert change.tolist() == children


def test_ancestral_draws_are_a_fixed_point_of_their_own_conditionals():
    prior, (noise, factors, z0) = make("parents"), inputs()
    z = prior.draw(noise, factors, z0)
    mean, logvar = prior(noise, factors, z)
    torch.testing.assert_close(z, mean + torch.exp(logvar / 2) * z0)


def test_exogenous_noise_is_centred_evenly_over_minus_two_to_two():
    prior = make("exogenous")
    assert isinstance(prior, ExogenousPrior)
    torch.testing.assert_close(prior.centres.flatten(), torch.tensor([-2, -2 / 3, 2 / 3]))


def test_cholesky_draws_have_the_stated_covariance():
    prior = make("cholesky")
    gaussian = prior(*inputs())
    assert isinstance(gaussian, Full)
    z0 = torch.randn(200_000, 3, 2, generator=torch.Generator().manual_seed(0))
    draws = prior.draw(*inputs()[:2], z0).flatten(1)
    expected = gaussian.cholesky @ gaussian.cholesky.T
    error = (torch.cov(draws.T) - expected).abs()
    # standard error of a covariance: sqrt((S_ii S_jj + S_ij^2) / n)
    variance = expected.diag()
    sigma = ((variance[:, None] * variance + expected**2) / len(draws)).sqrt()
    assert (error < 5 * sigma).all()


@pytest.mark.parametrize("name", PRIORS)
def test_initial_log_variance_is_settable(name):
    def deviations(prior):
        gaussian = prior(*inputs())
        if isinstance(gaussian, Full):
            return gaussian.cholesky.diagonal().log()
        return gaussian.logvar / 2

    parents = parent_matrix(NODES, EDGES)
    start = PRIORS[name](parents, 2, 6, True, -3.0)
    reference = PRIORS[name](parents, 2, 6, True, 0.0)
    for prior in (start, reference):
        for module in prior.modules():
            for parameter in module.parameters(recurse=False):
                if hasattr(module, "fan_in"):  # drawn by VAE.initialise; zero leaves the start
                    torch.nn.init.zeros_(parameter)
    torch.testing.assert_close(deviations(start), deviations(reference) - 1.5)


def test_shared_weights_are_one_set_and_separate_ones_a_set_per_node():
    def size(shared):
        return sum(p.numel() for p in make("exogenous", shared).parameters())

    assert size(shared=False) == 3 * size(shared=True)
