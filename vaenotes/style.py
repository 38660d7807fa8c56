"""One visual language for all figures, and the decorator that every function that draws one wears.

Prior orange, posterior blue (Okabe & Ito's palette, safe for the colour-blind); a dim in use is
drawn full, a dim not in use dashed or hollow; epochs on x. No figure goes through pyplot: nothing
stays open, and nothing depends on a backend.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec

import matplotlib as mpl
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

COLOURS = {"posterior": "#0072B2", "prior": "#D55E00"}
PARTS = {
    "kl_variance_nats": ("variances differ", "#009E73"),
    "kl_mean_nats": ("means vary", "#56B4E9"),
    "kl_offset_nats": ("constant offset", "#E69F00"),
}
STYLE: dict[Any, Any] = {
    "figure.constrained_layout.use": True,
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
}

P = ParamSpec("P")


def figure(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Of a function that draws a figure: it does so in STYLE."""

    @wraps(draw)
    def styled(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with mpl.rc_context(STYLE):
            return draw(*args, **kwargs)

    return styled


def plain_numbers(axis: Axis) -> None:
    """On a logarithmic axis, a few numbers as people write them, however short it is."""
    low, high = axis.get_view_interval()
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 30 * low else (1,), numticks=5))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter(NullFormatter())
