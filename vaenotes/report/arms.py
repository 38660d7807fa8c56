"""What to run: every arm of the book, declared once.

To add one: a line of ARMS. `arm` gives its configurations, a seed each.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Any

import xarray as xr

from vaenotes.config import Config
from vaenotes.data.dataset import Dataset
from vaenotes.data.load import MOST_IMAGES
from vaenotes.errors import check, check_choice
from vaenotes.graph import Edges
from vaenotes.lab import runs
from vaenotes.report.settings import PROFILES, Settings
from vaenotes.speed import best_precision


@dataclass(frozen=True)
class Arm:
    """Replicas that differ in their seeds alone. `changes`: what differs from the small system,
    fields of Config, or a function that gives them from the system's own. `edges`: a graph made
    from the data set's own. `many`: as many seeds as it takes to count what they choose."""

    title: str
    changes: Mapping[str, Any] | Callable[[Config], Mapping[str, Any]] = field(default_factory=dict)
    edges: Callable[[Dataset], Edges] | None = None
    many: bool = False


def no_edges(dataset: Dataset) -> Edges:
    return ()


def reversed_edges(dataset: Dataset) -> Edges:
    return tuple((child, parent) for parent, child in dataset.edges)


def all_edges(dataset: Dataset) -> Edges:
    return tuple(combinations(dataset.factor_names, 2))


CHEAP = {"kl_weight": 0.15 / 16}
"""A sixteenth of the pixels, and of the KL's weight: a nat costs as many pixels as in the notes."""


def part(
    times: int, repeats: int, changes: Mapping[str, Any] = {}
) -> Callable[[Config], Mapping[str, Any]]:
    """A share 1 / times of the images, batches `repeats` times in a row (fewer, if else not all
    would be shown); as many steps an epoch."""

    def of(base: Config) -> Mapping[str, Any]:
        steps = base.images // base.batch
        batches = min(max(steps // times, 2), steps)
        most = min(repeats, steps // batches)
        own = {"images": batches * base.batch, "repeats": most, "epoch_steps": steps}
        return {**own, **changes}

    return of


def other_sprites(name: str) -> Callable[[Config], Mapping[str, Any]]:
    """Another kind of sprites, where it is sprites that are learned."""
    return lambda base: {"data": name} if base.data == "sprites" else {}


SUPERVISED = {"supervision_weight": 0.05}
ARMS: dict[str, Arm] = {
    "notes": Arm("the small system", many=True),
    # what differs in the notes' own system, or may: each alone
    "large": Arm("32 by 32 pixels", {"size": 32}),
    "supervised": Arm("the supervised term on", SUPERVISED),
    "costly": Arm("KL weight 0.2", {"kl_weight": 0.2}),
    "slow_rate": Arm(
        "a quarter of the learning rate", lambda base: {"learning_rate": base.learning_rate / 4}
    ),
    "large_batch": Arm(
        "batches four times as large",
        lambda base: {"batch": 4 * base.batch, "epoch_steps": base.images // base.batch},
    ),
    "kl_at_once": Arm("KL from the first step", {"kl_warmup": 0}),
    "two_pairs": Arm("two correlated pairs, their graph", other_sprites("paired_sprites")),
    "grey": Arm("grey images", other_sprites("grey_sprites")),
    "standard_targets": Arm(
        "standardised targets, weight 1", {"targets": "standard", "supervision_weight": 1.0}
    ),
    "two_inputs": Arm("2 noise numbers per node", {"noise_inputs": 2}),
    "wide_graph": Arm("12 units in the graph networks", {"graph_hidden": 12}),
    "uniform_start": Arm("decoder starts as torch does", {"decoder_start": "uniform"}),
    # the loader: how many images, and how often in a row
    "repeats_4": Arm("a 4th of the images, batches 4 times in a row", part(4, 4)),
    "repeats_20": Arm("a 20th of the images, batches 20 times in a row", part(20, 20)),
    "repeats_50": Arm("a 50th of the images, batches 50 times in a row", part(50, 50)),
    "few_4": Arm("a 4th of the images, shuffled", part(4, 1)),
    "few_20": Arm("a 20th of the images, shuffled", part(20, 1)),
    "few_50": Arm("a 50th of the images, shuffled", part(50, 1)),
    "cheap": Arm("the notes' price per pixel: KL weight 0.0094", CHEAP),
    "cheap_repeats_4": Arm("the same, a 4th, 4 times in a row", part(4, 4, CHEAP)),
    "cheap_repeats_20": Arm("the same, a 20th, 20 times in a row", part(20, 20, CHEAP)),
    "cheap_repeats_50": Arm("the same, a 50th, 50 times in a row", part(50, 50, CHEAP)),
    "cheap_few_4": Arm("the same, a 4th, shuffled", part(4, 1, CHEAP)),
    "cheap_few_20": Arm("the same, a 20th, shuffled", part(20, 1, CHEAP)),
    "cheap_few_50": Arm("the same, a 50th, shuffled", part(50, 1, CHEAP)),
    # which dim: who chooses, and what could favour one
    "swapped": Arm("dims swapped at the start", {"swapped": True}, many=True),
    "per_node": Arm("separate weights per node", {"shared": False}, many=True),
    "per_node_no_edges": Arm(
        "separate weights, no edges", {"shared": False}, edges=no_edges, many=True
    ),
    "cholesky": Arm("full covariance (Cholesky)", {"prior": "cholesky"}),
    "ordered": Arm("dim 2 given dim 1", {"prior": "ordered"}),
    # what supervision asks of the code
    "supervised_strong": Arm("the supervised term at 0.5", {"supervision_weight": 0.5}),
    # how free the prior is
    "standard": Arm("fixed N(0, I)", {"prior": "standard"}),
    "variance": Arm("learned variance, mean 0", {"prior": "variance"}),
    "diagonal": Arm("learned mean and variance", {"prior": "diagonal"}),
    "matched": Arm("closed form", {"prior": "matched"}),
    "supervised_standard": Arm("fixed N(0, I), supervised", SUPERVISED | {"prior": "standard"}),
    "supervised_variance": Arm("learned variance, supervised", SUPERVISED | {"prior": "variance"}),
    "supervised_diagonal": Arm(
        "learned mean and variance, supervised", SUPERVISED | {"prior": "diagonal"}
    ),
    # how fast it is
    "frozen_prior": Arm("prior as it starts", {"prior_rate": 0.0}),
    "slow_prior": Arm("prior ten times slower", {"prior_rate": 0.1}),
    "slower_prior": Arm("prior three times slower", {"prior_rate": 0.3}),
    "faster_prior": Arm("prior three times faster", {"prior_rate": 3.0}),
    "fast_prior": Arm("prior ten times faster", {"prior_rate": 10.0}),
    "frozen_posterior": Arm("posterior as it starts", {"posterior_rate": 0.0}),
    # units
    "narrow_start": Arm(
        "all start at log-variance -2", {"posterior_logvar": -2.0, "prior_logvar": -2.0}
    ),
    "wide_start": Arm(
        "all start at log-variance 2", {"posterior_logvar": 2.0, "prior_logvar": 2.0}
    ),
    "regauged": Arm("units changed halfway", {"regauge": (3.0, 1 / 3)}),
    # what the prior sees
    "constant": Arm("prior sees nothing", {"prior": "constant"}),
    "nodes": Arm("prior sees which node", {"prior": "nodes"}),
    "factors": Arm("prior sees the true factors, supervised", SUPERVISED | {"prior": "factors"}),
    "factors_per_node": Arm(
        "true factors, separate weights per node, supervised",
        SUPERVISED | {"prior": "factors", "shared": False},
    ),
    "other_factors": Arm("prior sees another image's factors", {"prior": "other_factors"}),
    "parents": Arm("prior sees the parents' codes", {"prior": "parents"}),
    # dependence between nodes
    "shuffled": Arm("noise shuffled between nodes", {"prior": "shuffled"}),
    "no_edges": Arm("graph without edges", edges=no_edges),
    "reversed_edges": Arm("graph reversed", edges=reversed_edges),
    "all_edges": Arm("graph with all edges", edges=all_edges),
    # what the code costs
    "kl_third": Arm("KL weight 0.05", {"kl_weight": 0.05}),
    "kl_triple": Arm("KL weight 0.45", {"kl_weight": 0.45}),
    "kl_tenfold": Arm("KL weight 1.5", {"kl_weight": 1.5}),
    "kl_thirtyfold": Arm("KL weight 4.5", {"kl_weight": 4.5}),
    "noise_wide": Arm(
        "Gaussian pixels, log-variance -2", {"likelihood": "gaussian", "noise_logvar": -2.0}
    ),
    "noise_middle": Arm(
        "Gaussian pixels, log-variance -4", {"likelihood": "gaussian", "noise_logvar": -4.0}
    ),
    "noise_learned": Arm(
        "Gaussian pixels, learned variance",
        {"likelihood": "gaussian_learned", "noise_logvar": -2.0},
    ),
    "dims_1": Arm("1 dim per node", {"dims": 1}),
    "dims_3": Arm("3 dims per node", {"dims": 3}),
    "dims_4": Arm("4 dims per node", {"dims": 4}),
}
"""Every arm of the book, by name."""


def arm(settings: Settings, name: str = "notes", **changes: Any) -> list[Config]:
    """One configuration per seed: the settings' profile, data and prior, then an arm of ARMS,
    then `changes`. Raises ParameterError for an unknown arm or a value that Config does not
    allow."""
    check_choice("arm", name, ARMS)
    profile, chosen = PROFILES[settings.profile], ARMS[name]
    images = min(profile.images, MOST_IMAGES.get(settings.data, profile.images))
    epochs = profile.epochs * profile.images // images  # about as many steps of fewer images
    base = Config(
        data=settings.data,
        images=images,
        size=profile.size,
        prior=settings.prior,
        encoder=profile.encoder,
        hidden=profile.hidden,
        learning_rate=profile.learning_rate,
        precision=best_precision(),
        epochs=epochs if settings.epochs is None else settings.epochs,
    )
    own = chosen.changes(base) if callable(chosen.changes) else chosen.changes
    own = {**own, **changes}
    check("seed" not in own, "seeds are Settings(seeds=, first_seed=)", own)
    for name in own:
        check_choice("changes", name, base.__dataclass_fields__)
    base = replace(base, **own)
    seeds = settings.all_seeds(profile.many if chosen.many else profile.seeds)
    if chosen.edges is not None and "edges" not in changes:
        base = replace(base, edges=chosen.edges(runs.load_data(base)))
    return [replace(base, seed=seed) for seed in seeds]


def run_arms(settings: Settings, names: Sequence[str], **changes: Any) -> dict[str, xr.Dataset]:
    """The runs of some arms; what is missing of any is trained together."""
    return runs.run_arms({name: arm(settings, name, **changes) for name in names})
