"""What to run: regimes, and arms of replicas that differ in their seeds alone.

runs = vn.run(vn.arm(settings, "one dim per node", prior="standard"))
"""

from dataclasses import dataclass, replace
from typing import Any

from vaenotes.config import Config
from vaenotes.errors import check_choice
from vaenotes.settings import PROFILES, Settings

MNIST5K_IMAGES = 5_000


@dataclass(frozen=True)
class Regime:
    """Weights and speed at which replicas come out one way or another."""

    kl_weight: float = Config.kl_weight
    supervision_weight: float = Config.supervision_weight
    faster: float = 1.0  # times the profile's learning rate


REGIMES = {
    "stated weights": Regime(),  # the notes' own
    "one dim per node": Regime(kl_weight=1.0),  # what the notes saw
    "both priors shrink": Regime(kl_weight=1.0, supervision_weight=0.0, faster=10),
}


def arm(
    settings: Settings, regime: str = "stated weights", *, half: bool = False, **changes: Any
) -> list[Config]:
    """One configuration per seed: the settings' profile, data and prior, then a regime of
    REGIMES, then `changes`. `half`: only the first half of the seeds, for arms at the side.
    Raises ParameterError for an unknown regime or a value that Config does not allow."""
    check_choice("regime", regime, REGIMES)
    profile, chosen = PROFILES[settings.profile], REGIMES[regime]
    images = min(profile.images, MNIST5K_IMAGES) if settings.data == "mnist5k" else profile.images
    base = Config(
        data=settings.data,
        images=images,
        size=profile.size,
        prior=settings.prior,
        encoder=profile.encoder,
        hidden=profile.hidden,
        kl_weight=chosen.kl_weight,
        supervision_weight=chosen.supervision_weight,
        learning_rate=profile.learning_rate * chosen.faster,
        epochs=profile.epochs if settings.epochs is None else settings.epochs,
    )
    base = replace(base, **changes)
    seeds = profile.seeds if settings.seeds is None else settings.seeds
    if half:
        seeds = -(-seeds // 2)
    return [replace(base, seed=settings.first_seed + i) for i in range(seeds)]
