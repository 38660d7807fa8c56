"""The KL and its gradient, against torch.distributions.

taskset -c 0 python benchmarks/kl.py
"""

from collections.abc import Callable, Sequence

import torch
from measuring import Row, cpu_seconds, in_turns, report
from torch import Tensor
from torch.distributions import Independent, MultivariateNormal, Normal, kl_divergence

from vaenotes.kl import Diagonal, Full, kl_nats

ROUNDS, TIMES, IMAGES, NODES, DIMS = 15, 200, 128, 5, 2


def leaves(full: bool, dtype: torch.dtype) -> list[Tensor]:
    """Means and log-variances of q and p, each (image, node, dim); a full p's Cholesky factor."""
    generator = torch.Generator().manual_seed(0)
    shape = (IMAGES, NODES, DIMS)
    drawn = [torch.randn(shape, generator=generator, dtype=dtype) for _ in range(4)]
    if full:
        size = NODES * DIMS
        lower = torch.randn(size, size, generator=generator, dtype=dtype).tril(-1) / 4
        drawn[2:] = [drawn[2][0], lower + torch.eye(size, dtype=dtype)]
    return [tensor.requires_grad_() for tensor in drawn]


def ours(tensors: Sequence[Tensor], full: bool) -> Tensor:
    mean_q, logvar_q, mean_p, spread_p = tensors
    p = Full(mean_p, spread_p) if full else Diagonal(mean_p, spread_p)
    return kl_nats(Diagonal(mean_q, logvar_q), p).sum()


def theirs(tensors: Sequence[Tensor], full: bool) -> Tensor:
    mean_q, logvar_q, mean_p, spread_p = (tensor.flatten(1) for tensor in tensors)
    if not full:
        q, p = (
            Independent(Normal(mean, torch.exp(0.5 * logvar)), 1)
            for mean, logvar in ((mean_q, logvar_q), (mean_p, spread_p))
        )
        return kl_divergence(q, p).sum()
    q = MultivariateNormal(mean_q, scale_tril=torch.diag_embed(torch.exp(0.5 * logvar_q)))
    return kl_divergence(q, MultivariateNormal(tensors[2].flatten(), scale_tril=spread_p)).sum()


def microseconds(function: Callable[..., Tensor], full: bool, dtype: torch.dtype) -> float:
    tensors = leaves(full, dtype)

    def both_ways() -> None:
        torch.autograd.grad(function(tensors, full), tensors)

    for _ in range(20):
        both_ways()
    return cpu_seconds(lambda: [both_ways() for _ in range(TIMES)]) / TIMES * 1e6


def main() -> None:
    rows = []
    for full, kind, target in ((False, "diagonal", ">= 1.5"), (True, "full", ">= 4")):
        for dtype in (torch.float32, torch.float64):
            precision = str(dtype).removeprefix("torch.")
            one, other = (function(leaves(full, dtype), full) for function in (ours, theirs))
            torch.testing.assert_close(one, other, rtol=1e-5, atol=0)
            found = in_turns(
                {
                    "ours": lambda full=full, dtype=dtype: microseconds(ours, full, dtype),
                    "theirs": lambda full=full, dtype=dtype: microseconds(theirs, full, dtype),
                },
                ROUNDS,
            )
            rows += [
                Row.of(f"{kind}, {precision}: ours", "µs", found["ours"]),
                Row.of(f"{kind}, {precision}: torch.distributions", "µs", found["theirs"]),
                Row.of(
                    f"{kind}, {precision}: times faster",
                    "1",
                    found["theirs"] / found["ours"],
                    target,
                ),
            ]
    report("kl", f"One core; {IMAGES} images, {NODES * DIMS} dims, forward and gradient.", rows)


if __name__ == "__main__":
    main()
