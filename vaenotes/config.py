"""The full description of one replica. Equal configurations give equal results."""

from collections.abc import Iterable
from dataclasses import dataclass, fields

from vaenotes.data.dataset import MOST
from vaenotes.data.load import DATASETS, MOST_IMAGES
from vaenotes.data.vectors import LONGEST, VECTORS
from vaenotes.errors import (
    ParameterError,
    check,
    check_choice,
    check_edges,
    check_int,
    check_number,
    number,
)
from vaenotes.graph import Edges
from vaenotes.nets import ENCODERS, LEAST
from vaenotes.priors import PRIORS

CHOICES: dict[str, Iterable[str]] = {
    "prior": PRIORS,  # itself, as more may be added
    "encoder": ENCODERS,
    "likelihood": ("bernoulli", "gaussian", "gaussian_learned"),
    "precision": ("float32", "bfloat16"),
    "targets": ("raw", "standard"),
    "decoder_start": ("xavier", "uniform"),
}
# Least and most of whole numbers: absurd sizes are refused before anything is allocated.
BOUNDS = {
    "images": (64, MOST),
    "size": (8, LONGEST),
    "dims": (1, 64),
    "hidden": (1, 4096),
    "graph_hidden": (1, 4096),
    "noise_inputs": (1, 4096),
    "batch": (1, MOST),
    "epochs": (0, 100_000),
    "repeats": (1, 100_000),
    "epoch_steps": (1, 1_000_000),
    "kl_warmup": (0, 100_000),
    "seed": (0, 2**32 - 1),  # of more the generator of torch's CPU takes no notice
}
LARGEST_SIDE = 128  # pixels of a picture's side
# Factors by which a dim may be rescaled, and their inverses; training squares those of regauge.
LARGEST_FACTOR = {"units": 1e37, "regauge": 1e18}


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
        names = [*DATASETS, *VECTORS]
        if not (isinstance(self.data, str) and self.data.endswith(".npz")):
            check_choice("data", self.data, names, "a path that ends in .npz")
        for field in fields(self):
            name, value = field.name, getattr(self, field.name)
            if name in CHOICES:
                check_choice(name, value, CHOICES[name])
            elif field.type is bool:
                check(isinstance(value, bool), f"{name} must be a bool", value)
            elif field.type is float:
                check_number(name, value, *([] if name.endswith("_logvar") else [0]))
                object.__setattr__(self, name, float(value))  # 1 and 1.0 are one replica
            elif name in BOUNDS and not (value is None and field.default is None):
                low, high = BOUNDS[name]
                if name == "size" and self.data not in VECTORS:
                    high = LARGEST_SIDE
                check_int(name, value, low, high)
                object.__setattr__(self, name, int(value))
        if self.edges is not None:
            check_edges(self.edges)
            object.__setattr__(self, "edges", tuple(tuple(edge) for edge in self.edges))
        known = PRIORS[self.prior]
        check(isinstance(known, type), f"PRIORS[{self.prior!r}] must be a class", known)
        self._check_data()
        self._check_gauge()

    def _check_data(self) -> None:
        most = MOST_IMAGES.get(self.data, self.images)
        rule = f"images must be at most the {most} that there are for data={self.data}"
        check(self.images <= most, rule, self.images)
        check(self.batch <= self.images, f"batch must be at most images={self.images}", self.batch)
        if self.encoder in LEAST:
            least = LEAST[self.encoder]
            fits = self.size % 16 == 0 and self.size >= least
            rule = f"size must be a multiple of 16 from {least} for encoder={self.encoder}"
            check(fits, rule, self.size)
            rule = f"encoder must be mlp or linear for data={self.data}"
            check(self.data not in VECTORS, rule, self.encoder)

    def _check_gauge(self) -> None:
        """Units of the dims, which not every prior leaves free."""
        for name, most in LARGEST_FACTOR.items():
            factors = getattr(self, name)
            fits = isinstance(factors, tuple | list) and len(factors) in (0, self.dims)
            fits = fits and all(1 / most <= number(f) <= most for f in factors)
            rule = f"{name} must be empty or a positive factor for each of dims={self.dims}"
            check(fits, f"{rule}, in {1 / most:g}..{most:g}", factors)
            object.__setattr__(self, name, tuple(float(factor) for factor in factors))
        refused = (("swapped", "OWN_ORDER"), ("units", "OWN_UNITS"), ("regauge", "OWN_UNITS"))
        for option, fixed in refused:
            if getattr(self, option) and getattr(PRIORS[self.prior], fixed):
                allowed = ", ".join(name for name, p in PRIORS.items() if not getattr(p, fixed))
                raise ParameterError(
                    f"prior must be one of {allowed} where {option} is set, got {self.prior!r}"
                )

    @property
    def epoch_images(self) -> int:
        """How many images an epoch takes."""
        steps = self.epoch_steps or self.images // self.batch * self.repeats
        return steps * self.batch
