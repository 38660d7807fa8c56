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
from matplotlib.text import Text
from PIL import Image

from vaenotes.data.dataset import Dataset
from vaenotes.lab import pictures, plots
from vaenotes.model import VAE

MOST = 24
"""Frames of training: each is a picture of its own in the page."""


def film(frames: Mapping[str, Figure], start: str, what: str, alt: str, loop: bool = False) -> HTML:
    """Figures by position, of which `start` is shown first. `what` names the slider; `alt` is the
    text for those who cannot see, to which the position is added. loop: it plays by itself, again
    and again, wherever it is seen, until somebody clicks on it; not for readers who asked for no
    motion, nor on paper. Every picture says how large its smallest letters are, as a share of its
    width."""
    images = []
    for position, frame in frames.items():
        data = base64.b64encode(_light(frame) if loop else _sharp(frame)).decode()
        hidden = "" if position == start else " hidden"
        images.append(
            f'<img src="data:image/webp;base64,{data}" data-position="{html.escape(position)}"'
            f' data-letters="{letters(frame):.4f}"'
            f' alt="{html.escape(f"{what} {position}: {alt}")}" width="100%"{hidden}>'
        )
    place, last = list(frames).index(start), len(frames) - 1
    return HTML(
        f'<div class="film"{" data-loop" if loop else ""}>\n' + "\n".join(images) + "\n"
        '<div class="film-controls" hidden>\n<button type="button">Play</button>\n'
        f'<label>{html.escape(what)} <input type="range" min="0" max="{last}" value="{place}">'
        f"</label>\n<output>{html.escape(start)}</output>\n</div>\n</div>"
    )


def _sharp(drawn: Figure) -> bytes:
    buffer = io.BytesIO()
    drawn.savefig(buffer, format="webp", dpi=192, pil_kwargs={"quality": 90, "method": 2})
    return buffer.getvalue()


def _light(drawn: Figure) -> bytes:
    """As sharp as a page's text on a plain screen, in few colours."""
    buffer, small = io.BytesIO(), io.BytesIO()
    drawn.savefig(buffer, format="png", dpi=112)
    few = Image.open(buffer).convert("RGB").quantize(64, dither=Image.Dither.NONE)
    few.convert("RGB").save(small, format="webp", lossless=True, method=4, quality=100)
    return small.getvalue()


def letters(drawn: Figure) -> float:
    """The size of a figure's smallest letters, as a share of its width; 0 if it has none."""
    texts = (text for text in drawn.findobj(Text) if text.get_visible() and text.get_text().strip())
    sizes = [text.get_fontsize() for text in texts if isinstance(text, Text)]
    return min(sizes, default=0) / (72 * drawn.get_size_inches()[0])


def training(runs: xr.Dataset, nodes: Sequence[str]) -> HTML:
    """One replica's bed of nails in two nodes (plots.nails), epoch by epoch; of a long run, at
    evenly spaced epochs. It plays by itself."""
    last = int(runs.epoch[-1])
    epochs = np.unique(np.linspace(0, last, min(last + 1, MOST)).round().astype(int))
    return film(
        {str(epoch): plots.nails(runs, nodes, epoch) for epoch in epochs},
        str(last),
        "epoch",
        "in the more used dims, on the right, the posteriors of images, small ellipses, spread "
        "over the wide ellipse of the prior as training goes on; in the less used dims, on the "
        "left, posteriors and prior lie on each other and shrink together.",
        loop=True,
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
