"""The numbers of a report, from moments and estimates."""

from collections.abc import Iterator

import torch
from torch import Tensor

from vaenotes.diagnosis.added import Estimate, Information
from vaenotes.diagnosis.directions import Bound, dim_bound
from vaenotes.diagnosis.moments import BOUNDING, QUANTITIES, Moments, Sums
from vaenotes.diagnosis.status import ACTIVE_VARIANCE, ALIVE_NATS, DEVIATIONS

SAMPLES_A_DIM = 10
"""Of fewer the moments make some directions of noise look alive, and hide others."""


def columns(
    seen: Moments, found: Information, new: Information, mixture: bool
) -> dict[str, Tensor]:
    """The columns of `Report.dims` but its status, each (dim,)."""
    mean, around, *_ = _moments(seen)
    variance = around["mean"] + mean["variance"]  # of all codes
    in_prior_units = around["u"] + mean["u_variance"]
    shift, offset = mean["shift_square"], mean["shift_scale"] / mean["scale_square"].sqrt()
    parts = {
        "wasted_offset_nats": 0.5 * mean["u"].square(),
        "wasted_width_nats": width(in_prior_units),
        "variance_nats": mean["kl"] - 0.5 * shift,
        "mean_nats": 0.5 * (shift - offset.square()).clamp_min(0),
        "offset_nats": 0.5 * offset.square(),
    }
    if mixture:
        parts = dict.fromkeys(parts, torch.full_like(variance, torch.nan))
    return {
        "added_nats": new.dims.mean[0],
        "added_error": new.dims.standard_error[0],
        "information_nats": found.dims.mean[0],
        "information_error": found.dims.standard_error[0],
        "bound_nats": _bound(mean, around),
        **({} if seen.places is None else {"place_nats": _at_most(seen.places)}),
        "wasted_nats": mean["own_kl"] - new.dims.mean[0],
        "kl_nats": mean["kl"],
        **parts,
        "gap_nats": mean["own_kl"] - dim_bound(variance, mean["log_variance"]),
        "ratio": mean["log_ratio"].exp(),
        "spread": (around["mean"] / mean["prior_variance"]).sqrt(),
        "posterior_variance": mean["variance"],
        "prior_variance": mean["prior_variance"],
        "active_unit": around["mean"] > ACTIVE_VARIANCE,
        "at_ceiling": new.dims.at_ceiling[0],
        "information_at_ceiling": found.dims.at_ceiling[0],
    }


def not_alive(found: Information, alive: list[bool]) -> float:
    """What the dims that are not alive carry together at least, but for 1 in 40: information of
    dims that are independent given the sample is at most the sum of theirs."""
    known, chosen = found.dims, torch.tensor(alive)
    rest = found.code.mean - known.mean[0, chosen].sum()
    errors = found.code.standard_error.square() + known.standard_error[0, chosen].square().sum()
    return max(float(rest - DEVIATIONS * errors.sqrt()), 0.0)


def capped(new: Information, seen: Moments) -> Information:
    """What dims and the code add to a prior that sees the sample, at most: no more than their KL,
    of which no prior lets them add more."""
    mean, around, _, worth = _moments(seen)
    inflation = seen.dims.inflation[QUANTITIES.index("own_kl")]
    error = (around["own_kl"] / (worth - 1) * inflation).sqrt()
    code = _least(new.code, seen.code.mean[0], seen.code.error[0])
    return Information(_least(new.dims, mean["own_kl"], error), code)


def _least(known: Estimate, kl: Tensor, error: Tensor) -> Estimate:
    less = kl < known.mean
    parts = zip((kl, error, torch.zeros_like(kl)), known, strict=True)
    return Estimate(*(torch.where(less, one, other) for one, other in parts))


def _bound(mean: dict[str, Tensor], around: dict[str, Tensor]) -> Tensor:
    """The least of all ways to bound what dims add."""
    ways = [dim_bound(moved + within, of) for moved, within, of in _ways(mean, around)]
    return torch.stack(ways).amin(0)


def _at_most(places: Sums) -> Tensor:
    """`_bound` at the place where it is largest, (dim,)."""
    mean, around = (dict(zip(BOUNDING, of, strict=True)) for of in (places.mean, places.variance))
    return _bound(mean, around).nan_to_num(0).amax(0)  # nothing counts at some


def width(variance: Tensor) -> Tensor:
    """Nats wasted on codes of this variance in units of their priors."""
    logvar = variance.log()
    return 0.5 * (torch.expm1(logvar) - logvar)


def totals(
    seen: Moments,
    found: Information,
    new: Information,
    bounds: list[Bound],
    full: set[str],
    mixture: bool,
) -> dict[str, float]:
    """`Report.totals`; bounds: of the joints. full: which Gaussians are, of "posterior" and
    "prior"; mixture: whether the prior is one."""
    numbers = {"kl_nats": float(seen.code.mean), "kl_error": float(seen.code.error)}
    for name, of in (("added", new.code), ("information", found.code)):
        numbers |= {f"{name}_nats": float(of.mean), f"{name}_error": float(of.standard_error)}
        numbers[f"{name}_at_ceiling"] = float(of.at_ceiling)
    every = [] if "posterior" in full else [_together(seen)]
    known = [(bound.nats + bound.slack, bound.error) for bound in (*bounds, *every)]
    most, error = min(known, default=(torch.inf, torch.nan))
    if bounds:
        least = min(bounds, key=lambda bound: bound.nats)
        numbers["bound_nats"] = min(bound.nats for bound in (*bounds, *every))
        numbers |= {"bound_slack_nats": most - numbers["bound_nats"], "bound_error": error}
        if seen.samples >= SAMPLES_A_DIM * len(least.along):
            numbers["directions"] = float((least.along > ALIVE_NATS).sum())
    wasted = numbers["kl_nats"] - most
    if mixture:  # the KL is an estimate, and no part of it is known
        return numbers | {"wasted_nats": max(wasted - DEVIATIONS * numbers["kl_error"], 0.0)}
    wasted = numbers["wasted_nats"] = max(wasted, 0.0)
    return numbers | _parts(seen, wasted, "prior" in full)


def _together(seen: Moments) -> Bound:
    """Of dims that are independent given the sample: what each can add adds up to a bound too. In
    other units than the prior's it must be clearly less: the least of several would be by chance.
    """
    mean, around, share, worth = _moments(seen)
    nats = slack = torch.full_like(share, torch.inf)
    parts = torch.zeros_like(share)
    for way, (moved, within, log_variance) in enumerate(_ways(mean, around)):
        found, part = dim_bound(moved + within, log_variance), moved / (moved + within)
        few = _few(part, worth) + (4 * part / worth if way else 0)
        better = found + few < nats + slack
        nats, slack = torch.where(better, found, nats), torch.where(better, few, slack)
        parts = torch.where(better, part, parts)
    spread = share * parts * (0.5 + 0.5 * parts.square()).sqrt() / worth  # of offset and width
    slack = (share * slack).sum() + DEVIATIONS * spread.square().sum().sqrt()
    error = ((share * parts).square() / (2 * worth)).sum().sqrt()
    return Bound(nats.numpy(), float((share * nats).sum()), float(slack), float(error))


def _ways(
    mean: dict[str, Tensor], around: dict[str, Tensor]
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """In units of the prior, in its own, and less the multiple of the prior's mean that follows it
    best: the variance of a dim's means, its mean variance and the mean log of it."""
    yield around["u"], mean["u_variance"], 2 * mean["log_ratio"]
    moved, prior = around["mean"], around["prior_mean"]
    yield moved, mean["variance"], mean["log_variance"]
    shared = 0.5 * (moved + prior - around["away"])  # their covariance
    known = shared.square() / (moved * prior).clamp_min(1e-300)
    size = (mean["prior_mean"].square() + moved) * 1e-8  # below this, or near it, all is rounding
    sure = (prior > size) & (moved > 1e-8 * prior)
    left = moved * torch.where(sure, 1 - known, torch.ones_like(known)).clamp_min(1e-6)
    yield left, mean["variance"], mean["log_variance"]


def _moments(seen: Moments) -> tuple[dict[str, Tensor], dict[str, Tensor], Tensor, Tensor]:
    """Means and variances of QUANTITIES, each (dim,); which share of the code's samples have a dim,
    and how many they are worth."""
    mean = dict(zip(QUANTITIES, seen.dims.mean, strict=True))
    around = dict(zip(QUANTITIES, seen.dims.variance, strict=True))
    share = (seen.there / seen.code.weight).expand_as(mean["kl"])
    return mean, around, share, seen.samples * share


def _parts(seen: Moments, nats: float, full: bool) -> dict[str, float]:
    """What is provably wasted of the KL on constant offsets, and on widths, of these in all; full:
    whether the prior is. What the moments of few samples make of a prior that matches is taken off.
    """
    mean, around, share, worth = _moments(seen)
    offset, moved, within = mean["u"], around["u"], mean["u_variance"]
    if full:  # in units of its factor
        if not seen.joints:
            return {}
        joint, share = seen.joints[0], torch.ones_like(share)
        offset, moved = joint.mean, joint.around.diagonal() / joint.weight
        within = joint.within.diagonal() if joint.within.dim() == 2 else joint.within
        within = within / joint.weight
    offsets = 0.5 * (offset.square() - moved / worth)
    widths = width(moved + within) - _few(moved / (moved + within), worth) + 0.5 * moved / worth
    on_offsets = min(max(float((share * offsets).sum()), 0.0), nats)
    on_widths = min(max(float((share * widths).sum()), 0.0), nats - on_offsets)
    return {"wasted_offset_nats": on_offsets, "wasted_width_nats": on_widths}


def _few(share: Tensor, samples: Tensor) -> Tensor:
    """`directions.few` of single dims."""
    return (share.square() + share) / (2 * samples)
