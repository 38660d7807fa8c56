"""Codes that tests of the diagnosis are given."""

import numpy as np
import torch

import vaenotes as vn

EXACT = [
    "kl_nats", "variance_nats", "mean_nats", "offset_nats", "gap_nats", "bound_nats", "ratio",
    "spread", "posterior_variance", "prior_variance", "wasted_offset_nats", "wasted_width_nats",
]  # fmt: skip


def codes(samples, dims, seed=0):
    generator = torch.Generator().manual_seed(seed)
    mean = torch.randn(samples, dims, generator=generator) * torch.linspace(0, 2, dims)
    return mean + 1, torch.rand(samples, dims, generator=generator) + 0.2


def arguments(mean, std, **rest):
    return {"posterior_mean": mean, "posterior_std": std, **rest}


def agree(one, other, names=EXACT, tolerance=1e-9):
    for name in names:
        assert np.allclose(one.dims[name], other.dims[name], rtol=tolerance, atol=tolerance), name


def full(mean, std, sees):
    factors = torch.diag_embed(std) + 0.1 * torch.ones(*std.shape, std.shape[1]).tril(-1)
    prior = {"prior_mean": sees, "prior_cholesky": 2 * factors}
    return {"posterior_mean": mean, "posterior_cholesky": factors, **prior}


KINDS = {
    "a fixed prior": lambda m, s, c: arguments(m, s),
    "a learned prior": lambda m, s, c: arguments(m, s, prior_mean=torch.ones(5), prior_std=2.0),
    "a prior that sees": lambda m, s, c: arguments(m, s, prior_mean=c, prior_std=s + 1),
    "full covariances": full,
    "weights": lambda m, s, c: arguments(m, s, weights=s[:, 0]),
    "weights of each dim": lambda m, s, c: arguments(m, s, weights=(s > 0.5).float()),
}


def parts(kind, sizes=(150, 1, 249)):
    """The codes whole, and in batches."""
    (mean, std), (sees, _) = codes(400, 5), codes(400, 5, seed=1)
    batches = zip(*(value.split(sizes) for value in (mean, std, sees)), strict=True)
    return KINDS[kind](mean, std, sees), [KINDS[kind](*batch) for batch in batches]


SAMPLES = 2000
FOUR = ["alive", "dead", "free-riding", "wasting"]
POSTERIOR_STD = torch.tensor([0.2, 1.0, 0.05, 1.0])
PRIOR_MEAN, PRIOR_STD = torch.zeros(4), torch.tensor([1.1, 1.0, 0.05, 1.0])


def four_codes(samples=SAMPLES, seed=0):
    """Means (sample, 4): the first dim's differ from sample to sample, the last's sit at 0.8."""
    first = torch.randn(samples, generator=torch.Generator().manual_seed(seed))
    first = (first - first.mean()) / first.std(correction=0)
    return torch.stack([first, 0 * first, 0 * first, 0 * first + 0.8], 1)


def four(**changes):
    """The report on these codes: one dim of each kind."""
    arguments = {
        "posterior_mean": four_codes(),
        "posterior_std": POSTERIOR_STD.expand(SAMPLES, 4),
        "prior_mean": PRIOR_MEAN,
        "prior_std": PRIOR_STD,
    }
    return vn.diagnose(**arguments | changes)
