"""A random sample of all codes that were seen, of bounded size, that merges with others."""

from typing import NamedTuple

import torch
from torch import Tensor

from vaenotes.diagnosis.inputs import Batch, Given
from vaenotes.kl import Diagonal, Full, Gaussian


class Sampled(NamedTuple):
    """Codes of the lowest of random keys, in their order: any set of samples is as likely."""

    keys: Tensor  # (sample,)
    posterior: Gaussian  # (sample, 1, n)
    prior: Gaussian | None  # the same; None if it is one for all
    weights: Tensor  # (sample, 1) or (sample, n)

    @staticmethod
    def of(batch: Batch, most: int, generator: torch.Generator) -> "Sampled":
        count = len(batch.posterior.mean)
        keys = torch.rand(count, generator=generator, dtype=torch.float64)
        chosen = keys.argsort()[:most]
        p = batch.prior
        prior = p.rows(chosen) if isinstance(p, Given) and p.sees else None
        weights = batch.weights
        counted = torch.ones(len(chosen), 1).double() if weights is None else weights[chosen]
        return Sampled(keys[chosen], batch.posterior.rows(chosen), prior, counted)

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
        return Sampled(keys[chosen], q, p, weights)
