"""Where the KL goes: information about the image, and what the prior does not fit.

Hoffman & Johnson 2016 split the mean KL of posteriors q(z | x) from a prior p into the mutual
information of image and code and the KL of the aggregate q(z) = E_x q(z | x); Chen et al. 2018
(arXiv 1802.04942) split the latter by dims. A prior that depends on noise adds one more term.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from vaenotes.diagnosis.moments import dim_log_density, mixture_log_density
from vaenotes.kl import Diagonal, sample


class MonteCarlo(NamedTuple):
    """A Monte Carlo mean and its standard error, each (...,), nats."""

    mean: Tensor
    standard_error: Tensor


class Surgery(NamedTuple):
    """Nats, with standard errors over images. The first three add up to the mean KL.

    Over a finite set of images the mutual information is at most log(images), which it reaches
    where no two posteriors overlap; what is beyond is then counted as the aggregate's KL.
    """

    mutual_information: MonteCarlo  # (), of image and code
    aggregate_kl: MonteCarlo  # (), KL(q(z) || E_e p(z | e)), the mixture over the prior's noise
    mixture_gain: MonteCarlo  # (), E_e KL - KL from the mixture; >= 0 if e is independent of x
    total_correlation: MonteCarlo  # (), KL(q(z) || product of its own dims)
    dim_mutual_information: MonteCarlo  # (node, dim)
    dim_kl: MonteCarlo  # (node, dim), KL of the aggregate of a dim from the mixture of that dim


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
        mutual_information=_over_images(q_own.sum((-2, -1)) - q_all),
        aggregate_kl=_over_images(q_all - p_all),
        mixture_gain=_over_images(p_all - p_own.sum((-2, -1))),
        total_correlation=_over_images(q_all - q_dim.sum((-2, -1))),
        dim_mutual_information=_over_images(q_own - q_dim),
        dim_kl=_over_images(q_dim - p_dim),
    )


def _over_images(values: Tensor) -> MonteCarlo:
    """The mean over images, values (image, ...), and its standard error."""
    return MonteCarlo(values.mean(0), values.std(0) / math.sqrt(len(values)))
