"""The full description of one replica. Equal configurations give equal results."""

from collections.abc import Iterable
from dataclasses import dataclass, fields

from vaenotes.data.load import DATASETS, MOST_IMAGES
from vaenotes.data.vectors import VECTORS
from vaenotes.errors import (
    LARGEST,
    ParameterError,
    check,
    check_choice,
    check_edges,
    check_int,
    check_number,
    number,
)
from vaenotes.graph import Edges
from vaenotes.model import ENCODERS, LEAST, LIKELIHOODS, STARTS
from vaenotes.priors import PRIORS

CHOICES: dict[str, Iterable[str]] = {
    "prior": PRIORS,  # itself, as more may be added
    "encoder": tuple(ENCODERS),
    "likelihood": LIKELIHOODS,
    "precision": ("float32", "bfloat16"),
    "targets": ("raw", "standard"),
    "decoder_start": STARTS,
}
AT_LEAST = {
    "images": 64, "size": 8, "dims": 1, "hidden": 1, "noise_inputs": 1, "batch": 1, "repeats": 1,
    "epochs": 0, "kl_warmup": 0, "seed": 0,
}  # fmt: skip


@dataclass(frozen=True)
class Config:
    """Data, model, objective and optimiser of one replica. The defaults are the notes' system made
    small: their loss, data, graph, noise and batch, with fewer pixels, units and steps, dense
    layers for convolutions, and a higher learning rate.

    Raises ParameterError where a value is not allowed.
    """

    data: str = "sprites"
    images: int = 6_400
    size: int = 16
    prior: str = "exogenous"
    edges: Edges | None = None  # None: the data set's own DAG
    dims: int = 2
    shared: bool = True
    encoder: str = "mlp"
    hidden: int = 96
    graph_hidden: int | None = None  # units per node in both graph networks; None: 2 dims
    noise_inputs: int = 9  # numbers that the prior is fed, per node
    decoder_start: str = "xavier"
    targets: str = "raw"  # what the regressions predict: factors as they are, or standardised
    likelihood: str = "bernoulli"
    posterior_logvar: float = 0.0
    prior_logvar: float = 0.0
    noise_logvar: float = 0.0  # of a Gaussian likelihood: fixed, or where learning starts
    reconstruction_weight: float = 0.8
    kl_weight: float = 0.15
    supervision_weight: float = 0.0  # 0.05 where the notes' system had the term
    kl_warmup: int = 1  # epochs at the start in which the KL does not count
    learning_rate: float = 8e-3
    decay: bool = False  # the learning rate falls to 0, along a straight line
    prior_rate: float = 1.0  # the prior's learning rate, as a multiple of the above
    posterior_rate: float = 1.0  # the same for encoder and posterior; 0 keeps them as they start
    batch: int = 64
    epochs: int = 30
    repeats: int = 1  # steps in a row that are shown the same batch; if > 1, in the same order
    epoch_steps: int | None = None  # steps of an epoch; None: one pass over the images, repeated
    precision: str = "float32"
    swapped: bool = False  # dims in reverse order in the initial weights and in z0
    units: tuple[float, ...] = ()  # the initial weights in other units: a factor for each dim
    regauge: tuple[float, ...] = ()  # halfway, the units of each dim change by this factor
    seed: int = 0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name in CHOICES:
                check_choice(field.name, value, CHOICES[field.name])
            if field.type is bool:
                check(isinstance(value, bool), f"{field.name} must be a bool", value)
            if field.name in AT_LEAST:
                check_int(field.name, value, AT_LEAST[field.name], LARGEST)
                object.__setattr__(self, field.name, int(value))
            if field.type is float:
                check_number(field.name, value, *([] if field.name.endswith("_logvar") else [0]))
                object.__setattr__(self, field.name, float(value))  # 1 and 1.0 are one replica
        if not (isinstance(self.data, str) and self.data.endswith(".npz")):
            check_choice("data", self.data, [*DATASETS, *VECTORS], "a path that ends in .npz")
        if self.edges is not None:
            check_edges(self.edges)
            object.__setattr__(self, "edges", tuple(tuple(edge) for edge in self.edges))
        for name, most in (("units", 1e37), ("regauge", 1e18)):  # training squares the latter
            factors = getattr(self, name)
            fits = isinstance(factors, (tuple, list)) and len(factors) in (0, self.dims)
            fits = fits and all(1 / most <= number(f) <= most for f in factors)
            rule = f"{name} must be empty or a positive factor for each of dims={self.dims}"
            rule += f", in {1 / most:g}..{most:g}"
            check(fits, rule, factors)
            object.__setattr__(self, name, tuple(float(factor) for factor in factors))
        refused = (("swapped", "OWN_ORDER"), ("units", "OWN_UNITS"), ("regauge", "OWN_UNITS"))
        for option, fixed in refused:
            if getattr(self, option) and getattr(PRIORS[self.prior], fixed):
                allowed = ", ".join(name for name, p in PRIORS.items() if not getattr(p, fixed))
                raise ParameterError(
                    f"prior must be one of {allowed} where {option} is set, got {self.prior!r}"
                )
        most = MOST_IMAGES.get(self.data, self.images)
        rule = f"images must be at most the {most} that there are for data={self.data}"
        check(self.images <= most, rule, self.images)
        if self.batch > self.images:
            raise ParameterError(f"batch must be at most images={self.images}, got {self.batch}")
        if self.epoch_steps is not None:
            check_int("epoch_steps", self.epoch_steps, 1, LARGEST)
            object.__setattr__(self, "epoch_steps", int(self.epoch_steps))
        if self.graph_hidden is not None:
            check_int("graph_hidden", self.graph_hidden, 1, LARGEST)
            object.__setattr__(self, "graph_hidden", int(self.graph_hidden))
        least = LEAST.get(self.encoder, 0)
        if least and (self.size % 16 or self.size < least):
            rule = f"size must be a multiple of 16 from {least} for encoder={self.encoder}"
            raise ParameterError(f"{rule}, got {self.size}")
        if least and self.data in VECTORS:
            rule = f"encoder must be mlp or linear for data={self.data}"
            raise ParameterError(f"{rule}, got {self.encoder!r}")

    @property
    def epoch_images(self) -> int:
        """How many images an epoch takes."""
        steps = self.epoch_steps or self.images // self.batch * self.repeats
        return steps * self.batch
