"""About what runs take of memory: absurd sizes are refused before anything is loaded or trained."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

import psutil

from vaenotes import trace
from vaenotes.config import Config
from vaenotes.data.dataset import VECTOR_BYTES, load_bytes
from vaenotes.data.load import FACTORS, kept_bytes
from vaenotes.data.vectors import VECTORS
from vaenotes.errors import check_memory
from vaenotes.model import LEAST, weight_bytes

# Weights, gradients twice, Adam's two moments; most of it again in a checkpoint and its file.
WEIGHT_COPIES = 11
RESULT_COPIES = 5  # as they are recorded, stacked, kept by replica, saved, and joined


class Need(NamedTuple):
    """Bytes, by what they grow with."""

    data: float  # once for each data set
    model: float  # for each replica that is in training
    results: float  # for each replica of the run


@lru_cache(maxsize=1024)
def need(config: Config) -> Need:
    """What one replica needs, as if it had as many nodes as sprites have factors."""
    nodes, code = len(FACTORS), len(FACTORS) * config.dims
    vectors = config.data in VECTORS
    pixels = config.size if vectors else config.size**2
    kept = pixels * VECTOR_BYTES if vectors else kept_bytes(config.data, config.images, config.size)
    weights = weight_bytes(
        nodes=FACTORS,
        edges=(),
        pixels=pixels,
        dims=config.dims,
        shared=config.shared,
        prior=config.prior,
        encoder=config.encoder,
        hidden=config.hidden,
        graph_hidden=2 * config.dims if config.graph_hidden is None else config.graph_hidden,
        noise_inputs=config.noise_inputs,
    )
    # Numbers for each image that is passed through: a cnn's maps are 11 times its pictures.
    each = 40 * pixels if config.encoder in LEAST else 8 * (pixels + config.hidden)
    each += nodes * (config.noise_inputs + (config.graph_hidden or 0)) * 4
    each += 40 * code + 2 * code * max(nodes, config.dims)
    images = max(config.batch, min(trace.EVALUATION_IMAGES, config.images))
    sizes = {
        "node": nodes,
        "dim": config.dims,
        "quantile": len(trace.QUANTILES),
        "followed": min(trace.FOLLOWED_IMAGES, config.images),
        "image": min(trace.KEPT_IMAGES, config.images),
    }
    numbers = [
        sum(math.prod(sizes[axis] for axis in quantity.axes) for quantity in table.values())
        for table in (trace.QUANTITIES, trace.FINAL_QUANTITIES)
    ]
    return Need(
        data=load_bytes(config.images, kept),
        model=WEIGHT_COPIES * weights
        + 4 * (images * each + 4 * code**2)
        + 16 * config.epoch_images,
        results=RESULT_COPIES * 4 * ((config.epochs + 1) * numbers[0] + numbers[1]),
    )


def total(asked: Mapping[Config, int], workers: int = 1, together: int = 1) -> float:
    """Bytes for one run of so many replicas of each configuration, `together` of them in training
    in each worker, but cnns one by one. Workers have data of their own, and get them through a pipe
    that holds them."""
    data = {(c.data, c.images, c.size): need(c).data for c in asked}
    together = min(together, sum(asked.values()))
    return (
        sum(data.values())
        + (2 * workers * max(data.values()) if workers > 1 else 0)
        + workers * max(need(c).model * (1 if c.encoder in LEAST else together) for c in asked)
        + sum(count * need(config).results for config, count in asked.items())
    )


def counted(configs: Iterable[Config]) -> Counter[Config]:
    """How many replicas there are of each configuration, seeds apart."""
    return Counter(replace(config, seed=0) for config in configs)


def check(asked: Mapping[Config, int]) -> None:
    """Raise ParameterError, naming what takes most, if so many replicas of each configuration need
    more memory than this machine has even when they are trained one by one."""
    shares = [
        (share, config, names)
        for config, count in asked.items()
        for share, names in (
            (need(config).data, ("images", "size")),
            (
                need(config).model,
                ("size", "hidden", "dims", "batch", "graph_hidden", "noise_inputs", "epoch_steps"),
            ),
            (count * need(config).results, ("epochs", "dims", "seeds")),
        )
    ]
    _, config, names = max(shares, key=lambda share: share[0])
    values = {"seeds": asked[config], **vars(config)}
    check_memory({name: values[name] for name in names}, total(asked))


def plan(asked: Mapping[Config, int], workers: int, together: int) -> tuple[int, int]:
    """As many workers, and replicas together in each, as memory holds, up to these."""
    memory = psutil.virtual_memory().total
    while together > 1 and total(asked, workers, together) > memory:
        together //= 2
    while workers > 1 and total(asked, workers, together) > memory:
        workers -= 1
    return workers, together
