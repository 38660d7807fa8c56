"""Three papers held against their own quantity, a small setting each: what should come out, written
before anything was run (TARGETS), and what trained models give.

Kumar & Poole 2020: the posterior's variance from the decoder's curvature, on this book's replicas.
Ichikawa & Hukushima 2024: linear VAEs on data with one factor in white noise, trained by one-pass
SGD. Dang et al. 2024: linear conditional VAEs. The last two are made here, in a few seconds.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from vaenotes.config import Config
from vaenotes.data.dataset import pixels
from vaenotes.lab import runs
from vaenotes.lab.summary import Interval, alive, median_interval
from vaenotes.model import VAE
from vaenotes.report import known
from vaenotes.report.arms import arm
from vaenotes.report.settings import PROFILES, Settings
from vaenotes.report.tables import text
from vaenotes.trace import prior_of_each


class Target(NamedTuple):
    """What a paper's statement implies here: the range that the number has to lie in."""

    quantity: str
    low: float
    high: float


TARGETS = {
    "curvature_linear": Target("predicted s² / s², linear VAE, dims in use", 0.9, 1.1),
    "curvature_used": Target("predicted s² / s², the notes' system, dims in use", 0.8, 1.25),
    "curvature_unused": Target("the same, unused dims", 0.9, 1.1),
    "curvature_gaussian_used": Target("the same, Gaussian pixels, dims in use", 0.8, 1.25),
    "curvature_gaussian_unused": Target("the same, unused dims", 0.9, 1.1),
    "one_dims": Target("share of the β's with the right dims in use, one dim offered", 1.0, 1.0),
    "one_error": Target("largest distance of ε from the formula, over all β's", 0.0, 0.05),
    "two_dims": Target("share of the β's with the right dims in use, two dims offered", 1.0, 1.0),
    "two_error": Target("largest distance of ε from the formula, over all β's", 0.0, 0.05),
    "annealing": Target("steps until ε < 0.1, best annealing / none", 0.0, 0.95),
    "conditional_dims": Target("share of the settings with the right dims in use", 1.0, 1.0),
    "conditional_weights": Target("largest distance of a decoder's singular value", 0.0, 0.01),
    "learned_dims": Target("share with the right dims in use, prior's variance learned", 1.0, 1.0),
    "learned_weights": Target("largest distance of a singular value of U₁ diag(t)", 0.0, 0.01),
}
"""By name. `curvature`: Kumar & Poole; `one`, `two`, `annealing`: Ichikawa & Hukushima;
`conditional`, `learned`: Dang et al."""


def score(target: Target, found: Interval) -> str:
    """right or wrong where the whole interval says so, undecided where it does not."""
    if not found.replicas or not np.isfinite(found[:3]).all():
        return "undecided"
    if target.low <= found.low and found.high <= target.high:
        return "right"
    return "wrong" if found.high < target.low or found.low > target.high else "undecided"


def targets_table(found: Mapping[str, Interval]) -> pd.DataFrame:
    """Target and outcome, a row for each of what was found, by names of TARGETS."""
    rows = {}
    for name, interval in found.items():
        target = TARGETS[name]
        ends = f"{target.low:g}" if target.low == target.high else f"{target.low:g} to {target.high:g}"
        verdict = score(target, interval)
        rows[name] = {
            "quantity": target.quantity,
            "target": ends,
            "median, 95% interval": text(interval),
            "": verdict if verdict == "right" else f"{verdict}!",
        }
    return pd.DataFrame(rows).T.set_index("quantity")


def target_numbers(found: Mapping[str, Interval]) -> dict[str, int]:
    """How many targets there are, and how many came out right: what the page says."""
    verdicts = [score(TARGETS[name], interval) for name, interval in found.items()]
    return {"targets": len(verdicts), "targets_right": verdicts.count("right")}


# -- Kumar & Poole: the posterior's variance from the decoder's curvature

FOLLOWED = 128  # images


def curvature(model: VAE, z: Tensor) -> Tensor:
    """What the pixels' Fisher information is worth along each dim: sum over pixels of
    I(pixel) (d decoded / d z)^2, in nats per z^2. (image, node, dim) twice."""
    decoded = model.decode(z)
    logvar = model.noise_logvar
    if model.likelihood == "bernoulli":
        information = decoded.sigmoid() * (-decoded).sigmoid()
    else:
        information = torch.exp(-logvar).expand(decoded.shape)
    slopes = torch.func.vmap(torch.func.jacfwd(model.decode))(z)  # (image, pixel, node, dim)
    return torch.einsum("ip,ipnd->ind", information, slopes.square())


@torch.no_grad()
def predicted_over_measured(config: Config) -> np.ndarray:
    """The fixed point 1 / (E[1 / t^2] + curvature w_rec / w_KL) over the variance that the encoder
    gives, geometric mean over images: (node, dim) of a trained replica."""
    model, dataset = runs.load_model(config), runs.load_data(config)
    images = pixels(torch.from_numpy(dataset.images[:FOLLOWED])).flatten(1)
    factors = torch.from_numpy(dataset.standard_factors[:FOLLOWED])
    generator = torch.Generator().manual_seed(config.seed)
    nodes, dims = model.node_shape
    noise = torch.randn(len(images), nodes, model.noise_inputs, generator=generator)
    output = model(images, factors, noise, torch.zeros(len(images), nodes, dims))
    held = torch.exp(-prior_of_each(output).logvar).mean(-3)  # (node, dim)
    pushed = curvature(model, output.z) * config.reconstruction_weight / config.kl_weight
    return (-torch.log(held + pushed) - output.posterior.logvar).mean(-3).exp().numpy()


def curvature_intervals(settings: Settings) -> dict[str, Interval]:
    """The targets of Kumar & Poole: over replicas, the geometric mean over a replica's dims."""
    chosen = {
        "curvature_linear": known.configs(settings, "digits_diagonal"),
        "curvature": arm(settings),
        "curvature_gaussian": arm(settings, "noise_middle"),
    }
    found = {}
    for name, traces in runs.run_arms(chosen).items():
        logs = np.log([predicted_over_measured(config) for config in chosen[name]])
        used = alive(traces).values
        if name == "curvature_linear":
            found[name] = _over_replicas(logs, used)
            continue
        found[f"{name}_used"] = _over_replicas(logs, used)
        found[f"{name}_unused"] = _over_replicas(logs, ~used)
    return found


def _over_replicas(logs: np.ndarray, chosen: np.ndarray) -> Interval:
    means = [np.exp(log[which].mean()) for log, which in zip(logs, chosen, strict=True) if which.any()]
    return median_interval(np.array(means))


# -- Ichikawa & Hukushima: one factor in white noise, one-pass SGD

SIGNAL, NOISE = 1.0, 1.0  # rho and eta: the covariance has one eigenvalue rho + eta, the rest eta
BETAS = (0.4, 0.7, 1.0, 1.3, 1.6, 2.4, 2.8)
LENGTH = 32  # of the data
BATCH, RATE, STEPS = 32, 0.1, 4000  # the rate falls to zero over the second half
ANNEALED = (1 / 100, 1 / 300, 1 / 900)  # growth of tanh, per step
IN_USE = 0.05  # squared length of a decoder's column, per entry of the data


def error_formula(beta: np.ndarray, dims: int) -> np.ndarray:
    """Generalisation error at the optimum: of the decoder's first column from the true factor,
    and what further columns hold of noise."""
    first = np.sqrt(np.maximum(SIGNAL + NOISE - beta, 0))
    return (math.sqrt(SIGNAL) - first) ** 2 + (dims - 1) * np.maximum(NOISE - beta, 0)


def dims_formula(beta: np.ndarray, dims: int) -> np.ndarray:
    """How many dims should be in use: those whose eigenvalue exceeds beta."""
    return (beta < SIGNAL + NOISE).astype(int) + (dims - 1) * (beta < NOISE)


class Learnt(NamedTuple):
    """One-pass SGD of linear VAEs."""

    error: np.ndarray  # (step, replica), generalisation error, every tenth step
    dims: np.ndarray  # (replica,), in use at the end


def one_pass(betas: Tensor, dims: int, seed: int, growth: float = math.inf) -> Learnt:
    """Linear VAEs, a replica per beta (replica,), each batch drawn afresh. The weights start
    normal, the variance at 1; beta grows as tanh(growth step)."""
    generator = torch.Generator().manual_seed(seed)
    count, n = len(betas), LENGTH
    draw = lambda *shape: torch.randn(count, *shape, generator=generator)  # noqa: E731
    decoder = draw(n, dims).requires_grad_()
    encoder = draw(dims, n).requires_grad_()
    logvar = torch.zeros(count, dims, requires_grad=True)
    parameters = (decoder, encoder, logvar)
    errors = []
    for step in range(STEPS):
        x = math.sqrt(SIGNAL / n) * draw(BATCH, 1) + math.sqrt(NOISE) * draw(BATCH, n)
        mean = x @ encoder.mT / math.sqrt(n)  # (replica, image, dim)
        gap = x - mean @ decoder.mT / math.sqrt(n)
        lengths = decoder.square().sum(-2) / n  # (replica, dim)
        kl = 0.5 * (mean.square().mean(-2) + logvar.exp() - 1 - logvar)
        weight = betas * (math.tanh(growth * step) if math.isfinite(growth) else 1.0)
        fit = 0.5 * gap.square().sum(-1).mean(-1) + 0.5 * (lengths * logvar.exp()).sum(-1)
        slopes = torch.autograd.grad((fit + weight * kl.sum(-1)).sum(), parameters)
        rate = RATE * min(1.0, 2 * (1 - step / STEPS))
        with torch.no_grad():
            for parameter, slope, scale in zip(parameters, slopes, (n, n, 1), strict=True):
                parameter -= rate * slope * (1.0 if scale == n else 1 / n)
            if step % 10 == 0 or step == STEPS - 1:
                errors.append(_error(decoder))
    return Learnt(torch.stack(errors).numpy(), (lengths > IN_USE).sum(-1).numpy())


def _error(decoder: Tensor) -> Tensor:
    """(replica, entry, dim) -> (replica,): of the column most like the true factor, which is the
    same in all entries, and the squared lengths of the others."""
    overlap = decoder.mean(-2).abs()  # (replica, dim)
    lengths = decoder.square().mean(-2)
    best = overlap.argmax(-1, keepdim=True)
    first = SIGNAL - 2 * math.sqrt(SIGNAL) * overlap.gather(-1, best)[..., 0]
    return first + lengths.sum(-1)


def linear_replicas(settings: Settings) -> dict[str, Learnt]:
    """Replicas of all seeds at all of BETAS, (seed * beta,), one dim offered and two."""
    seeds = len(settings.all_seeds(PROFILES[settings.profile].seeds))
    betas = torch.tensor(BETAS).repeat(seeds)
    return {
        name: one_pass(betas, dims, settings.first_seed)
        for name, dims in (("one", 1), ("two", 2))
    }


def linear_intervals(settings: Settings, found: Mapping[str, Learnt]) -> dict[str, Interval]:
    """The targets of Ichikawa & Hukushima, over seeds."""
    betas = np.array(BETAS)
    out = {}
    for name, dims in (("one", 1), ("two", 2)):
        learnt = found[name]
        right = learnt.dims.reshape(-1, len(betas)) == dims_formula(betas, dims)
        apart = np.abs(learnt.error[-1].reshape(right.shape) - error_formula(betas, dims))
        out[f"{name}_dims"] = median_interval(right.mean(1))
        out[f"{name}_error"] = median_interval(apart.max(1))
    best = torch.full((len(right),), NOISE)  # where the formula's error is 0
    plain, *annealed = [
        _reached(one_pass(best, 1, settings.first_seed, growth).error)
        for growth in (math.inf, *ANNEALED)
    ]
    quickest = min(annealed, key=np.median)
    return out | {"annealing": median_interval(quickest / plain)}


def _reached(error: np.ndarray) -> np.ndarray:
    """(step, replica) -> (replica,): the place from which the error stays below 0.1; NaN: never."""
    above = error >= 0.1
    last = len(error) - above[::-1].argmax(0)
    return np.where(above[-1], np.nan, np.where(above.any(0), last, 0.0))


def linear_panels(found: Mapping[str, Learnt]) -> known.Panels:
    """What figures.against draws: the generalisation error by the formula and as trained."""
    panels = {}
    for name, dims in (("one", 1), ("two", 2)):
        measured = found[name].error[-1]
        expected = np.tile(error_formula(np.array(BETAS), dims), len(measured) // len(BETAS))
        panels[f"{name} dim{'s' * (dims > 1)} offered"] = {"": (expected, measured)}
    return panels


# -- Dang et al.: linear conditional VAEs

SPECTRUM = (4.0, 2.2, 1.4, 0.7, 0.3)  # of y's covariance
SEEN = (0.0, 0.6, 0.9)  # correlation of y's parts with what x says of them
CONDITIONAL_BETAS = (0.5, 1.0, 1.8)


class ConditionalVAE(nn.Module):
    """q(z | x, y) = N(W1 x + W2 y, diag s^2), p(y | x, z) = N(U1 z + U2 x, I), p(z) = N(0, diag
    t^2), t = 1 unless learned. The expected loss, exactly, for x and y of a covariance (2d, 2d)."""

    def __init__(self, size: int, learned: bool, generator: torch.Generator):
        super().__init__()
        normal = lambda *shape: 0.3 * torch.randn(  # noqa: E731
            *shape, generator=generator, dtype=torch.float64
        )
        self.encoder = nn.Parameter(normal(size, 2 * size))  # [W1, W2]
        self.from_z = nn.Parameter(normal(size, size))  # U1
        self.from_x = nn.Parameter(normal(size, size))  # U2
        self.logvar = nn.Parameter(normal(size))
        self.prior_logvar = nn.Parameter(normal(size) if learned else 0 * normal(size))
        self.prior_logvar.requires_grad_(learned)

    def forward(self, covariance: Tensor, beta: float) -> Tensor:
        size = len(self.logvar)
        eye = torch.eye(size, dtype=covariance.dtype)
        gap = torch.cat([-self.from_x, eye], 1) - self.from_z @ self.encoder
        noise = (self.from_z.square().sum(0) * self.logvar.exp()).sum()
        fit = 0.5 * (torch.trace(gap @ covariance @ gap.T) + noise)
        second = torch.diagonal(self.encoder @ covariance @ self.encoder.T) + self.logvar.exp()
        apart = self.logvar - self.prior_logvar
        return fit + beta * 0.5 * (second / self.prior_logvar.exp() - 1 - apart).sum()


def conditional_covariance(seen: float, generator: torch.Generator) -> Tensor:
    """Of (x, y): y has SPECTRUM along random directions, and each part correlation `seen` with an
    entry of x ~ N(0, I). What x leaves of y has eigenvalues (1 - seen^2) SPECTRUM."""
    size = len(SPECTRUM)
    normal = torch.randn(size, size, generator=generator, dtype=torch.float64)
    root = torch.linalg.qr(normal).Q * torch.tensor(SPECTRUM, dtype=torch.float64).sqrt()
    eye = torch.eye(size, dtype=torch.float64)
    return torch.cat([torch.cat([eye, seen * root.T], 1), torch.cat([seen * root, root @ root.T], 1)])


def conditional_formula(seen: float, beta: float) -> np.ndarray:
    """Singular values of U1 (in units of t), descending: sqrt(max(0, theta - beta)) with theta the
    eigenvalues of what x leaves of y."""
    return np.sqrt(np.maximum((1 - seen**2) * np.array(SPECTRUM) - beta, 0))


def train_conditional(seen: float, beta: float, learned: bool, seed: int) -> np.ndarray:
    """Singular values of U1 diag(t) after training from a random start, descending."""
    generator = torch.Generator().manual_seed(seed)
    covariance = conditional_covariance(seen, generator)
    model = ConditionalVAE(len(SPECTRUM), learned, generator)
    chosen = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.LBFGS(
        chosen, max_iter=3000, tolerance_grad=1e-10, tolerance_change=0, history_size=30,
        line_search_fn="strong_wolfe",
    )  # fmt: skip

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = model(covariance, beta)
        loss.backward()
        return loss

    optimizer.step(closure)
    scaled = model.from_z.detach() * torch.exp(0.5 * model.prior_logvar.detach())
    return torch.linalg.svdvals(scaled).numpy()


def conditional_intervals(settings: Settings) -> dict[str, Interval]:
    """The targets of Dang et al., over seeds."""
    every: Sequence[int] = settings.all_seeds(PROFILES[settings.profile].seeds)
    grid = [(seen, beta) for seen in SEEN for beta in CONDITIONAL_BETAS]
    expected = np.array([conditional_formula(*setting) for setting in grid])
    out = {}
    for name, learned in (("conditional", False), ("learned", True)):
        right, apart = [], []
        for seed in every:
            found = np.array([train_conditional(*setting, learned, seed) for setting in grid])
            right.append(((found > IN_USE).sum(1) == (expected > 0).sum(1)).mean())
            apart.append(np.abs(found - expected).max())
        out[f"{name}_dims"] = median_interval(np.array(right))
        out[f"{name}_weights"] = median_interval(np.array(apart))
    return out
