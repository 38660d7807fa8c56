"""What a page or a script may ask for: six parameters, and profiles that say how much to run."""

import os
import zipfile
from dataclasses import dataclass, fields
from typing import TypeGuard

from vaenotes.config import BOUNDS
from vaenotes.data.load import DATASETS
from vaenotes.errors import check, check_choice
from vaenotes.priors import PRIORS

LAST_SEED = 2**31 - 1
MOST_SEEDS = 10_000  # all their configurations are listed before any is trained


@dataclass(frozen=True)
class Profile:
    """How much to run. `many` seeds for the arms that count replicas by what they choose."""

    seeds: int
    many: int
    epochs: int
    images: int = 6_400
    hidden: int = 96
    size: int = 16
    encoder: str = "mlp"
    learning_rate: float = 8e-3


PROFILES = {
    "quick": Profile(seeds=2, many=3, epochs=12, images=1024, hidden=32, learning_rate=1.6e-2),
    "book": Profile(seeds=8, many=16, epochs=30),
    "full": Profile(seeds=32, many=32, epochs=30),
    "notes": Profile(
        seeds=1, many=1, epochs=30, images=737_280, hidden=256, size=64, encoder="multiscale",
        learning_rate=1e-4,
    ),
}  # fmt: skip
"""The profiles, by name. "notes": the notes' own sizes."""


@dataclass(frozen=True)
class Settings:
    """The parameters that every page takes, checked.

    Raises ParameterError, in one line, for a value of the wrong type or one that is not allowed.
    """

    profile: str = "book"
    """How much to run: quick, book, full or notes."""
    data: str = "sprites"
    """A data set's name, or the path of dSprites' own .npz file: kept as an absolute one."""
    prior: str = "exogenous"
    """A prior's name."""
    seeds: int | None = None
    """How many replicas; None: as many as the profile has."""
    first_seed: int = 0
    """The seeds are first_seed, first_seed + 1, and so on."""
    epochs: int | None = None
    """How long to train; None: as long as the profile does."""

    def all_seeds(self, usual: int) -> range:
        """The seeds to run; `usual` is how many the profile has."""
        count = usual if self.seeds is None else self.seeds
        return range(self.first_seed, self.first_seed + count)

    @property
    def changed(self) -> str:
        """What differs from the defaults, as "name = value, name = value"; "" if nothing does."""
        return ", ".join(
            f"{field.name} = {value!r}"
            for field in fields(self)
            if (value := getattr(self, field.name)) != field.default
        )

    def _repr_markdown_(self) -> str:
        if not self.changed:
            return "*Computed with the default parameters.*"
        return f"*Computed with {self.changed}; the text describes the defaults.*"

    def __post_init__(self) -> None:
        check_choice("profile", self.profile, PROFILES)
        if not _is_npz(self.data):
            check_choice("data", self.data, DATASETS, "the path of an existing .npz file")
        else:
            is_archive = zipfile.is_zipfile(self.data)
            check(is_archive, "data must be dSprites' .npz archive, readable", self.data)
            # Pages, papermill and scripts may each stand in another folder.
            object.__setattr__(self, "data", os.path.abspath(self.data))
        check_choice("prior", self.prior, PRIORS)
        _check_count("seeds", self.seeds, MOST_SEEDS)
        fits = _is_whole(self.first_seed) and 0 <= self.first_seed <= LAST_SEED
        check(fits, f"first_seed must be a whole number from 0 to {LAST_SEED}", self.first_seed)
        _check_count("epochs", self.epochs, BOUNDS["epochs"][1])


def _check_count(argument: str, value: object, most: int) -> None:
    fits = value is None or (_is_whole(value) and 1 <= value <= most)
    check(fits, f"{argument} must be a whole number from 1 to {most} or None", value)


def _is_whole(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_npz(value: object) -> bool:
    return isinstance(value, str) and value.endswith(".npz") and os.path.isfile(value)
