"""Every data set by its name. To add one: a function that makes a `Dataset`, a line in DATASETS."""

from collections.abc import Callable
from typing import Any

from vaenotes.data.dataset import Dataset
from vaenotes.data.digits import MNIST5K_IMAGES, OPTDIGITS_IMAGES, digits, mnist5k
from vaenotes.data.dsprites import dsprites
from vaenotes.data.sprites import grey_sprites, paired_sprites, sprites
from vaenotes.data.vectors import VECTORS
from vaenotes.errors import check_choice

DATASETS: dict[str, Callable[..., Dataset]] = {
    "sprites": sprites,
    "grey_sprites": grey_sprites,
    "paired_sprites": paired_sprites,
    "mnist5k": mnist5k,
    "digits": digits,
}
"""Every data set of images, by the name that a configuration gives."""
# How many images there are, where they are not drawn at will.
MOST_IMAGES = {
    "mnist5k": MNIST5K_IMAGES,
    "digits": OPTDIGITS_IMAGES,
    "optdigits": OPTDIGITS_IMAGES,
}


def load(name: str, **options: Any) -> Dataset:
    """The data set of DATASETS or VECTORS by its name, or dSprites itself if given its ".npz" path.

    options: arguments of the data set's function; all of them take images, size and seed.
    Raises ParameterError for an unknown name or a bad value.
    """
    if isinstance(name, str) and name.endswith(".npz"):
        return dsprites(name, **options)
    known = DATASETS | VECTORS
    check_choice("name", name, known, "a path that ends in .npz")
    return known[name](**options)
