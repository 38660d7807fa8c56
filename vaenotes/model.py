"""One replica: a plain module that can be read and used alone.

    images -> encoder -> features per node -> posterior network -> q(z | x)
    z ~ q -> decoder -> image;  z of each node -> linear regression of its factor
    prior(noise, factors, z) -> p(z)

All randomness comes in as an argument, so that a call is a pure function of its inputs.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vaenotes.errors import (
    LARGEST,
    check,
    check_choice,
    check_int,
    check_memory,
    check_number,
    number,
)
from vaenotes.graph import Edges, GraphNetwork, parent_matrix
from vaenotes.kl import Diagonal, Gaussian, sample
from vaenotes.priors import PRIORS

LARGE = 4096  # pixels, dims or units, beyond which a model is weighed before it is made
SCALES = 3  # of the encoder: each of its three layers is read out
FEATURES = 9  # per node, between encoder and posterior graph network: three from each scale
LIKELIHOODS = ("bernoulli", "gaussian", "gaussian_learned")
CHANNELS = (1, 32, 32, 64, 64)  # the strided convolutions of the dSprites literature
HALVES: dict[str, Any] = {"stride": 2, "padding": 1}  # with windows of 4, the side of a map
STARTS = ("xavier", "uniform")  # of the decoder's weights


class Output(NamedTuple):
    """What one pass returns."""

    posterior: Diagonal  # (image, node, dim)
    prior: Gaussian  # (image, node, dim), or (node, dim) where it is the same for all images
    z: Tensor  # (image, node, dim), a sample of the posterior
    decoded: Tensor  # (image, pixel): logits (Bernoulli) or means (Gaussian)
    predicted: Tensor  # (image, node): regression of the factors, in the units of `targets`


class VAE(nn.Module):
    """A concept-structured VAE: one latent node per factor, joined by a DAG.

    Arguments, all by name: `nodes` (their names), `edges` (parent, child), `pixels` of an image,
    `dims` per node, `shared` graph weights or one set per node, `prior` (a key of PRIORS),
    `encoder` (a key of ENCODERS; the decoder mirrors it), `hidden` units, `likelihood`
    ("bernoulli"; "gaussian" with its log-variance fixed at `noise_logvar`; "gaussian_learned",
    where it is learned from there), start values that shift all log-variances of posterior and
    prior, `graph_hidden` units per node inside both graph networks (None: 2 dims), `noise_inputs`
    numbers per node that a prior is fed, `decoder_start` (one of STARTS), and `factor_mean` and
    `factor_std` (node,), by which standardised factors are brought back to the units in which they
    are to be predicted (None: they stay standardised). Weights are drawn from torch's global
    generator; `initialise` draws them anew.
    Raises ParameterError for an unknown name, a number out of range, weights larger than memory,
    or a graph that is no DAG.
    """

    start_logvar: Tensor
    noise_logvar: Tensor
    factor_mean: Tensor
    factor_std: Tensor

    def __init__(
        self,
        *,
        nodes: Sequence[str],
        edges: Edges,
        pixels: int = 1024,
        dims: int = 2,
        shared: bool = True,
        prior: str = "exogenous",
        encoder: str = "mlp",
        hidden: int = 128,
        likelihood: str = "bernoulli",
        posterior_logvar: float = 0.0,
        prior_logvar: float = 0.0,
        noise_logvar: float = 0.0,
        graph_hidden: int | None = None,
        noise_inputs: int = 9,
        decoder_start: str = "xavier",
        factor_mean: Sequence[float] | None = None,
        factor_std: Sequence[float] | None = None,
    ):
        super().__init__()
        check_choice("prior", prior, PRIORS)
        check_choice("encoder", encoder, ENCODERS)
        check_choice("decoder_start", decoder_start, STARTS)
        check_choice("likelihood", likelihood, LIKELIHOODS)
        fits = isinstance(nodes, tuple | list) and all(isinstance(name, str) for name in nodes)
        check(
            fits and len(set(nodes)) == len(nodes) > 0, "nodes must be names, all different", nodes
        )
        check_int("dims", dims, 1, LARGEST // 2)
        graph_hidden = 2 * dims if graph_hidden is None else graph_hidden
        sizes = {"pixels": pixels, "dims": dims, "hidden": hidden}
        sizes |= {"graph_hidden": graph_hidden, "noise_inputs": noise_inputs}
        for name, size in sizes.items():
            check_int(name, size, 1, LARGEST)
        check(isinstance(shared, bool), "shared must be a bool", shared)
        side = math.isqrt(pixels)
        fits = encoder not in LEAST or (side**2 == pixels and side % 16 == 0)
        fits = fits and side >= LEAST.get(encoder, 0)
        rule = (
            f"pixels must be the square of a multiple of 16 from {LEAST.get(encoder)} for {encoder}"
        )
        check(fits, rule, pixels)
        for name, value in (
            ("posterior_logvar", posterior_logvar),
            ("prior_logvar", prior_logvar),
            ("noise_logvar", noise_logvar),
        ):
            check_number(name, value)
        if max(*sizes.values(), len(nodes)) > LARGE and torch.get_default_device().type != "meta":
            choices = {"shared": shared, "prior": prior, "encoder": encoder}
            check_memory(sizes, weight_bytes(nodes=nodes, edges=edges, **sizes, **choices))
        parents = parent_matrix(nodes, edges)
        count = len(nodes)
        self.node_shape = (count, dims)
        self.likelihood, self.noise_inputs = likelihood, noise_inputs
        self.decoder_start = decoder_start
        for name, values, usual in (
            ("factor_mean", factor_mean, 0.0),
            ("factor_std", factor_std, 1.0),
        ):
            listed = [usual] * count if values is None else values
            fits = isinstance(listed, (tuple, list)) or getattr(listed, "ndim", 0) == 1
            rule = f"{name} must be one number per node"
            check(fits and len(listed) == count, rule, values)
            check(all(abs(number(v)) <= 3.4e38 for v in listed), rule, values)
            filled = torch.tensor([float(v) for v in listed])
            self.register_buffer(name, filled)
        self.register_buffer("start_logvar", torch.tensor(float(posterior_logvar)))
        build = ENCODERS[encoder]
        self.encoder = build.encoder(pixels, hidden, count)
        self.posterior_network = build.posterior(parents, pixels, dims, graph_hidden, shared)
        self.prior = PRIORS[prior](parents, dims, noise_inputs, graph_hidden, shared, prior_logvar)
        self.decoder = build.decoder(count * dims, hidden, pixels)
        self.regression_weight = nn.Parameter(torch.empty(count, dims))
        self.regression_bias = nn.Parameter(torch.empty(count))
        if likelihood == "gaussian_learned":
            self.noise_logvar = nn.Parameter(torch.tensor(float(noise_logvar)))
        else:
            self.register_buffer("noise_logvar", torch.tensor(float(noise_logvar)))
        self.initialise(torch.default_generator)

    def encode(self, images: Tensor) -> Diagonal:
        """(image, pixel) -> posterior mean and logvar (image, node, dim)."""
        mean, logvar = self.posterior_network(self.encoder(images)).chunk(2, dim=-1)
        return Diagonal(mean, logvar + self.start_logvar)

    def decode(self, z: Tensor) -> Tensor:
        """(image, node, dim) -> (image, pixel): Bernoulli logits or Gaussian means."""
        return self.decoder(z.flatten(-2))

    def regress(self, z: Tensor) -> Tensor:
        """(image, node, dim) -> (image, node): each node's linear guess of its own factor."""
        return (z * self.regression_weight).sum(-1) + self.regression_bias

    def targets(self, factors: Tensor) -> Tensor:
        """What the regressions are to predict: standardised factors (image, node) in the units of
        `factor_mean` and `factor_std`."""
        return factors * self.factor_std + self.factor_mean

    def forward(self, images: Tensor, factors: Tensor, noise: Tensor, z0: Tensor) -> Output:
        """One pass: images (image, pixel) in 0..1, standardised factors (image, node), and standard
        normal noise: for the prior (image, node, noise_inputs), and z0 (image, node, dim) for the
        posterior's sample."""
        posterior = self.encode(images)
        z = sample(posterior, z0)
        return Output(posterior, self.prior(noise, factors, z), z, self.decode(z), self.regress(z))

    @torch.no_grad()
    def initialise(self, generator: torch.Generator) -> "VAE":
        """Draw every weight and bias from U(-1, 1) / sqrt(fan-in), torch's default for linear
        layers and convolutions, in a fixed order from the replica's own generator; but the
        decoder's weights, if they start "xavier", from a normal of variance 2 / (fan-in +
        fan-out) (Glorot & Bengio 2010)."""
        for name, module in self.named_modules():
            if isinstance(weight := getattr(module, "weight", None), nn.Parameter):
                fan_in = getattr(module, "fan_in", math.prod(weight.shape[1:]))
                for parameter in module.parameters(recurse=False):
                    parameter.uniform_(-(fan_in**-0.5), fan_in**-0.5, generator=generator)
                if name.startswith("decoder.") and self.decoder_start == "xavier":
                    fans = (weight.shape[0] + weight.shape[1]) * math.prod(weight.shape[2:])
                    weight.normal_(0, (2 / fans) ** 0.5, generator=generator)
        bound = self.node_shape[1] ** -0.5
        for parameter in (self.regression_weight, self.regression_bias):
            parameter.uniform_(-bound, bound, generator=generator)
        return self


def weight_bytes(**arguments: Any) -> float:
    """What the parameters of VAE(**arguments) take in memory; nothing is allocated."""
    if max(arguments["pixels"], arguments["dims"], arguments["hidden"]) > 2**60:
        return math.inf
    try:
        with torch.device("meta"):
            return sum(parameter.nbytes for parameter in VAE(**arguments).parameters())
    except RuntimeError:  # the product is more than torch can count
        return math.inf


class Linear(nn.Module):
    """x W + b with W (inputs, outputs): nn.Linear transposed, so that stacked replicas multiply
    without copying their weights into another order."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.fan_in = inputs
        self.weight = nn.Parameter(torch.empty(inputs, outputs))
        self.bias = nn.Parameter(torch.empty(outputs))

    def forward(self, inputs: Tensor) -> Tensor:
        return (inputs @ self.weight).add_(self.bias)  # in place: less memory to fetch


class Conv2d(nn.Conv2d):
    """In the precision of autocast, which under vmap does not see to convolutions itself."""

    def forward(self, images: Tensor) -> Tensor:
        lowered = _lowered(images, self.weight, self.bias)
        return F.conv2d(*lowered, stride=2, padding=self.padding)  # type: ignore[call-overload]


class ConvTranspose2d(nn.ConvTranspose2d):
    """The same for the way back."""

    def forward(self, images: Tensor) -> Tensor:  # type: ignore[override]
        return F.conv_transpose2d(*_lowered(images, self.weight, self.bias), **HALVES)


def _lowered(images: Tensor, *weights: Any) -> Any:
    device = images.device.type
    if not torch.is_autocast_enabled(device):
        return images, *weights
    dtype = torch.get_autocast_dtype(device)
    return [tensor.to(dtype) for tensor in (images, *weights)]


class LinearPosterior(nn.Module):
    """(image, pixel) -> (image, node, 2 dim): means linear in the image, one log-variance per dim
    for all images. What probabilistic PCA needs (Tipping & Bishop 1999; Lucas et al. 2019)."""

    GAUGE: ClassVar[Mapping[str, str]] = {
        "mean.weight": "flat mean",
        "mean.bias": "flat mean",
        "logvar": "logvar",
    }

    def __init__(self, pixels: int, nodes: int, dims: int):
        super().__init__()
        self.mean = Linear(pixels, nodes * dims)
        self.logvar = nn.Parameter(torch.zeros(nodes, dims))

    def forward(self, images: Tensor) -> Tensor:
        mean = self.mean(images).unflatten(-1, self.logvar.shape)
        return torch.cat([mean, self.logvar.expand(mean.shape)], dim=-1)


# Encoders return features (image, node, FEATURES), unless their posterior wants something else;
# decoders, (image, pixel).


class Multiscale(nn.Module):
    """The notes' encoder: three layers, one after the other, each read out by one linear map with
    tanh to FEATURES / SCALES numbers per node; stacked, (image, node, FEATURES).

    stages: the layers; sizes: of what each of them returns, per image.
    """

    def __init__(self, stages: Sequence[nn.Module], sizes: Sequence[int], nodes: int):
        super().__init__()
        self.stages = nn.ModuleList(stages)
        each = FEATURES // SCALES
        self.readouts = nn.ModuleList(
            nn.Sequential(Linear(size, nodes * each), nn.Tanh(), nn.Unflatten(-1, (nodes, each)))
            for size in sizes
        )

    def forward(self, images: Tensor) -> Tensor:
        features, dims = [], images.dim() - 1  # axes before the pixels
        maps = images
        for stage, readout in zip(self.stages, self.readouts, strict=True):
            maps = stage(maps)
            features.append(readout(maps.flatten(dims)))
        return torch.cat(features, dim=-1)


def mlp_encoder(pixels: int, hidden: int, nodes: int) -> nn.Module:
    sizes = [pixels] + [hidden] * SCALES
    stages = [nn.Sequential(Linear(*pair), nn.ReLU(inplace=True)) for pair in pairwise(sizes)]
    return Multiscale(stages, sizes[1:], nodes)


def multiscale_encoder(pixels: int, hidden: int, nodes: int) -> nn.Module:
    side = math.isqrt(pixels)
    stages: list[nn.Module] = []
    sizes = []
    for before, after in pairwise(CHANNELS[: SCALES + 1]):
        layers: list[nn.Module] = [] if stages else [nn.Unflatten(-1, (1, side, side))]
        layers += [Conv2d(before, after, 4, stride=2), nn.ReLU(inplace=True)]
        side = (side - 2) // 2  # windows of 4, two apart, no padding
        stages.append(nn.Sequential(*layers))
        sizes.append(after * side**2)
    return Multiscale(stages, sizes, nodes)


def mlp_decoder(inputs: int, hidden: int, pixels: int) -> nn.Module:
    return nn.Sequential(
        Linear(inputs, hidden),
        nn.ReLU(inplace=True),
        Linear(hidden, hidden),
        nn.ReLU(inplace=True),
        Linear(hidden, pixels),
    )


def cnn_encoder(pixels: int, hidden: int, nodes: int) -> nn.Module:
    side = math.isqrt(pixels)
    layers: list[nn.Module] = [nn.Unflatten(-1, (1, side, side))]
    for before, after in pairwise(CHANNELS):
        layers += [Conv2d(before, after, 4, **HALVES), nn.ReLU(inplace=True)]
    flat = CHANNELS[-1] * (side // 16) ** 2
    layers += [
        nn.Flatten(-3),
        Linear(flat, hidden),
        nn.ReLU(inplace=True),
        Linear(hidden, nodes * FEATURES),
    ]
    return nn.Sequential(*layers, nn.Unflatten(-1, (nodes, FEATURES)))


def cnn_decoder(inputs: int, hidden: int, pixels: int) -> nn.Module:
    side = math.isqrt(pixels) // 16
    flat = CHANNELS[-1] * side**2
    layers: list[nn.Module] = [
        Linear(inputs, hidden),
        nn.ReLU(inplace=True),
        Linear(hidden, flat),
        nn.Unflatten(-1, (CHANNELS[-1], side, side)),
    ]
    for before, after in zip(CHANNELS[:0:-1], CHANNELS[-2::-1], strict=True):
        layers += [nn.ReLU(inplace=True), ConvTranspose2d(before, after, 4, **HALVES)]
    return nn.Sequential(*layers, nn.Flatten(-3))


def no_encoder(pixels: int, hidden: int, nodes: int) -> nn.Module:
    return nn.Identity()  # LinearPosterior reads the pixels themselves


def linear_decoder(inputs: int, hidden: int, pixels: int) -> nn.Module:
    return nn.Sequential(Linear(inputs, pixels))


def graph_posterior(
    parents: Tensor, pixels: int, dims: int, hidden: int, shared: bool
) -> GraphNetwork:
    return GraphNetwork(parents, FEATURES, hidden, 2 * dims, shared)


def linear_posterior(
    parents: Tensor, pixels: int, dims: int, hidden: int, shared: bool
) -> LinearPosterior:
    return LinearPosterior(pixels, len(parents), dims)


class Build(NamedTuple):
    """How the parts around the prior are made."""

    encoder: Callable[[int, int, int], nn.Module]  # pixels, hidden, nodes
    posterior: Callable[[Tensor, int, int, int, bool], GraphNetwork | LinearPosterior]
    decoder: Callable[[int, int, int], nn.Module]  # code, hidden, pixels


ENCODERS = {
    "multiscale": Build(multiscale_encoder, graph_posterior, cnn_decoder),  # the notes' own
    "mlp": Build(mlp_encoder, graph_posterior, mlp_decoder),  # the same of dense layers
    "cnn": Build(cnn_encoder, graph_posterior, cnn_decoder),
    "linear": Build(no_encoder, linear_posterior, linear_decoder),
}
LEAST = {"multiscale": 32, "cnn": 16}  # pixels of a side, a multiple of 16, of convolutions
