import pytest
import torch

from vaenotes.graph import parent_matrix
from vaenotes.kl import Full
from vaenotes.priors import PRIORS, Prior, Spec

NODES = ("a", "b", "c")
EDGES = (("a", "b"), ("b", "c"))
INPUTS = 5  # noise numbers per node, another count than that of dims


def make(name: str, shared: bool = True, logvar: float = 0.0) -> Prior:
    prior = PRIORS[name](Spec(parent_matrix(NODES, EDGES), 2, INPUTS, 6, shared, logvar))
    generator = torch.Generator().manual_seed(1)
    for parameter in prior.parameters():
        torch.nn.init.normal_(parameter, std=0.7, generator=generator)
    return prior


def inputs(images=5):
    generator = torch.Generator().manual_seed(2)
    return (
        torch.randn(images, 3, INPUTS, generator=generator),
        torch.randn(images, 3, generator=generator),
        torch.randn(images, 3, 2, generator=generator),
    )


# What each prior is allowed to see of (noise, factors, z).
SEES = {
    "exogenous": {"noise"},
    "shuffled": {"noise"},
    "nodes": set(),
    "constant": set(),
    "other_factors": {"factors"},
    "ordered": {"z"},
    "diagonal": set(),
    "variance": set(),
    "matched": {"z"},
    "cholesky": set(),
    "standard": set(),
    "factors": {"factors"},
    "parents": {"z"},
}


@pytest.mark.parametrize("name", PRIORS)
def test_a_prior_sees_just_what_it_should(name):
    prior, given = make(name), dict(zip(("noise", "factors", "z"), inputs(), strict=True))
    base = prior(**given)
    for argument in given:
        changed = prior(**given | {argument: given[argument] + 1})
        same = all(torch.equal(a, b) for a, b in zip(base, changed, strict=True))
        assert same == (argument not in SEES[name]), argument


def test_parents_prior_reads_parents_only():
    prior, (noise, factors, z) = make("parents"), inputs()
    base = prior(noise, factors, z)
    for node in range(3):
        moved = z.clone()
        moved[:, node] += 1
        change = (prior(noise, factors, moved).mean - base.mean).abs().sum((0, 2)) > 0
        children = [(NODES[node], child) in EDGES for child in NODES]
        assert change.tolist() == children


def test_a_dim_reads_those_before_it_in_its_own_node_only():
    prior, (noise, factors, z) = make("ordered"), inputs()
    base = prior(noise, factors, z).mean
    for node in range(3):
        for dim in range(2):
            moved = z.clone()
            moved[:, node, dim] += 1
            change = (prior(noise, factors, moved).mean - base).abs().sum(0) > 0
            expected = torch.zeros(3, 2, dtype=torch.bool)
            expected[node, dim + 1 :] = True
            assert change.tolist() == expected.tolist()


def test_shuffling_keeps_each_nodes_own_prior_and_breaks_their_dependence():
    prior, (noise, factors, z) = make("shuffled"), inputs(images=400)
    mean = prior(noise, factors, z).mean
    joined = super(type(prior), prior).forward(noise, factors, z).mean
    for node in range(3):
        torch.testing.assert_close(mean[:, node].sort(0).values, joined[:, node].sort(0).values)

    def dependence(values):  # of a node and its parent
        return torch.corrcoef(values[:, :2, 0].T)[0, 1].abs()

    assert dependence(joined) > 0.3 > 0.15 > dependence(mean)


def test_a_node_that_is_told_its_place_or_nothing():
    noise, factors, z = inputs()
    same = make("constant")(noise, factors, z).mean
    torch.testing.assert_close(same, same[:1].expand(3, 2))
    own = make("nodes")(noise, factors, z).mean
    assert not torch.allclose(own[0], own[2])


def test_the_matched_prior_is_the_best_diagonal_gaussian_for_the_codes():
    noise, factors, z = inputs(images=300)
    z = z * torch.tensor([0.1, 3.0]) + 1
    prior = make("matched")(noise, factors, z.requires_grad_())
    assert not prior.mean.requires_grad

    def cost(mean, logvar):
        return -torch.distributions.Normal(mean, (logvar / 2).exp()).log_prob(z).mean()

    best = cost(*prior)
    for shift in (-0.05, 0.05):
        assert cost(prior.mean + shift, prior.logvar) > best
        assert cost(prior.mean, prior.logvar + shift) > best


def test_the_exogenous_prior_is_fed_noise_around_even_centres():
    """As many numbers as were asked for, each with a weight of its own, however many dims."""
    prior, (noise, factors, z) = make("exogenous"), inputs()
    expected = prior.network(noise + torch.tensor([-2, -2 / 3, 2 / 3])[:, None])
    mean, logvar = prior(noise, factors, z)
    torch.testing.assert_close(torch.cat([mean, logvar], dim=-1), expected)
    for place in range(INPUTS):
        moved = noise.clone()
        moved[:, 0, place] += 1
        assert not torch.equal(prior(moved, factors, z).mean, mean)


@pytest.mark.parametrize("name", sorted(set(PRIORS) - {"matched"}))  # which starts where z does
def test_initial_log_variance_is_settable(name):
    def deviations(prior):
        gaussian = prior(*inputs())
        if isinstance(gaussian, Full):
            return gaussian.cholesky.diagonal().log()
        return gaussian.logvar / 2

    parents = parent_matrix(NODES, EDGES)
    start = PRIORS[name](Spec(parents, 2, INPUTS, 6, True, -3.0))
    reference = PRIORS[name](Spec(parents, 2, INPUTS, 6, True, 0.0))
    for prior in (start, reference):
        for module in prior.modules():
            for parameter in module.parameters(recurse=False):
                if hasattr(module, "fan_in"):  # drawn by VAE.initialise; zero leaves the start
                    torch.nn.init.zeros_(parameter)
    torch.testing.assert_close(deviations(start), deviations(reference) - 1.5)
