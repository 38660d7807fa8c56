"""The layers around the prior: encoders, the posterior's heads, decoders.

    images (image, pixel) -> encoder -> features (image, node, FEATURES)
    features -> posterior network -> mean and log-variance (image, node, 2 dim)
    code (image, node * dim) -> decoder -> (image, pixel)

Adding a kind of encoder, with what belongs to it, is one line in ENCODERS.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vaenotes.graph import GraphNetwork

SCALES = 3  # of the encoder: each of its three layers is read out
FEATURES = 9  # per node, between encoder and posterior graph network: three from each scale
CHANNELS = (1, 32, 32, 64, 64)  # the strided convolutions of the dSprites literature
HALVES: dict[str, Any] = {"stride": 2, "padding": 1}  # with windows of 4, the side of a map


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


def multiplied(module: nn.Module) -> list[str]:
    """The names of the parameters of a model that half precision lowers: those of layers whose
    products are the bulk of its work."""
    layers = (Linear, Conv2d, ConvTranspose2d)
    return [
        f"{name}.{own}"
        for name, layer in module.named_modules()
        if isinstance(layer, layers)
        for own, _ in layer.named_parameters()
    ]
