"""Figures to move through: one picture per position of a slider, all in the page, no server.

(matplotlib's own player fetches its icons from the network.)
"""

import base64
import hashlib
import html
import io
from collections.abc import Mapping, Sequence
from string import Template

import numpy as np
import xarray as xr
from IPython.display import HTML
from matplotlib.figure import Figure

from vaenotes.data.dataset import Dataset
from vaenotes.lab import charts, plots
from vaenotes.model import VAE

MOST = 26  # frames of training: each is a picture of its own in the page

PAGE = Template("""\
<div class="film" id="$id">
$frames
<div class="film-controls">
<button type="button">Play</button>
<label>$what <input type="range" min="0" max="$last" value="$first"></label>
<output>$shown</output>
</div>
<script>
(() => {
  const film = document.getElementById("$id");
  const frames = [...film.querySelectorAll("img")];
  const [button, slider, shown] = ["button", "input", "output"].map(n => film.querySelector(n));
  let timer = null;
  const show = () => {
    frames.forEach((frame, i) => { frame.hidden = i !== slider.valueAsNumber; });
    shown.value = frames[slider.valueAsNumber].dataset.position;
    slider.setAttribute("aria-valuetext", shown.value);
  };
  const stop = () => { clearInterval(timer); timer = null; button.textContent = "Play"; };
  const next = () => {
    if (slider.value === slider.max) return stop();
    slider.stepUp();
    show();
  };
  slider.addEventListener("input", () => { stop(); show(); });
  button.addEventListener("click", () => {
    if (timer) return stop();
    if (slider.value === slider.max) slider.value = 0;
    show();
    button.textContent = "Pause";
    timer = setInterval(next, 500);
  });
  show();
})();
</script>
</div>
""")


def film(frames: Mapping[str, Figure], start: str, what: str, alt: str) -> HTML:
    """A slider over figures, one per position; that of `start` is shown first, and alone where no
    script runs or on paper.

    `what` names the slider; `alt` is the text for those who cannot see, the position is added.
    """
    images = []
    for position, figure in frames.items():
        buffer = io.BytesIO()
        figure.savefig(buffer, format="webp", dpi=192, pil_kwargs={"quality": 90, "method": 2})
        data = base64.b64encode(buffer.getvalue()).decode()
        hidden = "" if position == start else " hidden"
        images.append(
            f'<img src="data:image/webp;base64,{data}" data-position="{html.escape(position)}"'
            f' alt="{html.escape(f"{what} {position}: {alt}")}" width="100%"{hidden}>'
        )
    joined = "\n".join(images)
    return HTML(
        PAGE.substitute(
            id="film-" + hashlib.sha256(joined.encode()).hexdigest()[:8],
            frames=joined,
            what=html.escape(what),
            first=list(frames).index(start),
            last=len(frames) - 1,
            shown=html.escape(start),
        )
    )


def training(runs: xr.Dataset, nodes: Sequence[str]) -> HTML:
    """One replica's bed of nails in two nodes (charts.nails), epoch by epoch; of a long run, at
    evenly spaced epochs."""
    last = int(runs.epoch[-1])
    epochs = np.unique(np.linspace(0, last, min(last + 1, MOST)).round().astype(int))
    return film(
        {str(epoch): charts.nails(runs, nodes, epoch) for epoch in epochs},
        str(last),
        "epoch",
        "in the most used dims the posteriors of images, small ellipses, spread over the wide "
        "ellipse of the prior as training goes on; in the least used dims posteriors and prior "
        "lie on each other and shrink together.",
    )


def units(model: VAE, dataset: Dataset, node: str, dim: int) -> HTML:
    """A trained model in other and other units of one dim of every node: plots.units of one."""
    return film(
        {f"× {scale:.3g}": plots.units(model, dataset, node, dim, scale) for scale in plots.SCALES},
        "× 1",
        "units of the dim",
        "variances and spreads lie elsewhere on their axis in other units; the ratio, the KL and "
        "the decoded images are the same in all.",
    )
