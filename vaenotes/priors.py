"""Priors p(z | ...), one small class each behind one interface.

A prior is called as `prior(noise, factors, z)` and returns a Gaussian over the latent code, one
per image or one for all images (no image axis):

    noise    (image, node, dim)  exogenous noise, standard normal, independent of the image
    factors  (image, node)       the true factors, standardised
    z        (image, node, dim)  the code whose density is wanted: the posterior's sample

Each prior uses what it needs. `prior.draw(noise, factors, z0)` turns standard normal z0
(image, node, dim) into samples. Adding a prior is one class and one line in PRIORS.
"""

import torch
from torch import Tensor, nn

from vaenotes.graph import GraphNetwork
from vaenotes.kl import Diagonal, Full, Gaussian, sample


class Prior(nn.Module):
    """The interface. `parents` is the DAG (node, node); `logvar` shifts every log-variance."""

    start_logvar: Tensor

    def __init__(self, parents: Tensor, dims: int, hidden: int, shared: bool, logvar: float):
        super().__init__()
        self.nodes = len(parents)
        self.register_buffer("start_logvar", torch.tensor(float(logvar)))

    def split(self, output: Tensor) -> Diagonal:
        """(..., node, 2 dim) network outputs -> mean and logvar (..., node, dim)."""
        mean, logvar = output.chunk(2, dim=-1)
        return Diagonal(mean, logvar + self.start_logvar)

    def draw(self, noise: Tensor, factors: Tensor, z0: Tensor) -> Tensor:
        """Samples (image, node, dim) of the prior, made from standard normal z0."""
        return sample(self(noise, factors, z0), z0)


class ExogenousPrior(Prior):
    """The notes' prior: a graph network fed with noise that never saw the image.

    Node i hears unit normals centred at -2 + 4 i / nodes, drawn afresh for every image and step.
    """

    centres: Tensor

    def __init__(self, parents: Tensor, dims: int, hidden: int, shared: bool, logvar: float):
        super().__init__(parents, dims, hidden, shared, logvar)
        self.network = GraphNetwork(parents, dims, hidden, 2 * dims, shared)
        self.register_buffer("centres", torch.linspace(-2, 2, self.nodes + 1)[:-1, None])

    def forward(self, noise: Tensor, factors: Tensor, z: Tensor) -> Gaussian:
        return self.split(self.network(noise + self.centres))


class DiagonalPrior(Prior):
    """One learned mean and log-variance per node and dim, the same for every image."""

    def __init__(self, parents: Tensor, dims: int, hidden: int, shared: bool, logvar: float):
        super().__init__(parents, dims, hidden, shared, logvar)
        self.mean = nn.Parameter(torch.zeros(self.nodes, dims))
        self.logvar = nn.Parameter(torch.full((self.nodes, dims), float(logvar)))

    def forward(self, noise: Tensor, factors: Tensor, z: Tensor) -> Gaussian:
        return Diagonal(self.mean, self.logvar)


class CholeskyPrior(Prior):
    """One learned Gaussian over the whole code, with full covariance L L^T."""

    def __init__(self, parents: Tensor, dims: int, hidden: int, shared: bool, logvar: float):
        super().__init__(parents, dims, hidden, shared, logvar)
        size = self.nodes * dims
        self.mean = nn.Parameter(torch.zeros(self.nodes, dims))
        self.lower = nn.Parameter(torch.zeros(size, size))  # only the strict triangle is used
        self.log_diagonal = nn.Parameter(torch.full((size,), logvar / 2))

    def forward(self, noise: Tensor, factors: Tensor, z: Tensor) -> Gaussian:
        return Full(self.mean, self.lower.tril(-1) + torch.diag(self.log_diagonal.exp()))


class StandardPrior(Prior):
    """Fixed N(0, I): the prior of Hidden Talents (Dai et al. 2018). A logvar other than 0 scales
    it to N(0, e^logvar I); nothing is learned."""

    mean: Tensor
    logvar: Tensor

    def __init__(self, parents: Tensor, dims: int, hidden: int, shared: bool, logvar: float):
        super().__init__(parents, dims, hidden, shared, logvar)
        self.register_buffer("mean", torch.zeros(self.nodes, dims))
        self.register_buffer("logvar", torch.full((self.nodes, dims), float(logvar)))

    def forward(self, noise: Tensor, factors: Tensor, z: Tensor) -> Gaussian:
        return Diagonal(self.mean, self.logvar)


class FactorPrior(Prior):
    """The same graph network, fed with the true factors: a prior that sees what matters."""

    def __init__(self, parents: Tensor, dims: int, hidden: int, shared: bool, logvar: float):
        super().__init__(parents, dims, hidden, shared, logvar)
        self.network = GraphNetwork(parents, 1, hidden, 2 * dims, shared)

    def forward(self, noise: Tensor, factors: Tensor, z: Tensor) -> Gaussian:
        return self.split(self.network(factors.unsqueeze(-1)))


class ParentsPrior(Prior):
    """Ancestral: p(z) = prod_i p(z_i | z_parents(i)), as in a Graph VAE (He et al. 2019).

    Each node has its own network of one hidden layer over the sampled codes of its parents; a
    node without parents has a learned constant. Weights are never shared, for the parents of
    each node mean something else.
    """

    parents: Tensor

    def __init__(self, parents: Tensor, dims: int, hidden: int, shared: bool, logvar: float):
        super().__init__(parents, dims, hidden, shared, logvar)
        self.register_buffer("parents", parents.repeat_interleave(dims, dim=1))
        nothing = torch.zeros_like(parents)  # no averaging: only a node's own row counts
        self.network = GraphNetwork(nothing, self.nodes * dims, hidden, 2 * dims, shared=False)

    def forward(self, noise: Tensor, factors: Tensor, z: Tensor) -> Gaussian:
        heard = z.flatten(-2).unsqueeze(-2) * self.parents  # (image, node, node * dim)
        return self.split(self.network(heard))

    def draw(self, noise: Tensor, factors: Tensor, z0: Tensor) -> Tensor:
        z = torch.zeros_like(z0)
        for _ in range(self.nodes):  # a pass settles at least one more generation of the DAG
            z = sample(self(noise, factors, z), z0)
        return z


PRIORS: dict[str, type[Prior]] = {
    "exogenous": ExogenousPrior,
    "diagonal": DiagonalPrior,
    "cholesky": CholeskyPrior,
    "standard": StandardPrior,
    "factors": FactorPrior,
    "parents": ParentsPrior,
}
