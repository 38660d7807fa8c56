"""A change of the code's units, z -> A z, applied to a whole model at once.

A is a permutation of the dims and then a positive scale for each, the same for all nodes, so that
it commutes with the graph's averages. Posterior and prior are mapped by A, whatever reads the code
by its inverse: no term of the loss changes. What may change is how an optimiser goes on.
"""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from vaenotes.errors import ParameterError
from vaenotes.model import VAE

# The parameters of every model that feel the code's units; a prior names its own in Prior.GAUGE.
ROLES = {
    "posterior_network.second.weight": "output weight",
    "posterior_network.second.bias": "output bias",
    "decoder.0.weight": "code weight",
    "regression_weight": "reader",
}


def regauge(
    model: VAE,
    parameters: Mapping[str, Tensor],
    order: Sequence[int],
    scale: Tensor,
    linear: bool = False,
) -> dict[str, Tensor]:
    """One replica's parameters, by name, in other units: the new dim j is the old dim order[j]
    times scale[j] > 0, with scale (dim,). Parameters that do not feel the units are left out.

    `linear` leaves out the shift of the log-variances by 2 log scale: what a running mean of
    gradients needs, of which A^-1 takes the place of A. Raises ParameterError where the prior
    has units, or an order, of its own.
    """
    if model.prior.GAUGE is None:
        raise ParameterError(
            f"prior must admit other units of the code, got {type(model.prior).__name__}"
        )
    shift = torch.zeros_like(scale) if linear else 2 * scale.log()
    prior = {f"prior.{name}": role for name, role in model.prior.GAUGE.items()}
    return {
        name: MAPS[role](parameters[name], list(order), scale, shift)
        for name, role in (ROLES | prior).items()
    }


def _outputs(p: Tensor, order: list[int], scale: Tensor, shift: Tensor) -> Tensor:
    mean, logvar = p.chunk(2, dim=-1)
    return torch.cat([mean[..., order] * scale, logvar[..., order] + shift], dim=-1)


def _output_weight(p: Tensor, order: list[int], scale: Tensor, shift: Tensor) -> Tensor:
    return _outputs(p, order, scale, torch.zeros_like(shift))


def _code_weight(p: Tensor, order: list[int], scale: Tensor, shift: Tensor) -> Tensor:
    rows = p.unflatten(-2, (-1, len(order)))[..., order, :] / scale[:, None]
    return rows.flatten(-3, -2)


def _noise_weight(p: Tensor, order: list[int], scale: Tensor, shift: Tensor) -> Tensor:
    return p[..., order, :]  # the noise is permuted with the code, but has units of its own


def _flat_log_std(p: Tensor, order: list[int], scale: Tensor, shift: Tensor) -> Tensor:
    return (p.unflatten(-1, (-1, len(order)))[..., order] + shift / 2).flatten(-2)


def _lower(p: Tensor, order: list[int], scale: Tensor, shift: Tensor) -> Tensor:
    if order != sorted(order) and p.count_nonzero():
        raise ParameterError(f"order of the dims must stay for a full covariance, got {order}")
    return p * scale.repeat(len(p) // len(order))[:, None]


MAPS: dict[str, Callable[[Tensor, list[int], Tensor, Tensor], Tensor]] = {
    "output weight": _output_weight,
    "output bias": _outputs,
    "code weight": _code_weight,
    "noise weight": _noise_weight,
    "reader": lambda p, order, scale, shift: p[..., order] / scale,
    "mean": lambda p, order, scale, shift: p[..., order] * scale,
    "logvar": lambda p, order, scale, shift: p[..., order] + shift,
    "lower": _lower,
    "flat log-std": _flat_log_std,
}
