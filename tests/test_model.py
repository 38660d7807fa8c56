import pytest
import torch
from torch.distributions import Bernoulli, Normal

from vaenotes.config import Config
from vaenotes.errors import ParameterError
from vaenotes.model import ENCODERS, VAE
from vaenotes.objective import Terms, Weights, reconstruction_nats, terms, total

NODES = ("shape", "scale", "x")
EDGES = (("shape", "scale"),)


def make(**options) -> VAE:
    options = {"nodes": NODES, "edges": EDGES, "pixels": 256, "hidden": 8} | options
    return VAE(**options).initialise(torch.Generator().manual_seed(3))


def inputs(images=6, pixels=256, nodes=3, dims=2):
    generator = torch.Generator().manual_seed(5)
    return (
        torch.rand(images, pixels, generator=generator),
        torch.randn(images, nodes, generator=generator),
        torch.randn(images, nodes, dims, generator=generator),
        torch.randn(images, nodes, dims, generator=generator),
    )


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("dims", [1, 3])
@pytest.mark.parametrize("shared", [True, False])
def test_shapes(encoder, dims, shared):
    model = make(encoder=encoder, dims=dims, shared=shared)
    output = model(*inputs(dims=dims))
    assert output.posterior.mean.shape == output.z.shape == (6, 3, dims)
    assert output.decoded.shape == (6, 256)
    assert output.predicted.shape == (6, 3)


def test_sample_and_regression_follow_their_formulas():
    model = make()
    images, factors, noise, z0 = inputs()
    output = model(images, factors, noise, z0)
    mean, logvar = output.posterior
    torch.testing.assert_close(output.z, mean + torch.exp(logvar / 2) * z0)
    by_hand = [
        sum(model.regression_weight[n, d] * output.z[:, n, d] for d in range(2))
        + model.regression_bias[n]
        for n in range(3)
    ]
    torch.testing.assert_close(output.predicted, torch.stack(by_hand, dim=1))


def test_start_log_variances_shift_posterior_and_prior():
    plain, shifted = make(), make(posterior_logvar=-6.0, prior_logvar=2.0)
    a, b = plain(*inputs()), shifted(*inputs())
    torch.testing.assert_close(b.posterior.logvar, a.posterior.logvar - 6)
    torch.testing.assert_close(b.prior.logvar, a.prior.logvar + 2)


def test_initial_weights_depend_on_the_generator_alone():
    first, second = make().state_dict(), make().state_dict()
    torch.manual_seed(99)
    third = make().state_dict()
    for name in first:
        assert torch.equal(first[name], second[name]) and torch.equal(first[name], third[name])
    other = VAE(nodes=NODES, edges=EDGES, pixels=256, hidden=8)
    other.initialise(torch.Generator().manual_seed(4))
    assert not torch.equal(other.encoder[0].weight, first["encoder.0.weight"])


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian", "gaussian_learned"])
def test_reconstruction_is_the_likelihood_of_torch_distributions(likelihood):
    model = make(likelihood=likelihood)
    if likelihood == "gaussian_learned":
        with torch.no_grad():
            model.noise_logvar.fill_(-1.5)
    images = torch.rand(4, 256).round()
    decoded = 3 * torch.randn(4, 256)
    if likelihood == "bernoulli":
        expected = -Bernoulli(logits=decoded).log_prob(images).sum(-1)
    else:
        expected = (
            -Normal(decoded, model.noise_logvar.detach().mul(0.5).exp()).log_prob(images).sum(-1)
        )
    torch.testing.assert_close(reconstruction_nats(model, decoded, images), expected)
    assert ("noise_logvar" in dict(model.named_parameters())) == (likelihood == "gaussian_learned")


def test_total_weighs_sums_and_averages_once():
    unreduced = Terms(
        torch.tensor([10.0, 20.0]),
        torch.arange(8.0).reshape(2, 2, 2),
        torch.tensor([[1.0, 2.0], [3.0, 4.0]]),
    )
    # means over images: 15, (6 + 22) / 2 = 14, (3 + 7) / 2 = 5
    assert total(unreduced, Weights()).item() == pytest.approx(0.8 * 15 + 0.15 * 14 + 1 * 5)
    assert total(unreduced, Weights(0.0, 2.0, 0.0)).item() == pytest.approx(28)


def test_supervision_compares_each_node_with_its_own_factor():
    model = make()
    images, factors, noise, z0 = inputs()
    output = model(images, factors, noise, z0)
    moved = factors.clone()
    moved[:, 1] += 1
    before = terms(model, output, images, factors).squared_error
    after = terms(model, output, images, moved).squared_error
    assert torch.equal(before[:, [0, 2]], after[:, [0, 2]])
    torch.testing.assert_close(after[:, 1], (moved[:, 1] - output.predicted[:, 1]) ** 2)


@pytest.mark.parametrize(
    ("argument", "value", "allowed"),
    [
        ("prior", "vamp", "one of exogenous, shuffled"),
        ("encoder", "resnet", "one of mlp, cnn"),
        ("likelihood", "poisson", "one of bernoulli"),
        ("precision", "int8", "one of float32, bfloat16"),
        ("data", 3, "one of sprites, mnist5k, digits, optdigits"),
        ("shared", "no", "a bool"),
        ("seed", 2**70, "an integer in 0..9223372036854775807"),
        ("dims", 0, "an integer in 1..9223372036854775807"),
        ("epochs", 2.5, "an integer in 0..9223372036854775807"),
        ("images", True, "an integer in 64..9223372036854775807"),
        ("kl_weight", -0.1, "a finite number in 0..3.4e+38"),
        ("learning_rate", float("nan"), "a finite number in 0..3.4e+38"),
        ("prior_logvar", float("inf"), "a finite number"),
        ("batch", 20_000, "at most images=10000"),
        ("units", (1.0,), "a positive factor for each of dims=2"),
        ("units", (1.0, float("inf")), "a positive factor for each of dims=2"),
        ("units", 2.0, "a positive factor for each of dims=2"),
        ("units", ("1", "2"), "a positive factor for each of dims=2"),
        ("regauge", (1.0, 0.0), "a positive factor for each of dims=2"),
        ("regauge", (1.0, float("nan")), "a positive factor for each of dims=2"),
    ],
)
def test_bad_configurations_are_one_clear_line(argument, value, allowed):
    with pytest.raises(ParameterError) as caught:
        Config(**{argument: value})
    line = str(caught.value)
    assert line.startswith(argument) and allowed in line and repr(value) in line
    assert "\n" not in line


@pytest.mark.parametrize(("name", "most"), [("mnist5k", 5000), ("digits", 1797)])
def test_no_more_images_than_there_are(name, most):
    assert Config(data=name, images=most).images == most
    with pytest.raises(
        ParameterError, match=f"images must be at most the {most} .*, got {most + 1}"
    ):
        Config(data=name, images=most + 1)


@pytest.mark.parametrize(
    ("prior", "argument", "value"),
    [
        ("ordered", "swapped", True),
        ("standard", "units", (2.0, 1.0)),
        ("standard", "regauge", (2.0, 1.0)),
    ],
)
def test_a_prior_with_units_or_an_order_of_its_own_admits_no_others(prior, argument, value):
    with pytest.raises(ParameterError, match=f"prior must be one of .* where {argument} is set"):
        Config(prior=prior, **{argument: value})
    others = {"ordered", "standard"} - {prior}
    for other in others:  # what one refuses the other admits
        assert getattr(Config(prior=other, **{argument: value}), argument) == value


@pytest.mark.parametrize("argument", ["prior", "encoder", "likelihood"])
def test_a_module_used_alone_refuses_unknown_names(argument):
    with pytest.raises(ParameterError, match=f"{argument} must be one of .* got 'typo'"):
        VAE(nodes=NODES, edges=EDGES, **{argument: "typo"})


def test_a_module_used_alone_is_ready_to_run():
    torch.manual_seed(0)
    output = VAE(nodes=NODES, edges=EDGES, pixels=256)(*inputs())
    assert all(part.isfinite().all() for part in (*output.posterior, *output.prior, output.decoded))
    assert output.posterior.mean.abs().max() < 10


def test_a_fixed_noise_variance_can_be_set():
    assert make(likelihood="gaussian", noise_logvar=-2.0).noise_logvar.item() == -2


def test_a_cnn_needs_sizes_it_can_halve_four_times():
    with pytest.raises(ParameterError, match="size must be a multiple of 16 for a cnn, got 40"):
        Config(encoder="cnn", size=40)


def test_convolutions_in_half_precision_are_near_those_in_full():
    """Also under vmap, where torch's autocast leaves them alone."""
    model = make(encoder="cnn")
    images = inputs()[0]
    codes = torch.randn(6, 3, 2, generator=torch.Generator().manual_seed(1))
    exact = model.encode(images).mean, model.decode(codes)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        plain = model.encode(images).mean, model.decode(codes)
        mapped = torch.func.vmap(lambda x, z: (model.encode(x).mean, model.decode(z)))(
            images[:, None], codes[:, None]
        )
    assert plain[1].dtype == mapped[1].dtype == torch.bfloat16
    for one, rough, alone in zip(exact, plain, mapped, strict=True):
        assert not torch.equal(one, rough.float())
        torch.testing.assert_close(rough.float(), one, rtol=0.05, atol=0.02)
        torch.testing.assert_close(alone[:, 0].float(), one, rtol=0.05, atol=0.02)
