"""One replica: a plain module that can be read and used alone.

    images -> encoder -> features per node -> posterior network -> q(z | x)
    z ~ q -> decoder -> image;  z of each node -> linear regression of its factor
    prior(noise, factors, z) -> p(z)

All randomness comes in as an argument, so that a call is a pure function of its inputs.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from vaenotes.config import Config
from vaenotes.data.dataset import Dataset
from vaenotes.graph import parent_matrix
from vaenotes.kl import Diagonal, Gaussian, sample
from vaenotes.nets import ENCODERS
from vaenotes.priors import PRIORS, Spec


class Output(NamedTuple):
    """What one pass returns."""

    posterior: Diagonal  # (image, node, dim)
    prior: Gaussian  # (image, node, dim), or (node, dim) where it is the same for all images
    z: Tensor  # (image, node, dim), a sample of the posterior
    decoded: Tensor  # (image, pixel): logits (Bernoulli) or means (Gaussian)
    predicted: Tensor  # (image, node): regression of the factors, in the units of `targets`


class VAE(nn.Module):
    """A concept-structured VAE: one latent node per factor, joined by a DAG.

    config: what it is made of; dataset: what it will be shown, of which the names of the factors
    are those of the nodes, the edges are used unless the configuration has its own, and the
    factors' moments bring standardised factors back to raw ones. Weights are drawn from torch's
    global generator; `initialise` draws them anew. Raises ParameterError where edges name other
    nodes.
    """

    start_logvar: Tensor
    noise_logvar: Tensor
    factor_mean: Tensor
    factor_std: Tensor

    def __init__(self, config: Config, dataset: Dataset):
        super().__init__()
        parents = parent_matrix(  # (node, node)
            dataset.factor_names, dataset.edges if config.edges is None else config.edges
        )
        nodes, dims = len(parents), config.dims
        hidden = 2 * dims if config.graph_hidden is None else config.graph_hidden
        pixels = math.prod(dataset.images.shape[1:])
        self.node_shape = (nodes, dims)
        self.likelihood, self.noise_inputs = config.likelihood, config.noise_inputs
        self.decoder_start = config.decoder_start
        mean, std = np.zeros(nodes), np.ones(nodes)
        if config.targets == "raw":
            mean, std = dataset.moments
        self.register_buffer("factor_mean", torch.tensor(mean.tolist()))
        self.register_buffer("factor_std", torch.tensor(std.tolist()))
        self.register_buffer("start_logvar", torch.tensor(config.posterior_logvar))
        build = ENCODERS[config.encoder]
        self.encoder = build.encoder(pixels, config.hidden, nodes)
        self.posterior_network = build.posterior(parents, pixels, dims, hidden, config.shared)
        spec = Spec(parents, dims, config.noise_inputs, hidden, config.shared, config.prior_logvar)
        self.prior = PRIORS[config.prior](spec)
        self.decoder = build.decoder(nodes * dims, config.hidden, pixels)
        self.regression_weight = nn.Parameter(torch.empty(nodes, dims))
        self.regression_bias = nn.Parameter(torch.empty(nodes))
        noise_logvar = torch.tensor(config.noise_logvar)
        if config.likelihood == "gaussian_learned":
            self.noise_logvar = nn.Parameter(noise_logvar)
        else:
            self.register_buffer("noise_logvar", noise_logvar)
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
        """What the regressions are to predict, from standardised factors (image, node): these, or
        raw factors, as the configuration says."""
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


class Apply(nn.Module):
    """Calls a function of a model. torch's functional_call puts parameters in place only while a
    module is called, and a loss reads more of the model than its call: so the call is this one."""

    def __init__(self, model: VAE):
        super().__init__()
        self.model = model

    def forward(self, function: Callable[..., Any], *inputs: Any) -> Any:
        return function(self.model, *inputs)
