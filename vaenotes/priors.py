"""Priors p(z | ...), one small class each behind one interface.

A prior is called as `prior(noise, factors, z)` and returns a Gaussian over the latent code, one
per image or one for all images (no image axis):

    noise    (image, node, input)  exogenous noise, standard normal, independent of the image
    factors  (image, node)         the true factors, standardised
    z        (image, node, dim)    the code whose density is wanted: the posterior's sample

Each prior uses what it needs. Adding a prior is one class and one line in PRIORS.

GAUGE says how a prior's parameters answer to a change of the code's units (see gauge.py): the
parameter's name and its role there.
"""

from collections.abc import Mapping
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from vaenotes.graph import GraphNetwork
from vaenotes.kl import Diagonal, Full, Gaussian

Roles = Mapping[str, str]
OUTPUTS = {f"network.{name}": role for name, role in GraphNetwork.GAUGE.items()}


class Spec(NamedTuple):
    """What a prior is made from."""

    parents: Tensor  # the DAG (node, node)
    dims: int
    inputs: int  # how many numbers a node is fed
    hidden: int  # units per node inside a network
    shared: bool  # whether all nodes have the same weights
    logvar: float  # shifts every log-variance


class Prior(nn.Module):
    """The interface."""

    GAUGE: ClassVar[Roles]
    OWN_UNITS: ClassVar[bool] = False  # whether the units of its dims are fixed, but for signs
    OWN_ORDER: ClassVar[bool] = False  # whether the order of its dims is fixed
    start_logvar: Tensor

    def __init__(self, spec: Spec):
        super().__init__()
        self.nodes = len(spec.parents)
        self.register_buffer("start_logvar", torch.tensor(float(spec.logvar)))

    def split(self, output: Tensor) -> Diagonal:
        """(..., node, 2 dim) network outputs -> mean and logvar (..., node, dim)."""
        mean, logvar = output.chunk(2, dim=-1)
        return Diagonal(mean, logvar + self.start_logvar)


class NetworkPrior(Prior):
    """A graph network over the nodes; subclasses say what each node is fed."""

    GAUGE: ClassVar[Roles] = OUTPUTS
    centres: Tensor

    def __init__(self, spec: Spec):
        super().__init__(spec)
        parents, dims, inputs, hidden, shared, _ = spec
        self.network = GraphNetwork(parents, inputs, hidden, 2 * dims, shared)
        centres = torch.linspace(-2, 2, self.nodes + 1)[:-1, None]
        self.register_buffer("centres", centres.expand(self.nodes, inputs).contiguous())

    def features(self, noise: Tensor, factors: Tensor) -> Tensor:
        """What the network is fed, (image, node, input), or (node, input) if it is all the same."""
        raise NotImplementedError

    def forward(self, noise: Tensor, factors: Tensor, z: Tensor) -> Gaussian:
        return self.split(self.network(self.features(noise, factors)))


class ExogenousPrior(NetworkPrior):
    """The notes' prior: a graph network fed with noise that never saw the image.

    Node i is fed unit normals centred at -2 + 4 i / nodes, drawn afresh for every image and step.
    """

    def features(self, noise: Tensor, factors: Tensor) -> Tensor:
        return noise + self.centres


class ShuffledPrior(ExogenousPrior):
    """The same, but each node's Gaussian comes from another image's noise: each node keeps its
    own distribution, and the dependence between nodes is gone."""

    def forward(self, noise: Tensor, factors: Tensor, z: Tensor) -> Gaussian:
        return shuffled(super().forward(noise, factors, z))


class NodesPrior(NetworkPrior):
    """The same network without the noise: each node is told which it is, and nothing else."""

    def features(self, noise: Tensor, factors: Tensor) -> Tensor:
        return self.centres


class ConstantPrior(NetworkPrior):
    """The same network fed with zeros: all nodes are told the same, and nothing else."""

    def features(self, noise: Tensor, factors: Tensor) -> Tensor:
        return torch.zeros_like(self.centres)


class FactorPrior(NetworkPrior):
    """The same network fed with the true factors: a prior that sees what matters."""

    def features(self, noise: Tensor, factors: Tensor) -> Tensor:
        return factors.unsqueeze(-1).expand(*factors.shape, self.centres.shape[-1])


class OtherFactorPrior(FactorPrior):
    """The same network fed with the factors of another image: right in distribution, of no use."""

    def features(self, noise: Tensor, factors: Tensor) -> Tensor:
        return super().features(noise, factors.roll(1, -2))


class DiagonalPrior(Prior):
    """One learned mean and log-variance per node and dim, the same for every image."""

    GAUGE: ClassVar[Roles] = {"mean": "mean", "logvar": "logvar"}

    def __init__(self, spec: Spec):
        super().__init__(spec)
        self.mean = nn.Parameter(torch.zeros(self.nodes, spec.dims))
        self.logvar = nn.Parameter(torch.full((self.nodes, spec.dims), float(spec.logvar)))

    def forward(self, noise: Tensor, factors: Tensor, z: Tensor) -> Gaussian:
        return Diagonal(self.mean, self.logvar)


class VariancePrior(DiagonalPrior):
    """A learned log-variance per node and dim around a mean that is fixed at 0."""

    def forward(self, noise: Tensor, factors: Tensor, z: Tensor) -> Gaussian:
        return Diagonal(torch.zeros_like(self.mean), self.logvar)


class MatchedPrior(Prior):
    """The best diagonal Gaussian for the codes at hand, in closed form: their own mean and
    variance over the images (Hoffman & Johnson 2016: the KL from the aggregate posterior).

    No gradient flows through it: where the prior is at its best, none would.
    """

    GAUGE: ClassVar[Roles] = {}

    def forward(self, noise: Tensor, factors: Tensor, z: Tensor) -> Gaussian:
        z = z.detach()
        return Diagonal(z.mean(-3), z.var(-3, correction=0).log())


class CholeskyPrior(Prior):
    """One learned Gaussian over the whole code, with full covariance L L^T."""

    GAUGE: ClassVar[Roles] = {"mean": "mean", "factor": "factor"}

    def __init__(self, spec: Spec):
        super().__init__(spec)
        self.mean = nn.Parameter(torch.zeros(self.nodes, spec.dims))
        # L below the diagonal, log L on it; what is above is not used
        self.factor = nn.Parameter(torch.diag(torch.full((self.mean.numel(),), spec.logvar / 2)))

    def forward(self, noise: Tensor, factors: Tensor, z: Tensor) -> Gaussian:
        return Full(self.mean, self.factor.tril(-1) + torch.diag(self.factor.diagonal().exp()))


class StandardPrior(Prior):
    """Fixed N(0, I): the prior of Hidden Talents (Dai et al. 2018). A logvar other than 0 scales
    it to N(0, e^logvar I); nothing is learned."""

    GAUGE: ClassVar[Roles] = {}
    OWN_UNITS: ClassVar[bool] = True
    mean: Tensor
    logvar: Tensor

    def __init__(self, spec: Spec):
        super().__init__(spec)
        self.register_buffer("mean", torch.zeros(self.nodes, spec.dims))
        self.register_buffer("logvar", torch.full((self.nodes, spec.dims), float(spec.logvar)))

    def forward(self, noise: Tensor, factors: Tensor, z: Tensor) -> Gaussian:
        return Diagonal(self.mean, self.logvar)


class ParentsPrior(Prior):
    """Ancestral: p(z) = prod_i p(z_i | z_parents(i)), as in a Graph VAE (He et al. 2019).

    Each node has its own network of one hidden layer over the sampled codes of its parents; a
    node without parents has a learned constant. Weights are never shared, for the parents of
    each node mean something else.
    """

    GAUGE: ClassVar[Roles] = OUTPUTS | {"network.first.weight": "code weight"}
    parents: Tensor

    def __init__(self, spec: Spec):
        super().__init__(spec)
        dims, hidden = spec.dims, spec.hidden
        self.register_buffer("parents", spec.parents.repeat_interleave(dims, dim=1))
        nothing = torch.zeros_like(spec.parents)  # no averaging: only a node's own row counts
        self.network = GraphNetwork(nothing, self.nodes * dims, hidden, 2 * dims, shared=False)

    def forward(self, noise: Tensor, factors: Tensor, z: Tensor) -> Gaussian:
        codes = z.flatten(-2).unsqueeze(-2) * self.parents  # (image, node, node * dim)
        return self.split(self.network(codes))


class OrderedPrior(Prior):
    """Autoregressive over the dims of a node: p(z_i) = prod_j p(z_ij | z_i1 ... z_i,j-1), with
    one network of one hidden layer per dim, the same for all nodes."""

    GAUGE: ClassVar[Roles] = {
        "network.first.weight": "earlier dims",
        "network.second.weight": "weight of a dim",
        "network.second.bias": "bias of a dim",
    }
    OWN_ORDER: ClassVar[bool] = True
    before: Tensor

    def __init__(self, spec: Spec):
        super().__init__(spec)
        dims, nothing = spec.dims, torch.zeros(spec.dims, spec.dims)
        self.register_buffer("before", torch.ones(dims, dims).tril(-1))
        self.network = GraphNetwork(nothing, dims, spec.hidden, 2, shared=False)

    def forward(self, noise: Tensor, factors: Tensor, z: Tensor) -> Gaussian:
        mean, logvar = self.network(z.unsqueeze(-2) * self.before).unbind(-1)
        return Diagonal(mean, logvar + self.start_logvar)


def shuffled(prior: Gaussian) -> Gaussian:
    """Node i's part taken from the image i + 1 places before: (image, node, dim) -> the same.
    A prior that is the same for all images (no image axis) is returned as it is."""
    if prior.mean.dim() < 3 or isinstance(prior, Full):
        return prior
    nodes = range(prior.mean.shape[-2])
    return Diagonal(
        *(torch.stack([part[..., i, :].roll(i + 1, -2) for i in nodes], -2) for part in prior)
    )


PRIORS: dict[str, type[Prior]] = {
    "exogenous": ExogenousPrior,
    "shuffled": ShuffledPrior,
    "nodes": NodesPrior,
    "constant": ConstantPrior,
    "factors": FactorPrior,
    "other_factors": OtherFactorPrior,
    "parents": ParentsPrior,
    "ordered": OrderedPrior,
    "diagonal": DiagonalPrior,
    "variance": VariancePrior,
    "matched": MatchedPrior,
    "cholesky": CholeskyPrior,
    "standard": StandardPrior,
}
"""Every prior, by the name that a configuration gives."""
