"""Runs against known answers: linear VAEs, where the optimum is a formula, and the settings of
three papers, on data whose own dimension is known.

    runs = check_runs(settings, ["digits_diagonal", "digits_cholesky"])

Data and prior belong to each check; of the settings the profile's seeds and epochs count.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import torch
import xarray as xr

from vaenotes.config import Config
from vaenotes.data.load import load
from vaenotes.data.pool import pixels
from vaenotes.errors import check_choice
from vaenotes.lab import runs
from vaenotes.lab.summary import ALIVE_RATIO, Interval, median_interval, survivors
from vaenotes.report.settings import PROFILES, Settings
from vaenotes.theory import ppca
from vaenotes.trace import EVALUATION_IMAGES


@dataclass(frozen=True)
class Check:
    """Replicas that differ in their seeds alone: fields of Config. `rounds`: epochs, in multiples
    of the profile's. `dims`: how many dims should be in use, where that is known, which are those
    with a ratio below `below`. `share` of the profile's seeds are run."""

    title: str
    changes: Mapping[str, Any]
    rounds: int
    dims: int | None = None
    below: float = ALIVE_RATIO
    share: float = 1.0


ELBO: dict[str, Any] = {
    "reconstruction_weight": 1.0,
    "kl_weight": 1.0,
    "supervision_weight": 0.0,
    "kl_warmup": 0,
    "likelihood": "gaussian_learned",
    "decoder_start": "uniform",
    "decay": True,
}
DIGITS = ELBO | {
    "data": "optdigits", "images": 1797, "size": 8, "encoder": "linear", "dims": 5,
    "noise_logvar": -2.0, "batch": 128, "learning_rate": 0.02,
}  # fmt: skip
# Koehler et al. 2022, their code's grid: (coordinates that vary, length of x, latent dims).
LOW_RANK = [(3, 12, 20), (3, 20, 20), (6, 12, 20), (6, 20, 20), (9, 12, 20), (9, 20, 10),
            (12, 20, 10)]  # fmt: skip
RANK = ELBO | {
    "images": 2048, "encoder": "linear", "batch": 64, "learning_rate": 0.03,
    "posterior_logvar": 1.0, "noise_logvar": -1.0,
}  # fmt: skip
# Zheng et al. 2022: 20 latent dims, here as five nodes of four that share nothing.
MANIFOLD = ELBO | {
    "images": 4096, "size": 20, "dims": 4, "shared": False, "edges": (), "hidden": 32,
    "noise_logvar": -8.0, "batch": 128, "learning_rate": 0.01,
}  # fmt: skip
COLUMNS = 8  # dims offered where the noise is swept


def noise_between(kept: int) -> float:
    """A noise variance that `kept` of the digits' eigenvalues exceed: between two neighbours."""
    eigenvalues = digit_eigenvalues()
    return float(np.sqrt(eigenvalues[kept - 1] * eigenvalues[kept]))


@cache
def digit_eigenvalues() -> np.ndarray:
    """Of the covariance of scikit-learn's digits, pixels in 0..1, in descending order."""
    return ppca.spectrum(digits())[0]


@cache
def digits() -> np.ndarray:
    """scikit-learn's digits as the checks train on them: (image, pixel)."""
    images = load("optdigits", images=DIGITS["images"]).images[:]
    return images.reshape(len(images), -1)


@cache
def checks() -> dict[str, Check]:
    """All checks, by name."""
    found = {
        f"digits_{prior}": Check(title, DIGITS | {"prior": prior}, 6)
        for prior, title in (
            ("standard", "fixed N(0, I)"),
            ("diagonal", "learned diagonal prior"),
            ("cholesky", "learned full prior"),
        )
    }
    steady = DIGITS | {"prior": "diagonal", "decay": False}
    found["digits_steady"] = Check("ordinary units", steady, 5, share=0.5)
    for name, title, factor in (
        ("small", "20 times smaller", 1 / 20),
        ("large", "100 times larger", 100.0),
    ):
        start = steady | {"units": (factor,) * DIGITS["dims"]}
        freed = start | {"regauge": (1 / factor,) * DIGITS["dims"]}
        found[f"digits_{name}"] = Check(title, start, 5, share=0.5)
        found[f"digits_{name}_freed"] = Check(f"{title}, changed back", freed, 5, share=0.5)
    for kept in range(1, COLUMNS):
        noise = noise_between(kept)
        changes = DIGITS | {
            "prior": "diagonal", "dims": COLUMNS, "likelihood": "gaussian",
            "noise_logvar": math.log(noise),
        }  # fmt: skip
        # halfway, in logs, from the ratio that the last column kept should have to 1
        below = ppca.optimum(digit_eigenvalues(), kept, noise).ratio[-1] ** 0.5
        title = f"noise below λ{kept}"
        found[f"columns_{kept}"] = Check(title, changes, 4, kept, below)
    for name, factor in (("small", 1 / 20), ("large", 20.0)):  # of rank_3_12_20_diagonal
        changes = RANK | {
            "data": "linear_3", "size": 12, "dims": 20, "prior": "diagonal",
            "units": (factor,) * 20,
        }  # fmt: skip
        found[f"rank_3_{name}"] = Check(f"{name} units at the start", changes, 3, share=0.5)
    for rank, size, latent in LOW_RANK:
        for prior, title in (("standard", "fixed"), ("diagonal", "learned")):
            changes = RANK | {"data": f"linear_{rank}", "size": size, "dims": latent}
            found[f"rank_{rank}_{size}_{latent}_{prior}"] = Check(
                f"{rank} / {size} / {latent}, {title}",
                changes | {"prior": prior}, 3, min(rank, latent), share=0.5,
            )  # fmt: skip
    for rank in (2, 4, 6, 8, 10):
        changes = MANIFOLD | {"data": f"manifold_{rank}", "prior": "standard"}
        title = f"{rank} dims, fixed prior"
        found[f"manifold_{rank}"] = Check(title, changes, 3, rank, share=0.5)
    found["manifold_10_seen"] = Check(
        "10 dims, the prior sees 5",
        MANIFOLD | {"data": "manifold_10", "prior": "factors"}, 3, 5, share=0.5,
    )  # fmt: skip
    return found


def check_configs(settings: Settings, name: str) -> list[Config]:
    """One configuration of a check per seed. Raises ParameterError for an unknown name, or more
    than this machine's memory holds."""
    check_choice("check", name, checks())
    profile, chosen = PROFILES[settings.profile], checks()[name]
    epochs = chosen.rounds * (settings.epochs or profile.epochs)
    seeds = settings.all_seeds(math.ceil(chosen.share * profile.seeds))
    base = Config(**chosen.changes, epochs=epochs)
    return [replace(base, seed=seed) for seed in seeds]


def check_runs(settings: Settings, names: Sequence[str]) -> dict[str, xr.Dataset]:
    """The runs of some checks, by name, each as `vn.run` returns it; what is missing of any is
    trained together. Raises ParameterError as `check_configs` does."""
    return runs.run_arms({name: check_configs(settings, name) for name in names})


def shortfall(settings: Settings, name: str) -> Interval:
    """Nats per image by which the replicas of a `digits` check miss the maximum likelihood, at
    their final weights and without sampling: median over replicas."""
    images = torch.from_numpy(digits()).double()
    best = ppca.optimum(digit_eigenvalues(), DIGITS["dims"])
    missed = []
    for config in check_configs(settings, name):
        with torch.no_grad():
            nats, kl = ppca.exact_terms(runs.load_model(config).double(), images)
        missed.append(best.log_likelihood + float(nats + kl.sum()))
    return median_interval(np.array(missed))


def shortfall_table(short: Mapping[str, Interval]) -> pd.DataFrame:
    """What `shortfall` gives, a row per check."""
    return pd.DataFrame(
        {
            checks()[name].title: {
                "nats short (median)": f"{of.value:.3f}",
                "95% interval": f"{of.low:.3f} to {of.high:.3f}",
                "replicas": of.replicas,
            }
            for name, of in short.items()
        }
    ).T


def relative_spectra(configs: Sequence[Config]) -> np.ndarray:
    """Of replicas whose prior is the same for all images, the spectrum of the posterior's mean
    covariance in units of the prior's, ascending: (replica, node * dim), NaN if it diverged."""
    found = []
    for config in configs:
        model, dataset = runs.load_model(config), runs.load_data(config)
        images = pixels(torch.from_numpy(dataset.images[:EVALUATION_IMAGES])).flatten(1)
        with torch.no_grad():
            std = model.encode(images).logvar.exp().mean(0).sqrt()
        found.append(ppca.relative_spectrum(std.numpy(), ppca.constant_prior(model)))
    return np.array(found)


def expected_and_used(found: Mapping[str, xr.Dataset]) -> tuple[np.ndarray, np.ndarray]:
    """How many dims should be in use, and how many are: of every replica that did not diverge,
    (replica,) each."""
    used = [_used(name, of) for name, of in found.items()]
    expected = [np.full(len(u), checks()[name].dims) for name, u in zip(found, used, strict=True)]
    return np.concatenate(expected), np.concatenate(used)


def _used(name: str, of: xr.Dataset) -> np.ndarray:
    of = survivors(of)
    return (of.ratio.isel(epoch=-1) < checks()[name].below).sum(("node", "dim")).values


def columns_by_formula(found: Mapping[str, xr.Dataset]) -> tuple[np.ndarray, np.ndarray]:
    """Ratios s/t of all dims of the `columns` checks, by the formula and as trained, both sorted:
    (replica * dim,) each, of replicas that did not diverge."""
    expected, measured = [], []
    for name, of in found.items():
        noise = math.exp(checks()[name].changes["noise_logvar"])
        formula = ppca.optimum(digit_eigenvalues(), COLUMNS, noise).ratio
        for replica in np.sort(survivors(of).ratio.isel(epoch=-1).values.reshape(-1, COLUMNS)):
            expected.append(np.sort(formula))
            measured.append(replica)
    return np.ravel(expected), np.ravel(measured)


def dims_table(found: Mapping[str, xr.Dataset]) -> pd.DataFrame:
    """Dims in use beside how many there should be, a row per check; of replicas that did not
    diverge."""
    rows = {}
    for name, of in found.items():
        check = checks()[name]
        used = _used(name, of)
        interval = median_interval(used)
        rows[check.title] = {
            "expected": check.dims,
            "median": f"{interval.value:g}",
            "95% interval": f"{interval.low:g} to {interval.high:g}",
            "exactly so": f"{(used == check.dims).sum()} of {len(used)}",
        }
    return pd.DataFrame(rows).T
