"""What a page or a script may ask for: six parameters, and profiles that say how much to run."""

import os
import zipfile
from dataclasses import dataclass, field, fields
from typing import Any

from vaenotes.errors import check, check_choice, check_int

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
    "book": Profile(seeds=9, many=16, epochs=30),
    "full": Profile(seeds=32, many=32, epochs=30),
    "notes": Profile(
        seeds=1, many=1, epochs=30, images=737_280, hidden=256, size=64, encoder="multiscale",
        learning_rate=1e-4,
    ),
}  # fmt: skip
"""The profiles, by name. "notes": the notes' own sizes."""


def _parameter(default: Any, about: str) -> Any:
    return field(default=default, metadata={"about": about})


@dataclass(frozen=True)
class Settings:
    """The parameters that every page takes, checked; what each is stands in its field's metadata.

    Raises ParameterError, in one line, for a value of the wrong type or one that is not allowed.
    """

    profile: str = _parameter("book", "quick, book, full or notes")
    data: str = _parameter("sprites", "sprites, mnist5k, digits, or a path to dSprites' .npz")
    prior: str = _parameter("exogenous", 'or any other that the page "Rerun it, extend it" lists')
    seeds: int | None = _parameter(None, "how many replicas; None: the profile's")
    first_seed: int = _parameter(0, "seeds are first_seed, first_seed + 1, ...")
    epochs: int | None = _parameter(None, "None: the profile's")

    def __post_init__(self) -> None:
        from vaenotes.config import BOUNDS  # late, as papermill reads the fields alone
        from vaenotes.data.load import DATASETS
        from vaenotes.priors import PRIORS

        check_choice("profile", self.profile, PROFILES)
        check_choice("prior", self.prior, PRIORS)
        if isinstance(self.data, str) and self.data.endswith(".npz") and os.path.isfile(self.data):
            is_archive = zipfile.is_zipfile(self.data)
            check(is_archive, "data must be dSprites' .npz archive, readable", self.data)
            # Pages, papermill and scripts may each stand in another folder.
            object.__setattr__(self, "data", os.path.abspath(self.data))
        else:
            check_choice("data", self.data, DATASETS, "the path of an existing .npz file")
        check_int("first_seed", self.first_seed, 0, LAST_SEED)
        for name, most in (("seeds", MOST_SEEDS), ("epochs", BOUNDS["epochs"][1])):
            if getattr(self, name) is not None:
                check_int(f"{name}, if not None,", getattr(self, name), 1, most)

    def all_seeds(self, usual: int) -> range:
        """The seeds to run; `usual` is how many the profile has."""
        count = usual if self.seeds is None else self.seeds
        return range(self.first_seed, self.first_seed + count)

    @property
    def changed(self) -> str:
        """What differs from the defaults, as "name = value, name = value"; "" if nothing does."""
        return ", ".join(
            f"{one.name} = {value!r}"
            for one in fields(self)
            if (value := getattr(self, one.name)) != one.default
        )
