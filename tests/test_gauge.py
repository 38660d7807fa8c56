"""Other units of the code leave every term of the loss as it is."""

import pytest
import torch

from vaenotes.errors import ParameterError
from vaenotes.gauge import regauge
from vaenotes.model import VAE
from vaenotes.objective import terms
from vaenotes.priors import PRIORS

NODES, EDGES = ("a", "b", "c"), (("a", "b"), ("b", "c"))
ADMIT = [name for name, prior in PRIORS.items() if prior.GAUGE is not None]


def make(prior: str, encoder: str = "mlp", shared: bool = True) -> VAE:
    model = VAE(
        nodes=NODES, edges=EDGES, size=16, hidden=8, prior=prior, encoder=encoder, shared=shared
    ).double()
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.5 * torch.randn(parameter.shape, generator=generator))
    return model


def inputs():
    generator = torch.Generator().manual_seed(4)
    images = torch.rand(6, 256, generator=generator).double()
    factors = torch.randn(6, 3, generator=generator).double()
    noise, z0 = torch.randn(2, 6, 3, 2, generator=generator).double()
    return images, factors, noise, z0


def loss_terms(model, images, factors, noise, z0):
    return terms(model, model(images, factors, noise, z0), images, factors)


def changed(model, order, scale):
    own = dict(model.named_parameters())
    with torch.no_grad():
        for name, value in regauge(model, own, order, scale).items():
            own[name].copy_(value)
    return model


@pytest.mark.parametrize("encoder", ["mlp", "cnn"])
@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("prior", ADMIT)
def test_no_term_of_the_loss_feels_a_change_of_units(prior, shared, encoder):
    images, factors, noise, z0 = inputs()
    before = loss_terms(make(prior, encoder, shared), images, factors, noise, z0)
    scale = torch.tensor([3.0, 0.2]).double()
    other = changed(make(prior, encoder, shared), [0, 1], scale)
    after = loss_terms(other, images, factors, noise, z0)
    for name, a, b in zip(before._fields, before, after, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10, msg=name)
    old, new = make(prior, encoder, shared).encode(images), other.encode(images)
    torch.testing.assert_close(new.mean, old.mean * scale)
    torch.testing.assert_close(new.logvar, old.logvar + 2 * scale.log())


@pytest.mark.parametrize("prior", [name for name in ADMIT if name != "cholesky"])
def test_swapped_dims_see_swapped_noise_alike(prior):
    images, factors, noise, z0 = inputs()
    before = loss_terms(make(prior), images, factors, noise, z0)
    other = changed(make(prior), [1, 0], torch.tensor([2.0, 0.5]).double())
    after = loss_terms(other, images, factors, noise.flip(-1), z0.flip(-1))
    torch.testing.assert_close(before.kl_nats, after.kl_nats.flip(-1))
    torch.testing.assert_close(before.reconstruction_nats, after.reconstruction_nats)
    torch.testing.assert_close(before.squared_error, after.squared_error)


@pytest.mark.parametrize("prior", [name for name in ADMIT if name != "cholesky"])
def test_gradients_transform_by_the_inverse(prior):
    """What the optimiser's running means are mapped by: grad' = A^-1 grad."""
    scale = torch.tensor([3.0, 0.2]).double()

    def gradients(model):
        found = loss_terms(model, *inputs())
        sum(part.sum() for part in found).backward()
        return {n: p.grad for n, p in model.named_parameters() if p.grad is not None}

    old, new = gradients(make(prior)), gradients(changed(make(prior), [0, 1], scale))
    full = {n: old.get(n, torch.zeros_like(p)) for n, p in make(prior).named_parameters()}
    mapped = full | regauge(make(prior), full, [0, 1], 1 / scale, linear=True)
    for name, gradient in new.items():
        torch.testing.assert_close(gradient, mapped[name], msg=name)


def test_a_full_covariance_keeps_its_order():
    with pytest.raises(ParameterError, match=r"order of the dims must stay .* got \[1, 0\]"):
        changed(make("cholesky"), [1, 0], torch.ones(2).double())


@pytest.mark.parametrize("prior", sorted(set(PRIORS) - set(ADMIT)))
def test_a_prior_with_units_or_order_of_its_own_is_refused(prior):
    model = make(prior)
    with pytest.raises(ParameterError, match="prior must admit other units"):
        regauge(model, dict(model.named_parameters()), [0, 1], torch.ones(2))
