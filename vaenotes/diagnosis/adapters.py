"""From a model and data to the arguments of `diagnose`.

    report = diagnose(**adapters.module(model, images, encode=lambda x: {"mean": ..., "std": ...}))
    report = diagnose(**adapters.distributions(posterior, prior))
    report = diagnose(**adapters.pythae(model, images))

An adapter is any function that returns those arguments as a dict; these serve plain PyTorch
(Lightning's modules too), distributions of torch, Pyro, NumPyro and TensorFlow Probability, and
pythae. None but torch is imported here.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    SequentialSampler,
    default_collate,
)

from vaenotes.diagnosis.decoded import Decode, takes_rows
from vaenotes.diagnosis.inputs import FULL, SPREADS
from vaenotes.errors import ParameterError, check, check_choice, check_int

Named = Mapping[str, Any]  # "mean", and one of diagnosis.SPREADS

STANDARD = ("VAE", "BetaVAE", "DisentangledBetaVAE", "MSSSIM_VAE")
"""pythae's models whose posterior is the encoder's own Gaussian and whose loss takes its KL from
N(0, I)."""
OTHER_LOSS = ("BetaTCVAE", "FactorVAE", "IWAE", "MIWAE", "CIWAE", "PIWAE")
"""Of the same posterior and prior, with another loss."""
LIBRARIES = ("torch.distributions.", "pyro.", "numpyro.", "tensorflow_probability.")
OF_TENSORFLOW = tuple(
    f"MultivariateNormal{kind}"
    for kind in ("LinearOperator", "TriL", "FullCovariance", "DiagPlusLowRank")
)
"""Its Gaussians of more than a diagonal."""


def module(
    model: nn.Module,
    data: Any,
    *,
    encode: Callable[[Any], Named],
    prior: Callable[[Any], Named] | Named | None = None,
    pick: Callable[[Any], Any] | None = None,
    decode: Decode | None = None,
    batch: int = 512,
) -> dict[str, Any]:
    """Arguments of `diagnose` from any torch module, in eval mode and without gradients.

    data: an array or tensor (sample, ...) or a torch Dataset, taken `batch` at a time; or an
        iterable of batches, as a DataLoader is: each a tensor, a tuple or list that starts with
        it, or a dict with "data".
    encode: batch -> {"mean": ..., "logvar": ...} of the posterior, or with another of
        diagnosis.SPREADS by name. Batches are on the model's device, and numbers of its
        precision. It may return "prior_mean" and "prior_logvar" too, as where the prior of a lower
        latent is that of the very draw of an upper one which its posterior saw.
    prior: the same for a prior that sees the sample; {"mean": ..., ...} for one that does not; with
        "weights" for a mixture; None for N(0, I).
    pick: what of a batch `encode` and `prior` are given: `lambda batch: batch` is all of it, labels
        too.
    decode: codes (n, ...) -> a tensor (n, ...), of the model's own, for `diagnose`; it may take
        `rows` too.
    Raises ParameterError where data are empty or these return something else.
    """
    check(isinstance(model, nn.Module), "model must be a torch module", model)
    check_int("batch", batch, 1)
    check(callable(encode), "encode must be a function of a batch", encode)
    if decode is not None and takes_rows(decode):
        check(_in_order(data), "data must not be shuffled where decode takes rows", data)
    posteriors, priors = [], []
    with _evaluating(model) as like:
        for whole in _batches(data, batch):
            inputs = (pick or _first)(whole)
            found, own = encode(_moved(inputs, like)), {}
            if isinstance(found, Mapping) and "prior_mean" in found:
                check(prior is None, "prior must be None where encode returns one", prior)
                own = {name: value for name, value in found.items() if "prior_" in name}
                found = {name: value for name, value in found.items() if name not in own}
                own = {name.removeprefix("prior_"): value for name, value in own.items()}
            posteriors.append(_each("encode", found))
            codes = posteriors[-1]["mean"]
            if own:
                priors.append(_each("encode's prior", own, codes))
            if callable(prior):
                priors.append(_each("prior", prior(_moved(inputs, like)), codes))
    check(bool(posteriors), "data must hold a sample or more", data)
    arguments: dict[str, Any] = _arguments("posterior", _joined("encode", posteriors))
    if decode is not None:
        arguments["decode"] = partial(_decoded, model, decode)
        arguments["decode"].__wrapped__ = decode  # whose arguments count
    if priors:
        return arguments | _arguments("prior", _joined("a prior", priors))
    if prior is None:
        return arguments
    return arguments | _arguments("prior", _checked("prior", prior))


def distributions(posterior: Any, prior: Any = None) -> dict[str, Any]:
    """Arguments of `diagnose` from objects of torch.distributions, of Pyro, NumPyro or TensorFlow
    Probability: Normal, MultivariateNormal of any kind, or these expanded or Independent. prior:
    one, for all samples or for each; None for N(0, I). Raises ParameterError for others, subclasses
    of your own too: these may be no Gaussians."""
    given = {"posterior": posterior} | ({} if prior is None else {"prior": prior})
    return {name: value for of, one in given.items() for name, value in _read(of, one).items()}


def _read(of: str, distribution: Any) -> dict[str, Any]:
    kind = type(distribution)
    name, theirs = kind.__name__, f"{kind.__module__}.".startswith(LIBRARIES)
    if theirs and name == "Independent":
        base = "base_dist" if hasattr(distribution, "base_dist") else "distribution"
        return _read(of, getattr(distribution, base))
    if theirs and name == "ExpandedDistribution":
        base, batch = distribution.base_dist, tuple(distribution.batch_shape)
        skipped = len(base.batch_shape)
        whole = {part: np.asarray(value) for part, value in _read(of, base).items()}
        shapes = {part: (*batch, *value.shape[skipped:]) for part, value in whole.items()}
        return {part: np.broadcast_to(value, shapes[part]) for part, value in whole.items()}
    if theirs and name == "MultivariateNormalDiag":
        return {f"{of}_mean": distribution.mean(), f"{of}_std": distribution.stddev()}
    if theirs and name in OF_TENSORFLOW:
        return {f"{of}_mean": distribution.mean(), f"{of}_covariance": distribution.covariance()}
    if theirs and name in ("Normal", "MultivariateNormal", "LowRankMultivariateNormal"):
        mean = distribution.mean() if callable(distribution.mean) else distribution.mean
        spread = {"Normal": ("std", "scale")}.get(name, ("cholesky", "scale_tril"))
        return {f"{of}_mean": mean, f"{of}_{spread[0]}": getattr(distribution, spread[1])}
    rule = f"{of} must be a Normal, a MultivariateNormal or Independent of these"
    more = ", of torch, Pyro, NumPyro or TensorFlow Probability itself"
    mixture = "; of a mixture pass prior_mean, prior_std and prior_weights of its components"
    got = f"{name}{mixture if 'Mixture' in name else '' if theirs else f' of {kind.__module__}'}"
    raise ParameterError(f"{rule}{more}, got a {got}")


def pythae(model: Any, data: Any, batch: int = 512) -> dict[str, Any]:
    """Arguments of `diagnose` from a model of pythae: one of STANDARD or OTHER_LOSS, or a VAMP,
    whose prior is the mixture of the posteriors of its pseudo-inputs (Tomczak & Welling 2018).

    data: as for `module`. Raises ParameterError for another model: its posterior (of flows, say)
    or its prior may be another one, and `module` reads it by an `encode` of your own.
    """
    name = getattr(model, "model_name", type(model).__name__)
    also = "or read by adapters.module with an encode of yours"
    check_choice("model, of pythae,", name, (*STANDARD, *OTHER_LOSS, "VAMP"), also)

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


def _decoded(model: nn.Module, decode: Decode, codes: Tensor, **rows: Tensor) -> Tensor:
    with _evaluating(model) as like:
        return decode(_moved(codes, like), **rows)


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[Tensor]:
    """The model in eval mode, without gradients, and as it was after that; one of its weights."""
    training = {part: part.training for part in model.modules()}
    model.eval()
    try:
        with torch.no_grad():
            weights = [*model.parameters(), *model.buffers()]
            floats = [one for one in weights if one.is_floating_point()]
            where = weights[0].device if weights else None
            yield floats[0] if floats else torch.empty(0, device=where)
    finally:
        for part, was in training.items():
            part.training = was


def _in_order(data: Any) -> bool:
    """Whether a loader gives its data set's samples as they lie there, as far as it tells."""
    if not isinstance(data, DataLoader) or isinstance(data.dataset, IterableDataset):
        return True
    batches = data.batch_sampler
    sampler = data.sampler if batches is None else getattr(batches, "sampler", None)
    usual = batches is None or type(batches) is BatchSampler
    return usual and isinstance(sampler, SequentialSampler)


def _batches(data: Any, batch: int) -> Iterator[Any]:
    if isinstance(data, Dataset):
        own = torch.Generator()  # or it would draw a seed from the caller's
        data = DataLoader(data, batch, collate_fn=_stacked, generator=own)
    if hasattr(data, "shape"):
        try:
            whole = torch.as_tensor(np.array(data) if hasattr(data, "to_numpy") else data)
        except (TypeError, ValueError) as error:
            rule = "data must be an array or tensor of numbers"
            raise ParameterError(f"{rule}, got a {type(data).__name__}: {error}") from error
        yield from whole.split(batch) if whole.dim() and len(whole) else ()
        return
    if isinstance(data, Mapping | tuple | str) or not hasattr(data, "__iter__"):
        rule = "data must be an array or tensor (sample, ...) or an iterable of batches"
        raise ParameterError(f"{rule} (one batch: in a list), got a {type(data).__name__}")
    yield from data


def _stacked(samples: list[Any]) -> Any:
    """A batch of a Dataset's samples; of pythae's own kinds of dict as of any other."""
    return default_collate([dict(one) if isinstance(one, Mapping) else one for one in samples])


def _first(batch: Any) -> Any:
    if isinstance(batch, Mapping):
        if "data" not in batch:
            rule = 'a batch of data must have "data", or pick must say what to take'
            raise ParameterError(f"{rule}, got {list(batch)}")
        return batch["data"]
    return batch[0] if isinstance(batch, tuple | list) else batch


def _moved(inputs: Any, like: Tensor) -> Any:
    """A copy on the model's device, floats in its precision, however deep in dicts, tuples and
    lists."""
    if isinstance(inputs, Tensor):
        dtype = like.dtype if inputs.is_floating_point() else inputs.dtype
        return inputs.to(like.device, dtype, copy=True)
    if isinstance(inputs, np.ndarray):
        return inputs.copy()
    if isinstance(inputs, Mapping):
        return {name: _moved(value, like) for name, value in inputs.items()}
    if isinstance(inputs, tuple | list):
        return [_moved(value, like) for value in inputs]
    return inputs


def _checked(argument: str, found: Any) -> dict[str, Tensor]:
    """What a function of the caller's returned, checked by its names."""
    rule = f'{argument} must give a dict of "mean" and one of {", ".join(SPREADS)}'
    if not isinstance(found, Mapping):
        raise ParameterError(f"{rule}, got a {type(found).__name__}")
    spread = set(found) - {"mean"} - ({"weights"} if argument == "prior" else set())
    if "mean" not in found or len(spread) != 1 or not spread <= set(SPREADS):
        raise ParameterError(f"{rule}, got {', '.join(map(str, found)) or 'none'}")
    tensors = {name: torch.as_tensor(value).detach() for name, value in found.items()}
    return {name: value.to("cpu", copy=True) for name, value in tensors.items()}  # it may be reused


def _each(argument: str, found: Any, codes: Tensor | None = None) -> dict[str, Tensor]:
    """The same of a batch, where one number, or one for all samples, is one for each."""
    checked, whole = _checked(argument, found), {}
    mean = checked["mean"] if codes is None else codes
    check(mean.dim() > 1, f"{argument} must give a mean (sample, ...)", tuple(mean.shape))
    for name, value in checked.items():
        shape = (len(mean), *value.shape[-2:]) if name in FULL and value.dim() else mean.shape
        rule = f"{argument} must give a {name} that broadcasts to {tuple(shape)}, as its codes are"
        try:
            whole[name] = value.expand(shape)
        except RuntimeError:
            raise ParameterError(f"{rule}, got {tuple(value.shape)}") from None
    return whole


def _joined(argument: str, batches: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    shapes = [{name: tuple(one.shape[1:]) for name, one in batch.items()} for batch in batches]
    for own in shapes:
        rule = f"{argument} must give the same of every batch, {shapes[0]} of a sample"
        check(own == shapes[0], rule, own)
    return {name: torch.cat([batch[name] for batch in batches]) for name in shapes[0]}


def _arguments(of: str, gaussian: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"{of}_{name}": value for name, value in gaussian.items()}
