"""Three papers held against their own quantity, a small setting each: what should come out, written
before anything was run (TARGETS), and what trained models give.

Kumar & Poole 2020: the posterior's variance from the decoder's curvature, on this book's replicas.
Ichikawa & Hukushima 2024: linear VAEs on data with one factor in white noise, trained by one-pass
SGD. Dang et al. 2024: linear conditional VAEs. The last two are made here, in a few seconds.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from itertools import product
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

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


# -- linear models, all replicas at once: the expected loss is a formula


def linear_loss(
    gap: Tensor, decoder: Tensor, encoder: Tensor, logvars: tuple[Tensor, Tensor],
    covariance: Tensor, beta: Tensor,
) -> Tensor:  # fmt: skip
    """Of linear VAEs with pixels of variance 1: (replica,), up to a constant. What is left of the
    data (seen, of covariance (..., seen, seen)) at the posterior's mean is gap (replica, pixel,
    seen); encoder (replica, dim, seen), decoder (replica, pixel, dim); log-variances of posterior
    and prior (replica, dim)."""
    logvar, prior_logvar = logvars
    noise = (decoder.square().sum(-2) * logvar.exp()).sum(-1)
    left = ((gap @ covariance) * gap).sum((-2, -1))
    means = ((encoder @ covariance) * encoder).sum(-1)
    apart = logvar - prior_logvar
    kl = 0.5 * (apart.exp() + means * torch.exp(-prior_logvar) - 1 - apart)
    return 0.5 * (left + noise) + beta * kl.sum(-1)


def _descend(
    optimizer: torch.optim.Optimizer, loss: Callable[[int], Tensor], steps: int
) -> Iterator[int]:
    """Steps of an optimiser whose rate falls to zero over the second half; each is yielded."""
    fall = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1, 2 * (1 - step / steps)))
    for step in range(steps):
        optimizer.zero_grad()
        loss(step).sum().backward()
        optimizer.step()
        fall.step()
        yield step


# -- Ichikawa & Hukushima: one factor in white noise, one-pass SGD

SIGNAL, NOISE = 1.0, 1.0  # rho and eta: the covariance has one eigenvalue rho + eta, the rest eta
BETAS = (0.4, 0.7, 1.0, 1.3, 1.6, 2.4, 2.8)
LENGTH = 16  # of the data
BATCH, RATE, STEPS = 32, 0.04, 5000
AT_ONCE = 1e9  # growth of tanh, per step: no annealing
ANNEALED = (0.03, 0.01, 0.003)
CLOSE = 0.1  # generalisation error that is to be reached
IN_USE = 0.05  # squared length of a decoder's column


def error_formula(beta: np.ndarray, dims: int) -> np.ndarray:
    """Generalisation error at the optimum: of the decoder's first column from the true factor,
    and what further columns hold of noise."""
    first = np.sqrt(np.maximum(SIGNAL + NOISE - beta, 0))
    return (math.sqrt(SIGNAL) - first) ** 2 + (dims - 1) * np.maximum(NOISE - beta, 0)


def dims_formula(beta: np.ndarray, dims: int) -> np.ndarray:
    """How many dims should be in use: those whose eigenvalue exceeds beta."""
    return (beta < SIGNAL + NOISE).astype(int) + (dims - 1) * (beta < NOISE)


class Learnt(NamedTuple):
    """Linear VAEs after one-pass SGD, by seed and beta, and by seed and growth at NOISE's beta."""

    error: np.ndarray  # (seed, beta), generalisation error
    dims: np.ndarray  # (seed, beta), in use
    reached: np.ndarray  # (seed, growth), step from which the error is below CLOSE; NaN: never


def one_pass(dims: int, seeds: range) -> Learnt:
    """Each batch is drawn afresh; all weights start normal, variances at 1. At beta = NOISE, where
    the formula's error is 0, beta also grows as tanh(growth step)."""
    generator = torch.Generator().manual_seed(seeds[0])
    growths = (AT_ONCE, *ANNEALED)
    each = len(BETAS) + len(growths)  # replicas of a seed: of like weights, and shown like data
    betas = torch.tensor([*BETAS, *[NOISE] * len(growths)]).repeat(len(seeds))
    growth = torch.tensor([*[AT_ONCE] * len(BETAS), *growths]).repeat(len(seeds))
    count, n = len(betas), LENGTH

    def drawn(*shape: int) -> Tensor:  # (seed, *shape) -> (replica, *shape)
        normal = torch.randn(len(seeds), *shape, generator=generator)
        return normal.repeat_interleave(each, 0)

    decoder = (drawn(n, dims) / n**0.5).requires_grad_()
    encoder = (drawn(dims, n) / n**0.5).requires_grad_()
    logvar = torch.zeros(count, dims, requires_grad=True)
    prior_logvar = torch.zeros(count, dims)

    def loss(step: int) -> Tensor:
        x = (SIGNAL / n) ** 0.5 * drawn(BATCH, 1) + NOISE**0.5 * drawn(BATCH, n)
        beta = betas * torch.tanh(growth * (step + 1))
        gap = torch.eye(n) - decoder @ encoder
        found = x.mT @ x / BATCH
        return linear_loss(gap, decoder, encoder, (logvar, prior_logvar), found, beta)

    optimizer = torch.optim.SGD([decoder, encoder, logvar], lr=RATE)
    errors = torch.stack([_error(decoder.detach()) for _ in _descend(optimizer, loss, STEPS)])
    lengths = decoder.detach().square().sum(-2)
    shape = (len(seeds), -1)
    return Learnt(
        errors[-1].reshape(shape).numpy()[:, : len(BETAS)],
        (lengths > IN_USE).sum(-1).reshape(shape).numpy()[:, : len(BETAS)],
        _reached(errors.numpy()).reshape(shape)[:, len(BETAS) :],
    )


def _error(decoder: Tensor) -> Tensor:
    """(replica, entry, dim) -> (replica,): squared distance of the column most like the true factor,
    which is the same in all entries, and the squared lengths of the others."""
    overlap = decoder.sum(-2).abs() * (SIGNAL / LENGTH) ** 0.5  # (replica, dim)
    return SIGNAL - 2 * overlap.amax(-1) + decoder.square().sum((-2, -1))


def _reached(error: np.ndarray) -> np.ndarray:
    """(step, replica) -> (replica,): the step from which the error stays below CLOSE; NaN: never."""
    above = error >= CLOSE
    since = len(error) - above[::-1].argmax(0)
    return np.where(above[-1], np.nan, np.where(above.any(0), since, 0))


def linear_replicas(settings: Settings) -> dict[str, Learnt]:
    """One dim offered, and two; a replica per seed and beta."""
    seeds = settings.all_seeds(PROFILES[settings.profile].seeds)
    return {"one": one_pass(1, seeds), "two": one_pass(2, seeds)}


def linear_intervals(found: Mapping[str, Learnt]) -> dict[str, Interval]:
    """The targets of Ichikawa & Hukushima, over seeds."""
    out, betas = {}, np.array(BETAS)
    for name, dims in (("one", 1), ("two", 2)):
        right = found[name].dims == dims_formula(betas, dims)
        apart = np.abs(found[name].error - error_formula(betas, dims))
        out[f"{name}_dims"] = median_interval(right.mean(1))
        out[f"{name}_error"] = median_interval(apart.max(1))
    at_once, annealed = np.split(found["one"].reached, [1], axis=1)
    best = np.nanmedian(annealed, axis=0).argmin()
    return out | {"annealing": median_interval(annealed[:, best] / at_once[:, 0])}


def linear_panels(found: Mapping[str, Learnt]) -> known.Panels:
    """What figures.against draws: the generalisation error by the formula and as trained."""
    panels = {}
    for name, dims in (("one", 1), ("two", 2)):
        measured = found[name].error
        expected = np.broadcast_to(error_formula(np.array(BETAS), dims), measured.shape)
        panels[f"{name} dim{'s' * (dims > 1)} offered"] = {"": (expected.ravel(), measured.ravel())}
    return panels


# -- Dang et al.: linear conditional VAEs

SPECTRUM = (4.0, 2.2, 1.4, 0.7, 0.3)  # of y's covariance
SEEN = (0.0, 0.6, 0.9)  # correlation of y's parts with what x says of them
CONDITIONAL_BETAS = (0.5, 1.0, 1.8)
CONDITIONAL_RATE, CONDITIONAL_STEPS = 0.02, 2000


def conditional_formula(seen: float, beta: float) -> np.ndarray:
    """Singular values of U1 (in units of t), descending: sqrt(max(0, theta - beta)) with theta the
    eigenvalues of what x leaves of y."""
    return np.sqrt(np.maximum((1 - seen**2) * np.array(SPECTRUM) - beta, 0))


def conditional_covariance(seen: Tensor, generator: torch.Generator) -> Tensor:
    """Of (x, y), for each of `seen` (replica,): y has SPECTRUM along random directions, and each
    part correlation `seen` with an entry of x ~ N(0, I). What x leaves of y has eigenvalues
    (1 - seen^2) SPECTRUM."""
    count, size = len(seen), len(SPECTRUM)
    normal = torch.randn(count, size, size, generator=generator, dtype=torch.float64)
    root = torch.linalg.qr(normal).Q * torch.tensor(SPECTRUM, dtype=torch.float64).sqrt()
    x = torch.eye(size, dtype=torch.float64).expand(count, size, size)
    both = seen[:, None, None] * root
    return torch.cat([torch.cat([x, both.mT], -1), torch.cat([both, root @ root.mT], -1)], -2)


def train_conditional(covariance: Tensor, beta: Tensor, learned: bool, seed: int) -> np.ndarray:
    """q(z | x, y) = N(W1 x + W2 y, diag s^2), p(y | x, z) = N(U1 z + U2 x, I), p(z) = N(0, diag
    t^2), t = 1 unless learned; a replica for each covariance (replica, 2 size, 2 size) of (x, y)
    and each beta. Adam on the expected loss; singular values of U1 diag(t), descending (replica,
    size)."""
    generator = torch.Generator().manual_seed(seed)
    count, size = len(covariance), covariance.shape[-1] // 2
    normal = torch.randn(count, size, 4 * size + 2, generator=generator, dtype=torch.float64)
    sizes = [2 * size, size, size, 1, 1]
    encoder, decoder, from_x, logvar, prior_logvar = (
        (0.3 * part.squeeze(-1)).requires_grad_() for part in normal.split(sizes, -1)
    )
    if not learned:
        prior_logvar = torch.zeros_like(logvar)
    own = torch.eye(size, dtype=torch.float64).expand(count, size, size)

    def loss(_: int) -> Tensor:
        gap = torch.cat([-from_x, own], -1) - decoder @ encoder
        return linear_loss(gap, decoder, encoder, (logvar, prior_logvar), covariance, beta)

    chosen = [encoder, decoder, from_x, logvar] + [prior_logvar] * learned
    for _ in _descend(torch.optim.Adam(chosen, CONDITIONAL_RATE), loss, CONDITIONAL_STEPS):
        pass
    scaled = decoder.detach() * torch.exp(0.5 * prior_logvar.detach())[:, None]
    return torch.linalg.svdvals(scaled).numpy()


def conditional_intervals(settings: Settings) -> dict[str, Interval]:
    """The targets of Dang et al., over seeds: each with directions and initial weights of its own,
    in all settings of SEEN and CONDITIONAL_BETAS."""
    seeds = settings.all_seeds(PROFILES[settings.profile].seeds)
    grid = list(product(SEEN, CONDITIONAL_BETAS))
    expected = np.array([conditional_formula(*setting) for setting in grid])
    seen, beta = torch.tensor(grid * len(seeds), dtype=torch.float64).T
    covariance = conditional_covariance(seen, torch.Generator().manual_seed(seeds[0]))
    out = {}
    for name, learned in (("conditional", False), ("learned", True)):
        found = train_conditional(covariance, beta, learned, seeds[0])
        found = found.reshape(len(seeds), *expected.shape)
        right = (found**2 > IN_USE).sum(-1) == (expected > 0).sum(-1)
        apart = np.abs(found - expected)
        out[f"{name}_dims"] = median_interval(right.mean(1))
        out[f"{name}_weights"] = median_interval(apart.max((1, 2)))
    return out
