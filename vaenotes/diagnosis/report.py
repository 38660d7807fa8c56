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
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from numpy.typing import ArrayLike
from torch import Tensor

from vaenotes.diagnosis import figures as portrait
from vaenotes.diagnosis.surgery import by_dim, estimate, mixture_densities
from vaenotes.errors import LARGEST, ParameterError, check, check_int, number
from vaenotes.kl import (
    Diagonal,
    Estimate,
    Full,
    Gaussian,
    Parts,
    kl_nats,
    kl_parts,
    log_density,
    marginal,
    match,
    sample,
)
from vaenotes.lab.summary import ACTIVE_SPREAD, CARRIES

SHRUNK = 0.5
"""A dead dim whose prior variance is below this share of where it started is free-riding."""
STATUSES = {
    "alive": f"says more than {CARRIES} nats of the sample",
    "dead": "says less, and costs little",
    "free-riding": "dead, but narrow: the prior shrank with the posterior, or was made so",
    "offset-wasting": f"dead, and pays more than {CARRIES} nats for a constant shift of its mean",
}
"""What a dim may be, and what that means."""
LARGEST_NUMBER, LARGEST_LOGVAR = 1e60, 300.0  # within these no KL overflows
SPREADS = ("logvar", "variance", "std", "covariance", "cholesky")


class Mixture(NamedTuple):
    """A prior that is a mixture: components (component, 1, dim), log-weights (component,)."""

    components: Diagonal
    log_weights: Tensor


@dataclass(frozen=True, repr=False)
class Report:
    """What `diagnose` found. Print it, show it in a notebook, draw or log it.

    dims: a row per dim, by its place in the latent ("3", or "4,1" in a latent of two axes):
        status              one of STATUSES
        information_nats    mutual information of sample and dim, and its standard error,
        information_error   over the samples; at most log of how many were compared
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
    totals: kl_nats, kl_error, information_nats, information_error, ceiling_nats, of all dims
        together; `ceiling_nats` is the most that the information could have come out as.
    alive: bool, of the latent's shape, to pick dims with: z[:, report.alive].
    """

    dims: pd.DataFrame
    totals: dict[str, float]
    alive: np.ndarray

    @property
    def counts(self) -> dict[str, int]:
        """How many dims have each status."""
        return {status: int((self.dims["status"] == status).sum()) for status in STATUSES}

    def to_dict(self) -> dict[str, float]:
        """All of it as flat numbers for a logger: totals, counts, and "dim/3/ratio" and so on."""
        found = {**self.totals, **{name: float(n) for name, n in self.counts.items()}}
        for label, row in self.dims.drop(columns="status").iterrows():
            found |= {f"dim/{label}/{name}": float(value) for name, value in row.items()}
        for label, status in self.dims["status"].items():
            found[f"dim/{label}/alive"] = float(status == "alive")
        return found

    def figure(self) -> Figure:
        """A row per dim: what it says, what it costs, its ratio, and its variances."""
        return portrait.report(self.dims)

    def __str__(self) -> str:
        return f"{self._sentence()}\n\n{_readable(self.dims).to_string()}"

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return (
            f"<p>{self._sentence()}</p>{_readable(self.dims).to_html(border=0, classes='report')}"
        )

    def _sentence(self) -> str:
        of, named = self.totals, [f"{n} {status}" for status, n in self.counts.items() if n]
        offsets = self.dims["offset_nats"].sum()
        wasted = f", {offsets:.2f} of it for offsets" if offsets >= CARRIES else ""
        few = math.exp(of["ceiling_nats"]) < len(self.dims) - 0.5
        near = of["information_nats"] > of["ceiling_nats"] - 0.5
        ceiling = f" (near the most that can be seen, {of['ceiling_nats']:.2f})" if near else ""
        return (
            f"{len(self.dims)} dims: {', '.join(named)}. "
            f"KL {of['kl_nats']:.2f} ± {of['kl_error']:.2f} nats{wasted}. Information about the "
            f"sample {of['information_nats']:.2f} ± {of['information_error']:.2f} nats{ceiling}."
            + (" Fewer samples than dims: is the first axis that of samples?" if few else "")
        )


def _readable(dims: pd.DataFrame) -> pd.DataFrame:
    """The columns for people, the most telling dims first."""
    dims = dims.sort_values("information_nats", ascending=False, kind="stable")
    said = zip(dims["information_nats"], dims["information_error"], strict=True)
    columns: dict[str, Any] = {
        "status": dims["status"],
        "information": [f"{_rounded(value)} ± {_rounded(error)}" for value, error in said],
    }
    for title, name in (
        ("KL", "kl_nats"), ("KL:means", "mean_nats"), ("KL:offset", "offset_nats"),
        ("gap", "gap_nats"), ("s/t", "ratio"), ("spread/t", "spread"),
    ):  # fmt: skip
        columns[title] = dims[name].map(_rounded)
    for title, name in (("s²", "posterior_variance"), ("t²", "prior_variance")):
        columns[title] = dims[name].map("{:.2g}".format)
    return pd.DataFrame(columns, index=dims.index).rename_axis("dim")


def _rounded(value: float) -> str:
    """To two places; a dash for NaN, and no minus before a zero."""
    return "–" if math.isnan(value) else f"{round(value, 2) + 0:.2f}"


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
    """Report which dims of a VAE are alive, dead, free-riding or wasting KL on an offset.

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
    prior and a decoder can change at no cost; nor does a status, given `since`. A status goes by
    the information, not by the ratio: a prior that knows the sample may have a ratio of 1 in a dim
    that says much. What the decoder makes of a dim is not seen here.

    With a full covariance kl_nats and its parts are terms of the chain rule (`kl.kl_nats`): their
    sum does not depend on the order of dims, each does; all else is of a dim's own distribution.
    From a mixture, a dim's KL and the total are estimated from a draw per sample; the parts are
    NaN, and the dims need not add up to the total.

    Sources: the parts, `kl.kl_parts`; information, Hoffman & Johnson 2016 and Chen et al. 2018
    (arXiv 1802.04942), see `surgery`; gap: from the best constant prior, `kl.match`.
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
    q, latent = _posterior(posterior_mean, dict(zip(SPREADS, spreads, strict=True)))
    spreads = prior_logvar, prior_variance, prior_std, prior_covariance, prior_cholesky
    named = dict(zip(SPREADS, spreads, strict=True))
    p = _prior(prior_mean, named, prior_weights, (len(q.mean), *latent))
    if since is not None and since.alive.shape != latent:
        before = ", ".join(map(str, since.alive.shape))
        rule = f"posterior_mean must be (sample, {before}), as in the report before (since)"
        check(False, rule, tuple(q.mean.shape[:1] + latent))
    labels = [",".join(map(str, place)) for place in np.ndindex(latent)]
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(len(q.mean), generator=generator)[:compared]
    # before anything is drawn for the prior, on which this does not depend
    information, all_information = _information(type(q)(*(part[chosen] for part in q)), generator)
    dims, total = _costs(q, p, generator)
    dims["information_nats"], dims["information_error"] = information
    frame = pd.DataFrame({name: value.flatten().numpy() for name, value in dims.items()}, labels)
    start = 1.0 if since is None else since.dims["prior_variance"]
    alive = frame["information_nats"] > CARRIES
    conditions = [
        alive,
        frame["offset_nats"] > CARRIES,
        frame["prior_variance"] < SHRUNK * start,
    ]
    frame["status"] = np.select(conditions, ["alive", "offset-wasting", "free-riding"], "dead")
    frame["active_unit"] = frame.pop("means_variance") > ACTIVE_SPREAD
    totals = {
        "kl_nats": float(total.mean),
        "kl_error": float(total.standard_error),
        "information_nats": float(all_information.mean),
        "information_error": float(all_information.standard_error),
        "ceiling_nats": math.log(len(chosen)),
    }
    return Report(frame[COLUMNS], totals, alive.to_numpy(copy=True).reshape(latent))


COLUMNS = [
    "status", "information_nats", "information_error", "kl_nats", "variance_nats", "mean_nats",
    "offset_nats", "gap_nats", "ratio", "spread", "posterior_variance", "prior_variance",
    "active_unit",
]  # fmt: skip


def _costs(
    q: Gaussian, p: Gaussian | Mixture, generator: torch.Generator
) -> tuple[dict[str, Tensor], Estimate]:
    """All but the information: by dim, (1, dim); and the KL of all dims together."""
    own = marginal(q)
    best = match(own)
    if isinstance(p, Mixture):
        z = sample(q, torch.randn(q.mean.shape, generator=generator, dtype=torch.float64))
        alone, joint = mixture_densities(p.components, z, p.log_weights)
        each = cost = by_dim(own, z) - alone
        total = log_density(q, z) - joint
        unknown = torch.full_like(best.mean, torch.nan)
        parts = {f"{name}_nats": unknown for name in Parts._fields}
        weights = p.log_weights.exp()[:, None, None]
        middle = (weights * p.components.mean).sum(0)
        second = p.components.logvar.exp() + (p.components.mean - middle).square()
        prior = Diagonal(middle, (weights * second).sum(0).log())
    else:
        each = kl_nats(q, p)
        total = each.sum((-2, -1))
        parts = {f"{name}_nats": v for name, v in kl_parts(q, p)._asdict().items()}
        prior = marginal(p)
        cost = kl_nats(own, prior)
    spread = own.mean.var(0, correction=0)
    # one prior for all has no sample axis to average over
    variance = prior.logvar.exp().reshape(-1, *best.mean.shape).mean(0)
    return {
        "kl_nats": each.mean(0),
        **parts,
        "gap_nats": cost.mean(0) - kl_nats(own, best).mean(0),
        "ratio": (0.5 * (own.logvar - prior.logvar)).mean(0).exp(),
        "spread": (spread / variance).sqrt(),
        "posterior_variance": own.logvar.exp().mean(0),
        "prior_variance": variance,
        "means_variance": spread,
    }, estimate(total)


def _information(q: Gaussian, generator: torch.Generator) -> tuple[Estimate, Estimate]:
    """Mutual information of the sample, taken for one of these, and its code, from one draw of
    each posterior: of each dim alone (1, dim), and of the whole code."""
    z = sample(q, torch.randn(q.mean.shape, generator=generator, dtype=torch.float64))
    own = marginal(q)
    alone, joint = mixture_densities(own, z)
    if isinstance(q, Full):  # the dims' own densities say nothing of the whole code's
        every = [log_density(Full(q.mean[i], q.cholesky[i]), z) for i in range(len(z))]
        joint = torch.stack(every, 1).logsumexp(1) - math.log(len(z))
    return estimate(by_dim(own, z) - alone), estimate(log_density(q, z) - joint)


def _posterior(mean: ArrayLike, spreads: dict[str, Any]) -> tuple[Gaussian, tuple[int, ...]]:
    """The posterior over (sample, 1, n), and the shape of the latent."""
    array = _array("posterior_mean", mean)
    fits = array.dim() >= 2 and len(array) >= 2 and array.numel() > 0
    rule = (
        "posterior_mean must be (sample, ...), of 2 samples or more and a latent of 1 dim or more"
    )
    check(fits, rule, tuple(array.shape))
    return _gaussian("posterior", array, spreads, array.dim() - 1), tuple(array.shape[1:])


def _prior(
    mean: ArrayLike | None,
    spreads: dict[str, Any],
    weights: ArrayLike | None,
    codes: tuple[int, ...],
) -> Gaussian | Mixture:
    """The prior of codes (sample, ...): over (1, n), (sample, 1, n) or (component, 1, n)."""
    latent = codes[1:]
    count = math.prod(latent)
    if mean is None:
        given = {"weights": weights, **spreads}
        extra = [f"prior_{name}" for name, value in given.items() if value is not None]
        if extra:
            raise ParameterError(f"prior_mean must be given where {extra[0]} is, got None")
        return Diagonal(*torch.zeros(2, 1, count, dtype=torch.float64))
    array = _array("prior_mean", mean)
    if weights is None:
        fits = tuple(array.shape) in (tuple(latent), codes)
        rule = f"prior_mean must be {tuple(latent)} or {codes}, as posterior_mean is {codes}"
        check(fits, f"{rule} (a mixture needs prior_weights)", tuple(array.shape))
        return _gaussian("prior", array, spreads, len(latent))
    shares = _array("prior_weights", weights)
    check(shares.dim() == 1, "prior_weights must be (component,)", tuple(shares.shape))
    _check_each("prior_weights must not be negative", shares >= 0, shares)
    check(abs(float(shares.sum()) - 1) < 0.01, "prior_weights must sum to 1", float(shares.sum()))
    wanted = (len(shares), *latent)
    rule = f"prior_mean must be {wanted}, one for each of prior_weights"
    check(array.shape == wanted, rule, tuple(array.shape))
    for name in ("covariance", "cholesky"):
        rule = f"prior_{name} must not be given with prior_weights: a mixture is of diagonal ones"
        check(spreads[name] is None, rule, spreads[name])
    components = _gaussian("prior", array, spreads, len(latent))
    assert isinstance(components, Diagonal)
    return Mixture(components, (shares / shares.sum()).log())


def _gaussian(of: str, mean: Tensor, spreads: dict[str, Any], latent_axes: int) -> Gaussian:
    """A Gaussian over (..., 1, n) from its mean and the one spread that is given."""
    given = [name for name, value in spreads.items() if value is not None]
    if len(given) != 1:
        names = ", ".join(f"{of}_{name}" for name in SPREADS)
        found = ", ".join(f"{of}_{name}" for name in given) or "none"
        raise ParameterError(f"{of}_mean needs exactly one of {names}, got {found}")
    name = f"{of}_{given[0]}"
    array = _array(name, spreads[given[0]])
    leading = mean.shape[: mean.dim() - latent_axes]
    count = math.prod(mean.shape[len(leading) :])
    full = given[0] in ("covariance", "cholesky")
    wanted = (*leading, count, count) if full else tuple(mean.shape)
    rule = f"{name} must be {wanted}, as {of}_mean is {tuple(mean.shape)}"
    check(tuple(array.shape) == wanted, rule, tuple(array.shape))
    flat = mean.reshape(*leading, 1, count)
    if full:
        return Full(flat, _cholesky(name, array, given[0] == "covariance"))
    if given[0] != "logvar":
        _check_each(f"{name} must be above 0", array > 0, array)
        array = array.log() if given[0] == "variance" else 2 * array.log()
    rule = f"{name} must be of log-variances in +-{LARGEST_LOGVAR:g}"
    _check_each(rule, array.abs() <= LARGEST_LOGVAR, array)
    return Diagonal(flat, array.reshape(flat.shape))


def _cholesky(name: str, array: Tensor, is_covariance: bool) -> Tensor:
    """The lower Cholesky factor of what is given, checked."""
    if not is_covariance:
        _check_each(f"{name} must be lower triangular", array.triu(1) == 0, array)
        diagonal = array.diagonal(dim1=-2, dim2=-1)
        _check_each(f"{name} must have a diagonal above 0", diagonal > 0, diagonal)
        return array
    skew = (array - array.mT).abs() <= 1e-4 * array.abs().amax((-2, -1), keepdim=True)
    _check_each(f"{name} must be symmetric", skew, array)
    lower, failed = torch.linalg.cholesky_ex(array)
    if failed.any():
        least = torch.linalg.eigvalsh(array).amin(-1)
        _check_each(f"{name} must have eigenvalues well above 0", failed == 0, least)
    return lower


def _array(name: str, value: Any) -> Tensor:
    """Any tensor or array of real numbers as a tensor of float64 on the CPU."""
    rule = f"{name} must be a tensor or array of real numbers"
    try:
        if isinstance(value, Tensor):
            fits, tensor = not value.is_complex(), value.detach().to_dense().cpu()
        else:
            array = np.asarray(value)
            fits = array.dtype.kind in "biuf"
            tensor = torch.from_numpy(array.astype(np.float64)) if fits else torch.empty(0)
    except (TypeError, ValueError, RuntimeError):
        fits = False
    check(fits, rule, value)
    tensor = tensor.double()
    sane = tensor.abs() <= LARGEST_NUMBER  # not so of nan
    _check_each(f"{name} must be finite, at most {LARGEST_NUMBER:g} in size", sane, tensor)
    return tensor


def _check_each(rule: str, fits: Tensor, values: Tensor) -> None:
    """Raise ParameterError with how many entries do not fit, and the first of them."""
    if not fits.all():
        places = (~fits).nonzero().tolist()
        first = tuple(places[0])
        raise ParameterError(
            f"{rule}, got {values[first].item():g} at {first}"
            + (f" and {len(places) - 1} more such" if len(places) > 1 else "")
        )


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
        check(math.isfinite(number(epoch)), "epoch must be a number", epoch)
        first = next(iter(self.reports), epoch)
        since = None if epoch == first else self.reports[first]
        report = diagnose(**{"since": since, **arguments})
        self.reports[epoch] = report
        return report

    @property
    def table(self) -> pd.DataFrame:
        """The `dims` of all reports, by (epoch, dim)."""
        frames = {epoch: report.dims for epoch, report in sorted(self.reports.items())}
        check(bool(frames), "a Recorder must have recorded something", len(frames))
        return pd.concat(frames, names=["epoch", "dim"])

    def figure(self) -> Figure:
        """Over epochs, a line per dim: its variances, its ratio, and what it says."""
        return portrait.history(self.table)
