"""What sets the posterior's width.

The supervised term: predicted from the regressions' weights, dim by dim, with nothing fitted
(book/theory.md, proposition T12; widths.toml was written before). And in dims not in use, how fast
the prior follows.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
import xarray as xr
from matplotlib.figure import Figure
from pandas.io.formats.style import Styler

from vaenotes import trace
from vaenotes.config import Config
from vaenotes.lab import runs
from vaenotes.lab.summary import Interval, alive, median_interval, spread
from vaenotes.objective import Weights
from vaenotes.report import tables
from vaenotes.report.arms import arm
from vaenotes.report.claims import Findings, predictions
from vaenotes.report.settings import Settings
from vaenotes.style import COLOURS, figure, line, plain_numbers
from vaenotes.theory import supervised_std

SUPERVISED = ("supervised", "supervised_strong", "standard_targets")
"""Arms that have the term, by falling weight of it on the values of a factor."""
DRAWS = 8  # of the noise, in which pushes are averaged
RATES = {
    0.0: "frozen_prior", 0.1: "slow_prior", 0.3: "slower_prior", 1.0: "notes", 3.0: "faster_prior",
    10.0: "fast_prior",
}  # fmt: skip
"""Arms by the prior's learning rate, as a multiple of everything else's."""
READ_BY_DECODER = 0.1  # share of the KL's weight from which its push counts
MEANINGS = {
    "predicted_std": "predicted posterior std / measured, dims in use",
    "bound": "the same without the decoder's push: an upper bound",
    "unread": "the same, dims that the decoder hardly reads, in use or not",
    "noise": "noise of the regression, weight times posterior std, in units of its target",
}
"""Medians over a replica's dims, by name; in use, where nothing else is said."""


def widths(configs: Sequence[Config]) -> xr.Dataset:
    """Of trained replicas, over (replica, node, dim): posterior std `measured` (root of the mean
    square over images), `predicted`, its `bound`; the decoder's `push` over the KL's weight; the
    `noise` of the regression; whether the dim is `used`. NaN in replicas that diverged."""
    found = runs.run(configs)
    names, axes = ("measured", "predicted", "bound", "push", "noise"), ("replica", "node", "dim")
    every = np.stack([one(config) for config in configs], axis=1)
    stacked = {name: (axes, values) for name, values in zip(names, every, strict=True)}
    return xr.Dataset(stacked | {"used": (axes, alive(found).values)}, {"node": found.node})


@torch.no_grad()
def one(config: Config) -> tuple[np.ndarray, ...]:
    """Of one replica, each (node, dim): measured, predicted and largest std, push, noise."""
    model, dataset = runs.load_model(config), runs.load_data(config)
    count = min(trace.EVALUATION_IMAGES, config.images)
    images = torch.from_numpy(dataset.images[:count].reshape(count, -1)).float() / 255
    factors = torch.from_numpy(dataset.standard_factors[:count])
    weights = Weights(config.reconstruction_weight, config.kl_weight, 0.0)  # the decoder's push
    generator = torch.Generator().manual_seed(trace.EVALUATION_SEED + config.seed)
    pushes, inverses = [], []
    for _ in range(DRAWS):
        drawn = [
            torch.randn(count, len(dataset.factor_names), each, generator=generator)
            for each in (config.noise_inputs, config.dims)
        ]
        output = model(images, factors, *drawn)
        found = trace.measure_training(model, output, images, factors, weights)
        pushes.append(found["noise_force"])
        inverses.append(torch.exp(-trace.prior_of_each(output).logvar).mean(-3))
    std = output.posterior.logvar.exp().mean(-3).sqrt().numpy()
    push, inverse = (torch.stack(each).mean(0).numpy() for each in (pushes, inverses))
    read = model.regression_weight.numpy()
    asked = (inverse**-0.5, read, config.kl_weight, config.supervision_weight)
    bound, noise = supervised_std(*asked), np.abs(read) * std
    return std, supervised_std(*asked, push), bound, push / config.kl_weight, noise


def all_widths(settings: Settings) -> dict[str, xr.Dataset]:
    """`widths` of every arm that has the term, by its name."""
    return {name: widths(arm(settings, name)) for name in SUPERVISED}


def findings(found: Mapping[str, xr.Dataset]) -> dict[str, Interval]:
    """Medians over replicas of MEANINGS, as "arm.name"."""
    made = {}
    for name, arm_widths in found.items():
        used = arm_widths.where(arm_widths.used)
        ratios = {
            "predicted_std": used.predicted / used.measured,
            "bound": used.bound / used.measured,
            "unread": (arm_widths.bound / arm_widths.measured).where(
                arm_widths.push < READ_BY_DECODER
            ),
            "noise": used.noise,
        }
        for what, values in ratios.items():
            made[f"{name}.{what}"] = median_interval(values.median(("node", "dim")))
    return made


def glued(found: Mapping[str, xr.Dataset]) -> dict[str, float]:
    """The same for the prose: widths.NAME, with _low, _high and _n."""
    return spread(findings(found), "widths.")


def predictions_table(found: Mapping[str, xr.Dataset]) -> Styler:
    """What widths.toml expected, beside what came of it."""
    return tables.predictions_table(predictions("widths"), findings(found), MEANINGS)


@figure
def dose(measured: Findings) -> Figure:
    """Variances of posterior and prior in dims not in use, and so greyed, against the prior's
    learning rate, with 95% intervals; a prior of rate 0 stays as it starts."""
    drawn = Figure(figsize=(5.2, 3.0))
    ax = drawn.subplots()
    places = [rate or min(filter(None, RATES)) / 3 for rate in RATES]
    for side, shift in (("prior", 0.95), ("posterior", 1.05)):
        style = line(False, COLOURS[side])
        found = [measured[f"{name}.{side}_variance_unused"] for name in RATES.values()]
        for place, one in zip(places, found, strict=True):
            ax.plot([shift * place] * 2, [one.low, one.high], color=style["color"], lw=2.2)
        middle = [one.value for one in found]
        ax.plot(np.multiply(shift, places), middle, marker="o", ms=4.5, mfc="white", lw=1,
                label=side, **style)  # fmt: skip
    ax.set(xscale="log", yscale="log", ylabel="variance, dims not in use (z²)",
           xlabel="prior's learning rate / all others'")  # fmt: skip
    ax.set_xticks(places, [f"{rate:g}" for rate in RATES])
    plain_numbers(ax.yaxis)
    ax.minorticks_off()
    ax.legend()
    return drawn
