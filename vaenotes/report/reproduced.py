"""Papers held against their own quantity, a small setting each: what should come out, written
before anything was run (TARGETS), and what trained models give.

Kumar & Poole 2020: the posterior's variance from the decoder's curvature, on this book's replicas.
Bonheme & Grzes 2023: active, passive and mixed dims, on the same.
Ichikawa & Hukushima 2024: linear VAEs on data with one factor in white noise, trained by one-pass
SGD. Dang et al. 2024: linear conditional VAEs. The last two are made here, in a few seconds.
"""

from collections.abc import Mapping
from itertools import product
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
import xarray as xr
from torch import Tensor

from vaenotes.config import Config
from vaenotes.data.dataset import pixels
from vaenotes.lab import runs
from vaenotes.lab.summary import Interval, alive, median_interval
from vaenotes.model import VAE
from vaenotes.report import known
from vaenotes.report import known_linear as linear
from vaenotes.report.arms import ARMS, arm
from vaenotes.report.cells import text
from vaenotes.report.claims import RIGHT, WRONG, judged
from vaenotes.report.settings import PROFILES, Settings
from vaenotes.trace import prior_of_each


class Target(NamedTuple):
    """What a paper's statement implies here: the range that the number has to lie in."""

    quantity: str
    low: float
    high: float


PAPERS = {
    "kumar2020implicit": {
        "curvature_linear_used": Target("predicted s² / s², linear VAE, dims in use", 0.9, 1.1),
        "curvature_used": Target("predicted s² / s², the small system, dims in use", 0.8, 1.25),
        "curvature_unused": Target("the same, unused dims", 0.9, 1.1),
        "curvature_gaussian_used": Target("the same, Gaussian pixels, dims in use", 0.8, 1.25),
        "curvature_gaussian_unused": Target("the same, unused dims", 0.9, 1.1),
    },
    "bonheme2023more": {
        "passive_fixed": Target("share of unused dims called passive, fixed prior", 0.9, 1.0),
        "passive_learned": Target("the same, learned prior: they are not", 0.0, 0.1),
        "passive_ratio": Target("the same, learned prior, by s² / t²", 0.9, 1.0),
        "active_ratio": Target("share of dims in use called active, by s² / t²", 0.8, 1.0),
    },
    "ichikawa2024learning": {
        "one_dims": Target("share of β's with the right dims in use, one offered", 1.0, 1.0),
        "one_error": Target("largest distance of ε from the formula, over all β's", 0.0, 0.05),
        "two_dims": Target("share of β's with the right dims in use, two offered", 1.0, 1.0),
        "two_error": Target("largest distance of ε from the formula, over all β's", 0.0, 0.05),
        "annealing": Target("steps until ε < 0.1, best annealing / none", 0.0, 0.95),
    },
    "dang2024beyond": {
        "conditional_dims": Target("share of the settings with the right dims in use", 1.0, 1.0),
        "conditional_weights": Target("largest distance of a decoder's singular value", 0.0, 0.01),
        "learned_dims": Target("the same, the prior's variance learned", 1.0, 1.0),
        "learned_weights": Target("largest distance of a singular value of U₁ diag(t)", 0.0, 0.01),
    },
}
"""By paper, as references.bib has it, and by name."""
TARGETS = {name: target for paper in PAPERS.values() for name, target in paper.items()}


def targets_table(found: Mapping[str, Interval], paper: str) -> pd.DataFrame:
    """Target and outcome, a row for each target of a paper."""
    rows = {}
    for name, target in PAPERS[paper].items():
        interval = found[name]
        rows[name] = {
            "quantity": target.quantity,
            "target": " to ".join(f"{end:g}" for end in sorted({target.low, target.high})),
            "median, 95% interval": text(interval),
            "came out": judged(target, interval),
        }
    return pd.DataFrame(rows).T.set_index("quantity").rename_axis(None)


def target_numbers(found: Mapping[str, Interval]) -> dict[str, int]:
    """How many targets there are, and how many came out right or wrong: what the page says."""
    outcomes = [judged(TARGETS[name], interval) for name, interval in found.items()]
    counts = {f"targets_{kind}": outcomes.count(kind) for kind in (RIGHT, WRONG)}
    return {"targets": len(outcomes)} | counts


def intervals(
    settings: Settings, logs: "Logs", replicas: Mapping[str, linear.Learnt]
) -> dict[str, Interval]:
    """All that TARGETS asks for, by name; `logs` and `replicas` as curvature_logs and
    linear_replicas give them."""
    return (
        curvature_intervals(logs)
        | kinds_intervals(settings)
        | linear_intervals(replicas)
        | conditional_intervals(settings)
    )


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
def log_predicted_over_measured(config: Config) -> np.ndarray:
    """The fixed point 1 / (E[1 / t^2] + curvature w_rec / w_KL) over the variance that the encoder
    gives, as a logarithm: (image, node, dim) of a trained replica, of images trained on."""
    model, dataset = runs.load_model(config), runs.load_data(config)
    images = pixels(torch.from_numpy(dataset.images[:FOLLOWED])).flatten(1)
    factors = torch.from_numpy(dataset.standard_factors[:FOLLOWED])
    generator = torch.Generator().manual_seed(config.seed)
    nodes, dims = model.node_shape
    noise = torch.randn(len(images), nodes, model.noise_inputs, generator=generator)
    output = model(images, factors, noise, torch.zeros(len(images), nodes, dims))
    held = torch.exp(-prior_of_each(output).logvar).mean(-3)  # (node, dim)
    pushed = curvature(model, output.z) * config.reconstruction_weight / config.kl_weight
    return (-torch.log(held + pushed) - output.posterior.logvar).numpy()


Logs = dict[str, list[tuple[np.ndarray, np.ndarray]]]
"""Of every replica of some arms, those logarithms and which dims are in use (node, dim)."""


def trained(settings: Settings) -> dict[str, xr.Dataset]:
    """The runs of which Kumar & Poole's and Bonheme & Grzes' targets are measured, by title."""
    chosen = {"linear, on digits": known.configs(settings, "digits_diagonal")}
    chosen |= {
        ARMS[name].title: arm(settings, name) for name in ("notes", "standard", "noise_middle")
    }
    return runs.run_arms(chosen)


def curvature_logs(settings: Settings) -> Logs:
    """Of linear VAEs on digits, of the small system, and of the same with Gaussian pixels."""
    chosen = {
        "curvature_linear": known.configs(settings, "digits_diagonal"),
        "curvature": arm(settings),
        "curvature_gaussian": arm(settings, "noise_middle"),
    }
    return {
        name: [
            (log_predicted_over_measured(config), used)
            for config, used in zip(chosen[name], alive(traces).values, strict=True)
        ]
        for name, traces in runs.run_arms(chosen).items()
    }


def curvature_intervals(logs: Logs) -> dict[str, Interval]:
    """The targets of Kumar & Poole: over replicas, the geometric mean over a replica's images and
    dims, of those in use or of those not."""
    found = {}
    for name, pairs in logs.items():
        for kind in ("used", "unused"):
            chosen = [log[:, used == (kind == "used")] for log, used in pairs]
            means = [np.exp(log.mean()) for log in chosen if log.size]
            found[f"{name}_{kind}"] = median_interval(np.array(means))
    return {name: interval for name, interval in found.items() if name in TARGETS}


def image_factor(logs: Logs) -> float:
    """By what factor prediction and encoder differ from image to image in the small system: of
    dims in use, the exponential of the logarithms' standard deviation; median over replicas."""
    spreads = [np.exp(log[:, used].std(0).mean()) for log, used in logs["curvature"] if used.any()]
    return median_interval(np.array(spreads)).value


# -- Bonheme & Grzes: active, passive, mixed

CLOSE = 0.1  # their alpha


def kinds(variance: np.ndarray) -> np.ndarray:
    """What they call dims, by the posterior's variance, (..., image, node, dim) -> (..., node, dim)
    of str: passive and active, if its mean over images is within CLOSE of 1 or 0 and its variance
    over images below CLOSE; else mixed."""
    mean, steady = variance.mean(-3), variance.var(-3) <= CLOSE
    passive, active = (steady & (np.abs(mean - place) <= CLOSE) for place in (1, 0))
    return np.select([passive, active], ["passive", "active"], "mixed")


def kinds_intervals(settings: Settings) -> dict[str, Interval]:
    """The targets of Bonheme & Grzes, over replicas that have such dims."""
    arms = runs.run_arms({name: arm(settings, name) for name in ("standard", "notes")})
    variance = {name: np.exp(of.image_posterior_logvar.values) for name, of in arms.items()}
    ratio = variance["notes"] / np.exp(arms["notes"].image_prior_logvar.values)
    fixed, learned = (alive(arms[name]).values for name in ("standard", "notes"))
    return {
        "passive_fixed": _share(kinds(variance["standard"]) == "passive", ~fixed),
        "passive_learned": _share(kinds(variance["notes"]) == "passive", ~learned),
        "passive_ratio": _share(kinds(ratio) == "passive", ~learned),
        "active_ratio": _share(kinds(ratio) == "active", learned),
    }


def _share(called: np.ndarray, chosen: np.ndarray) -> Interval:
    """Of each replica's chosen dims, those called so; both (replica, node, dim) of bool."""
    pairs = zip(called, chosen, strict=True)
    return median_interval(np.array([one[dims].mean() for one, dims in pairs if dims.any()]))


# -- Ichikawa & Hukushima, Dang et al.: linear VAEs

OFFERED = {"one": 1, "two": 2}


def linear_replicas(settings: Settings) -> dict[str, linear.Learnt]:
    """One dim offered, and two; a replica per seed and beta."""
    return {name: linear.one_pass(dims, _seeds(settings)) for name, dims in OFFERED.items()}


def linear_intervals(found: Mapping[str, linear.Learnt]) -> dict[str, Interval]:
    """The targets of Ichikawa & Hukushima, over seeds."""
    out, betas = {}, np.array(linear.BETAS)
    for name, dims in OFFERED.items():
        right = found[name].dims == linear.dims_formula(betas, dims)
        apart = np.abs(found[name].error - linear.error_formula(betas, dims))
        out[f"{name}_dims"] = median_interval(right.mean(1))
        out[f"{name}_error"] = median_interval(apart.max(1))
    at_once, annealed = np.split(found["one"].reached, [1], axis=1)
    best = np.median(annealed, axis=0).argmin()
    return out | {"annealing": median_interval(annealed[:, best] / at_once[:, 0])}


def linear_panels(found: Mapping[str, linear.Learnt]) -> known.Panels:
    """What figures.against draws: the generalisation error by the formula and as trained."""
    panels = {}
    for name, dims in OFFERED.items():
        measured = found[name].error
        expected = linear.error_formula(np.array(linear.BETAS), dims)
        expected = np.broadcast_to(expected, measured.shape)
        panels[f"dims offered: {dims}"] = {"": (expected.ravel(), measured.ravel())}
    return panels


def conditional_intervals(settings: Settings) -> dict[str, Interval]:
    """The targets of Dang et al., over seeds: each with directions and initial weights of its own,
    at every correlation and beta."""
    seeds = _seeds(settings)
    grid = list(product(linear.SEEN, linear.CONDITIONAL_BETAS))
    expected = np.array([linear.conditional_formula(*setting) for setting in grid])
    seen, beta = torch.tensor(grid * len(seeds), dtype=torch.float64).T
    covariance = linear.conditional_covariance(seen, torch.Generator().manual_seed(seeds[0]))
    out = {}
    for name, learned in (("conditional", False), ("learned", True)):
        found = linear.train_conditional(covariance, beta, learned, seeds[0])
        found = found.reshape(len(seeds), *expected.shape)
        right = (found**2 > linear.IN_USE).sum(-1) == (expected > 0).sum(-1)
        out[f"{name}_dims"] = median_interval(right.mean(1))
        out[f"{name}_weights"] = median_interval(np.abs(found - expected).max((1, 2)))
    return out


def _seeds(settings: Settings) -> range:
    return settings.all_seeds(PROFILES[settings.profile].seeds)
