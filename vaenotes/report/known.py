"""Arms whose answer is known: linear VAEs, where the optimum is a formula, and the settings of
three papers, on data whose own dimension is known.

    runs = known.run(settings, ["digits_diagonal", "digits_cholesky"])

Data and prior belong to each arm; of the settings the profile, the seeds and the epochs count.
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
from vaenotes.data.dataset import pixels
from vaenotes.data.load import load
from vaenotes.lab import runs
from vaenotes.lab.measures import median_of
from vaenotes.lab.summary import ALIVE_RATIO, Interval, median_interval, survivors
from vaenotes.report.cells import text
from vaenotes.report.settings import PROFILES, Settings
from vaenotes.theory import ppca
from vaenotes.trace import EVALUATION_IMAGES

Panels = dict[str, dict[str, tuple[np.ndarray, np.ndarray]]]
"""What figures.against draws: expected and measured numbers, by panel and series."""


@dataclass(frozen=True)
class Known:
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
    "reconstruction_weight": 1.0, "kl_weight": 1.0, "supervision_weight": 0.0, "kl_warmup": 0,
    "likelihood": "gaussian_learned", "decoder_start": "uniform", "decay": True,
}  # fmt: skip
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

PRIORS = ("digits_standard", "digits_diagonal", "digits_cholesky")
UNITS = (
    "digits_steady", "digits_small", "digits_small_freed", "digits_large", "digits_large_freed",
)  # fmt: skip
DEAD = {
    "rank three, small units": "rank_3_small",
    "rank three, ordinary units": "rank_3_12_20_diagonal",
    "rank three, large units": "rank_3_large",
}
"""By title: arms of which most dims have nothing to do."""
LINEAR = (*PRIORS, *UNITS, *DEAD.values())


@cache
def digit_eigenvalues() -> np.ndarray:
    """Of the covariance of scikit-learn's digits, pixels in 0..1, in descending order."""
    return ppca.spectrum(digits())[0]


@cache
def digits() -> np.ndarray:
    """scikit-learn's digits as these arms train on them: (image, pixel)."""
    images = load("optdigits", images=DIGITS["images"]).images[:]
    return images.reshape(len(images), -1)


@cache
def arms() -> dict[str, Known]:
    """All of them, by name."""
    return _on_digits() | _of_low_rank() | _on_manifolds()


def _on_digits() -> dict[str, Known]:
    found = {
        "digits_standard": Known("fixed N(0, I)", DIGITS | {"prior": "standard"}, 6),
        "digits_diagonal": Known("learned diagonal prior", DIGITS | {"prior": "diagonal"}, 6),
        "digits_cholesky": Known("learned full prior", DIGITS | {"prior": "cholesky"}, 6),
    }
    steady = DIGITS | {"prior": "diagonal", "decay": False}
    found["digits_steady"] = Known("ordinary units", steady, 5, share=0.5)
    for name, title, factor in (
        ("digits_small", "20 times smaller", 1 / 20),
        ("digits_large", "100 times larger", 100.0),
    ):
        start = steady | {"units": (factor,) * DIGITS["dims"]}
        freed = start | {"regauge": (1 / factor,) * DIGITS["dims"]}
        found[name] = Known(title, start, 5, share=0.5)
        found[f"{name}_freed"] = Known(f"{title}, changed back", freed, 5, share=0.5)
    values = digit_eigenvalues()
    for kept in range(1, COLUMNS):
        noise = float(np.sqrt(values[kept - 1] * values[kept]))  # between two neighbours
        fixed = {"likelihood": "gaussian", "noise_logvar": math.log(noise)}
        changes = DIGITS | fixed | {"prior": "diagonal", "dims": COLUMNS}
        # halfway, in logs, from the ratio that the last column kept should have to 1
        below = ppca.optimum(values, kept, noise).ratio[-1] ** 0.5
        found[f"columns_{kept}"] = Known(f"noise below λ{kept}", changes, 4, kept, below)
    return found


def _of_low_rank() -> dict[str, Known]:
    found = {}
    for name, factor in (("small", 1 / 20), ("large", 20.0)):  # of rank_3_12_20_diagonal
        start = {"data": "linear_3", "size": 12, "dims": 20, "units": (factor,) * 20}
        changes = RANK | start | {"prior": "diagonal"}
        found[f"rank_3_{name}"] = Known(f"{name} units at the start", changes, 3, share=0.5)
    for rank, size, latent in LOW_RANK:
        for prior, title in (("standard", "fixed"), ("diagonal", "learned")):
            own = {"data": f"linear_{rank}", "size": size, "dims": latent, "prior": prior}
            found[f"rank_{rank}_{size}_{latent}_{prior}"] = Known(
                f"{rank} / {size} / {latent}, {title}", RANK | own, 3, min(rank, latent), share=0.5
            )
    return found


def _on_manifolds() -> dict[str, Known]:
    found = {}
    for rank in (2, 4, 6, 8, 10):
        changes = MANIFOLD | {"data": f"manifold_{rank}", "prior": "standard"}
        title = f"{rank} dims, fixed prior"
        found[f"manifold_{rank}"] = Known(title, changes, 3, rank, share=0.5)
    seen = MANIFOLD | {"data": "manifold_10", "prior": "factors"}
    found["manifold_10_seen"] = Known("10 dims, the prior sees 5", seen, 3, 5, share=0.5)
    return found


def configs(settings: Settings, name: str) -> list[Config]:
    """One configuration of an arm per seed."""
    profile, chosen = PROFILES[settings.profile], arms()[name]
    epochs = chosen.rounds * (settings.epochs or profile.epochs)
    seeds = settings.all_seeds(math.ceil(chosen.share * profile.seeds))
    base = Config(**chosen.changes, epochs=epochs)
    return [replace(base, seed=seed) for seed in seeds]


def run(settings: Settings, names: Sequence[str]) -> dict[str, xr.Dataset]:
    """The runs of some arms, by name, each as `lab.run` returns it; what is missing of any is
    trained together."""
    return runs.run_arms({name: configs(settings, name) for name in names})


def literature() -> list[str]:
    """The arms of which it is known how many dims should be in use."""
    return [name for name, arm in arms().items() if arm.dims is not None]


def titled(found: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """Whatever was found of some arms, by their titles."""
    return {arms()[name].title: found[name] for name in names}


# -- linear VAEs on digits: the optimum is a formula


def best() -> ppca.Optimum:
    """The optimum on the digits."""
    return ppca.optimum(digit_eigenvalues(), DIGITS["dims"])


def shortfall(settings: Settings, name: str) -> Interval:
    """Nats per image by which the replicas of a `digits` arm miss the maximum likelihood, at
    their final weights and without sampling: median over replicas."""
    images = torch.from_numpy(digits()).double()
    missed = []
    for config in configs(settings, name):
        with torch.no_grad():
            nats, kl = ppca.exact_terms(runs.load_model(config).double(), images)
        missed.append(best().log_likelihood + float(nats + kl.sum()))
    return median_interval(np.array(missed))


def shortfalls(settings: Settings) -> dict[str, Interval]:
    """`shortfall` of every arm of PRIORS and UNITS, by name."""
    return {name: shortfall(settings, name) for name in PRIORS + UNITS}


def shortfall_table(short: Mapping[str, Interval], names: Sequence[str]) -> pd.DataFrame:
    """Some of `shortfalls`, a row per arm."""
    rows = {arms()[name].title: text(short[name]) for name in names}
    return pd.Series(rows).to_frame("nats short: median, 95% interval")


def ratio_panels(settings: Settings, found: Mapping[str, xr.Dataset]) -> Panels:
    """Squared ratios by the formula and as trained, a panel per prior: each dim's own, and the
    spectrum of the posterior in units of the prior; (replica * dim,) each."""
    expected = np.sort(best().ratio ** 2)
    panels = {}
    for name in PRIORS:
        own = np.sort(found[name].ratio.isel(epoch=-1, node=0).values ** 2)
        spectra = relative_spectra(configs(settings, name))
        every = np.tile(expected, len(own))
        panels[arms()[name].title] = {
            "each dim's own": (every, own.ravel()),
            "spectrum": (every, spectra.ravel()),
        }
    return panels


def relative_spectra(chosen: Sequence[Config]) -> np.ndarray:
    """Of replicas whose prior is the same for all images, the spectrum of the posterior's mean
    covariance in units of the prior's, ascending: (replica, node * dim), NaN if it diverged."""
    found = []
    for config in chosen:
        model, dataset = runs.load_model(config), runs.load_data(config)
        images = pixels(torch.from_numpy(dataset.images[:EVALUATION_IMAGES])).flatten(1)
        with torch.no_grad():
            std = model.encode(images).logvar.exp().mean(0).sqrt()
        found.append(ppca.relative_spectrum(std.numpy(), ppca.constant_prior(model)))
    return np.array(found)


def linear_numbers(
    short: Mapping[str, Interval], found: Mapping[str, xr.Dataset]
) -> dict[str, float]:
    """What the page on linear VAEs says, from `shortfalls` and runs: short_ARM, by how many nats an
    arm misses the optimum; best, the optimum; and of DEAD apart_in_size, the median variance in
    large units over that in small ones, dead_ratio, the smallest median ratio, and large_used, how
    many dims are in use in large units."""
    dead = [found[name] for name in DEAD.values()]
    small, _, large = (median_of("prior_variance_unused", one).value for one in dead)
    return {name.replace("digits", "short"): one.value for name, one in short.items()} | {
        "best": best().log_likelihood,
        "apart_in_size": large / small,
        "dead_ratio": min(median_of("ratio_unused", one).value for one in dead),
        "large_used": median_interval(used("rank_3_large", found["rank_3_large"])).value,
    }


# -- three papers: the number of dims in use is known


def used(name: str, of: xr.Dataset) -> np.ndarray:
    """How many dims of each replica of an arm are in use, of those that did not diverge."""
    of = survivors(of)
    return (of.ratio.isel(epoch=-1) < arms()[name].below).sum(("node", "dim")).values


def of_kind(found: Mapping[str, xr.Dataset], start: str, end: str = "") -> dict[str, xr.Dataset]:
    """The runs of the arms whose names start and end so: "rank", "manifold" or "columns"."""
    return {name: of for name, of in found.items() if name.startswith(start) and name.endswith(end)}


def expected_and_used(found: Mapping[str, xr.Dataset]) -> tuple[np.ndarray, np.ndarray]:
    """How many dims should be in use, and how many are: of every replica that did not diverge,
    (replica,) each."""
    counted = [used(name, of) for name, of in found.items()]
    expected = [np.full(len(u), arms()[name].dims) for name, u in zip(found, counted, strict=True)]
    return np.concatenate(expected), np.concatenate(counted)


def dims_panels(found: Mapping[str, xr.Dataset]) -> Panels:
    """`expected_and_used`, for linear data by prior, and for manifolds by what the prior sees."""
    seen = of_kind(found, "manifold", "seen")
    blind = {name: of for name, of in of_kind(found, "manifold").items() if name not in seen}
    return {
        "linear data (a)": {
            "learned prior": expected_and_used(of_kind(found, "rank", "diagonal")),
            "fixed prior": expected_and_used(of_kind(found, "rank", "standard")),
        },
        "curved manifolds (b)": {
            "prior sees 5 dims": expected_and_used(seen),
            "fixed prior": expected_and_used(blind),
        },
    }


def columns_by_formula(found: Mapping[str, xr.Dataset]) -> tuple[np.ndarray, np.ndarray]:
    """Ratios s/t of all dims of the `columns` arms, by the formula and as trained, both sorted:
    (replica * dim,) each, of replicas that did not diverge."""
    expected, measured = [], []
    for name, of in of_kind(found, "columns").items():
        noise = math.exp(arms()[name].changes["noise_logvar"])
        formula = ppca.optimum(digit_eigenvalues(), COLUMNS, noise).ratio
        for replica in np.sort(survivors(of).ratio.isel(epoch=-1).values.reshape(-1, COLUMNS)):
            expected.append(np.sort(formula))
            measured.append(replica)
    return np.ravel(expected), np.ravel(measured)


def dims_table(found: Mapping[str, xr.Dataset], kind: str) -> pd.DataFrame:
    """Dims in use beside how many there should be, a row per arm of a kind; of replicas that did
    not diverge."""
    rows = {}
    for name, of in of_kind(found, kind).items():
        arm, counted = arms()[name], used(name, of)
        rows[arm.title] = {
            "expected": arm.dims,
            "median, 95% interval": text(median_interval(counted)),
            "exactly so": f"{(counted == arm.dims).sum()} of {len(counted)}",
        }
    return pd.DataFrame(rows).T


def literature_numbers(settings: Settings, found: Mapping[str, xr.Dataset]) -> dict[str, float]:
    """What the page on papers says: of settings in all and of each kind, how many there are and how
    many have the expected number of dims as their median; steps of training; the medians that miss
    most; and how far neighbouring eigenvalues of the digits are apart at most."""
    medians = {name: float(np.median(used(name, of))) for name, of in found.items()}
    right = {name: median == arms()[name].dims for name, median in medians.items()}
    numbers: dict[str, float] = {"settings_all": len(right), "settings_right": sum(right.values())}
    for kind in ("rank", "manifold", "columns"):
        chosen = of_kind(found, kind)
        numbers[f"{kind}_all"] = len(chosen)
        numbers[f"{kind}_right"] = sum(right[name] for name in chosen)
    for kind, name in (("rank", "rank_3_12_20_standard"), ("manifold", "manifold_2")):
        one = configs(settings, name)[0]
        numbers[f"{kind}_steps"] = one.epochs * (one.images // one.batch)
    values = digit_eigenvalues()[:COLUMNS]
    return numbers | {
        "found_8": medians["manifold_8"],
        "found_10": medians["manifold_10"],
        "widest": float((values[:-1] / values[1:]).max()),
    }
