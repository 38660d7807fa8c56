"""Adam over stacked replicas, in which a replica's place in the stack changes no bit."""

from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

REGISTER = 64  # numbers; a multiple of what any vector register holds
MOMENTS = ("exp_avg", "exp_avg_sq")  # torch's names for the running means


class Adam:
    """torch's fused Adam on parameters (replica, ...) by name, each with a learning rate.

    It rounds the last few entries of a tensor, which fill no vector register, otherwise than the
    rest. So it is given flat tensors, padded to whole registers, of which `parameters` are views.
    """

    def __init__(self, stacked: Mapping[str, Tensor], rate: Callable[[str], float]):
        self.flat = {name: padded(value.detach().flatten()) for name, value in stacked.items()}
        self.parameters = {
            name: self.flat[name][: value.numel()].view(value.shape).requires_grad_()
            for name, value in stacked.items()
        }
        rates: dict[float, list[Tensor]] = {}
        for name, flat in self.flat.items():
            rates.setdefault(rate(name), []).append(flat)
        self.optimizer = torch.optim.Adam(
            [{"params": flats, "lr": rate, "start": rate} for rate, flats in rates.items()],
            fused=True,
        )

    def step(self, gradients: Sequence[Tensor | None]) -> None:
        """One update, by gradients in the order of the parameters; None: it stays as it is."""
        for flat, gradient in zip(self.flat.values(), gradients, strict=True):
            flat.grad = None if gradient is None else padded(gradient.flatten())
        self.optimizer.step()
        self.optimizer.zero_grad()  # so that the next gradients can take the memory of these

    def leave(self, share: float) -> None:
        """Set every learning rate to this share of what it was at the start."""
        for group in self.optimizer.param_groups:
            group["lr"] = share * group["start"]

    @property
    def steps(self) -> float:
        """How many were taken."""
        return max((float(state["step"]) for state in self.optimizer.state.values()), default=0.0)

    def moments(self) -> Iterator[tuple[str, str, Tensor]]:
        """The running means: kind, name of the parameter, and values (replica, ...)."""
        for name, flat in self.flat.items():
            shape = self.parameters[name].shape
            for kind, moment in self.optimizer.state.get(flat, {}).items():  # some have none
                if kind in MOMENTS:
                    yield kind, name, moment[: shape.numel()].view(shape)

    def restore(self, tensors: Mapping[str, Tensor], steps: float) -> None:
        """Go on from "parameters/..." and running means, by "kind/name", after so many steps."""
        for name, flat in self.flat.items():
            self.parameters[name].copy_(tensors[f"parameters/{name}"])
            for kind in MOMENTS:
                if (moment := tensors.get(f"{kind}/{name}")) is not None:
                    state = self.optimizer.state[flat]
                    state["step"] = torch.tensor(steps, device=flat.device)
                    state[kind] = padded(moment.to(flat.device).flatten()).clone()


def padded(flat: Tensor) -> Tensor:
    """A flat tensor with zeros appended up to a multiple of REGISTER; itself if it fits."""
    missing = -len(flat) % REGISTER
    return F.pad(flat, (0, missing)) if missing else flat
