"""Runs made up so that every summary of them is known."""

import json

import numpy as np
import xarray as xr

from vaenotes import trace

NODES = ["shape", "x"]
IMAGES = 64


def make_runs(used, epochs=20, first=0) -> xr.Dataset:
    """Runs in which used[replica][node][dim] says which dims are in use.

    Posterior variances halve at every epoch in all dims. A used dim has a prior variance of 1.44
    and means of spread sqrt(1.44 - s^2); an unused one has a prior that follows two epochs late
    down to the posterior's last value, and means of 0.
    """
    used = np.asarray(used, dtype=bool)[:, None]  # (replica, 1, node, dim)
    replicas, _, nodes, dims = used.shape
    fall = 2.0 ** -np.arange(epochs + 1)[None, :, None, None]
    late = np.minimum(1.0, 4 * fall)
    posterior = np.broadcast_to(fall, (replicas, epochs + 1, nodes, dims)).copy()
    prior = np.where(used, 1.44, late)
    prior[:, -1] = np.where(used[:, 0], 1.44, posterior[:, -1])
    spread = np.where(used, np.sqrt(np.maximum(1.44 - posterior, 0)), 0.0)
    means = np.random.default_rng(0).standard_normal((replicas, IMAGES, nodes, dims))
    means = means * spread[:, -1, None]
    grown = np.linspace(0, 1, epochs + 1)[None, :, None, None, None]
    kl = np.where(used, 3.0, 0.25) * np.ones_like(posterior)
    ratio = np.sqrt(posterior / prior)
    quantiles = np.linspace(-1, 1, len(trace.QUANTILES))[:, None, None]
    wide = np.ones_like(posterior)[:, :, None]  # (replica, epoch, 1, node, dim)
    logvar = np.log(posterior[:, :, None]) * np.ones((IMAGES, 1, 1))  # of each image
    values = {
        "posterior_variance": posterior,
        "prior_variance": prior,
        "posterior_spread": spread,
        "prior_spread": np.full_like(posterior, 0.12),
        "prior_mean": np.full_like(posterior, -0.15),
        "ratio": ratio,
        "kl_nats": kl,
        "kl_mean_nats": 0.6 * kl,
        "kl_offset_nats": 0.1 * kl,
        "r2": np.broadcast_to([0.4, 0.9], posterior.shape[:3]).copy(),
        "reconstruction_nats": np.full(posterior.shape[:2], 37.0),
        "posterior_quantiles": 4 * quantiles * wide,
        "prior_quantiles": 0.4 * quantiles * wide,
        "followed_posterior_mean": grown * means[:, None],
        "followed_posterior_logvar": logvar,
        "knockout_nats": np.where(used[:, 0], 5.0, 0.0),
        "knockout_r2": np.where(used[:, 0], 0.4, 0.0),
        "information_nats": np.where(used[:, 0], 2.0, 0.0),
        "squared_ratio": ratio[:, -1] ** 2,
        "training_kl_nats": kl[:, -1] - 0.02,
        "training_reconstruction_nats": np.full(replicas, 36.8),
        "noise_force": 0.5 * (1 - ratio[:, -1] ** 2) + 1e-9,
        "shuffled_kl_nats": kl[:, -1] + 0.01,
        "mean_reconstruction_nats": np.full(replicas, 36.5),
        "image_posterior_mean": means,
        "image_prior_mean": 0.8 * means,
        "image_posterior_logvar": logvar[:, -1],
    }
    axes = {name: ("replica", "epoch", *about.axes) for name, about in trace.QUANTITIES.items()}
    axes |= {name: ("replica", *about.axes) for name, about in trace.FINAL_QUANTITIES.items()}
    return xr.Dataset(
        {name: (axes[name], value) for name, value in values.items()},
        coords={
            "epoch": np.arange(epochs + 1),
            "node": NODES,
            "dim": [1, 2],
            "quantile": list(trace.QUANTILES),
            "seed": ("replica", (seeds := first + np.arange(replicas))),
            "config": ("replica", [json.dumps({"seed": int(seed)}) for seed in seeds]),
            "kl_weight": ("replica", np.full(replicas, 0.5)),
            "factors": (("image", "node"), means[0, :, :, 0] + 1e-3 * np.arange(IMAGES)[:, None]),
            "pictures": (("image", "pixel"), 2 * means[0, :, :, 0]),
            "diverged": ("replica", np.full(replicas, -1)),
            "diverged_step": ("replica", np.full(replicas, -1)),
        },
    )


BOTH, FIRST, SECOND, NONE = [[1, 1]] * 2, [[1, 0]] * 2, [[0, 1]] * 2, [[0, 0]] * 2
MIXED, CROSSED = [[1, 1], [1, 0]], [[1, 0], [0, 1]]


# Runs of each kind that the ledger's rules have to tell apart, of 30 epochs

ALL = np.ones(31)
FALL = np.where(np.arange(31) < 2, 1.0, 0.25 * np.exp((2 - np.arange(31)) / 5.6))  # to 0 at 15
LATER = np.where(np.arange(31) < 5, 1.0, 1.02 * FALL + np.exp(4.0 - np.arange(31)))  # half at 6


def reshaped(used, unused_stds, used_stds) -> xr.Dataset:
    """Eight equal replicas. Given are the stds of posterior and prior, each (epoch,), in dims not
    in use and in dims in use; codes fill the prior, and a factor, as a pixel, is the sum of its
    node's means."""
    runs = make_runs([used] * 8, epochs=30)
    each = np.asarray(used, dtype=bool)
    s, t = (
        np.where(each, live[:, None, None], dead[:, None, None])
        for dead, live in zip(unused_stds, used_stds, strict=True)
    )  # each (epoch, node, dim)
    spread = np.where(each, np.sqrt(np.maximum(t**2 - s**2, 0)), 0.0)
    means = np.random.default_rng(0).standard_normal((IMAGES, *each.shape))
    means = (means - means.mean(0)) / means.std(0) * spread[-1]
    values = {
        "posterior_variance": s**2, "prior_variance": t**2, "ratio": s / t,
        "posterior_spread": spread, "squared_ratio": (s / t)[-1] ** 2,
        "image_posterior_mean": means, "image_prior_mean": 0 * means,
        "image_posterior_logvar": 2 * np.log(s[-1]) * np.ones((IMAGES, 1, 1)),
    }  # fmt: skip
    for name, value in values.items():
        runs[name][:] = value
    runs["noise_force"][:] = 0.5 * (1 - runs.squared_ratio) + 1e-9  # at rest, at weight 0.5
    return shown_as(runs, means.sum(-1))


def shown_as(runs, values) -> xr.Dataset:
    """The runs of images whose factors, and whose pixels, are `values` (image, node)."""
    return runs.assign_coords(
        factors=(("image", "node"), values), pictures=(("image", "pixel"), values)
    )


def as_the_notes(used=FIRST) -> xr.Dataset:
    """One dim of every node is given up, and its prior follows; the other's stays at 1.2."""
    return reshaped(used, (FALL, LATER), (FALL, 1.2 * ALL))


def both_used() -> xr.Dataset:
    """As at full size: no dim is given up, and either carries about half of its node's KL."""
    runs = reshaped(BOTH, (FALL, 1.2 * ALL), (FALL, 1.2 * ALL))
    runs["kl_nats"][:] = [[6.0, 5.0], [5.0, 6.0]]
    runs["prior_variance"][..., 0] *= 0.9
    runs["knockout_nats"][:] = [[25.0, 543.0], [80.0, 300.0]]
    return runs


def under_a_fixed_prior() -> xr.Dataset:
    """The prior is N(0, I), and the dim that is not in use goes back to it."""
    back = np.where(np.arange(31) < 9, FALL, 0.97)
    runs = reshaped(FIRST, (back, ALL), (FALL, ALL))
    for name in ("prior_spread", "prior_mean", "prior_quantiles"):
        runs[name][:] = 0.0
    return runs


def informed() -> xr.Dataset:
    """The prior sees all that the posterior does."""
    runs = as_the_notes()
    runs["prior_spread"][:] = runs.posterior_spread.values
    runs["image_prior_mean"][:] = runs.image_posterior_mean.values
    return runs


def blurred() -> xr.Dataset:
    """Codes overlap, have nothing to do with the images and do not fill their priors, of which one
    node's is three times as wide; posteriors are narrow at once and then wide again."""
    runs = as_the_notes()
    runs["image_posterior_logvar"][:] = 0.0
    runs["posterior_variance"][:] = 1.0
    runs["prior_variance"][..., 1, :] *= 9.0
    for side in ("posterior", "prior"):
        runs[f"{side}_quantiles"][:] *= 0.1
    return shown_as(runs, np.random.default_rng(1).standard_normal(runs.factors.shape))
