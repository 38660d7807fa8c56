"""Figures to move through: one picture per position of a slider, all in the page, no server.

book/assets/vaenotes.js moves them; where it is not there, in a notebook or on paper, the picture of
the start is shown alone.
"""

import base64
import html
import io
from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr
from IPython.display import HTML
from matplotlib.figure import Figure

from vaenotes.data.dataset import Dataset
from vaenotes.lab import pictures, plots
from vaenotes.model import VAE

MOST = 26
"""Frames of training: each is a picture of its own in the page."""


def film(frames: Mapping[str, Figure], start: str, what: str, alt: str) -> HTML:
    """Figures by position, of which `start` is shown first. `what` names the slider; `alt` is the
    text for those who cannot see, to which the position is added."""
    images = []
    for position, frame in frames.items():
        buffer = io.BytesIO()
        frame.savefig(buffer, format="webp", dpi=192, pil_kwargs={"quality": 90, "method": 2})
        data = base64.b64encode(buffer.getvalue()).decode()
        hidden = "" if position == start else " hidden"
        images.append(
            f'<img src="data:image/webp;base64,{data}" data-position="{html.escape(position)}"'
            f' alt="{html.escape(f"{what} {position}: {alt}")}" width="100%"{hidden}>'
        )
    place, last = list(frames).index(start), len(frames) - 1
    return HTML(
        '<div class="film">\n' + "\n".join(images) + '\n<div class="film-controls" hidden>\n'
        '<button type="button">Play</button>\n'
        f'<label>{html.escape(what)} <input type="range" min="0" max="{last}" value="{place}">'
        f"</label>\n<output>{html.escape(start)}</output>\n</div>\n</div>"
    )


def training(runs: xr.Dataset, nodes: Sequence[str]) -> HTML:
    """One replica's bed of nails in two nodes (plots.nails), epoch by epoch; of a long run, at
    evenly spaced epochs."""
    last = int(runs.epoch[-1])
    epochs = np.unique(np.linspace(0, last, min(last + 1, MOST)).round().astype(int))
    return film(
        {str(epoch): plots.nails(runs, nodes, epoch) for epoch in epochs},
        str(last),
        "epoch",
        "in the most used dims the posteriors of images, small ellipses, spread over the wide "
        "ellipse of the prior as training goes on; in the least used dims posteriors and prior "
        "lie on each other and shrink together.",
    )


def units(model: VAE, dataset: Dataset, node: str, dim: int) -> HTML:
    """A trained model with one dim of every node in other and other units (pictures.units)."""
    frames = {
        f"× {scale:.3g}": pictures.units(model, dataset, node, dim, scale)
        for scale in pictures.SCALES
    }
    return film(
        frames,
        "× 1",
        "units of the dim",
        "variances and spreads lie elsewhere on their axis in other units; the ratio, the KL and "
        "the decoded images are the same in all.",
    )
