"""Where the KL goes: what the code says of the image, and what the prior does not fit.

Hoffman & Johnson 2016 split the mean KL of posteriors q(z | x) from a prior p into the mutual
information of image and code and the KL of the aggregate q(z) = E_x q(z | x); Chen et al. 2018
(arXiv 1802.04942) split the latter by dims. A prior that depends on noise adds one more term.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from vaenotes.errors import ParameterError
from vaenotes.kl import Diagonal, Estimate, log_density, sample


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
    mixtures over them. Time and memory grow with images^2. Raises ParameterError for fewer than
    2 images, and for a p of another shape or with a full covariance.
    """
    shape = tuple(q.mean.shape)
    if len(shape) != 3 or shape[0] < 2:
        raise ParameterError(f"q must be (image, node, dim) with 2 images or more, got {shape}")
    if not isinstance(p, Diagonal) or p.mean.shape not in (shape, shape[1:]):
        raise ParameterError(
            f"p must be a Diagonal of {shape} or {shape[1:]}, "
            f"got a {type(p).__name__} of {tuple(p.mean.shape)}"
        )
    q, p = (Diagonal(*(part.double().expand(shape) for part in of)) for of in (q, p))
    noise = torch.randn(q.mean.shape, generator=generator, dtype=torch.float64)
    z = sample(q, noise)
    own_q, q_dim, q_all = _log_densities(q, z)
    own_p, p_dim, p_all = _log_densities(p, z)
    own_joint = own_q.sum((-2, -1))
    return Surgery(
        mutual_information=_estimate(own_joint - q_all),
        aggregate_kl=_estimate(q_all - p_all),
        mixture_gain=_estimate(p_all - own_p.sum((-2, -1))),
        total_correlation=_estimate(q_all - q_dim.sum((-2, -1))),
        dim_mutual_information=_estimate(own_q - q_dim),
        dim_kl=_estimate(q_dim - p_dim),
    )


def _log_densities(gaussian: Diagonal, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of z_i: under the i-th Gaussian, by dim (image, node, dim); under the mixture of all, by
    dim (image, node, dim) and as a whole (image,)."""
    one_dim = Diagonal(*(part[..., None, None] for part in gaussian))
    each = log_density(one_dim, z[:, None, ..., None, None])  # (sample, image, node, dim)
    own = each.diagonal(dim1=0, dim2=1).movedim(-1, 0)
    log_count = math.log(len(z))
    by_dim = each.logsumexp(1) - log_count
    return own, by_dim, each.sum((-2, -1)).logsumexp(1) - log_count


def _estimate(values: Tensor) -> Estimate:
    return Estimate(values.mean(0), values.std(0) / math.sqrt(len(values)))
