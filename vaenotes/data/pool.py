"""What replicas that are trained together are shown: images and factors, a batch for each.

A data set is held once, however many replicas use it; one that is too large to be held makes the
pictures of a batch when the batch is asked for.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from vaenotes.data.dataset import Dataset

SMALL_POOL = 2**24  # numbers; images no more than that are held as float32, larger sets as uint8


class Pool:
    """Data sets of one shape, one for each replica, on a device. count: of images in each."""

    def __init__(self, datasets: Sequence[Dataset], device: str = "cpu"):
        different = list(dict.fromkeys(datasets))
        self.sources, self.device = [dataset.images for dataset in datasets], device
        # (data set, image, ...); `place` (replica, 1) says which data set is a replica's.
        self.place = torch.tensor([[different.index(d)] for d in datasets], device=device)
        self.factors = stacked_once([d.standard_factors for d in different]).to(device)
        self.count = self.factors.shape[1]
        self.images: Tensor | None = None
        arrays = [d.images for d in different if isinstance(d.images, np.ndarray)]
        if len(arrays) == len(different):
            self.images = stacked_once(arrays).flatten(2).to(device)
            if self.images.numel() <= SMALL_POOL:
                self.images = pixels(self.images)

    def batch(self, chosen: Tensor) -> tuple[Tensor, Tensor]:
        """Images (replica, image, pixel), in 0..1, and standardised factors (replica, image, node)
        of the numbers `chosen` (replica, image)."""
        if self.images is not None:
            images = self.images[self.place, chosen]
        else:
            rows = chosen.numpy(force=True)
            made = np.stack([source[row] for source, row in zip(self.sources, rows, strict=True)])
            images = torch.from_numpy(made).flatten(2).to(self.device)
        return pixels(images), self.factors[self.place, chosen]


def stacked_once(arrays: Sequence[np.ndarray]) -> Tensor:
    """Arrays of one shape along a new first axis; a single one is not copied."""
    if len(arrays) == 1:
        return torch.from_numpy(arrays[0])[None]
    return torch.from_numpy(np.stack(arrays))


def pixels(images: Tensor) -> Tensor:
    """uint8 0..255 -> float32 0..1; float32 as it is."""
    return images.float().div_(255) if images.dtype == torch.uint8 else images
