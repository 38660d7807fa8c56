"""Many replicas trained at once: from top to bottom a run, an epoch, a step, what is measured.

Replicas whose architecture and optimiser agree, and the shape of their data, are stacked along a
first axis and trained as one batched computation (`torch.func.vmap` over the plain module). Each
has its own generator, for weights, order and noise in turn, so that it comes out the same alone or
beside others.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torch.func import functional_call, stack_module_state, vmap

from vaenotes import trace
from vaenotes.adam import Adam, learning_rate
from vaenotes.config import Config
from vaenotes.data.dataset import Dataset, Pool, batches
from vaenotes.errors import check
from vaenotes.gauge import initial, regauge
from vaenotes.model import VAE, Apply
from vaenotes.nets import multiplied
from vaenotes.objective import Weights, loss
from vaenotes.schedule import halfway
from vaenotes.speed import recorded
from vaenotes.state import torch_as_it_starts

WORTH_RECORDING = 60  # steps; in fewer, recording one would cost more than it saves
MEASURED_AT_ONCE = 8  # replicas: what more need of memory is slower to fetch than to compute
MAY_DIFFER = (  # between replicas that are trained together; all else must agree
    "seed", "data", "edges", "posterior_logvar", "prior_logvar", "noise_logvar", "targets",
    "reconstruction_weight", "kl_weight", "supervision_weight", "kl_warmup", "decoder_start",
    "learning_rate", "prior_rate", "posterior_rate", "swapped", "units", "regauge",
    "images", "repeats", "epoch_steps",
)  # fmt: skip


@dataclass
class Result:
    """One trained replica: its trace (numpy arrays, see trace.QUANTITIES), final weights, the
    (epoch, step) at which it diverged or None, and its share of the training time in seconds.

    A replica has diverged where a gradient, its square, or anything that is recorded stops being
    finite; epoch 0 is its start. Its weights are NaN from there on."""

    config: Config
    trace: dict[str, np.ndarray]
    weights: dict[str, np.ndarray]
    diverged: tuple[int, int] | None
    seconds: float


@dataclass
class Checkpoint:
    """Where replicas stand after an epoch: all that they need to go on as if never stopped.

    arrays: what changes in training, by name, along a leading replica axis: "parameters/...",
    Adam's "exp_avg/..." and "exp_avg_sq/...", "trace/..." (replica, epoch, ...), and "generator",
    the states of the random generators. steps: that Adam has taken; seconds: of training so far.
    """

    arrays: dict[str, np.ndarray]
    epoch: int
    steps: float
    diverged: list[tuple[int, int] | None]
    seconds: float

    def of(self, replicas: Sequence[int]) -> "Checkpoint":
        """The checkpoint of some of the replicas, by their places."""
        return replace(
            self,
            arrays={name: value[list(replicas)] for name, value in self.arrays.items()},
            diverged=[self.diverged[replica] for replica in replicas],
        )


def batch_key(config: Config, dataset: Dataset) -> tuple[Any, ...]:
    """Replicas with equal keys can be trained together, as one batched computation."""
    images = dataset.images
    shape = (images.shape[1:], images.dtype, dataset.factor_names)
    places = map(dataset.places, (dataset.trained_on, dataset.measured_on))
    measured = (min(len(some), trace.EVALUATION_IMAGES) for some in places)
    agree = (getattr(config, f.name) for f in fields(config) if f.name not in MAY_DIFFER)
    return (*shape, *measured, config.epoch_images, *agree)


@torch_as_it_starts
def train(
    configs: Sequence[Config],
    datasets: Sequence[Dataset],
    on_epoch: Callable[["Ensemble"], None] = lambda ensemble: None,
    device: str = "cpu",
    checkpoint: Checkpoint | None = None,
) -> list[Result]:
    """Train replicas of one batch_key together, each on its data set, from the start or from where
    a checkpoint of them stands; `on_epoch` is called after every epoch. One result per
    configuration, in order. Raises ParameterError unless each tells what is in its data set."""
    start = time.perf_counter()
    ensemble = Ensemble(configs, datasets, device)
    if checkpoint is not None:
        ensemble.restore(checkpoint)
        start -= checkpoint.seconds
    else:
        ensemble.record(0)
    epochs = ensemble.config.epochs
    for epoch in range(ensemble.epochs_done + 1, epochs + 1):
        ensemble.epoch(epoch)
        if epoch == halfway(epochs):
            ensemble.regauge()
        ensemble.record(epoch)
        ensemble.epochs_done, ensemble.seconds = epoch, time.perf_counter() - start
        on_epoch(ensemble)
    measure, pool = ensemble.measure, ensemble.pool
    final = measure(trace.measure_final, pool.measured)
    final |= measure(trace.measure_training, pool.seen, ensemble.weights)
    ensemble.stop_unless_finite(final, epochs)
    traces = ensemble.trace() | {name: array(value) for name, value in final.items()}
    weights = {n: array(v) for n, v in {**ensemble.parameters, **ensemble.buffers}.items()}
    seconds = (time.perf_counter() - start) / len(configs)
    return [
        Result(
            config,
            {name: value[i, ...] for name, value in traces.items()},
            {name: value[i, ...] for name, value in weights.items()},
            ensemble.diverged[i],
            seconds,
        )
        for i, config in enumerate(configs)
    ]


class Ensemble:
    """Replicas in training: stacked parameters, one optimiser, one generator per replica."""

    def __init__(self, configs: Sequence[Config], datasets: Sequence[Dataset], device: str = "cpu"):
        rule = "datasets must be one for each config, and one or more"
        check(len(datasets) == len(configs) > 0, rule, len(datasets))
        pairs = list(zip(configs, datasets, strict=True))
        rule = f"replicas trained together must be of one kind, and differ only in {MAY_DIFFER}"
        check((kinds := len({batch_key(*each) for each in pairs})) == 1, rule, kinds)
        for dataset, images, size, likelihood in {
            (dataset, config.images, config.size, config.likelihood) for config, dataset in pairs
        }:
            dataset.check_fits(images, size, likelihood)
        self.configs, self.config, self.device = list(configs), configs[0], device
        self.generators = [torch.Generator().manual_seed(config.seed) for config in configs]
        replicas = [initial(*p, g) for p, g in zip(pairs, self.generators, strict=True)]
        self.module = replicas[0]
        self.apply = Apply(self.module)
        stacked, self.buffers = stack_module_state([r.to(device) for r in replicas])
        rates = {name: [learning_rate(name, config) for config in configs] for name in stacked}
        lowered = multiplied(self.module) if self.config.precision == "bfloat16" else ()
        self.optimizer = Adam(stacked, rates, lowered)
        self.parameters = self.optimizer.parameters  # (replica, ...) by name
        reconstruction, kl, supervision = (
            torch.tensor([getattr(c, f"{term}_weight") for c in configs], device=device)
            for term in Weights._fields
        )
        self.weights = Weights(reconstruction, kl, supervision)  # (replica,) each
        self.pool = Pool(datasets, device)
        self.epoch_steps = self.config.epoch_images // self.config.batch
        self.recorded: Callable[..., Sequence[Tensor]] | None = None
        self.diverged: list[tuple[int, int] | None] = [None] * len(configs)
        self.records: dict[str, list[Tensor]] = {}  # by quantity, (replica, ...) of every epoch
        self.epochs_done, self.seconds = 0, 0.0

    def epoch(self, number: int) -> None:
        """A pass over the data, or as many steps as an epoch takes, each replica in its own order,
        drawn anew for every pass; a last short batch is left out. With `repeats`, each batch is
        shown so many times in a row, and batches and their order are the same in every epoch."""
        config, steps = self.config, self.epoch_steps
        replicas = zip(self.pool.seen, self.configs, self.generators, strict=True)
        orders = [batches(len(s), c.batch, steps, c.repeats, drawn) for s, c, drawn in replicas]
        order = torch.stack(orders).to(self.device)  # (replica, step, image)
        warm = torch.tensor([number > c.kl_warmup for c in self.configs], device=self.device)
        weights = self.weights._replace(kl=self.weights.kl * warm)
        for step in range(steps):
            if config.decay:
                done = (number - 1) * steps + step
                self.optimizer.leave(1 - done / (config.epochs * steps))
            finite = self.step(order[:, step], weights)
            if not finite.all():
                self.stop_diverged(finite, number, step)

    def step(self, chosen: Tensor, weights: Weights) -> Tensor:
        """One optimiser step on the images `chosen` (replica, image). Returns, per replica,
        whether its gradients were finite (replica,)."""
        inputs = (
            *self.optimizer.read(), *cast("tuple[Tensor, ...]", weights), *self.pool.batch(chosen),
            *self.draw(chosen.shape[1], self.generators),
        )  # fmt: skip
        if self.recorded is None and self.config.epochs * self.epoch_steps >= WORTH_RECORDING:
            self.recorded = recorded(self.gradients, *inputs)
        self.optimizer.step((self.recorded or self.gradients)(*inputs))
        return self.finite()

    def draw(self, count: int, generators: Sequence[torch.Generator]) -> tuple[Tensor, Tensor]:
        """Standard normal noise for the prior (replica, image, node, input) and for the posterior's
        sample (replica, image, node, dim)."""
        nodes, dims = self.module.node_shape
        inputs = self.module.noise_inputs
        drawn = torch.empty(len(generators), count, nodes, inputs + dims)
        for own, generator, config in zip(drawn, generators, self.configs, strict=True):
            own.normal_(generator=generator)
            if config.swapped:
                own[..., inputs:] = own[..., inputs:].flip(-1)
        noise, z0 = drawn.to(self.device).split([inputs, dims], dim=-1)
        return noise, z0

    def gradients(self, *inputs: Tensor) -> Sequence[Tensor]:
        """Of every replica's loss by its own parameters, in their order. Inputs: the parameters,
        the weights of the terms, and a batch, as arguments of the loss."""
        count, terms = len(self.parameters), len(Weights._fields)
        values, weights, batch = inputs[:count], inputs[count:][:terms], inputs[count + terms :]
        parameters = dict(zip(self.parameters, values, strict=True))
        half = self.config.precision == "bfloat16"
        with torch.autocast(torch.device(self.device).type, dtype=torch.bfloat16, enabled=half):
            losses = self.each(loss, parameters, Weights(*weights), *batch)  # (replica,)
        # Replicas share no parameter, so the sum of their losses gives each its own gradient.
        ones = torch.ones(len(self.configs), device=self.device)
        return torch.autograd.grad(losses, values, ones, materialize_grads=True)

    def each(
        self,
        function: Callable[..., Any],
        parameters: dict[str, Tensor],
        *inputs: Any,
        at_once: int | None = None,
    ) -> Any:
        """function(model, *inputs) of every replica, of all or of so many at once: parameters and
        inputs have a leading replica axis, and so has what is returned."""
        state = {f"model.{n}": t for n, t in {**parameters, **self.buffers}.items()}

        def one(state: dict[str, Tensor], *inputs: Any) -> Any:
            return functional_call(self.apply, state, (function, *inputs))

        return vmap(one, chunk_size=at_once)(state, *inputs)

    def finite(self) -> Tensor:
        """Whether all of each replica's gradients are finite, and their squares too, which Adam
        divides by: where one is infinite its weight would stand still (replica,)."""
        if torch.linalg.vector_norm(self.optimizer.gradients).isfinite():  # a quick look at all
            return torch.ones(len(self.configs), dtype=torch.bool, device=self.device)
        return all_finite([g.square() for g in self.optimizer.received])

    @torch.no_grad()
    def stop_diverged(self, finite: Tensor, epoch: int, step: int) -> None:
        """Set every replica (replica,) that is not finite to NaN for good; the others go on."""
        for replica in (~finite).nonzero().flatten().tolist():
            if self.diverged[replica] is None:
                self.diverged[replica] = (epoch, step)
                for parameter in self.parameters.values():
                    parameter[replica] = torch.nan

    def stop_unless_finite(self, measured: dict[str, Tensor], epoch: int) -> None:
        """Stop every replica of which something measured after an epoch is not finite: the last
        step's update may have done harm that no loss has met yet. NaN as in
        trace.UNDEFINED_IF_CONSTANT does not count."""
        step = self.epoch_steps - 1 if epoch > 0 else 0
        known = [
            value.where(~value.isnan(), 0) if name in trace.UNDEFINED_IF_CONSTANT else value
            for name, value in measured.items()
        ]
        self.stop_diverged(all_finite(known), epoch, step)

    @torch.no_grad()
    def regauge(self) -> None:
        """Change the units of every replica that asks for it: its parameters, and its optimiser's
        running means of gradients and of their squares."""
        for replica, config in enumerate(self.configs):
            if not config.regauge:
                continue
            scale = torch.tensor(config.regauge, device=self.device)
            order = range(len(scale))
            own = {name: value[replica] for name, value in self.parameters.items()}
            for name, value in regauge(self.module, own, order, scale).items():
                own[name].copy_(value)
            for moment, factor in (("exp_avg", 1 / scale), ("exp_avg_sq", scale**-2)):
                own = {n: m[replica] for kind, n, m in self.optimizer.moments() if kind == moment}
                for name, value in regauge(self.module, own, order, factor, linear=True).items():
                    own[name].copy_(value)

    @torch.no_grad()
    def measure(self, function: Callable[..., Any], places: Sequence[range], *more: Any) -> Any:
        """function(model, output, images, factors, *more) of every replica, on the first images of
        its places, with noise of its own, the same in every epoch."""
        first = [torch.arange(p.start, p.stop)[: trace.EVALUATION_IMAGES] for p in places]
        chosen = torch.stack(first).to(self.device)  # (replica, image)
        images, factors = self.pool.batch(chosen)
        seeds = [trace.EVALUATION_SEED + config.seed for config in self.configs]
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        noise, z0 = self.draw(chosen.shape[1], generators)

        def one(
            model: VAE, images: Tensor, factors: Tensor, noise: Tensor, z0: Tensor, *more: Any
        ) -> Any:
            return function(model, model(images, factors, noise, z0), images, factors, *more)

        inputs = (images, factors, noise, z0, *more)
        return self.each(one, self.parameters, *inputs, at_once=MEASURED_AT_ONCE)

    def record(self, epoch: int) -> None:
        """Measure after an epoch, and keep what was measured."""
        measured = self.measure(trace.measure, self.pool.measured)
        for name, value in measured.items():
            self.records.setdefault(name, []).append(value)
        self.stop_unless_finite(measured, epoch)

    def trace(self) -> dict[str, np.ndarray]:
        """What was recorded so far: (replica, epoch, ...) by quantity."""
        return {name: array(torch.stack(kept, dim=1)) for name, kept in self.records.items()}

    def checkpoint(self) -> Checkpoint:
        """All that the replicas need to go on from here."""
        arrays = {f"parameters/{name}": array(value) for name, value in self.parameters.items()}
        arrays |= {f"{kind}/{name}": array(m) for kind, name, m in self.optimizer.moments()}
        arrays |= {f"trace/{name}": value for name, value in self.trace().items()}
        arrays["generator"] = array(torch.stack([g.get_state() for g in self.generators]))
        steps, diverged = self.optimizer.steps, list(self.diverged)
        return Checkpoint(arrays, self.epochs_done, steps, diverged, self.seconds)

    @torch.no_grad()
    def restore(self, checkpoint: Checkpoint) -> None:
        """Go on from a checkpoint of these very replicas."""
        tensors = {name: torch.from_numpy(value) for name, value in checkpoint.arrays.items()}
        self.optimizer.restore(tensors, checkpoint.steps)
        for generator, state in zip(self.generators, tensors["generator"], strict=True):
            generator.set_state(state.clone())
        self.records = {
            name.removeprefix("trace/"): list(values.to(self.device).unbind(1))
            for name, values in tensors.items()
            if name.startswith("trace/")
        }
        self.epochs_done, self.seconds = checkpoint.epoch, checkpoint.seconds
        self.diverged = list(checkpoint.diverged)


def array(tensor: Tensor) -> np.ndarray:
    """A copy of the tensor's numbers, wherever it is."""
    return tensor.numpy(force=True).copy()


def all_finite(tensors: Iterable[Tensor]) -> Tensor:
    """Whether all of each replica's numbers are finite, of tensors (replica, ...): (replica,)."""
    return torch.stack([t.isfinite().reshape(len(t), -1).all(-1) for t in tensors]).all(0)
