"""What the directions of a code add, whatever dims they lie along; and bounds without sampling."""

import numpy as np
from scipy import linalg
from torch import Tensor

from vaenotes.diagnosis.moments import Joint


def directions(joint: Joint) -> tuple[np.ndarray, float]:
    """Nats of each direction (n,), most first, and what all of them can add at most.

    A direction adds log(1 / lambda) / 2 if it and its noise are Gaussian, with lambda the
    generalised eigenvalues of S, the posteriors' mean covariance, against V, that of all codes in
    units of their priors. They do not depend on the dims that the code is written in: two dims,
    rotated into sixteen, are two directions; four copies of a dim are one.

    The bound is (log det V - E log det S) / 2, as no codes of this covariance have more entropy
    than a Gaussian's: exact if the codes are Gaussian all in all.
    """
    std = joint.within.diagonal().sqrt()
    within, around = ((part / std / std[:, None]).numpy() for part in (joint.within, joint.around))
    signal = linalg.eigh(around, within, eigvals_only=True)[::-1]  # 1 / lambda - 1
    rounding = len(signal) * np.finfo(float).eps * signal[0]
    along = 0.5 * np.log1p(np.where(signal > rounding, signal, 0))
    volume = 2 * np.log(np.diag(np.linalg.cholesky(within))).sum()
    volume += 2 * float((std.log() - 0.5 * joint.weight.log()).sum())  # of the mean covariance
    return along, float(along.sum() + 0.5 * (volume - float(joint.log_volume / joint.weight)))


def dim_bound(variance: Tensor, log_variance: Tensor) -> Tensor:
    """The bound of single dims, from the variance of all codes and the mean log of posteriors'."""
    return 0.5 * (variance.log() - log_variance)
