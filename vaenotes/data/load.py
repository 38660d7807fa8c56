"""Every data set by its name. To add one: a function that makes a `Dataset`, a line in DATASETS."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from vaenotes.data.dataset import Dataset
from vaenotes.data.digits import MNIST5K_IMAGES, OPTDIGITS_IMAGES, digits, mnist5k
from vaenotes.data.dsprites import dsprites
from vaenotes.data.sprites import grey_sprites, paired_sprites, sprites
from vaenotes.data.vectors import VECTORS
from vaenotes.errors import check, check_choice

DATASETS: dict[str, Callable[..., Dataset]] = {
    "sprites": sprites,
    "grey_sprites": grey_sprites,
    "paired_sprites": paired_sprites,
    "mnist5k": mnist5k,
    "digits": digits,
}
"""Every data set of images, by the name that a configuration gives."""
HELD_OUT = 1024
"""How many images are held out, where they are drawn at will: to be measured on, not trained on."""
# How many there are elsewhere, and how many of them may be trained on. Of what serves the checks
# against theory, VECTORS, none are held out: its formulas are of the very images trained on.
ALL_IMAGES = {
    "mnist5k": MNIST5K_IMAGES,
    "digits": OPTDIGITS_IMAGES,
    "optdigits": OPTDIGITS_IMAGES,
}
MOST_IMAGES = ALL_IMAGES | {
    "mnist5k": MNIST5K_IMAGES * 4 // 5,
    "digits": OPTDIGITS_IMAGES * 4 // 5,
}


def load(name: str, **options: Any) -> Dataset:
    """The data set of DATASETS or VECTORS by its name, or dSprites itself if given its ".npz" path.

    options: arguments of the data set's function; all of them take images, size and seed.
    Raises ParameterError for an unknown name or a bad value.
    """
    if isinstance(name, str) and name.endswith(".npz") and name not in DATASETS:
        return dsprites(name, **options)
    known = VECTORS | DATASETS  # to which anybody may add
    check_choice("name", name, known, "a path that ends in .npz")
    check(callable(known[name]), f"data set {name!r} must be a function", known[name])
    made = known[name](**options)
    check(isinstance(made, Dataset), f"data set {name!r} must return a Dataset", made)
    return made


def load_split(name: str, images: int, **options: Any) -> Dataset:
    """The same with `images` to train on, and more that are held out."""
    if name in VECTORS and name not in DATASETS:
        return load(name, images=images, **options)
    wanted = min(images + HELD_OUT, ALL_IMAGES.get(name, images + HELD_OUT))
    whole = load(name, images=wanted, **options)
    rule = f"data set {name!r} must return the {wanted} images that it is asked for"
    check(len(whole.images) == wanted, rule, len(whole.images))
    shape, size = tuple(whole.images.shape[1:]), options.get("size")
    rule = f"data set {name!r} must return images of the size that it is asked for, {size}"
    check(size is None or size in shape, rule, shape)
    rule = f"data set {name!r} must hold none out itself, as the last of those asked for are"
    check(whole.held_out == 0, rule, whole.held_out)
    return replace(whole, held_out=wanted - images)
