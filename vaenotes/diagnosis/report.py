"""Which dims of any VAE are alive: a report on its codes, from the numbers alone.

    report = diagnose(
        posterior_mean=mean, posterior_logvar=logvar,  # (sample, ...), from your encoder
        prior_mean=prior_mean, prior_std=prior_std,    # leave out for N(0, I)
    )
    print(report)

`adapters` takes these arguments from a model; `Recorder` keeps a report for each epoch.
Nothing here needs this library's own models.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from numpy.typing import ArrayLike
from torch import Tensor

from vaenotes.diagnosis import figures, printed
from vaenotes.diagnosis.added import Information, Waste, added, information, relative, waste
from vaenotes.diagnosis.inputs import Mixture, read_posterior, read_prior
from vaenotes.diagnosis.status import ACTIVE_VARIANCE, ALIVE_NATS, STATUSES, classify
from vaenotes.diagnosis.surgery import dim_log_density, estimate, mixture_log_density
from vaenotes.errors import LARGEST, check, check_int, check_number
from vaenotes.kl import (
    Diagonal,
    Gaussian,
    Parts,
    kl_nats,
    kl_parts,
    log_density,
    marginal,
    match,
    sample,
)


@dataclass(frozen=True, repr=False)
class Report:
    """What `diagnose` found. Print it, show it in a notebook, draw or log it.

    dims: a row per dim, by its place in the latent ("3", or "4,1" in a latent of two axes):
        status              one of STATUSES
        added_nats          what the dim adds about the sample to what its prior knew (`added`),
        added_error         and its standard error, over other samples and draws
        information_nats    mutual information of sample and dim; the same, if the prior is one for
        information_error   all samples. At most log of how many were compared
        wasted_nats         the KL of the dim's own distribution beyond what it adds; of that,
        wasted_offset_nats  for a constant shift, in units of the prior,
        wasted_width_nats   and for a width of the codes that is not the prior's
        kl_nats             mean KL from the prior, and its parts:
        variance_nats       variances differ
        mean_nats           means vary from sample to sample
        offset_nats         a constant shift of the prior's mean would save this
        gap_nats            what the best constant Gaussian prior would save: 0 if the prior matches
                            the moments of the codes, negative if it knows the sample
        ratio               posterior std / prior std, geometric mean
        spread              std of the posterior means, in prior stds
        posterior_variance  mean, in units of the code
        prior_variance      mean, in units of the code
        active_unit         whether the means' variance is above 0.01 (Burda et al. 2016), which
                            depends on the units of the code
    totals: kl_nats, added_nats, information_nats, each with its error, and ceiling_nats, of all
        dims together; `ceiling_nats` is the most that the information could have come out as.
    alive: bool, of the latent's shape, to pick dims with: z[:, report.alive].
    hints: what looks like a mistake in what was given, a line each.

    With a full covariance kl_nats and its parts are terms of the chain rule (`kl.kl_nats`): their
    sum does not depend on the order of dims, each does; all else is of a dim's own distribution.
    From a mixture, a dim's KL and the total are estimated from a draw per sample; the parts are
    NaN, as is what is wasted on offset and width, and the dims need not add up to the total.
    """

    dims: pd.DataFrame
    totals: dict[str, float]
    alive: np.ndarray
    hints: tuple[str, ...] = ()

    @property
    def counts(self) -> dict[str, int]:
        """How many dims have each status."""
        return {status: int((self.dims["status"] == status).sum()) for status in STATUSES}

    def to_dict(self) -> dict[str, float]:
        """All of it as flat numbers for a logger: totals, counts, and "dim/3/ratio" and so on."""
        numbers = self.dims.drop(columns="status")
        found = {**self.totals, **{name: float(n) for name, n in self.counts.items()}}
        for label, row in numbers.iterrows():
            found |= {f"dim/{label}/{name}": float(value) for name, value in row.items()}
        for label, alive in zip(self.dims.index, self.alive.flat, strict=True):
            found[f"dim/{label}/alive"] = float(alive)
        return found

    def figure(self) -> Figure:
        """A row per dim: its information, its KL, its ratio, and its variances."""
        return figures.report(self.dims)

    def __str__(self) -> str:
        lines = "\n".join((printed.sentence(self.dims, self.totals), *self.hints))
        return f"{lines}\n\n{printed.table(self.dims).to_string()}"

    __repr__ = __str__

    def _repr_html_(self) -> str:
        lines = "<br>".join((printed.sentence(self.dims, self.totals), *self.hints))
        table = printed.table(self.dims).to_html(border=0, classes="report")
        return f"<p>{lines}</p>{table}"


def diagnose(
    *,
    posterior_mean: ArrayLike,
    posterior_logvar: ArrayLike | None = None,
    posterior_variance: ArrayLike | None = None,
    posterior_std: ArrayLike | None = None,
    posterior_covariance: ArrayLike | None = None,
    posterior_cholesky: ArrayLike | None = None,
    prior_mean: ArrayLike | None = None,
    prior_logvar: ArrayLike | None = None,
    prior_variance: ArrayLike | None = None,
    prior_std: ArrayLike | None = None,
    prior_covariance: ArrayLike | None = None,
    prior_cholesky: ArrayLike | None = None,
    prior_weights: ArrayLike | None = None,
    compared: int = 1024,
    seed: int = 0,
    since: Report | None = None,
) -> Report:
    """Report which dims of a VAE add something to its prior, and which cost and add nothing.

    Tensors or arrays, each Gaussian by its mean and one of the five other arguments:
    posterior_mean: (sample, ...), a latent of any shape, n numbers in all; logvar (natural log),
        variance or std of the same shape; or covariance or its lower Cholesky factor
        (sample, n, n), over the flattened latent.
    prior_mean: (...) for a prior that is one for all samples, (sample, ...) for one that is not;
        the rest accordingly. No prior at all: N(0, I). With prior_weights (component,), that sum
        to 1, the prior is a mixture and the rest is (component, ...), of independent dims.
    compared: of how many samples, drawn with `seed`, the information is estimated; its time grows
        with their square. since: an earlier report of the model, from which shrinking is measured;
        else from variance 1.

    No number but the variances and `active_unit` depends on the units of the code, which a learned
    prior and a decoder can change at no cost; nor does a status, but that "free-riding" without
    `since` takes 1 for what the variance was. What the decoder makes of a dim is not seen here.

    Sources: what is added and wasted, `added`; the parts, `kl.kl_parts`; gap, `kl.match`.
    Raises ParameterError, naming the argument, for shapes that do not fit and numbers that are not
    finite, not positive where they must be, or so large or small that a KL could overflow.
    """
    check_int("compared", compared, 2)
    check_int("seed", seed, 0, LARGEST)
    check(isinstance(since, Report | None), "since must be a Report", since)
    spreads = (
        posterior_logvar, posterior_variance, posterior_std, posterior_covariance,
        posterior_cholesky,
    )  # fmt: skip
    q, latent = read_posterior(posterior_mean, spreads)
    spreads = prior_logvar, prior_variance, prior_std, prior_covariance, prior_cholesky
    p = read_prior(prior_mean, spreads, prior_weights, (len(q.mean), *latent))
    generator = torch.Generator().manual_seed(seed)
    return _report(q, p, latent, compared, generator, since, assumed=prior_mean is None)


def _report(
    q: Gaussian,
    p: Gaussian | Mixture,
    latent: tuple[int, ...],
    compared: int,
    generator: torch.Generator,
    since: Report | None,
    assumed: bool,
) -> Report:
    if since is not None:
        before = since.alive.shape
        rule = f"posterior_mean must be (sample, {', '.join(map(str, before))}), as in since"
        check(before == latent, rule, (len(q.mean), *latent))
    chosen = torch.randperm(len(q.mean), generator=generator)[:compared]
    found, new = _compared(q, p, chosen, generator)
    own = marginal(q)
    kl = _kl(q, own, p, generator)
    kl_of_code = estimate(kl.code)
    means_variance = own.mean.var(0, correction=0)
    # one prior for all has no sample axis to average over
    prior_variance = kl.prior.logvar.exp().reshape(-1, *means_variance.shape).mean(0)
    columns = {
        "added_nats": new.dims.mean,
        "added_error": new.dims.standard_error,
        "information_nats": found.dims.mean,
        "information_error": found.dims.standard_error,
        "wasted_nats": kl.own.mean(0) - new.dims.mean,
        **{f"wasted_{name}_nats": part for name, part in kl.waste._asdict().items()},
        "kl_nats": kl.dims.mean(0),
        **{f"{name}_nats": part for name, part in kl.parts._asdict().items()},
        "gap_nats": kl.own.mean(0) - kl_nats(own, match(own)).mean(0),
        "ratio": (0.5 * (own.logvar - kl.prior.logvar)).mean(0).exp(),
        "spread": (means_variance / prior_variance).sqrt(),
        "posterior_variance": own.logvar.exp().mean(0),
        "prior_variance": prior_variance,
        "active_unit": means_variance > ACTIVE_VARIANCE,
    }
    labels = [",".join(map(str, place)) for place in np.ndindex(latent)]
    dims = pd.DataFrame({name: value.flatten().numpy() for name, value in columns.items()}, labels)
    start = 1.0 if since is None else since.dims["prior_variance"]
    dims.insert(0, "status", classify(dims, start))
    of_code = {"kl": kl_of_code, "added": new.code, "information": found.code}
    totals: dict[str, float] = {}
    for name, (mean, error) in of_code.items():
        totals |= {f"{name}_nats": float(mean), f"{name}_error": float(error)}
    totals["ceiling_nats"] = math.log(len(chosen))
    alive = (dims["status"] == "alive").to_numpy(copy=True).reshape(latent)
    return Report(dims, totals, alive, tuple(_hints(dims, len(chosen), assumed)))


def _compared(
    q: Gaussian, p: Gaussian | Mixture, chosen: Tensor, generator: torch.Generator
) -> tuple[Information, Information]:
    """The information of the samples that were chosen, and what they add to their priors."""
    q = type(q)(*(part[chosen] for part in q))
    noise = torch.randn(q.mean.shape, generator=generator, dtype=torch.float64)
    found = information(q, noise)
    if isinstance(p, Mixture) or p.mean.dim() < q.mean.dim():  # one for all samples
        return found, found
    return found, added(q, type(p)(*(part[chosen] for part in p)), noise, found)


def _hints(dims: pd.DataFrame, compared: int, assumed: bool) -> Iterator[str]:
    if compared < len(dims):
        yield "Fewer samples than dims: is the first axis that of samples?"
    if assumed and dims["gap_nats"].sum() > ALIVE_NATS * len(dims):
        gap = f"{dims['gap_nats'].sum():.2f} nats"
        yield (f"No prior was given, and N(0, I) misfits these codes by {gap}: pass a learned one.")


class _KL(NamedTuple):
    """KL from the prior in nats, each (sample, 1, dim) but where said, and the prior's moments."""

    dims: Tensor  # of each dim; for full covariances, given the dims before
    own: Tensor  # of each dim's own distribution from the prior's of that dim
    code: Tensor  # (sample,), of all dims together
    parts: Parts  # each (1, dim)
    waste: Waste
    prior: Diagonal  # (..., 1, dim)


def _kl(q: Gaussian, own: Diagonal, p: Gaussian | Mixture, generator: torch.Generator) -> _KL:
    if not isinstance(p, Mixture):
        dims, prior = kl_nats(q, p), marginal(p)
        code, wasted = dims.sum((-2, -1)), waste(marginal(relative(own, prior)))
        return _KL(dims, kl_nats(own, prior), code, kl_parts(q, p), wasted, prior)
    z = sample(q, torch.randn(q.mean.shape, generator=generator, dtype=torch.float64))
    each, joint = mixture_log_density(p.components, z, p.log_weights)
    dims = dim_log_density(own, z) - each
    unknown = torch.full_like(own.mean[0], torch.nan)
    parts, wasted = Parts(unknown, unknown, unknown), Waste(unknown, unknown)
    return _KL(dims, dims, log_density(q, z) - joint, parts, wasted, p.moments())


class Recorder:
    """A report for each epoch, from any training loop: no callback, no hook.

        recorder = Recorder()
        for epoch in range(epochs):
            ...
            report = recorder.record(epoch, posterior_mean=..., posterior_logvar=...)
            logger.log(report.to_dict())
        recorder.figure()

    The first report is where shrinking is measured from.
    """

    def __init__(self) -> None:
        self.reports: dict[float, Report] = {}

    def record(self, epoch: float, **arguments: Any) -> Report:
        """`diagnose` with these arguments, kept under this epoch; a second time, it replaces."""
        check_number("epoch", epoch)
        first = next(iter(self.reports), epoch)
        since = None if epoch == first else self.reports[first]
        self.reports[epoch] = diagnose(**{"since": since, **arguments})
        return self.reports[epoch]

    @property
    def table(self) -> pd.DataFrame:
        """The `dims` of all reports, by (epoch, dim)."""
        frames = {epoch: report.dims for epoch, report in sorted(self.reports.items())}
        check(bool(frames), "a Recorder must have recorded something", len(frames))
        return pd.concat(frames, names=["epoch", "dim"])

    def figure(self) -> Figure:
        """Over epochs, a line per dim: its variances, its ratio, and its information."""
        return figures.history(self.table)
