"""A random sample of all codes that were seen, of bounded size, that merges with others."""

from typing import NamedTuple

import torch
from torch import Tensor

from vaenotes.diagnosis.added import Compared
from vaenotes.diagnosis.inputs import Batch, Given
from vaenotes.kl import Diagonal, Full, Gaussian


class Sampled(NamedTuple):
    """Codes of the lowest of random keys, in their order: any set of samples is as likely."""

    keys: Tensor  # (sample,)
    posterior: Gaussian  # (sample, 1, n)
    prior: Gaussian | None  # the same; None if it is one for all
    weights: Tensor  # (sample, 1) or (sample, n)
    sample: Tensor  # (sample,), a number that rows of one sample share

    @staticmethod
    def of(batch: Batch, most: int, generator: torch.Generator) -> "Sampled":
        count = len(batch.posterior.mean)
        keys = torch.rand(count, generator=generator, dtype=torch.float64)
        chosen, sample = keys.argsort()[:most], keys
        if batch.sample is not None:
            count = int(batch.sample.max()) + 1
            sample = torch.rand(count, generator=generator, dtype=torch.float64)[batch.sample]
        p = batch.prior
        prior = p.rows(chosen) if isinstance(p, Given) and p.sees else None
        weights = batch.weights
        counted = torch.ones(len(chosen), 1).double() if weights is None else weights[chosen]
        q = batch.posterior.rows(chosen)
        return Sampled(keys[chosen], q, prior, counted, sample[chosen])

    @property
    def compared(self) -> Compared:
        """How much each counts, and which are of one sample."""
        different, sample = self.sample.unique(return_inverse=True)
        return Compared(self.weights, sample if len(different) < len(sample) else None)

    def merged(self, other: "Sampled", most: int) -> "Sampled":
        """The lowest keys of both."""
        keys = torch.cat([self.keys, other.keys])
        chosen = keys.argsort(stable=True)[:most]

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
        return Sampled(keys[chosen], q, p, weights, both(self.sample, other.sample))
