"""Runs made up so that every summary of them is known."""

import numpy as np
import xarray as xr

from vaenotes import trace

NODES = ["shape", "x"]
IMAGES = 64


def make_runs(used, epochs=20, seed=0) -> xr.Dataset:
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
    rng = np.random.default_rng(seed)
    means = rng.standard_normal((replicas, IMAGES, nodes, dims))
    means = means * spread[:, -1, None]
    grown = np.linspace(0, 1, epochs + 1)[None, :, None, None, None]
    axes = ("replica", "epoch", "node", "dim")
    by_image = ("replica", "image", "node", "dim")
    followed = ("replica", "epoch", "followed", "node", "dim")
    kl = np.where(used, 3.0, 0.25) * np.ones_like(posterior)
    ratio = np.sqrt(posterior / prior)
    levels = len(trace.QUANTILES)
    quantiles = np.linspace(-1, 1, levels)[None, None, :, None, None]
    by_quantile = ("replica", "epoch", "quantile", "node", "dim")
    alike = np.ones((levels, 1, 1))  # all images and noise have one width
    return xr.Dataset(
        {
            "posterior_variance": (axes, posterior),
            "prior_variance": (axes, prior),
            "posterior_spread": (axes, spread),
            "prior_spread": (axes, np.full_like(posterior, 0.12)),
            "prior_mean": (axes, np.full_like(posterior, -0.15)),
            "ratio": (axes, ratio),
            "knockout_nats": (("replica", "node", "dim"), np.where(used[:, 0], 5.0, 0.0)),
            "knockout_r2": (("replica", "node", "dim"), np.where(used[:, 0], 0.4, 0.0)),
            "noise_force": (("replica", "node", "dim"), 0.5 * (1 - ratio[:, -1] ** 2) + 1e-9),
            "shuffled_kl_nats": (("replica", "node", "dim"), kl[:, -1] + 0.01),
            "reconstruction_nats": (axes[:2], np.full(posterior.shape[:2], 37.0)),
            "mean_reconstruction_nats": (axes[:1], np.full(replicas, 36.5)),
            "r2": (axes[:3], np.broadcast_to([0.4, 0.9], posterior.shape[:3]).copy()),
            "kl_nats": (axes, kl),
            "kl_mean_nats": (axes, 0.6 * kl),
            "kl_offset_nats": (axes, 0.1 * kl),
            "posterior_quantiles": (
                by_quantile, 4 * quantiles * np.ones_like(posterior)[:, :, None],
            ),
            "prior_quantiles": (
                by_quantile, 0.4 * quantiles * np.ones_like(posterior)[:, :, None],
            ),
            "posterior_std_quantiles": (by_quantile, alike * np.sqrt(posterior)[:, :, None]),
            "prior_std_quantiles": (by_quantile, alike * np.sqrt(prior)[:, :, None]),
            "image_posterior_mean": (by_image, means),
            "image_prior_mean": (by_image, 0.8 * means),
            "image_posterior_logvar": (
                by_image, np.log(posterior[:, -1, None]) * np.ones_like(means),
            ),
            "followed_posterior_mean": (followed, grown * means[:, None]),
            "followed_posterior_logvar": (
                followed, np.log(posterior[:, :, None]) * np.ones_like(means[:, None]),
            ),
        },
        coords={
            "epoch": np.arange(epochs + 1),
            "node": NODES,
            "dim": [1, 2],
            "quantile": list(trace.QUANTILES),
            "seed": ("replica", np.arange(replicas)),
            "kl_weight": ("replica", np.full(replicas, 0.5)),
            "factors": (
                ("image", "node"),
                means[0, :, :, 0] + 1e-3 * np.arange(IMAGES)[:, None],
            ),
            "diverged": ("replica", np.full(replicas, -1)),
            "diverged_step": ("replica", np.full(replicas, -1)),
        },
    )  # fmt: skip


BOTH, FIRST, SECOND, NONE = [[1, 1]] * 2, [[1, 0]] * 2, [[0, 1]] * 2, [[0, 0]] * 2
MIXED, CROSSED = [[1, 1], [1, 0]], [[1, 0], [0, 1]]
