"""Where the KL goes: information about the image, and what the prior does not fit.

Hoffman & Johnson 2016 split the mean KL of posteriors q(z | x) from a prior p into the mutual
information of image and code and the KL of the aggregate q(z) = E_x q(z | x); Chen et al. 2018
(arXiv 1802.04942) split the latter by dims. A prior that depends on noise adds one more term.
"""

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from vaenotes.kl import Diagonal, log_density, sample


class Estimate(NamedTuple):
    """A Monte Carlo mean and its standard error, each (...,), nats."""

    mean: Tensor
    standard_error: Tensor


class Surgery(NamedTuple):
    """Nats, with standard errors over images. The first three add up to the mean KL.

    Over a finite set of images the mutual information is at most log(images), which it reaches
    where no two posteriors overlap; what is beyond is then counted as the aggregate's KL.
    """

    mutual_information: Estimate  # (), of image and code
    aggregate_kl: Estimate  # (), KL(q(z) || E_e p(z | e)), the mixture over the prior's noise
    mixture_gain: Estimate  # (), E_e KL - KL from the mixture; >= 0 if e is independent of x
    total_correlation: Estimate  # (), KL(q(z) || product of its own dims)
    dim_mutual_information: Estimate  # (node, dim)
    dim_kl: Estimate  # (node, dim), KL of the aggregate of a dim from the mixture of that dim


def surgery(q: Diagonal, p: Diagonal, generator: torch.Generator) -> Surgery:
    """Split the mean of KL(q || p) by Monte Carlo, with one sample of each image's posterior.

    q: (image, node, dim). p: the same, one draw of the prior's noise per image, or (node, dim) if
    it has none. The images, and the draws, are taken for all there are: q(z) and p(z) are
    mixtures over them. Time and memory grow with images^2.
    """
    shape = q.mean.shape
    q = Diagonal(q.mean.double(), q.logvar.double().expand(shape))
    p = Diagonal(p.mean.double().expand(shape), p.logvar.double().expand(shape))
    z = sample(q, torch.randn(shape, generator=generator, dtype=torch.float64))
    q_own, p_own = dim_log_density(q, z), dim_log_density(p, z)  # of the image's own Gaussian
    (q_dim, q_all), (p_dim, p_all) = mixture_log_density(q, z), mixture_log_density(p, z)
    return Surgery(
        mutual_information=estimate(q_own.sum((-2, -1)) - q_all),
        aggregate_kl=estimate(q_all - p_all),
        mixture_gain=estimate(p_all - p_own.sum((-2, -1))),
        total_correlation=estimate(q_all - q_dim.sum((-2, -1))),
        dim_mutual_information=estimate(q_own - q_dim),
        dim_kl=estimate(q_dim - p_dim),
    )


def dim_log_density(gaussian: Diagonal, z: Tensor) -> Tensor:
    """log N of each dim alone, in nats, of the broadcast shape."""
    return log_density(Diagonal(*(part[..., None, None] for part in gaussian)), z[..., None, None])


def mixture_log_density(
    components: Diagonal, z: Tensor, log_weights: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Log density of z (image, node, dim) under a mixture of components (component, node, dim), in
    nats: of each dim alone (image, node, dim), and of the whole code (image,).

    log_weights: (component,); None: equal ones. Time grows with images x components x dims, memory
    with images x components.
    """
    count = len(components.mean)
    if log_weights is None:
        log_weights = torch.full((count,), -math.log(count), dtype=z.dtype)
    alone = torch.empty_like(z)
    joint = log_weights.expand(len(z), count).clone()
    for node, dim in np.ndindex(*z.shape[1:]):
        one = Diagonal(*(part[:, node, dim] for part in components))
        each = dim_log_density(one, z[:, None, node, dim])  # (image, component)
        alone[:, node, dim] = (each + log_weights).logsumexp(1)
        joint += each
    return alone, joint.logsumexp(1)


def estimate(values: Tensor) -> Estimate:
    """The mean over images, values (image, ...), and its standard error."""
    return Estimate(values.mean(0), values.std(0) / math.sqrt(len(values)))
