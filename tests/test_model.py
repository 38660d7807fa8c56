"""One replica: each part against its formula written otherwise, and how its weights start."""

import numpy as np
import pytest
import torch
from made_up import blank
from torch.distributions import Bernoulli, Normal
from torch.nn import functional as F

from vaenotes.config import Config
from vaenotes.data.dataset import Dataset
from vaenotes.data.load import load
from vaenotes.errors import ParameterError
from vaenotes.model import VAE
from vaenotes.nets import ENCODERS
from vaenotes.objective import Terms, Weights, reconstruction_nats, terms, total

NODES = ("shape", "scale", "x")
EDGES = (("shape", "scale"),)


def make(size=16, seed=3, nodes=NODES, **options) -> VAE:
    config = Config(**{"hidden": 8, "size": size} | options)
    dataset = blank(nodes, size**2, EDGES if nodes == NODES else ())
    return VAE(config, dataset).initialise(torch.Generator().manual_seed(seed))


def inputs(images=6, pixels=256, nodes=3, dims=2, noise_inputs=9):
    generator = torch.Generator().manual_seed(5)
    return (
        torch.rand(images, pixels, generator=generator),
        torch.randn(images, nodes, generator=generator),
        torch.randn(images, nodes, noise_inputs, generator=generator),
        torch.randn(images, nodes, dims, generator=generator),
    )


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize(("dims", "shared"), [(1, True), (3, True), (3, False)])
def test_shapes(encoder, dims, shared):
    model = make(32, encoder=encoder, dims=dims, shared=shared, noise_inputs=4)
    output = model(*inputs(pixels=32**2, dims=dims, noise_inputs=4))
    assert output.posterior.mean.shape == output.z.shape == (6, 3, dims)
    assert output.prior.mean.shape == output.prior.logvar.shape == (6, 3, dims)
    assert output.decoded.shape == (6, 32**2)
    assert output.predicted.shape == (6, 3)
    assert output.posterior.mean.abs().max() < 10 and output.decoded.isfinite().all()


def test_the_notes_encoder_reads_out_each_of_its_convolutions():
    """At 64 by 64: windows of 4, two apart and without padding, leave maps of 31, 14 and 6. Each
    is read out by one linear map and tanh, to three numbers for each of five nodes."""
    encoder = make(64, nodes=("a", "b", "c", "d", "e"), encoder="multiscale").encoder
    images = inputs(images=2, pixels=64 * 64)[0]
    maps, shapes, expected = images.reshape(2, 1, 64, 64), [], []
    for stage, readout in zip(encoder.stages, encoder.readouts, strict=True):
        convolution, linear = stage[-2], readout[0]
        maps = F.conv2d(maps, convolution.weight, convolution.bias, stride=2).relu()
        flat = maps.reshape(2, -1) @ linear.weight + linear.bias
        shapes.append(tuple(maps.shape))
        expected.append(flat.tanh().reshape(2, 5, 3))
    assert shapes == [(2, 32, 31, 31), (2, 32, 14, 14), (2, 64, 6, 6)]
    torch.testing.assert_close(encoder(images), torch.cat(expected, dim=-1))


def test_sample_and_regression_follow_their_formulas():
    model = make()
    output = model(*inputs())
    mean, logvar = output.posterior
    torch.testing.assert_close(output.z, mean + torch.exp(logvar / 2) * inputs()[-1])
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
    assert make(likelihood="gaussian", noise_logvar=-2.0).noise_logvar.item() == -2


def test_initial_weights_depend_on_the_generator_alone():
    first = make().state_dict()
    torch.manual_seed(99)
    second, other = make().state_dict(), make(seed=4)
    assert all(torch.equal(first[name], second[name]) for name in first)
    for name, parameter in other.named_parameters():  # each is drawn, biases too
        assert not torch.equal(parameter, first[name]), name


@pytest.mark.parametrize("encoder", ["mlp", "cnn"])
def test_the_decoder_starts_as_glorot_and_bengio_or_as_torch_does(encoder):
    """Of weights (inputs, outputs), and (inputs, outputs, 4, 4) where convolutions go back: a
    normal of variance 2 / (fan-in + fan-out), or uniform within 1 / sqrt(fan-in). The parts that
    are drawn before it are the same to the last bit."""
    options = {"encoder": encoder, "hidden": 64}
    xavier, uniform = (make(decoder_start=start, **options) for start in ("xavier", "uniform"))
    checked = 0
    for name, weight in xavier.named_parameters():
        torch_like = uniform.get_parameter(name)
        if name.startswith(("encoder.", "posterior_network.")):
            assert torch.equal(weight, torch_like)
        if not name.startswith("decoder.") or name.endswith("bias"):
            continue
        window = weight[0, 0].numel()
        into, out = weight.shape[0] * window, weight.shape[1] * window
        std = (2 / (into + out)) ** 0.5
        error = weight.numel() ** -0.5  # the standard error of a mean over std; a std's is less
        assert abs(weight.std().item() / std - 1) < 4 * error, name
        assert abs(weight.mean().item() / std) < 4 * error, name
        # What torch takes for the fan-in of a transposed convolution is of its outputs.
        bound = (out if weight.dim() == 4 else into) ** -0.5
        assert bound * 0.98 < torch_like.abs().max() <= bound, name
        assert abs(torch_like.std().item() / bound * 3**0.5 - 1) < 4 * error, name
        checked += 1
    assert checked == {"mlp": 3, "cnn": 6}[encoder]


def test_every_weight_but_the_decoders_lies_within_one_over_the_root_of_its_fan_in():
    model = make(32, encoder="multiscale", hidden=64)
    own = dict(model.named_parameters())
    for name, weight in own.items():
        if name.endswith("weight") and not name.startswith(("decoder.", "regression")):
            # (output, input, 4, 4); (copy, input, output); (input, output)
            fan_in = weight[0].numel() if weight.dim() == 4 else weight.shape[-2]
            bias = own[name.removesuffix("weight") + "bias"]
            for parameter in (weight, bias):
                assert 0 < parameter.abs().max() <= fan_in**-0.5, name
            assert weight.abs().max() > 0.8 * fan_in**-0.5, name
    for parameter in (model.regression_weight, model.regression_bias):
        assert (parameter.abs() <= 2**-0.5).all() and (parameter != 0).all()


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian", "gaussian_learned"])
def test_reconstruction_is_the_likelihood_of_torch_distributions(likelihood):
    model = make(likelihood=likelihood, noise_logvar=-1.5)
    images, decoded = torch.rand(4, 256).round(), 3 * torch.randn(4, 256)
    if likelihood == "bernoulli":
        expected = Bernoulli(logits=decoded)
    else:
        expected = Normal(decoded, torch.tensor(-0.75).exp())
    nats = reconstruction_nats(model, decoded, images)
    torch.testing.assert_close(nats, -expected.log_prob(images).sum(-1))
    assert ("noise_logvar" in dict(model.named_parameters())) == (likelihood == "gaussian_learned")


def test_total_weighs_sums_and_averages_once():
    unreduced = Terms(
        torch.tensor([10.0, 20.0]),
        torch.arange(8.0).reshape(2, 2, 2),
        torch.tensor([[1.0, 2.0], [3.0, 4.0]]),
    )
    # means over images: 15, (6 + 22) / 2 = 14, (3 + 7) / 2 = 5
    assert total(unreduced, Weights()).item() == pytest.approx(0.8 * 15 + 0.15 * 14 + 0.05 * 5)
    assert total(unreduced, Weights(0.0, 2.0, 0.0)).item() == pytest.approx(28)


@pytest.mark.parametrize("targets", ["raw", "standard"])
def test_what_is_predicted_are_raw_or_standardised_factors(targets):
    sprites = load("sprites", images=64, size=16)
    model = VAE(Config(targets=targets), sprites)
    standard = torch.from_numpy(sprites.standard_factors)
    expected = torch.from_numpy(sprites.factors) if targets == "raw" else standard
    torch.testing.assert_close(model.targets(standard), expected, rtol=1e-5, atol=1e-5)
    assert sprites.factors.max() > 20  # indices, not the standardised ones
    images, noise, z0 = inputs(64, 256, 5)[0], *inputs(64, 256, 5)[2:]
    output = model(images, standard, noise, z0)
    found = terms(model, output, images, standard).squared_error
    torch.testing.assert_close(found, (expected - output.predicted) ** 2, rtol=1e-4, atol=1e-4)


def test_a_graph_of_other_nodes_is_refused_and_pictures_may_be_wide():
    sprites = load("sprites", images=64, size=32)
    with pytest.raises(ParameterError, match=r"edges must be \(parent, child\) pairs of shape, sc"):
        VAE(Config(edges=(("shape", "colour"),)), sprites)
    wide = Dataset("wide", np.zeros((1, 8, 20), np.uint8), np.zeros((1, 1), np.float32), ("a",), ())
    assert VAE(Config(), wide).decode(torch.zeros(2, 1, 2)).shape == (2, 160)


@pytest.mark.parametrize("encoder", ["cnn", "multiscale"])
def test_convolutions_in_half_precision_are_near_those_in_full(encoder):
    """Also under vmap, where torch's autocast leaves them alone."""
    model = make(32, encoder=encoder)
    images = inputs(pixels=32**2)[0]
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
