import pytest
import torch
from torch.distributions import Bernoulli, Normal
from torch.nn import functional as F

from vaenotes.config import Config
from vaenotes.data.load import load
from vaenotes.errors import ParameterError
from vaenotes.model import ENCODERS, FEATURES, LEAST, VAE
from vaenotes.objective import Terms, Weights, reconstruction_nats, terms, total
from vaenotes.training import build

NODES = ("shape", "scale", "x")
EDGES = (("shape", "scale"),)


def make(**options) -> VAE:
    options = {"nodes": NODES, "edges": EDGES, "pixels": 256, "hidden": 8} | options
    return VAE(**options).initialise(torch.Generator().manual_seed(3))


def inputs(images=6, pixels=256, nodes=3, dims=2, noise_inputs=9):
    generator = torch.Generator().manual_seed(5)
    return (
        torch.rand(images, pixels, generator=generator),
        torch.randn(images, nodes, generator=generator),
        torch.randn(images, nodes, noise_inputs, generator=generator),
        torch.randn(images, nodes, dims, generator=generator),
    )


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("dims", [1, 3])
@pytest.mark.parametrize("shared", [True, False])
def test_shapes(encoder, dims, shared):
    pixels = max(LEAST.get(encoder, 0), 16) ** 2
    model = make(encoder=encoder, dims=dims, shared=shared, pixels=pixels, noise_inputs=4)
    output = model(*inputs(pixels=pixels, dims=dims, noise_inputs=4))
    assert output.posterior.mean.shape == output.z.shape == (6, 3, dims)
    assert output.prior.mean.shape == output.prior.logvar.shape == (6, 3, dims)
    assert output.decoded.shape == (6, pixels)
    assert output.predicted.shape == (6, 3)


@pytest.mark.parametrize(
    ("options", "hidden"), [({}, 4), ({"dims": 3}, 6), ({"dims": 3, "graph_hidden": 5}, 5)]
)
def test_both_graph_networks_have_as_many_units_as_was_asked_or_twice_the_dims(options, hidden):
    model = make(noise_inputs=7, **options)
    dims = options.get("dims", 2)
    for network, given in ((model.posterior_network, FEATURES), (model.prior.network, 7)):
        assert network.first.weight.shape == (1, given, hidden)
        assert network.second.weight.shape == (1, hidden, 2 * dims)


def test_the_notes_encoder_reads_out_each_of_its_convolutions():
    """At 64 by 64: windows of 4, two apart and without padding, leave maps of 31, 14 and 6. Each
    is read out by one linear map and tanh, to three numbers for each of five nodes."""
    encoder = VAE(
        nodes=("a", "b", "c", "d", "e"), edges=(), pixels=64 * 64, encoder="multiscale"
    ).encoder
    images = inputs(images=2, pixels=64 * 64)[0]
    maps, expected = images, []
    for stage, readout in zip(encoder.stages, encoder.readouts, strict=True):
        maps = stage(maps)
        linear = readout[0]
        flat = maps.reshape(2, -1) @ linear.weight + linear.bias
        expected.append((maps.shape, flat.tanh().reshape(2, 5, 3)))
    assert [tuple(shape) for shape, _ in expected] == [
        (2, 32, 31, 31), (2, 32, 14, 14), (2, 64, 6, 6)
    ]  # fmt: skip
    features = encoder(images)
    assert features.shape == (2, 5, 9) and features.abs().max() <= 1
    torch.testing.assert_close(features, torch.cat([read for _, read in expected], dim=-1))
    by_hand = F.conv2d(images.reshape(2, 1, 64, 64), encoder.stages[0][1].weight, stride=2)
    by_hand = by_hand + encoder.stages[0][1].bias[:, None, None]
    torch.testing.assert_close(encoder.stages[0](images), by_hand.relu())


def test_the_dense_encoder_reads_out_each_of_its_layers():
    model = make()
    layer, expected = inputs()[0], []
    for stage, readout in zip(model.encoder.stages, model.encoder.readouts, strict=True):
        layer = (layer @ stage[0].weight + stage[0].bias).relu()
        read = layer @ readout[0].weight + readout[0].bias
        expected.append(read.tanh().reshape(6, 3, 3))
    assert len(expected) == 3 and layer.shape == (6, 8)
    torch.testing.assert_close(model.encoder(inputs()[0]), torch.cat(expected, dim=-1))


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
    weights = other.state_dict()
    assert weights.keys() == first.keys() == dict(other.named_parameters()).keys() | BUFFERS
    for name in first.keys() - BUFFERS:  # every parameter is drawn, biases too
        assert not torch.equal(weights[name], first[name]), name


BUFFERS = {
    "start_logvar", "factor_mean", "factor_std", "noise_logvar", "prior.start_logvar",
    "prior.centres", "prior.network.first.averaging", "prior.network.second.averaging",
    "posterior_network.first.averaging", "posterior_network.second.averaging",
}  # fmt: skip


@pytest.mark.parametrize("encoder", ["mlp", "cnn"])
def test_the_decoder_starts_as_glorot_and_bengio_or_as_torch_does(encoder):
    """Of weights (inputs, outputs), and (inputs, outputs, 4, 4) where convolutions go back: a
    normal of variance 2 / (fan-in + fan-out), or uniform within 1 / sqrt(fan-in)."""
    options = {"encoder": encoder, "hidden": 64}
    xavier, uniform = (make(decoder_start=start, **options) for start in ("xavier", "uniform"))
    checked = 0
    for name, weight in xavier.decoder.named_parameters():
        torch_like = dict(uniform.decoder.named_parameters())[name]
        if name.endswith("bias"):
            continue
        module = uniform.decoder[int(name.split(".")[0])]
        window = weight[0, 0].numel()
        into, out = weight.shape[0] * window, weight.shape[1] * window
        std = (2 / (into + out)) ** 0.5
        error = weight.numel() ** -0.5  # the standard error of a mean over std; a std's is less
        assert abs(weight.std().item() / std - 1) < 4 * error, name
        assert abs(weight.mean().item() / std) < 4 * error, name
        # What torch takes for the fan-in of a transposed convolution is of its outputs.
        bound = (out if weight.dim() == 4 else into) ** -0.5
        assert bound * 0.98 < torch_like.abs().max() <= bound, name
        assert module.bias.abs().max() <= bound
        assert abs(torch_like.std().item() / bound * 3**0.5 - 1) < 4 * error, name
        checked += 1
    assert checked == {"mlp": 3, "cnn": 6}[encoder]


def test_how_the_decoder_starts_says_nothing_of_the_other_parts():
    """The encoder and the posterior's network, which are drawn before it, to the last bit."""
    xavier, uniform = (make(decoder_start=s).state_dict() for s in ("xavier", "uniform"))
    same = {name for name in xavier if torch.equal(xavier[name], uniform[name])}
    assert {n for n in xavier if n.startswith(("encoder.", "posterior_network."))} <= same
    assert not {n for n in xavier if n.startswith("decoder.") and n.endswith("weight")} & same


def test_every_weight_but_the_decoders_lies_within_one_over_the_root_of_its_fan_in():
    model = make(encoder="multiscale", pixels=1024, hidden=64)
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
    assert total(unreduced, Weights()).item() == pytest.approx(0.8 * 15 + 0.15 * 14 + 0.05 * 5)
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


def test_raw_targets_are_the_factors_as_they_were_before_they_were_standardised():
    """Of a model that predicts 3 z1 - z2 + 0.5 of each node, and factors of known moments."""
    mean, std = (1.0, 12.5, 0.25), (0.5, 8.0, 3.0)
    model = make(factor_mean=mean, factor_std=std)
    with torch.no_grad():
        model.regression_weight.copy_(torch.tensor([3.0, -1.0]).expand(3, 2))
        model.regression_bias.fill_(0.5)
    images, standard, noise, z0 = inputs()
    raw = standard.double() * torch.tensor(std).double() + torch.tensor(mean).double()
    output = model(images, standard, noise, z0)
    z = output.z.double()
    expected = (raw - (3 * z[..., 0] - z[..., 1] + 0.5)) ** 2
    found = terms(model, output, images, standard).squared_error
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("targets", "raw"), [("raw", True), ("standard", False)])
def test_what_is_predicted_follows_from_the_configuration(targets, raw):
    dataset = load("sprites", images=64, size=16)
    model = build(Config(images=64, targets=targets), dataset)
    standard = torch.from_numpy(dataset.standard_factors)
    expected = torch.from_numpy(dataset.factors) if raw else standard
    torch.testing.assert_close(model.targets(standard), expected, rtol=1e-5, atol=1e-5)
    assert dataset.factors.max() > 20  # indices, not the standardised ones


@pytest.mark.parametrize("argument", ["factor_mean", "factor_std"])
def test_moments_of_factors_are_one_for_each_node(argument):
    with pytest.raises(ParameterError, match=f"{argument} must be one number per node, got"):
        make(**{argument: (1.0, 2.0)})


@pytest.mark.parametrize(
    ("argument", "value", "allowed"),
    [
        ("prior", "vamp", "one of exogenous, shuffled"),
        ("encoder", "resnet", "one of multiscale, mlp, cnn, linear"),
        ("targets", "log", "one of raw, standard"),
        ("decoder_start", "he", "one of xavier, uniform"),
        ("likelihood", "poisson", "one of bernoulli"),
        ("precision", "int8", "one of float32, bfloat16"),
        ("data", 3, "one of sprites, grey_sprites, paired_sprites, mnist5k, digits, opt"),
        ("shared", "no", "a bool"),
        ("seed", 2**70, "an integer in 0..9223372036854775807"),
        ("dims", 0, "an integer in 1..9223372036854775807"),
        ("epochs", 2.5, "an integer in 0..9223372036854775807"),
        ("kl_warmup", -1, "an integer in 0..9223372036854775807"),
        ("repeats", 0, "an integer in 1..9223372036854775807"),
        ("noise_inputs", 0, "an integer in 1..9223372036854775807"),
        ("graph_hidden", 0, "an integer in 1..9223372036854775807"),
        ("epoch_steps", 0, "an integer in 1..9223372036854775807"),
        ("images", True, "an integer in 64..9223372036854775807"),
        ("kl_weight", -0.1, "a finite number in 0..3.4e+38"),
        ("learning_rate", float("nan"), "a finite number in 0..3.4e+38"),
        ("prior_logvar", float("inf"), "a finite number"),
        ("batch", 20_000, "at most images=6400"),
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


@pytest.mark.parametrize("argument", ["prior", "encoder", "likelihood", "decoder_start"])
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


@pytest.mark.parametrize(
    ("encoder", "least", "bad"), [("cnn", 16, (40, 8)), ("multiscale", 32, (40, 16))]
)
def test_convolutions_need_sizes_they_can_halve_often_enough(encoder, least, bad):
    assert Config(encoder=encoder, size=least).size == least
    for size in bad:
        rule = f"must be a multiple of 16 from {least} for encoder={encoder}, got {size}"
        with pytest.raises(ParameterError, match=f"size {rule}"):
            Config(encoder=encoder, size=size)
        rule = f"must be the square of a multiple of 16 from {least} for {encoder}"
        with pytest.raises(ParameterError, match=f"pixels {rule}, got {size**2}"):
            make(encoder=encoder, pixels=size**2)


def test_an_epoch_takes_as_many_images_as_its_steps_are_shown():
    """All whole batches, as often as each is repeated, unless it is said how many steps."""
    sizes = {"images": 100, "batch": 30}
    assert Config(**sizes).epoch_images == 90
    assert Config(**sizes, repeats=4).epoch_images == 360
    for repeats in (1, 4):
        assert Config(**sizes, repeats=repeats, epoch_steps=7).epoch_images == 210


@pytest.mark.parametrize("encoder", ["cnn", "multiscale"])
def test_convolutions_in_half_precision_are_near_those_in_full(encoder):
    """Also under vmap, where torch's autocast leaves them alone."""
    model = make(encoder=encoder, pixels=1024)
    images = inputs(pixels=1024)[0]
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
