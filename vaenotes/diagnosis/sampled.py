"""A random sample of all codes that were seen, of bounded size, that merges with others."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from vaenotes.diagnosis.added import Compared
from vaenotes.diagnosis.inputs import Batch, Given
from vaenotes.kl import Diagonal, Full, Gaussian


def random_keys(weights: Tensor, generator: torch.Generator) -> Tensor:
    """Exponential, of a rate of each sample's weight: who has the lowest counts most. (sample,)"""
    drawn = torch.rand(len(weights), generator=generator, dtype=torch.float64)
    return -(-drawn).log1p() / _of_rows(weights)


def reweighted(weights: Tensor, left: float) -> Tensor:
    """What those of the lowest keys count for themselves and for those left out, the least of whose
    keys is `left`: weights over the chance to be among the lowest (Horvitz & Thompson 1952; keys of
    Cohen & Kaplan 2007)."""
    return weights / -(-_of_rows(weights) * left).expm1().reshape(-1, *[1] * (weights.dim() - 1))


def _of_rows(weights: Tensor) -> Tensor:
    return weights if weights.dim() == 1 else weights.mean(1)


def lowest(keys: Tensor, most: int, left: float = math.inf) -> tuple[Tensor, float]:
    """Which keys are the lowest, in their order, and the least of those left out, now or before:
    none above it is among them, as others there are unknown."""
    order = keys.argsort(stable=True)
    out = keys[order[most]].item() if len(keys) > most else math.inf
    left = min(out, left)
    chosen = order[:most]
    return chosen[keys[chosen] < left], left


class Sampled(NamedTuple):
    """Codes of the lowest of random keys, in their order."""

    keys: Tensor  # (sample,)
    posterior: Gaussian  # (sample, 1, n)
    prior: Gaussian | None  # the same; None if it is one for all
    weights: Tensor  # (sample, 1) or (sample, n)
    sample: Tensor  # (sample,), a number that rows of one sample share
    left: float  # the least key of what was left out

    @staticmethod
    def of(batch: Batch, most: int, generator: torch.Generator) -> "Sampled":
        count, weights = len(batch.posterior.mean), batch.weights
        every = torch.ones(count, 1).double() if weights is None else weights
        keys = sample = random_keys(every, generator)
        chosen, left = lowest(keys, most)
        if batch.sample is not None:
            count = int(batch.sample.max()) + 1
            sample = torch.rand(count, generator=generator, dtype=torch.float64)[batch.sample]
        p = batch.prior
        prior = p.rows(chosen) if isinstance(p, Given) and p.sees else None
        q = batch.posterior.rows(chosen)
        return Sampled(keys[chosen], q, prior, every[chosen], sample[chosen], left)

    @property
    def compared(self) -> Compared:
        """How much each counts, and which are of one sample."""
        different, sample = self.sample.unique(return_inverse=True)
        weights = reweighted(self.weights, self.left)
        return Compared(weights, sample if len(different) < len(sample) else None)

    def merged(self, other: "Sampled", most: int) -> "Sampled":
        """The lowest keys of both."""
        keys = torch.cat([self.keys, other.keys])
        chosen, left = lowest(keys, most, min(self.left, other.left))

        def both(one: Tensor, two: Tensor) -> Tensor:
            return torch.cat([one, two])[chosen]

        def gaussian(one: Gaussian, two: Gaussian) -> Gaussian:
            parts = [both(*pair) for pair in zip(one, two, strict=True)]
            return Full(*parts) if isinstance(one, Full) else Diagonal(*parts)

        width = max(self.weights.shape[1], other.weights.shape[1])
        weights = both(*(part.weights.expand(-1, width) for part in (self, other)))
        q = gaussian(self.posterior, other.posterior)
        p = None
        if self.prior is not None and other.prior is not None:
            p = gaussian(self.prior, other.prior)
        return Sampled(keys[chosen], q, p, weights, both(self.sample, other.sample), left)
