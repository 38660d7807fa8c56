"""Which dims of any VAE are alive: a report on its codes, from the numbers alone.

    report = diagnose(
        posterior_mean=mean, posterior_logvar=logvar,  # (sample, ...), from your encoder
        prior_mean=prior_mean, prior_std=prior_std,    # leave out for N(0, I)
    )
    print(report)

`Diagnosis` takes the codes batch by batch; `adapters` takes these arguments from a model;
`Recorder` keeps a report for each epoch. Nothing here needs this library's own models.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pandas as pd
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from vaenotes.diagnosis import measures
from vaenotes.diagnosis.added import Information, added, information
from vaenotes.diagnosis.arrays import array_of, check_each
from vaenotes.diagnosis.decoded import Decode, Drawn, effects, takes_rows
from vaenotes.diagnosis.directions import directions
from vaenotes.diagnosis.hints import Noticed, hints
from vaenotes.diagnosis.inputs import FULL, SPREADS, Batch, Given, Mixture, read
from vaenotes.diagnosis.moments import Moments, moments
from vaenotes.diagnosis.report import Report
from vaenotes.diagnosis.sampled import Sampled
from vaenotes.diagnosis.status import classify
from vaenotes.errors import LARGEST, ParameterError, check, check_int
from vaenotes.kl import Diagonal
from vaenotes.state import switches_as_they_start


class Diagnosis:
    """A report on codes that come in batches, of which there may be any number.

        diagnosis = Diagnosis()
        for images in loader:
            diagnosis.update(posterior_mean=..., posterior_logvar=...)
        report = diagnosis.compute()

    What is kept are sums, and `compared` samples drawn at random: memory does not grow with the
    samples. Objects of several processes merge: give each a `seed` of its own.

    compared: of how many samples information is estimated; its time grows with their square. Of
        objects that merge it should be the same: of what one compares few, all compare few.
    decode: as in `diagnose`; what it is given comes as the posterior means did. Whole codes of the
        samples compared are kept for it. One that takes `rows` counts the samples of this object
        alone, which merges with no other then.
    """

    def __init__(
        self, *, compared: int = 1024, seed: int = 0, decode: Decode | None = None
    ) -> None:
        check_int("compared", compared, 2)
        check_int("seed", seed, 0, LARGEST)
        check(decode is None or callable(decode), "decode must be a function of codes", decode)
        self.compared, self.seed, self.decode = int(compared), int(seed), decode
        self.reset()

    def reset(self) -> None:
        """Forget all samples."""
        self._first: Batch | None = None  # what all batches have in common: of no samples
        self._moments: Moments | None = None
        self._sampled: Sampled | None = None
        self._drawn: Drawn | None = None  # if there is a decoder
        self._noticed, self._given = Noticed(), 0
        self._generator, self._draws = (_generator(self.seed, what) for what in ("kept", "decoded"))

    @property
    def empty(self) -> bool:
        """Whether no sample has been seen that counts."""
        return self._first is None

    @switches_as_they_start()
    def update(self, **arguments: Any) -> None:
        """More samples: the arguments of `diagnose` from `posterior_mean` to `groups`."""
        posterior, prior = (
            [arguments.pop(f"{of}_{name}", None) for name in SPREADS]
            for of in ("posterior", "prior")
        )
        mean, prior_mean, prior_weights, weights, groups = (
            arguments.pop(name, None)
            for name in ("posterior_mean", "prior_mean", "prior_weights", "weights", "groups")
        )
        for name in arguments:
            raise ParameterError(f"update must be given arguments of diagnose, got {name}")
        batch = read(mean, posterior, (prior_mean, prior, prior_weights), weights, groups)
        with self._wholly():
            before, self._given = self._given, self._given + len(mean)
            if batch is None:  # nothing of it counts
                return
            drawn = None
            if self.decode is not None:
                like = mean if isinstance(mean, Tensor) else array_of("posterior_mean", mean)
                drawn = Drawn.of(batch, self.compared, self._draws, like, before)
            self._join(_common(batch))
            self._noticed += Noticed.of(batch, mean, prior_mean is None)
            self._keep(Sampled.of(batch, self.compared, self._generator), drawn)
            self._add(moments(batch, self._generator))

    def merge(self, other: "Diagnosis") -> None:
        """Add what another has seen."""
        another = isinstance(other, Diagnosis) and other is not self
        check(another, "other must be another Diagnosis", other)
        if other._first is None or other._moments is None or other._sampled is None:
            return
        decoded = self.decode is None or other._drawn is not None
        check(decoded, "other must have been given a decode as this one was", other.decode)
        fits = not self._given or self.decode is None or not takes_rows(self.decode)
        check(fits, "decode must not take rows where a Diagnosis merges with another", self.decode)
        with self._wholly():
            self._given += other._given
            self._join(other._first)
            self._noticed += other._noticed
            self._keep(other._sampled, None if self.decode is None else other._drawn)
            self._add(other._moments)

    @contextmanager
    def _wholly(self) -> Iterator[None]:
        """What is changed, or as it was where that fails."""
        kept, generators = dict(vars(self)), (self._generator, self._draws)
        states = [generator.get_state() for generator in generators]
        try:
            yield
        except BaseException:
            vars(self).update(kept)
            for generator, state in zip(generators, states, strict=True):
                generator.set_state(state)
            raise

    def _add(self, more: Moments) -> None:
        self._moments = more if self._moments is None else self._moments + more

    def _join(self, common: Batch) -> None:
        if self._first is None:
            self._first = common
            return
        first, axes = self._first, common.axes
        for rule, got, before in (
            ("posterior_mean must be (sample, ...) of", axes.latent, first.axes.latent),
            ("groups must be", axes.kept, first.axes.kept),
        ):
            check(got == before, f"{rule} {before}, as before", got)
        alike = (common.posterior.kind in FULL) == (first.posterior.kind in FULL)
        check(alike, "a posterior must be full in every batch or in none", common.posterior.kind)
        _check_alike(common.prior, first.prior)
        self._first = first._replace(names=first.names.joined(common.names))

    def _keep(self, sampled: Sampled, drawn: Drawn | None) -> None:
        before, codes = self._sampled, self._drawn
        self._sampled = sampled if before is None else before.merged(sampled, self.compared)
        if drawn is not None:
            self._drawn = drawn if codes is None else codes.merged(drawn, self.compared)

    def compute(self, since: Report | None = None) -> Report:
        """The report on all samples so far. since: as in `diagnose`."""
        report = self._report(since)
        if self.decode is None or self._drawn is None or self._first is None:
            return report
        with torch.no_grad():  # and else in the caller's own state of torch
            share, error = effects(self.decode, self._drawn, self._first.axes)
        return replace(report, dims=report.dims.assign(decoder=share, decoder_error=error))

    @switches_as_they_start()
    def _report(self, since: Report | None) -> Report:
        check(isinstance(since, Report | None), "since must be a Report", since)
        seen = 0 if self._moments is None else float(self._moments.samples)
        rule = "posterior_mean must have 2 samples or more, of weights above 0"
        check(seen > 1, rule, round(seen, 3))
        assert self._first is not None and self._moments is not None and self._sampled is not None
        latent, kept = self._first.axes.dims, self._first.axes.kept
        empty = int((self._moments.dims.weight <= 0).sum())
        rule = "weights must be above 0 for a sample or more of each dim"
        check(empty == 0, rule, f"{empty} without")
        names = self._first.names.along(kept)
        if since is not None:
            since.check_same_dims(self._first.axes, names)
        p, span = self._first.prior, self._moments.prior
        one = None if span is None else span.one
        if one is not None:  # passed with a row for each sample, all the same
            p = one
        sees, mixture = isinstance(p, Given) and p.sees, isinstance(p, Mixture)
        found, new = _compare(self._sampled, p, self.seed)
        new = measures.capped(new, self._moments) if sees else new
        columns = measures.columns(self._moments, found, new, mixture)
        numbers = {name: value.numpy() for name, value in columns.items()}
        dims = pd.DataFrame(numbers, self._first.labels)
        start = 1.0 if since is None else since.dims["prior_variance"].to_numpy()
        dims.insert(0, "status", classify(dims, start))
        alive = (dims["status"] == "alive").to_numpy(copy=True)
        joints = self._moments.joints if sees else self._moments.joints[:1]
        bounds = [directions(joint, seen) for joint in joints]
        kinds = {"posterior": self._first.posterior.kind, "prior": getattr(p, "kind", "")}
        full = {of for of, kind in kinds.items() if kind in FULL}
        totals = measures.totals(self._moments, found, new, bounds, full, mixture)
        totals["ceiling_nats"] = self._sampled.compared.ceiling
        if self._first.axes.places > 1:
            totals["places"] = self._moments.rows / self._moments.of_samples
        if self._sampled.weights.shape[1] == 1:  # else they are of other samples each
            totals["dims_nats"] = float(dims["added_nats"].sum())
            if not sees and "posterior" not in full:
                totals["not_alive_nats"] = measures.not_alive(found, alive.tolist())
        along = min(bounds, key=lambda bound: bound.nats).along if bounds else None
        compared = self._sampled.compared
        said = hints(dims, self._moments, compared, self.compared, self._noticed)
        return Report(dims, totals, alive.reshape(latent), tuple(said), along, sees, kept, names)


def _common(batch: Batch) -> Batch:
    """What every batch must have: no samples, and no view of any."""

    def bare(given: Given) -> Given:
        some = given.only(slice(0)) if given.sees else given
        return Given(some.mean.clone(), some.spread.clone(), some.kind)

    p = bare(batch.prior) if isinstance(batch.prior, Given) else batch.prior
    q, none = bare(batch.posterior), torch.empty(0)
    return batch._replace(posterior=q, prior=p, weights=None, sample=None, given=none)


def _check_alike(one: Given | Mixture, before: Given | Mixture) -> None:
    """Raise ParameterError where a batch's prior is not of the kind of those before, or, if it is
    one for all samples, another one."""
    as_before = "in every batch or in none"
    mixtures = [isinstance(p, Mixture) for p in (one, before)]
    got = "some" if mixtures[0] else "none"
    check(mixtures[0] == mixtures[1], f"prior_weights must be given {as_before}", got)
    if isinstance(one, Mixture) and isinstance(before, Mixture):
        counts = [len(p.log_weights) for p in (one, before)]
        rule = f"prior_weights must be {counts[1]}, as before"
        check(counts[0] == counts[1], rule, counts[0])
        std = (0.5 * one.components.logvar).exp()
        shown = {"weights": one.log_weights.exp(), "mean": one.components.mean, "std": std}
        now, then = ([p.log_weights, *p.components] for p in (one, before))
    else:
        assert isinstance(one, Given) and isinstance(before, Given)
        got = "one for each" if one.sees else "one for all"
        rule = f"prior_mean and prior_{one.kind} must be for each sample {as_before}"
        check(one.sees == before.sees, rule, got)
        rule = f"a prior must be full {as_before}"
        check((one.kind in FULL) == (before.kind in FULL), rule, one.kind)
        if one.sees:
            return
        shown = {"mean": one.mean, one.kind: one.spread}
        now, then = (list(p.rows(slice(None))) for p in (one, before))
    for (name, values), new, old in zip(shown.items(), now, then, strict=True):
        same = torch.isclose(new, old, rtol=1e-6, atol=1e-12).reshape(values.shape)
        check_each(f"prior_{name} must be the same in every batch", same, values)


def _generator(seed: int, what: str) -> torch.Generator:
    """One that draws what nobody else does: codes may have been drawn by a generator of this seed,
    and noise that is theirs again would tell all of them."""
    mixed = hashlib.sha256(f"{what} {seed}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(mixed[:4]))  # of more torch takes no notice


def _compare(sampled: Sampled, p: Given | Mixture, seed: int) -> tuple[Information, Information]:
    """What the samples' codes say of them, and what they add to their priors."""
    q, prior, compared = sampled.posterior, sampled.prior, sampled.compared
    weights = compared.weights
    if weights.shape[1] > 1 and isinstance(p, Given):  # what does not count is as its prior has it
        own = prior if prior is not None and p.sees else p.rows(slice(None))
        parts = zip(q, own, strict=True)
        q = Diagonal(*(torch.where(weights[:, None] > 0, mine, its) for mine, its in parts))
    noise = torch.randn(q.mean.shape, generator=_generator(seed, "codes"), dtype=torch.float64)
    found = information(q, noise, compared)
    if prior is None or not (isinstance(p, Given) and p.sees):  # one for all samples
        return found, found
    return found, added(q, prior, noise, found, compared)


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
    weights: ArrayLike | None = None,
    groups: int | tuple[int, ...] | None = None,
    compared: int = 1024,
    seed: int = 0,
    since: Report | None = None,
    decode: Decode | None = None,
) -> Report:
    """Report which dims of a VAE add something to its prior, and which cost and add nothing.

    Tensors or arrays, matched by place (names of axes, rows or columns that several have must be
    the same, rows of frames always), each Gaussian by its mean and one of the five other arguments:
    posterior_mean: (sample, ...), a latent of any shape, n numbers in all; logvar (natural log),
        variance or std of the same shape, of the latent's alone, or one number; or covariance or
        its lower Cholesky factor, (sample, n, n) or (n, n), over the flattened latent.
    prior_mean: (...) for a prior that is one for all samples, (sample, ...) for one that is not
        (rows equal but for rounding are one prior); the rest accordingly. No prior: N(0, I).
        With prior_weights (component,), that sum to 1, the prior is a mixture and the rest is
        (component, ...), of independent dims.
    weights: how much each sample counts, (sample,), or each place of the latent, by leading axes,
        as (sample, step): a mask of padded steps is of 0 and 1. A masked array says the same.
    groups: axes of posterior_mean that are dims, as 1 for the channels of (sample, channel, height,
        width): places along the others are pooled, and all nats are per place.
    compared: of how many samples, drawn with `seed`, the information is estimated; its time grows
        with their square. since: an earlier report of the model, from which shrinking is measured;
        else from variance 1.
    decode: your decoder, of which each dim's share is told: codes (n, ...) -> a tensor (n, ...). It
        decodes compared x dims codes, in any order; `decoded` says more, and what `rows` are.

    What a dim adds to a prior that sees the sample is known from above only: `added` says when it
    is exact. To be sure, diagnose the samples of one condition by themselves. The same sample given
    twice is taken for two: errors come out too small.

    No number but the variances and `active_unit` depends on the units of the code, which a learned
    prior and a decoder can change at no cost; nor a status, but "free-riding" without `since`.

    Sources: added, wasted: `added`; parts: `kl.kl_parts`; gap: `kl.match`; bounds: `directions`.
    Raises ParameterError, naming the argument, for shapes that do not fit and numbers that are not
    finite, not positive where they must be, or so large or small that a KL could overflow.
    """
    arguments = dict(locals())
    since, own = arguments.pop("since"), ("compared", "seed", "decode")
    check(isinstance(since, Report | None), "since must be a Report", since)
    diagnosis = Diagnosis(**{name: arguments.pop(name) for name in own})
    diagnosis.update(**arguments)
    return diagnosis.compute(since)
