"""A change of the code's units, z -> A z, applied to a whole model at once.

A permutes the dims within each node and scales each, by a factor of either sign. Posterior and
prior are mapped by A, whatever reads the code by its inverse: no term of the loss changes. What
may change is how an optimiser goes on; what gradient flow keeps of the units is `charge`.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.func import jvp

from vaenotes.config import Config
from vaenotes.data.dataset import Dataset
from vaenotes.errors import ParameterError
from vaenotes.graph import GraphLayer
from vaenotes.model import VAE

# The parameters of every model that read the code; posterior and prior name their own in GAUGE.
READERS = {"decoder.0.weight": "code weight", "regression_weight": "reader"}


class Units(NamedTuple):
    """The new dim j of a node is the old dim order[j] times scale[j]; each (node, dim)."""

    order: Tensor
    scale: Tensor
    shift: Tensor  # what is added to log-variances

    def of(self, copies: int) -> "Units":
        """The same for weights in `copies` sets: one for all nodes, or one for each."""
        if copies == 1 and any((part != part[:1]).any() for part in self):
            raise ParameterError(
                "order and scale must be the same for nodes that share weights, "
                f"got {self.order.tolist()} and {self.scale.tolist()}"
            )
        return Units(*(part[:copies] for part in self))


def regauge(
    model: VAE,
    parameters: Mapping[str, Tensor],
    order: Sequence[int] | Tensor,
    scale: Tensor,
    linear: bool = False,
) -> dict[str, Tensor]:
    """One replica's parameters, by name, in other units: the new dim j is the old dim order[j]
    times scale[j]. Both are (dim,) for all nodes, or (node, dim). Parameters that do not feel
    the units are left out.

    `linear` leaves out the shift of the log-variances by 2 log |scale|: what a running mean of
    gradients needs, of which A^-1 takes the place of A. Raises ParameterError where the model
    does not admit these units: a prior may have units or an order of its own, and nodes that
    share weights or are averaged along an edge have their units in common.
    """
    nodes, dims = model.node_shape
    order = torch.as_tensor(order, device=scale.device)
    order, scale = order.expand(nodes, dims), scale.expand(nodes, dims)
    _check(model, order, scale)
    shift = torch.zeros_like(scale) if linear else 2 * scale.abs().log()
    roles = READERS | {
        f"{part}.{name}": role
        for part, own in (
            ("posterior_network", model.posterior_network.GAUGE),
            ("prior", model.prior.GAUGE),
        )
        for name, role in own.items()
    }
    units = Units(order, scale, shift)
    return {
        name: MAPS[role](parameters[name], units)
        for name, role in roles.items()
        if name in parameters  # the mean of some priors is never learned, and has no moments
    }


def initial(config: Config, dataset: Dataset, generator: torch.Generator) -> VAE:
    """One replica with its initial weights."""
    model = VAE(config, dataset).initialise(generator)
    if config.swapped or config.units:
        order = range(config.dims)[:: -1 if config.swapped else 1]
        change_units(model, order, torch.tensor(config.units or [1.0] * config.dims))
    return model


@torch.no_grad()
def change_units(model: VAE, order: Sequence[int] | Tensor, scale: Tensor) -> VAE:
    """Put a model into other units, in place: `regauge` of all its parameters."""
    own = dict(model.named_parameters())
    for name, value in regauge(model, own, order, scale).items():
        own[name].copy_(value)
    return model


def charge(model: VAE, parameters: Mapping[str, Tensor], by_node: bool = False) -> Tensor:
    """What gradient flow keeps: a number for each dim (dim,), in float64; or for each dim of each
    node (node, dim), where nodes have units of their own. `parameters`: one replica's by name,
    without those that do not learn.

    A change of units by e^u moves parameters p at the speed D p + k: D is 1 for weights that write
    the code, -1 for those that read it, 0 else, and k is 2 for log-variances' biases. The loss
    stays, so its gradient is orthogonal to that speed, which is the gradient of p D p / 2 + k p
    (Noether; Kunin et al. 2021 for other symmetries of networks). A prior that is set and not
    learned ("matched") keeps it on average only. Raises ParameterError where `regauge` does.
    """
    own = {name: value.double() for name, value in parameters.items()}
    origin = {name: torch.zeros_like(value) for name, value in own.items()}
    shape = model.node_shape if by_node else model.node_shape[1:]
    units = torch.eye(math.prod(shape), dtype=torch.float64).reshape(-1, *shape)
    order = range(shape[-1])
    regauge(model, own, order, 2 + torch.arange(len(units)).double().reshape(shape))  # or refused

    def speed(start: Mapping[str, Tensor], unit: Tensor) -> dict[str, Tensor]:
        def moved(u: Tensor) -> dict[str, Tensor]:
            return regauge(model, start, order, u.exp())

        return jvp(moved, (torch.zeros_like(unit),), (unit,))[1]

    found = []
    for unit in units:
        whole, constant = speed(own, unit), speed(origin, unit)
        parts = [(own[n] * (whole[n] + constant[n])).sum() / 2 for n in whole]
        found.append(torch.stack(parts).sum())
    return torch.stack(found).reshape(shape)


def _check(model: VAE, order: Tensor, scale: Tensor) -> None:
    nodes, dims = model.node_shape
    prior, as_it_is = type(model.prior), torch.arange(dims, device=order.device)
    if prior.OWN_UNITS and (scale.abs() != 1).any():
        raise ParameterError(f"scale must be 1 or -1 for {prior.__name__}, got {scale.tolist()}")
    if prior.OWN_ORDER and (order != as_it_is).any():
        raise ParameterError(f"order must stay for {prior.__name__}, got {order.tolist()}")
    for layer in model.modules():
        if isinstance(layer, GraphLayer) and len(layer.averaging) == nodes:
            for child, parent in layer.averaging.nonzero().tolist():
                if not all((part[child] == part[parent]).all() for part in (order, scale)):
                    raise ParameterError(
                        "order and scale must be the same for nodes joined by an edge, "
                        f"got {order.tolist()} and {scale.tolist()}"
                    )


# Each takes a parameter and the new units, and gives the parameter in those units. Axes before
# those that are named come along.


def _mean(p: Tensor, units: Units) -> Tensor:  # (node, dim)
    return _pick(p, units.order) * units.scale


def _flat_mean(p: Tensor, units: Units) -> Tensor:  # (..., node * dim)
    return _mean(p.unflatten(-1, units.scale.shape), units).flatten(-2)


def _logvar(p: Tensor, units: Units) -> Tensor:  # (node, dim)
    return _pick(p, units.order) + units.shift


def _reader(p: Tensor, units: Units) -> Tensor:  # (node, dim)
    return _pick(p, units.order) / units.scale


def _outputs(p: Tensor, units: Units) -> Tensor:  # (copy, ..., 2 dim)
    mean, logvar = p.chunk(2, dim=-1)
    inner = [1] * (p.dim() - 2)
    order, scale, shift = (part.reshape(len(p), *inner, -1) for part in units.of(len(p)))
    return torch.cat([_pick(mean, order) * scale, _pick(logvar, order) + shift], dim=-1)


def _output_weight(p: Tensor, units: Units) -> Tensor:
    return _outputs(p, units._replace(shift=torch.zeros_like(units.shift)))


def _code_weight(p: Tensor, units: Units) -> Tensor:  # (node * dim, output)
    rows = p.unflatten(-2, units.scale.shape).movedim(-1, 0)
    return (_pick(rows, units.order) / units.scale).movedim(0, -1).flatten(-3, -2)


def _factor(p: Tensor, units: Units) -> Tensor:  # (node * dim, node * dim)
    scale, shift = units.scale.flatten(), units.shift.flatten()
    if (units.order.diff() == 1).all():
        below = p.tril(-1) * scale[:, None] * scale.sign()
        return below + torch.diag(p.diagonal() + shift / 2)
    lower = p.tril(-1) + torch.diag(p.diagonal().exp())
    rows = _pick(lower.mT.unflatten(-1, units.order.shape), units.order).flatten(-2).mT
    rows = rows * scale[:, None]
    lower = torch.linalg.cholesky(rows @ rows.mT)
    return lower.tril(-1) + torch.diag(lower.diagonal().log())


def _earlier_dims(p: Tensor, units: Units) -> Tensor:  # (dim, earlier dim, output)
    return p / units.of(1).scale[0, :, None]


def _dim_bias(p: Tensor, units: Units) -> Tensor:  # (dim, 2)
    _, scale, shift = units.of(1)
    return torch.stack([p[..., 0] * scale[0], p[..., 1] + shift[0]], dim=-1)


def _dim_weight(p: Tensor, units: Units) -> Tensor:  # (dim, input, 2)
    return torch.stack([p[..., 0] * units.of(1).scale[0, :, None], p[..., 1]], dim=-1)


def _pick(p: Tensor, order: Tensor) -> Tensor:
    """Dims in the new order: (..., dim)."""
    return p.take_along_dim(order.expand(p.shape), dim=-1)


MAPS: dict[str, Callable[[Tensor, Units], Tensor]] = {
    "output weight": _output_weight,
    "output bias": _outputs,
    "code weight": _code_weight,
    "earlier dims": _earlier_dims,
    "weight of a dim": _dim_weight,
    "bias of a dim": _dim_bias,
    "reader": _reader,
    "mean": _mean,
    "flat mean": _flat_mean,
    "logvar": _logvar,
    "factor": _factor,
}
