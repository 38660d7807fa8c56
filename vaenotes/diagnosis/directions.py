"""What the directions of a code add, whatever dims they lie along; and bounds without sampling."""

import math
from typing import NamedTuple

import numpy as np
import torch
from scipy import linalg
from scipy.special import xlogy
from torch import Tensor

from vaenotes.diagnosis.moments import Joint


class Bound(NamedTuple):
    """What a code can add at most: nats of each direction (n,), most first, of all together, by how
    much the few samples that the moments are of make that too small in the mean, and its standard
    error, if the codes are Gaussian and weights have nothing to do with them."""

    along: np.ndarray
    nats: float
    slack: float
    error: float


def directions(joint: Joint, samples: float) -> Bound:
    """Of codes in any units; samples: of how many the moments are.

    A direction adds log(1 / lambda) / 2 if it and its noise are Gaussian, with lambda the
    generalised eigenvalues of the noise against V, the covariance of all codes. They do not depend
    on the dims that the code is written in: two dims, rotated into sixteen, are two directions;
    four copies of a dim are one. They see second moments only: many dims that differ from prior
    to prior in other ways may lie along few directions, and neither number bounds the other.

    The bound is (log det V - E log det S) / 2, S a posterior's covariance, as no codes of this
    covariance have more entropy than a Gaussian's: exact if the codes are Gaussian all in all. Of
    independent dims the noise is the geometric mean of the posteriors' variances, and the
    directions add up to the bound; of full posteriors it is E S.
    """
    full = joint.within.dim() == 2
    log_noise = joint.log_noise / joint.weight
    if full:
        log_noise = (joint.within.diagonal() / joint.weight).log()
    std = (0.5 * log_noise).exp()
    more = (joint.around / joint.weight / std / std[:, None]).numpy()
    noise = np.eye(len(more))
    if full:
        noise = (joint.within / joint.weight / std / std[:, None]).numpy()
    else:  # widths that differ
        more += np.diag(torch.expm1((joint.within / joint.weight).log() - log_noise).numpy())
    shares = more.diagonal() / (more + noise).diagonal()
    signal = linalg.eigh(more, noise, eigvals_only=True)[::-1]  # 1 / lambda - 1
    rounding = len(signal) * np.finfo(float).eps * signal[0]
    signal = np.where(signal > rounding, signal, 0)
    along = 0.5 * np.log1p(signal)
    nats = float(along.sum())
    if full:
        volume = 2 * np.log(np.diag(np.linalg.cholesky(noise))).sum() + float(log_noise.sum())
        nats += 0.5 * (volume - float((joint.log_noise / joint.weight).sum()))
    error = math.sqrt(float(np.square(signal / (1 + signal)).sum()) / (2 * samples))
    return Bound(along, nats, few(shares, samples), error)


def few(shares: np.ndarray, samples: float) -> float:
    """How much less log det V / 2 may be for the covariance of so few samples' means, that make
    these shares (n,) of the variances: a Wishart's mean, of many dims, and what the bound and the
    KL that is compared with it do not share."""
    total, squares = float(shares.sum()), float(np.square(shares).sum())
    left = max(1 - total / samples, 0)
    mean = samples * float(xlogy(left, left)) + total
    return 0.5 * (mean + (0.5 * squares + 3 * total) / samples)


def dim_bound(variance: Tensor, log_variance: Tensor) -> Tensor:
    """The bound of single dims, from the variance of all codes and the mean log of posteriors'."""
    return 0.5 * (variance.log() - log_variance)
