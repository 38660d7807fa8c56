"""Other units of the code leave every term of the loss as it is, where a model admits them."""

import pytest
import torch
from made_up import blank

from vaenotes.config import Config
from vaenotes.errors import ParameterError
from vaenotes.gauge import change_units, charge, regauge
from vaenotes.kl import Diagonal
from vaenotes.model import VAE
from vaenotes.nets import ENCODERS
from vaenotes.objective import Weights, terms, total
from vaenotes.priors import PRIORS

EDGES = (("a", "b"), ("b", "c"))
SIDES = {"multiscale": 32}  # the least it takes
UNITS = [name for name, prior in PRIORS.items() if not prior.OWN_UNITS]
ORDER = [name for name, prior in PRIORS.items() if not prior.OWN_ORDER]
BOTH = [name for name in UNITS if name in ORDER]


def make(prior: str, encoder: str = "mlp", shared: bool = True, edges=EDGES, kind=VAE) -> VAE:
    side = SIDES.get(encoder, 16)
    config = Config(
        hidden=8, prior=prior, encoder=encoder, shared=shared, noise_inputs=5, size=side
    )
    model = kind(config, blank(("a", "b", "c"), side**2, edges)).double()
    model.factor_mean.copy_(torch.tensor([1, 2, 30]))
    model.factor_std.copy_(torch.tensor([1, 5, 9]))
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.5 * torch.randn(parameter.shape, generator=generator))
    return model


def inputs(pixels=256):
    generator = torch.Generator().manual_seed(4)
    images = torch.rand(6, pixels, generator=generator).double()
    factors = torch.randn(6, 3, generator=generator).double()
    noise = torch.randn(6, 3, 5, generator=generator).double()
    z0 = torch.randn(6, 3, 2, generator=generator).double()
    return images, factors, noise, z0


def loss_terms(model, images, factors, noise, z0):
    return terms(model, model(images, factors, noise, z0), images, factors)


def assert_same_loss(model, other, order, scale, pixels=256):
    """Same terms, once the posterior's sample is drawn in the new units too: dims reordered, signs
    turned. The prior's noise has no dims, and stays as it is."""
    images, factors, noise, z0 = inputs(pixels)
    order, sign = torch.as_tensor(order).expand(3, 2), scale.sign().expand(3, 2)
    before = loss_terms(model, images, factors, noise, z0)
    after = loss_terms(other, images, factors, noise, z0.take_along_dim(order[None], -1) * sign)
    close = {"rtol": 1e-10, "atol": 1e-10}
    torch.testing.assert_close(before.reconstruction_nats, after.reconstruction_nats, **close)
    torch.testing.assert_close(before.squared_error, after.squared_error, **close)
    whole = (terms.kl_nats.sum((-2, -1)) for terms in (before, after))
    torch.testing.assert_close(*whole, **close)
    by_dim = before.kl_nats.take_along_dim(order[None], -1)
    if type(model.prior) is not PRIORS["cholesky"]:  # there a dim's KL is given those before it
        torch.testing.assert_close(by_dim, after.kl_nats, **close)


@pytest.mark.parametrize(
    ("prior", "shared", "encoder"),
    [(prior, shared, "mlp") for prior in UNITS for shared in (True, False)]
    + [("exogenous", True, encoder) for encoder in ENCODERS],
)
def test_no_term_of_the_loss_feels_a_change_of_units(prior, shared, encoder):
    scale = torch.tensor([3.0, -0.2]).double()
    model, other = (make(prior, encoder, shared) for _ in range(2))
    change_units(other, [0, 1], scale)
    pixels = SIDES.get(encoder, 16) ** 2
    assert_same_loss(model, other, [0, 1], scale, pixels)
    old, new = (m.encode(inputs(pixels)[0]) for m in (model, other))
    torch.testing.assert_close(new.mean, old.mean * scale)
    torch.testing.assert_close(new.logvar, old.logvar + 2 * scale.abs().log())


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("prior", BOTH)
def test_no_term_of_the_loss_feels_a_swap_of_dims_and_other_units(prior, shared):
    scale = torch.tensor([-2.0, 0.5]).double()
    model, other = (make(prior, shared=shared) for _ in range(2))
    assert_same_loss(model, change_units(other, [1, 0], scale), [1, 0], scale)


@pytest.mark.parametrize("prior", ORDER)
def test_signs_and_order_are_free_even_where_units_are_not(prior):
    scale = torch.tensor([1.0, -1.0]).double()
    assert_same_loss(make(prior), change_units(make(prior), [1, 0], scale), [1, 0], scale)


@pytest.mark.parametrize("prior", BOTH)
def test_nodes_that_share_nothing_have_units_of_their_own(prior):
    scale = torch.tensor([[3.0, -0.2], [1.0, 5.0], [-0.1, 2.0]]).double()
    order = torch.tensor([[0, 1], [1, 0], [1, 0]])
    model, other = (make(prior, shared=False, edges=()) for _ in range(2))
    assert_same_loss(model, change_units(other, order, scale), order, scale)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"shared": True, "edges": ()}, "same for nodes that share weights"),
        ({"shared": False, "edges": EDGES}, "same for nodes joined by an edge"),
    ],
)
def test_nodes_that_share_weights_or_messages_have_their_units_in_common(options, message):
    model = make("diagonal", **options)
    scale = torch.tensor([[3.0, 1.0], [1.0, 1.0], [1.0, 1.0]]).double()
    with pytest.raises(ParameterError, match=message):
        regauge(model, dict(model.named_parameters()), [0, 1], scale)


class Bounded(VAE):
    """Means squeezed through tanh, as some codes are."""

    def encode(self, images):
        mean, logvar = super().encode(images)
        return Diagonal(mean.tanh(), logvar)


class Clamped(VAE):
    """Log-variances kept from going below a bound."""

    def encode(self, images):
        mean, logvar = super().encode(images)
        return Diagonal(mean, logvar.clamp(min=-0.5))


@pytest.mark.parametrize("kind", [Bounded, Clamped])
def test_bounds_on_the_code_give_it_units_and_no_change_of_signs_undoes_them(kind):
    flip = torch.tensor([1.0, -1.0]).double()
    scale = torch.tensor([3.0, 0.2]).double()
    model, other = (make("exogenous", kind=kind) for _ in range(2))
    assert_same_loss(model, change_units(other, [1, 0], flip), [1, 0], flip)
    with pytest.raises(AssertionError):
        assert_same_loss(
            model, change_units(make("exogenous", kind=kind), [0, 1], scale), [0, 1], scale
        )


def test_a_learned_diagonal_prior_is_a_fixed_one_in_other_units():
    """T2, corollary: divide every dim by its own prior std, and N(0, I) is left."""
    model = make("variance", shared=False, edges=())
    scale = torch.exp(-0.5 * model.prior.logvar.detach())
    other = make("standard", shared=False, edges=())
    in_units_of_prior = regauge(model, dict(model.named_parameters()), [0, 1], scale)
    own = dict(other.named_parameters())
    own_names = set(own)
    with torch.no_grad():
        for name, value in (dict(model.named_parameters()) | in_units_of_prior).items():
            if name in own_names:
                own[name].copy_(value)
    assert torch.allclose(in_units_of_prior["prior.logvar"], torch.zeros(3, 2).double())
    assert_same_loss(model, other, [0, 1], torch.ones(2).double())


@pytest.mark.parametrize("prior", [name for name in UNITS if name != "cholesky"])
def test_gradients_transform_by_the_inverse(prior):
    """What the optimiser's running means are mapped by: grad' = A^-1 grad."""
    scale = torch.tensor([3.0, 0.2]).double()

    def gradients(model):
        found = loss_terms(model, *inputs())
        sum(part.sum() for part in found).backward()
        return {n: p.grad for n, p in model.named_parameters() if p.grad is not None}

    old, new = gradients(make(prior)), gradients(change_units(make(prior), [0, 1], scale))
    full = {n: old.get(n, torch.zeros_like(p)) for n, p in make(prior).named_parameters()}
    mapped = full | regauge(make(prior), full, [0, 1], 1 / scale, linear=True)
    for name, gradient in new.items():
        torch.testing.assert_close(gradient, mapped[name], msg=name)


@pytest.mark.parametrize(
    "prior, order, scale, message",
    [
        ("standard", [0, 1], [2.0, 1.0], r"scale must be 1 or -1 for StandardPrior, got"),
        ("ordered", [1, 0], [1.0, 1.0], r"order must stay for OrderedPrior, got"),
    ],
)
def test_what_is_no_change_of_units_is_refused(prior, order, scale, message):
    model = make(prior)
    with pytest.raises(ParameterError, match=message):
        regauge(model, dict(model.named_parameters()), order, torch.tensor(scale))


LEARNED = [name for name in UNITS if name != "matched"]  # there no gradient flows through the prior


def slope_of_charge(model, kept, weight):
    """d kept / dt under gradient flow, each over the sum of the sizes of what it is a sum of."""
    parameters = list(model.parameters())
    whole = total(loss_terms(model, *inputs()), Weights(supervision=weight))
    options = {"allow_unused": True, "materialize_grads": True, "retain_graph": True}
    downhill = torch.autograd.grad(whole, parameters, **options)
    found = []
    for one in kept.flatten():
        uphill = torch.autograd.grad(one, parameters, **options)
        parts = torch.cat([(a * b).flatten() for a, b in zip(downhill, uphill, strict=True)])
        found.append((parts.sum() / parts.abs().sum()).abs().item())
    return max(found)


@pytest.mark.parametrize("weight", [0.0, 0.05])
@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("prior", LEARNED)
def test_gradient_flow_keeps_the_charge(prior, shared, weight):
    model = make(prior, shared=shared)
    own = dict(model.named_parameters())
    assert slope_of_charge(model, charge(model, own), weight) < 1e-14
    if not shared and prior != "ordered":  # whose dims have one network for all nodes
        free = make(prior, shared=False, edges=())
        kept = charge(free, dict(free.named_parameters()), by_node=True)
        assert kept.shape == (3, 2) and slope_of_charge(free, kept, weight) < 1e-14


def by_hand(model, bias=2.0, reader=1.0):
    """The charge of the notes' own model, written out."""
    found = torch.zeros(2).double()
    for network in (model.posterior_network, model.prior.network):
        weight, shift = network.second.weight[0], network.second.bias[0]
        found = found + weight[:, :2].square().sum(0) / 2 + shift[:2].square() / 2
        found = found + bias * shift[2:]
    rows = model.decoder[0].weight.unflatten(0, (3, 2)).square().sum((0, 2))
    return found - reader * (rows + model.regression_weight.square().sum(0)) / 2


def test_the_charge_of_the_notes_model_is_what_the_proposition_says_and_nothing_else_is_kept():
    model = make("exogenous")
    torch.testing.assert_close(charge(model, dict(model.named_parameters())), by_hand(model))
    assert slope_of_charge(model, by_hand(model), 0.05) < 1e-14
    for wrong in (by_hand(model, bias=1.0), by_hand(model, reader=0.9)):
        assert slope_of_charge(model, wrong, 0.05) > 1e-3


def test_where_units_are_not_free_there_is_no_charge():
    for model, by_node in ((make("standard"), False), (make("exogenous"), True)):
        with pytest.raises(ParameterError):
            charge(model, dict(model.named_parameters()), by_node)
