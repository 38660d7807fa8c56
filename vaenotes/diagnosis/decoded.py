"""What the decoder makes of each dim.

The total-order Sobol index of dim d (Homma & Saltelli 1996), by Jansen's estimator (1999):

    S_d = E |f(z) - f(z with z_d of another sample)|^2 / E |f(z) - f(z of another sample)|^2,

which for dims that are independent over all samples is the share of the output's variance, summed
over its numbers, that is left when all other dims are known. Shares add up to 1 where dims act by
themselves, to more where they interact. Codes are drawn with their std: a share of a dim that is
dead is noise that reaches the output.

Codes come with the posterior means' device and precision. A decoder that needs more of their
samples takes `rows` too, a LongTensor (n,) on the CPU: which of the samples they are of, from 0 as
these were given: lambda z, rows: decoder(z, labels[rows]). What such rows bring adds to the
output's variance, and is no dim's share.
"""

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from vaenotes.diagnosis.inputs import Axes, Batch
from vaenotes.diagnosis.sampled import lowest, random_keys, reweighted
from vaenotes.errors import ParameterError, check
from vaenotes.kl import sample

CHUNK = 128  # codes that are decoded at a time
LARGEST = 1e150

Decode = Callable[..., Tensor]


def takes_rows(decode: Decode) -> bool:
    """Whether it is to be told which samples its codes are of, as `rows`."""
    try:
        called = decode.forward if isinstance(decode, nn.Module) else decode
        return "rows" in inspect.signature(called).parameters
    except (TypeError, ValueError):  # of something built in
        return False


class Drawn(NamedTuple):
    """Whole codes, one drawn from each posterior, of the lowest of random keys, in their order."""

    keys: Tensor  # (sample,)
    z: Tensor  # (sample, ...), in the precision of the posterior means
    weights: Tensor  # (sample,)
    rows: Tensor  # (sample,), of all that were given
    left: float  # the least key of what was left out
    device: torch.device  # of the posterior means: these are kept on the CPU

    @staticmethod
    def of(
        batch: Batch, most: int, generator: torch.Generator, like: Tensor, before: int = 0
    ) -> "Drawn":
        """like: the posterior means as they were given; before: how many samples were."""
        weights, axes, count = batch.weights, batch.axes, len(batch.posterior.mean)
        if weights is not None:  # rows that count for nothing are not among these
            sample_of = torch.arange(count) if batch.sample is None else batch.sample
            fits = weights.shape[1] == 1 and count % axes.places == 0
            for each in (weights, sample_of) if fits else ():
                places = each.reshape(-1, axes.places)
                fits &= bool((places == places[:, :1]).all())
            rule = "weights must be of whole samples with decode, as codes are decoded whole"
            check(fits, rule, weights)
        count //= axes.places
        counted = torch.ones(count, 1).double() if weights is None else weights[:: axes.places]
        keys = random_keys(counted, generator)
        chosen, left = lowest(keys, most)
        rows = (chosen[:, None] * axes.places + torch.arange(axes.places)).flatten()
        q = batch.posterior.rows(rows)
        z = sample(q, torch.randn(q.mean.shape, generator=generator, dtype=torch.float64))
        kind = like.dtype if like.is_floating_point() else torch.float32
        whole, given = axes.whole(z).to(kind), batch.given[:: axes.places] // axes.places + before
        return Drawn(keys[chosen], whole, counted[chosen, 0], given[chosen], left, like.device)

    def merged(self, other: "Drawn", most: int) -> "Drawn":
        """The lowest keys of both."""
        pairs = zip(self[:4], other[:4], strict=True)
        keys, z, weights, rows = (torch.cat(pair) for pair in pairs)
        chosen, left = lowest(keys, most, min(self.left, other.left))
        return Drawn(keys[chosen], z[chosen], weights[chosen], rows[chosen], left, self.device)


def effects(decode: Decode, drawn: Drawn, axes: Axes) -> tuple[np.ndarray, np.ndarray]:
    """The share of each dim, in [0, 1], and its standard error, (dim,). The next of the samples is
    the other one: all are decoded once, and once more for each dim, a chunk at a time."""
    count = len(drawn.z)
    # Those that count most have the lowest keys: the next must be any.
    order = torch.randperm(count, generator=torch.Generator().manual_seed(count), device="cpu")
    z, drawn_rows = drawn.z[order].to(drawn.device), drawn.rows[order]
    apart = torch.zeros(int(np.prod(axes.dims)) + 1, count, dtype=torch.float64, device="cpu")
    for start in range(0, count, CHUNK):
        some = torch.arange(start, min(start + CHUNK, count) + 1, device=z.device)
        codes, rows, stop = z[some % count], drawn_rows[some.cpu() % count], int(some[-1])
        own, others = codes[:-1], codes[1:]
        decoded = _decoded(decode, codes, rows)
        whole = decoded.double()
        if start == 0:
            half = len(codes) // 2
            _check_steady(decoded, _decoded(decode, codes[:half], rows[:half]))
        apart[-1, start:stop] = _square(whole[:-1] - whole[1:])
        for dim, at in enumerate(np.ndindex(axes.dims)):
            place: list[slice | int] = [slice(None)] * z.dim()
            for axis, index in zip(axes.kept, at, strict=True):
                place[axis] = index
            changed = own.clone()
            changed[tuple(place)] = others[tuple(place)]
            apart[dim, start:stop] = _square(whole[:-1] - _decoded(decode, changed, rows[:-1]))
    weights = reweighted(drawn.weights, drawn.left)[order]
    weights = weights * weights.roll(-1)
    *dims, total = (apart * weights / weights.sum()).sum(1)
    total = total.clamp_min(1e-300)  # of a decoder that ignores all: shares of 0
    share = torch.stack(dims) / total
    part = (apart[:-1] - share[:, None] * apart[-1]) * weights / weights.sum() / total
    shared = (part * part.roll(-1, 1)).sum(1)  # neighbours have a sample in common
    error = (part.square().sum(1) + 2 * shared.clamp_min(0)).sqrt()
    return share.clamp_max(1).numpy(), error.numpy()


def _decoded(decode: Decode, codes: Tensor, rows: Tensor) -> Tensor:
    try:
        named = {"rows": rows} if takes_rows(decode) else {}
        found = decode(codes.clone(), **named)  # which it may change
    except ParameterError:
        raise
    except Exception as error:
        rule = f"decode must take any {len(codes)} of the codes, {tuple(codes.shape)}"
        way = "what else it needs of them goes by lambda z, rows: decoder(z, labels[rows])"
        raise ParameterError(f"{rule}, got {type(error).__name__}: {error}; {way}") from error
    what = _unlike_floats(found)
    if what:
        rule = f"decode must return a tensor of floats, ({len(codes)}, ...)"
        way = "wrap it, as in lambda z: decoder(z)[0] or decoder(z).mean"
        raise ParameterError(f"{rule}, got {what}: {way}")
    fits = len(found) == len(codes)
    check(fits, f"decode must return ({len(codes)}, ...), as its codes are", tuple(found.shape))
    check(found.numel() > 0, "decode must return numbers", tuple(found.shape))
    found = found.clone().reshape(len(codes), -1)  # it may use its own again
    largest = float(found.abs().max())
    rule = f"decode must return finite numbers of at most {LARGEST:g}"  # whose squares are finite
    check(largest <= LARGEST, rule, largest)
    return found


def _unlike_floats(found: Any) -> str:
    """What it is if not a plain tensor of floats with an axis or more."""
    if not isinstance(found, Tensor) or torch.masked.is_masked_tensor(found):
        return type(found).__name__
    if found.is_nested or found.layout != torch.strided:
        return "a nested tensor" if found.is_nested else str(found.layout)
    if found.is_meta:
        return "a meta tensor, which has no numbers"
    return "" if found.is_floating_point() and found.dim() else str(found.dtype)


def _check_steady(whole: Tensor, half: Tensor) -> None:
    """What dropout or a norm over the batch would change, beyond rounding, for what codes do."""
    rounding = max(1e-5, 4 * torch.finfo(whole.dtype).eps) * float(whole.abs().max())
    wide, apart = whole.double(), float((whole[: len(half)].double() - half).abs().max())
    spread = float((wide - wide.mean(0)).abs().max())
    rule = "decode must give a code the same whatever it is given beside it (put it in eval mode)"
    check(apart <= max(0.01 * spread, rounding), rule, f"{apart:.2g} apart")


def _square(apart: Tensor) -> Tensor:
    return apart.square().sum(1).double().cpu()
