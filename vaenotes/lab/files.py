"""The data sets of one call: their files are read once, and they are made once."""

import hashlib
import os
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from functools import lru_cache

from vaenotes.config import Config
from vaenotes.data import load as data
from vaenotes.data.dataset import Dataset
from vaenotes.errors import ParameterError, check, shown
from vaenotes.lab.code import version_of


@dataclass(frozen=True)
class File:
    """What a data file held when it was read, once: digest and data set are of the same bytes."""

    digest: str
    content: bytes = field(compare=False, repr=False)


class Files(dict[str, File | None]):
    """The data files of one call, each read once: keys and data sets are of the very same bytes,
    whatever becomes of a file meanwhile. Data sets that have no version are made once a call."""

    def __init__(self, configs: Iterable[Config]):
        configs = list(configs)
        for config in configs:
            # One of a subclass may be trained otherwise, and is equal to a plain one in the store.
            check(type(config) is Config, "config must be a Config", config)
        super().__init__({name: _read(name) for name in {config.data for config in configs}})
        self.made: dict[tuple[str, int, int], Dataset] = {}


def _read(name: str) -> File | None:
    """A data file; None if it is not one."""
    if name in data.DATASETS or not (name.endswith(".npz") and os.path.isfile(name)):
        return None
    try:
        with open(name, "rb") as file:
            content = file.read()
    except (OSError, MemoryError) as error:
        raise ParameterError(f"data must be readable, got {shown(name)}: {error}") from None
    return File(hashlib.sha256(content).hexdigest(), content)


@lru_cache(maxsize=32)  # more than there are data sets in a book
def _load_data(
    name: str, images: int, size: int, file: File | None, own: object, version: str
) -> Dataset:
    content = {"content": file.content} if file else {}
    return data.load_split(name, images, size=size, **content)


def shared_data(config: Config, files: Files) -> Dataset:
    """The data set of a replica, the same object for all that have it; one that has no version
    for those of one call."""
    asked, own = (config.data, config.images, config.size), data.DATASETS.get(config.data)
    version = version_of(own)
    if version is not None and isinstance(own, Hashable):
        return _load_data(*asked, None if own else files[config.data], own, version)
    if asked not in files.made:
        files.made[asked] = data.load_split(*asked[:2], size=config.size)
    return files.made[asked]
