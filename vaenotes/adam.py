"""Adam over stacked replicas, in which a replica's place in the stack changes no bit."""

from collections.abc import Collection, Iterator, Mapping, Sequence

import torch
from torch import Tensor

from vaenotes.config import Config

REGISTER = 64  # numbers; a multiple of what any vector register holds
MOMENTS = ("exp_avg", "exp_avg_sq")  # torch's names for the running means


class Adam:
    """torch's fused Adam on parameters (replica, ...) by name, all of them in one flat tensor.

    It rounds the last few entries of a tensor, which fill no vector register, otherwise than the
    rest. So what a replica has of a parameter is padded with zeros to whole registers.

    rates: of each parameter, every replica's learning rate. lowered: the names of parameters that
    a step reads in bfloat16.
    """

    def __init__(
        self,
        stacked: Mapping[str, Tensor],
        rates: Mapping[str, Sequence[float]],
        lowered: Collection[str] = (),
    ):
        self.shapes = {name: value.shape for name, value in stacked.items()}
        self.places: dict[str, slice] = {}
        end = 0
        for name in sorted(stacked, key=lambda name: name not in lowered):  # those stand first
            start, end = end, end + stacked[name].shape[0] * self._width(name)
            self.places[name] = slice(start, end)
        first = next(iter(stacked.values()))
        self.values, self.gradients, *moments = (first.new_zeros(end) for _ in range(4))
        self.averages = dict(zip(MOMENTS, moments, strict=True))
        self.parameters = {name: self._view(self.values, name) for name in stacked}
        for name, value in stacked.items():
            self.parameters[name].copy_(value.detach())
        self.received = [self._view(self.gradients, name) for name in stacked]
        length = max((self.places[name].stop for name in lowered), default=0)
        self.low = torch.zeros_like(self.values[:length], dtype=torch.bfloat16)
        self._read = [
            self._view(self.low if name in lowered else self.values, name).requires_grad_()
            for name in stacked
        ]
        self.optimizer = self._torchs(rates)

    def _width(self, name: str) -> int:
        """The room that a replica's share of a parameter takes."""
        return -(-self.shapes[name][1:].numel() // REGISTER) * REGISTER

    def _view(self, flat: Tensor, name: str) -> Tensor:
        """A parameter's part of such a flat tensor: (replica, ...)."""
        shape = self.shapes[name]
        rows = flat[self.places[name]].view(shape[0], self._width(name))
        return rows[:, : shape[1:].numel()].view(shape)

    def _torchs(self, rates: Mapping[str, Sequence[float]]) -> torch.optim.Adam:
        """torch's optimiser of the flat tensors: neighbours with one rate are one."""
        runs: list[tuple[float, int, int]] = []
        for name, place in self.places.items():
            width = self._width(name)
            for start, rate in zip(range(place.start, place.stop, width), rates[name], strict=True):
                first = runs.pop()[1] if runs and runs[-1][0] == rate else start
                runs.append((rate, first, start + width))
        groups: dict[float, list[Tensor]] = {}
        states: dict[Tensor, dict[str, Tensor]] = {}
        for rate, start, end in runs:
            flat = self.values[start:end]
            flat.grad = self.gradients[start:end]
            groups.setdefault(rate, []).append(flat)
            own = {kind: average[start:end] for kind, average in self.averages.items()}
            states[flat] = {"step": torch.zeros((), device=flat.device), **own}
        optimizer = torch.optim.Adam(
            [{"params": flats, "lr": rate, "start": rate} for rate, flats in groups.items()],
            fused=True,
        )
        optimizer.state.update(states)
        return optimizer

    def read(self) -> list[Tensor]:
        """The parameters as a step reads them, in their order; good until the next update."""
        self.low.copy_(self.values[: len(self.low)])
        return self._read

    def step(self, gradients: Sequence[Tensor]) -> None:
        """One update, by gradients in the order of the parameters."""
        for received, gradient in zip(self.received, gradients, strict=True):
            received.copy_(gradient)
        self.optimizer.step()

    def leave(self, share: float) -> None:
        """Set every learning rate to this share of what it was at the start."""
        for group in self.optimizer.param_groups:
            group["lr"] = share * group["start"]

    @property
    def steps(self) -> float:
        """How many were taken."""
        return max(float(state["step"]) for state in self.optimizer.state.values())

    def moments(self) -> Iterator[tuple[str, str, Tensor]]:
        """The running means: kind, name of the parameter, and values (replica, ...)."""
        for kind, average in self.averages.items():
            for name in self.shapes:
                yield kind, name, self._view(average, name)

    def restore(self, tensors: Mapping[str, Tensor], steps: float) -> None:
        """Go on from "parameters/..." and running means, by "kind/name", after so many steps."""
        for name, parameter in self.parameters.items():
            parameter.copy_(tensors[f"parameters/{name}"])
        for kind, name, average in self.moments():
            average.copy_(tensors[f"{kind}/{name}"])
        for state in self.optimizer.state.values():
            state["step"].fill_(steps)


def learning_rate(name: str, config: Config) -> float:
    """Of a parameter, at the start."""
    if name.startswith("prior."):
        return config.learning_rate * config.prior_rate
    if name.startswith(("encoder.", "posterior_network.")):
        return config.learning_rate * config.posterior_rate
    return config.learning_rate
