"""The bed of nails: how well codes tell pictures apart, among ever more of them.

    found = beds(configs)                     # xarray, over (replica, count)
    found.matched_back.isel(count=-1)         # (replica,): among every picture that there is

A sample of an image's posterior is matched back if it lies nearer to the image's own mean than to
any other's, and else is taken for the image of the nearest; distances are in units of the image's
own std, over the whole code. Pictures that are equal pixel by pixel count once: no code of a
picture could tell them apart.
"""

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache, lru_cache
from hashlib import blake2b
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from matplotlib.figure import Figure
from torch import Tensor

from vaenotes.config import Config
from vaenotes.data.dataset import Dataset, pixels
from vaenotes.data.load import load
from vaenotes.data.sprites import GRID, LARGE
from vaenotes.kl import Diagonal, sample
from vaenotes.lab import quantities
from vaenotes.lab.code import code_of
from vaenotes.lab.dots import panels
from vaenotes.lab.files import Files, shared_data
from vaenotes.lab.measures import Measure
from vaenotes.lab.quantities import squared_distances
from vaenotes.lab.runs import load_model, store_key
from vaenotes.lab.store import Entry, Store, key
from vaenotes.lab.summary import Interval, median_interval
from vaenotes.model import VAE
from vaenotes.objective import reconstruction_nats
from vaenotes.state import torch_as_it_starts
from vaenotes.style import REFERENCE, figure, literal, plain_numbers

PROBES = 512  # images whose samples are looked up; all, if there are fewer
REPLICAS = 6  # of an arm, the first
BLOCK = 8192  # images at a time
DRAWN = ("sprites", "grey_sprites", "paired_sprites")  # at will, as from dSprites' file
COORDS = ["count", "node"]
SEED = 20_232  # of the probes' noise, and of strangers
COLOURS = ("#000000", "#CC79A7", "#009E73")  # of arms

BEDS: dict[str, Measure] = {
    "nearest_all": Measure(
        "posterior std", "distance to the nearest other mean, among all pictures",
        lambda beds: beds.nearest.isel(count=-1)),
    "matched_back_all": Measure(
        "1", "share of samples nearer to their own mean than to any other, among all pictures",
        lambda beds: beds.matched_back.isel(count=-1)),
    "confused_pixels": Measure(
        "1", "pixels that differ from the picture a sample is taken for / from any picture",
        lambda beds: beds.confused_pixels),
    "confused_cost": Measure(
        "nats", "reconstruction from a sample less that from the mean, samples taken for others",
        lambda beds: beds.confused_cost),
}  # fmt: skip
"""What is measured of each replica's `bed`, as measures.MEASURES of its run."""


def findings(configs: Sequence[Config]) -> dict[str, Interval]:
    """Every measure of BEDS over an arm's first replicas."""
    found = beds(configs)
    return {name: median_interval(measure.of(found)) for name, measure in BEDS.items()}


def beds(configs: Sequence[Config]) -> xr.Dataset:
    """`bed` of an arm's first replicas: over (replica, ...)."""
    return xr.concat([bed_of(config) for config in configs[:REPLICAS]], dim="replica")


MEASURED: dict[str, xr.Dataset] = {}
"""Beds asked for before, by their keys."""


@cache
def _behind() -> list[str]:
    return [code_of(Path(str(module.__file__))) for module in (sys.modules[__name__], quantities)]


def bed_of(config: Config) -> xr.Dataset:
    """`bed` of one replica, trained first if the store does not hold it; it is kept there too, for
    the other pages, as long as this code and the replica's are the same."""
    store, files = Store(), Files([config])
    replica = store_key(config, files)
    asked = None if replica is None else key({"bed of": replica, "code": _behind()})
    if asked and asked in MEASURED:
        return MEASURED[asked]
    if asked and (kept := store.load(asked, _unpacked)):
        return MEASURED.setdefault(asked, _unpacked(kept))
    dataset = distinct(shared_data(config, files), config.data)
    found = bed(load_model(config, store, files), dataset)
    if asked:
        every = found.variables
        arrays = {str(name): part.values for name, part in every.items()}
        store.save(asked, arrays, {str(name): list(part.dims) for name, part in every.items()})
        MEASURED[asked] = found
    return found


def _unpacked(entry: Entry) -> xr.Dataset:
    parts = {name: (entry.meta[name], array) for name, array in entry.arrays.items()}
    return xr.Dataset(parts).set_coords(COORDS)


def pictures(config: Config) -> Dataset:
    """`distinct` of what a replica was trained on."""
    return distinct(shared_data(config, Files([config])), config.data)


@lru_cache(maxsize=2)
def distinct(dataset: Dataset, data: str) -> Dataset:
    """Every different picture, once: those of a data set, of the name `data`, those held out first;
    then, where it is drawn at will, those of as many draws as dSprites' grid has cells. Of large
    pictures, fewer."""
    size = dataset.images.shape[1]
    most = min(GRID, LARGE // size**2)
    sets = [(dataset, np.roll(np.arange(len(dataset.images)), dataset.held_out)[:most])]
    if data in DRAWN or data.endswith(".npz"):
        sets.append((load(data, images=most, size=size), np.arange(most)))
    known: set[bytes] = set()
    kept = []
    for one, order in sets:
        for start in range(0, len(order), BLOCK):
            rows, new = order[start : start + BLOCK], []
            block = one.images[rows]
            for place, picture in enumerate(block):
                if (digest := blake2b(picture.tobytes(), digest_size=16).digest()) not in known:
                    known.add(digest)
                    new.append(place)
            kept.append((block[new], one.factors[rows[new]]))
    images, factors = (np.concatenate(part) for part in zip(*kept, strict=True))
    return replace(dataset, images=images, factors=factors, held_out=0)


def counts(total: int) -> list[int]:
    """How many pictures are looked at: as many as there are probes, four times as many and so on,
    and at last all."""
    fewer, most = [], PROBES
    while 2 * most <= total:
        fewer.append(most)
        most *= 4
    return [*fewer, total]


def nearest_others(
    z: np.ndarray, std: np.ndarray, means: np.ndarray, upto: Sequence[int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """How far points are from their own means, and from the nearest other among the first so many.

    z, std: float64 (point, code); the i-th point's own mean is the i-th of `means` (image, code);
    upto: rising numbers of means. Returns squared distances to the own mean (point,) and to the
    nearest other (count, point), in units of std, and which that is, int (count, point).
    """
    every = np.arange(len(z))
    own, nearest, place = np.full(len(z), np.nan), np.full(len(z), np.inf), np.zeros(len(z), int)
    squares, places = [], []
    for first, last in pairwise([0, *upto]):
        for start in range(first, last, BLOCK):
            squared = squared_distances(z, means[start : min(start + BLOCK, last)], std)
            here = every[start : start + squared.shape[1]]  # points whose means are in the block
            own[here] = squared[here, here - start]
            squared[here, here - start] = np.inf
            column = squared.argmin(1)
            closer = squared[every, column] < nearest
            nearest = np.where(closer, squared[every, column], nearest)
            place = np.where(closer, start + column, place)
        squares.append(nearest)
        places.append(place)
    return own, np.stack(squares), np.stack(places)


@torch_as_it_starts
@torch.no_grad()
def bed(model: VAE, dataset: Dataset) -> xr.Dataset:
    """How well a model's codes tell the pictures of a data set apart, which are all different.

    nearest, matched_back: for each number of pictures that are looked at (count). taken_for: the
    picture that a sample of each of the first is nearest to, its own or another (probe,). Of those
    taken for another: confused_pixels, by how much that other differs, median, as a multiple of
    what any other does; confused_factors, the same of factors, mean (node,); confused_cost, what
    decoding them costs. NaN where there are none, and everywhere if the model diverged.
    """
    total = len(dataset.images)
    blocks = [pixels_of(dataset, slice(i, i + BLOCK)) for i in range(0, total, BLOCK)]
    mean, upto = np.concatenate([_code(model.encode(one).mean) for one in blocks]), counts(total)
    posterior, z = probe(model, dataset)
    std, every = _code((posterior.logvar / 2).exp()), np.arange(len(z))
    _, apart, _ = nearest_others(mean[every], std, mean, upto)
    own, other, place = nearest_others(_code(z), std, mean, upto)
    taken_for = np.where(own < other[-1], every, place[-1])
    images = pixels_of(dataset, every)
    from_sample, from_mean = (
        reconstruction_nats(model, model.decode(code), images) for code in (z, posterior.mean)
    )
    confused = taken_for != every
    strangers = np.random.default_rng(SEED).integers(total, size=len(every))
    groups = ((taken_for, confused), (strangers, every))
    pixel, any_pixel = (
        _over(np.median, (pixels_of(dataset, which) - images).abs().mean(1).numpy()[kept])
        for which, kept in groups
    )
    standard = dataset.standard_factors
    factor, any_factor = (
        _over(np.mean, abs(standard[which] - standard[every])[kept]) for which, kept in groups
    )
    with np.errstate(invalid="ignore"):  # 0 / 0 of factors that do not vary
        found = xr.Dataset(
            {
                "nearest": ("count", np.median(np.sqrt(np.maximum(apart, 0)), axis=1)),
                "matched_back": ("count", (own < other).mean(1)),
                "taken_for": ("probe", taken_for),
                "confused_pixels": pixel / any_pixel,
                "confused_factors": ("node", factor / any_factor),
                "confused_cost": _over(np.mean, (from_sample - from_mean).numpy()[confused]),
            },
            coords=dict(zip(COORDS, (upto, list(dataset.factor_names)), strict=True)),
        )
    return found if np.isfinite(mean).all() else found * np.nan


def probe(model: VAE, dataset: Dataset) -> tuple[Diagonal, Tensor]:
    """The posterior of the first pictures, and a sample of each, always of the same noise: (image,
    node, dim)."""
    with torch.no_grad():
        posterior = model.encode(pixels_of(dataset, slice(PROBES)))
    noise = torch.randn(posterior.mean.shape, generator=torch.Generator().manual_seed(SEED))
    return posterior, sample(posterior, noise)


def pixels_of(dataset: Dataset, which: slice | np.ndarray) -> Tensor:
    """Some pictures as a model takes them: (image, pixel), 0 to 1."""
    return pixels(torch.from_numpy(dataset.images[which])).flatten(1)


def _code(parts: Tensor) -> np.ndarray:
    """(image, node, dim) -> float64 (image, code)."""
    return parts.flatten(1).double().numpy()


def told(found: xr.Dataset) -> dict[str, Any]:
    """What is said in words of an arm's `beds`: how many pictures there are, and cells of dSprites'
    grid, and the nats that it takes to name one; how much was looked at; and which factor differs
    most and least where pictures are confused, with its median over replicas."""
    total, factors = int(found["count"][-1]), found.confused_factors.median("replica").fillna(0)
    most, least = factors.idxmax().item(), factors.idxmin().item()
    return {
        "pictures": total,
        "log_pictures": math.log(total),
        "cells": GRID,
        "log_cells": math.log(GRID),
        "probes": found.sizes["probe"],
        "bed_replicas": found.sizes["replica"],
        "most_confused": most,
        "most_confused_share": factors.sel(node=most).item(),
        "least_confused": least,
        "least_confused_share": factors.sel(node=least).item(),
    }


def _over(average: Callable[..., Any], values: np.ndarray) -> Any:
    """An average over the first axis; NaN if there is nothing on it."""
    return average(values, axis=0) if len(values) else np.full(values.shape[1:], np.nan)


@figure
def curves(arms: Mapping[str, xr.Dataset]) -> Figure:
    """Share of samples matched back and distance to the nearest other mean, against the number of
    pictures that are looked at, and by how much the factors of what is confused differ: a line or a
    dot per replica of each arm's `beds`, a colour per arm, by title."""
    drawn, (matched, nearest, differ, words) = panels(4, 2.5, shared=False)
    for number, (title, found) in enumerate(arms.items()):
        style: dict[str, Any] = {"color": COLOURS[number % len(COLOURS)], "marker": "o", "ms": 3}
        for place in range(found.sizes["replica"]):
            one, label = found.isel(replica=place), title if place == 0 else None
            matched.plot(one["count"], one.matched_back, lw=0.8, label=label, **style)
            nearest.plot(one["count"], one.nearest, lw=0.8, **style)
            rows = np.arange(one.sizes["node"]) + 0.25 * number
            differ.plot(one.confused_factors, rows, lw=0, **style)
    matched.set(ylabel="share of samples matched back", ylim=(0, 1.02))
    nearest.set(ylabel="distance to the nearest other\nmean (posterior std)", ylim=(0, None))
    for ax in (matched, nearest):
        ax.set(xscale="log", xlabel="different pictures")
        plain_numbers(ax.xaxis)
    differ.set_yticks(range(found.sizes["node"]), [literal(node) for node in found.node.values])
    differ.invert_yaxis()
    differ.axvline(1, **REFERENCE)
    differ.set(xlabel="factor's difference when\nconfused / any two", xlim=(0, None))
    words.axis("off")
    words.legend(*matched.get_legend_handles_labels(), loc="center left")
    return drawn
