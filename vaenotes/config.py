"""The full description of one replica. Equal configurations give equal results."""

import math
from dataclasses import dataclass, fields

from vaenotes.errors import ParameterError, check_choice
from vaenotes.graph import Edges
from vaenotes.model import ENCODERS, LIKELIHOODS
from vaenotes.priors import PRIORS

CHOICES = {
    "prior": tuple(PRIORS),
    "encoder": tuple(ENCODERS),
    "likelihood": LIKELIHOODS,
    "precision": ("float32", "bfloat16"),
}
AT_LEAST = {"images": 64, "size": 8, "dims": 1, "hidden": 1, "batch": 1, "epochs": 0, "seed": 0}
LARGEST = 2**63 - 1


@dataclass(frozen=True)
class Config:
    """Data, model, objective and optimiser of one replica; the defaults are the book's.

    Raises ParameterError where a value is not allowed.
    """

    data: str = "sprites"
    images: int = 10_000
    size: int = 16
    prior: str = "exogenous"
    edges: Edges | None = None  # None: the data set's own DAG
    dims: int = 2
    shared: bool = True
    encoder: str = "mlp"
    hidden: int = 96
    likelihood: str = "bernoulli"
    posterior_logvar: float = 0.0
    prior_logvar: float = 0.0
    noise_logvar: float = 0.0  # of a Gaussian likelihood: fixed, or where learning starts
    reconstruction_weight: float = 0.8
    kl_weight: float = 0.15
    supervision_weight: float = 1.0
    learning_rate: float = 8e-3
    decay: bool = False  # the learning rate falls to 0, along a straight line
    prior_rate: float = 1.0  # the prior's learning rate, as a multiple of the above
    posterior_rate: float = 1.0  # the same for encoder and posterior; 0 keeps them as they start
    batch: int = 256
    epochs: int = 20
    precision: str = "float32"
    swapped: bool = False  # dims in reverse order in the initial weights and in all noise
    units: tuple[float, ...] = ()  # the initial weights in other units: a factor for each dim
    regauge: tuple[float, ...] = ()  # halfway, the units of each dim change by this factor
    seed: int = 0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name in CHOICES:
                check_choice(field.name, value, CHOICES[field.name])
            if field.type in (str, bool) and not isinstance(value, field.type):
                raise ParameterError(f"{field.name} must be a {field.type.__name__}, got {value!r}")
            if field.name in AT_LEAST:
                least = AT_LEAST[field.name]
                if type(value) is not int or not least <= value <= LARGEST:
                    raise ParameterError(
                        f"{field.name} must be a whole number of at least {least}, got {value!r}"
                    )
            if field.type is float:
                finite = type(value) in (int, float) and math.isfinite(value)
                weight = not field.name.endswith("_logvar")
                if not finite or (weight and value < 0):
                    allowed = "a finite number of at least 0" if weight else "a finite number"
                    raise ParameterError(f"{field.name} must be {allowed}, got {value!r}")
                object.__setattr__(self, field.name, float(value))  # 1 and 1.0 are one replica
        if self.edges is not None:
            object.__setattr__(self, "edges", tuple(tuple(edge) for edge in self.edges))
        for name in ("units", "regauge"):
            factors = getattr(self, name)
            fits = isinstance(factors, (tuple, list)) and len(factors) in (0, self.dims)
            if not fits or not all(type(f) in (int, float) and 0 < f < math.inf for f in factors):
                raise ParameterError(
                    f"{name} must be empty or a positive factor for each of dims={self.dims}, "
                    f"got {factors!r}"
                )
            object.__setattr__(self, name, tuple(float(factor) for factor in factors))
        refused = (("swapped", "OWN_ORDER"), ("units", "OWN_UNITS"), ("regauge", "OWN_UNITS"))
        for option, fixed in refused:
            if getattr(self, option) and getattr(PRIORS[self.prior], fixed):
                allowed = ", ".join(name for name, p in PRIORS.items() if not getattr(p, fixed))
                raise ParameterError(
                    f"prior must be one of {allowed} where {option} is set, got {self.prior!r}"
                )
        if self.batch > self.images:
            raise ParameterError(f"batch must be at most images={self.images}, got {self.batch}")
        if self.encoder == "cnn" and self.size % 16:
            raise ParameterError(f"size must be a multiple of 16 for a cnn, got {self.size}")
