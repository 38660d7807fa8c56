"""From a model and data to the arguments of `diagnose`.

    report = diagnose(**adapters.pythae(model, images))
    report = diagnose(**adapters.module(model, images, encode=lambda x: {"mean": ..., "std": ...}))

An adapter is any function that returns those arguments as a dict; these two serve plain PyTorch
(Lightning's modules too) and pythae. Neither library is imported here.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from vaenotes.diagnosis.inputs import SPREADS
from vaenotes.errors import ParameterError, check, check_choice, check_int

Named = Mapping[str, Any]  # "mean", and one of diagnosis.SPREADS

STANDARD = ("VAE", "BetaVAE", "DisentangledBetaVAE", "MSSSIM_VAE")
"""pythae's models whose posterior is the encoder's own Gaussian and whose loss takes its KL from
N(0, I); read others with `module`."""


def module(
    model: nn.Module,
    data: Any,
    *,
    encode: Callable[[Any], Named],
    prior: Callable[[Any], Named] | Named | None = None,
    batch: int = 512,
) -> dict[str, Any]:
    """Arguments of `diagnose` from any torch module, in eval mode and without gradients.

    data: an array or tensor (sample, ...), taken `batch` at a time; or an iterable of batches, as a
        DataLoader is: each a tensor, a tuple or list that starts with it, or a dict with "data".
    encode: batch -> {"mean": ..., "logvar": ...} of the posterior, or with another of
        diagnosis.SPREADS by name. Batches are on the model's device, and numbers of its
        precision.
    prior: the same for a prior that sees the sample; {"mean": ..., ...} for one that does not; with
        "weights" for a mixture; None for N(0, I).
    Raises ParameterError where data are empty or these return something else.
    """
    check(isinstance(model, nn.Module), "model must be a torch module", model)
    check_int("batch", batch, 1)
    check(callable(encode), "encode must be a function of a batch", encode)
    posteriors, priors = [], []
    with _evaluating(model) as like:
        for inputs in _batches(data, batch):
            if isinstance(inputs, Tensor):
                inputs = inputs.to(like.device, like.dtype if inputs.is_floating_point() else None)
            posteriors.append(_checked("encode", encode(inputs)))
            if callable(prior):
                priors.append(_checked("prior", prior(inputs)))
    check(bool(posteriors), "data must hold a sample or more", data)
    arguments = _arguments("posterior", _joined(posteriors))
    if prior is None:
        return arguments
    of_prior = _joined(priors) if callable(prior) else _checked("prior", prior)
    return arguments | _arguments("prior", of_prior)


def pythae(model: Any, data: Any, batch: int = 512) -> dict[str, Any]:
    """Arguments of `diagnose` from a model of pythae: one of STANDARD, or a VAMP, whose prior is
    the mixture of the posteriors of its pseudo-inputs (Tomczak & Welling 2018).

    data: as for `module`. Raises ParameterError for another model: its posterior (of flows, say)
    or its prior may be another one.
    """
    name = getattr(model, "model_name", type(model).__name__)
    check_choice("model, of pythae,", name, (*STANDARD, "VAMP"))

    def encode(inputs: Tensor) -> Named:
        output = model.encoder(inputs)
        return {"mean": output["embedding"], "logvar": output["log_covariance"]}

    prior: Named | None = None
    if name == "VAMP":
        with _evaluating(model) as like:
            pseudo = model.pseudo_inputs(model.idle_input.to(like.device))
            prior = dict(encode(pseudo.reshape(-1, *model.model_config.input_dim)))
        prior["weights"] = torch.full((len(pseudo),), 1 / len(pseudo))
    return module(model, data, encode=encode, prior=prior, batch=batch)


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[Tensor]:
    """The model in eval mode, without gradients, and as it was after that; one of its weights."""
    training = {part: part.training for part in model.modules()}
    model.eval()
    try:
        with torch.no_grad():
            yield next(model.parameters(), torch.empty(0))
    finally:
        for part, was in training.items():
            part.training = was


def _batches(data: Any, batch: int) -> Iterator[Any]:
    if hasattr(data, "shape"):
        whole = torch.as_tensor(data)
        yield from whole.split(batch) if whole.dim() and len(whole) else ()
        return
    if isinstance(data, Mapping | tuple) or not hasattr(data, "__iter__"):
        rule = "data must be an array or tensor (sample, ...) or an iterable of batches"
        raise ParameterError(f"{rule} (one batch: in a list), got a {type(data).__name__}")
    for inputs in data:
        if isinstance(inputs, Mapping):
            if "data" not in inputs:
                raise ParameterError(f'a batch of data must have "data", got {list(inputs)}')
            inputs = inputs["data"]
        yield inputs[0] if isinstance(inputs, tuple | list) else inputs


def _checked(argument: str, found: Any) -> dict[str, Tensor]:
    """What a function of the caller's returned, checked by its names."""
    rule = f'{argument} must give a dict of "mean" and one of {", ".join(SPREADS)}'
    if not isinstance(found, Mapping):
        raise ParameterError(f"{rule}, got a {type(found).__name__}")
    spread = set(found) - {"mean"} - ({"weights"} if argument == "prior" else set())
    if "mean" not in found or len(spread) != 1 or not spread <= set(SPREADS):
        raise ParameterError(f"{rule}, got {', '.join(map(str, found)) or 'none'}")
    return {name: torch.as_tensor(value).detach().cpu() for name, value in found.items()}


def _joined(batches: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    return {name: torch.cat([batch[name] for batch in batches]) for name in batches[0]}


def _arguments(of: str, gaussian: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"{of}_{name}": value for name, value in gaussian.items()}
