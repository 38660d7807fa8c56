"""Kullback-Leibler divergences between Gaussians over (node, dim), in nats and unreduced.

Axes: means and log-variances are (..., node, dim); leading axes (replica, image) broadcast.
A full covariance lives on the flattened latent of n = node * dim entries and is given by its
lower Cholesky factor. Nothing is summed here but where a docstring says so: the objective does
that once, at the top.

Precision: what cancels near collapse, and every matrix product, is done in float64 (autocast
leaves float64 alone); half precision counts as float32. Results have the inputs' precision.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from vaenotes.errors import ParameterError, check


class Diagonal(NamedTuple):
    """Independent Gaussians: mean and log-variance, each (..., node, dim)."""

    mean: Tensor
    logvar: Tensor


class Full(NamedTuple):
    """One Gaussian over all nodes and dims, of covariance L L^T.

    mean is (..., node, dim); cholesky is L, (..., n, n) over the flattened n = node * dim,
    lower triangular with a positive diagonal (not checked: that would cost more than the KL).
    """

    mean: Tensor
    cholesky: Tensor


Gaussian = Diagonal | Full


class Parts(NamedTuple):
    """Where the mean KL over images comes from: three terms >= 0, each (..., node, dim), nats.

    variance: variances (and correlations) differ. mean: the difference of the means varies from
    image to image. offset: what the best constant shift of the prior's mean would save.
    """

    variance: Tensor
    mean: Tensor
    offset: Tensor


def kl_nats(q: Gaussian, p: Gaussian) -> Tensor:
    """KL(q || p) in nats, unreduced: (..., node, dim), each entry >= 0 to rounding.

    Diagonal against diagonal (Kingma & Welling 2014, appendix B, for p = N(0, I)): each entry is
        [expm1(d) - d + ((mean_q - mean_p) exp(-logvar_p / 2))^2] / 2,    d = logvar_q - logvar_p.
    With a full covariance on either side, entry j is the chain rule's term
        E_q KL(q(z_j | z_<j) || p(z_j | z_<j))
            = [expm1(d_j) - d_j + sum_{k<j} M_jk^2 + w_j^2] / 2,          d_j = 2 log M_jj,
    where M = L_p^-1 L_q and w = L_p^-1 (mean_q - mean_p). These add up to the whole KL, and only
    that sum is free of the order in which the latent is flattened.

    Derivation: under q, y = L_p^-1 (z - mean_p) = M eps + w with eps ~ N(0, I). Given z_<j, y_j is
    N(0, 1) under p, N(sum_{k<j} M_jk eps_k + w_j, M_jj^2) under q: average their KL over eps_<j.

    Precision: expm1(d) - d ~ d^2 / 2 has, beyond the rounding of d, a relative error of at most
    2^-51 / |d|; the float32 result is within 1e-6 of a given d's for 1e-9 <= |d| <= 8 (at d = 1e-4
    the KL is 2.5e-9). What is too large for the result's precision is inf. Log-variances of p from
    -176 up are in range (float64: from -1400); below, 1 / std_p overflows: entries are inf or NaN.

    Raises ParameterError where (node, dim) differ or leading axes do not broadcast.
    """
    _shape(q=q, p=p)
    spread, shift, _ = _compare(q, p)
    return (0.5 * (spread + shift.square())).to(_dtype(*q, *p))


def kl_parts(q: Gaussian, p: Gaussian) -> Parts:
    """Mean KL(q || p) over the image axis, split in three: each (..., node, dim), nats.

    With E the mean over images, r = 1 / std_p and w the difference of means in units of std_p
    (for a full p: of its std given the dims before, w as in `kl_nats`),
        offset = E[r w]^2 / E[r^2] / 2,    mean = E[w^2] / 2 - offset >= 0 (Cauchy-Schwarz).
    The offset is w's projection on r: what the best constant added to p's mean (for a full p:
    to its mean given the dims before) saves. The parts sum to the mean of `kl_nats`, and none
    depends on the units of a dim (gauge freedom).

    Raises ParameterError as `kl_nats`, and where there is no image axis.
    """
    shape = _shape(q=q, p=p)
    fits = len(shape) >= 3 and shape[-3] > 0
    check(fits, "q or p must be (..., image, node, dim), of an image or more", q.mean)
    spread, shift, logvar = (term.expand(shape) for term in _compare(q, p))
    # Only r's direction counts; relative to its largest entry it cannot overflow.
    r = torch.exp(0.5 * (logvar.amin(-3, keepdim=True) - logvar))
    constant = r * (r * shift).mean(-3, keepdim=True) / r.square().mean(-3, keepdim=True)
    parts = spread, (shift - constant).square(), constant.square()
    return Parts(*((0.5 * part.mean(-3)).to(_dtype(*q, *p)) for part in parts))


def match(q: Diagonal) -> Diagonal:
    """The constant prior of least mean KL from these posteriors: the codes' own moments, mean E m
    and variance Var m + E s^2 over the image axis. (..., image, node, dim) -> (..., node, dim).

    Source: Hoffman & Johnson 2016 (the KL from the aggregate posterior), for a Gaussian prior.
    """
    second = q.mean.var(-3, correction=0) + q.logvar.exp().mean(-3)
    return Diagonal(q.mean.mean(-3), second.log())


def match_full(q: Diagonal) -> Full:
    """The same with a full covariance: that of the means, and E s^2 on its diagonal."""
    means = q.mean.flatten(-2)
    away = means - means.mean(-2, keepdim=True)
    spread = away.mT @ away / means.shape[-2]
    within = torch.diag_embed(q.logvar.exp().mean(-3).flatten(-2))
    return Full(q.mean.mean(-3), torch.linalg.cholesky(spread + within))


def marginal(gaussian: Gaussian) -> Diagonal:
    """The mean and the log of each dim's own variance, (..., node, dim)."""
    if isinstance(gaussian, Full):
        variance = gaussian.cholesky.square().sum(-1)
        return Diagonal(gaussian.mean, variance.log().reshape(gaussian.mean.shape))
    return gaussian


def log_density(gaussian: Gaussian, z: Tensor) -> Tensor:
    """log N(z) in nats, summed over (node, dim): (...,), for z (..., node, dim)."""
    _shape(gaussian=gaussian, z=z)
    away = z.double() - gaussian.mean.double()
    if isinstance(gaussian, Diagonal):
        logvar = gaussian.logvar.double()
        white = (away * torch.exp(-0.5 * logvar)).flatten(-2)
        log_volume = 0.5 * logvar.sum((-2, -1))
    else:
        lower = gaussian.cholesky.double()
        white = _times(away.flatten(-2), _inverse(lower.mT))
        log_volume = _diagonal(lower).log().sum(-1)
    log_p = -0.5 * (white.square() + math.log(2 * math.pi)).sum(-1) - log_volume
    return log_p.to(_dtype(*gaussian, z))


def dim_information(q: Diagonal, z: Tensor) -> Tensor:
    """Mutual information of the image and each dim alone, in nats: (node, dim), from one draw z of
    every image's posterior, (image, node, dim) both.

    I = E log q(z | x) - E log q(z), where q(z) is the mean of the images' posteriors: at most
    log(images). Source: Hoffman & Johnson 2016. Time grows with images^2.
    """
    mean, logvar, drawn = (part.double().flatten(-2).unbind(-1) for part in (*q, z))
    found = []
    for m, v, own in zip(mean, logvar, drawn, strict=True):
        away = (own[:, None] - m) * torch.exp(-0.5 * v)  # (draw, image)
        log_q = torch.addcmul(-0.5 * v, away, away, value=-0.5)
        found.append((log_q.diagonal() - log_q.logsumexp(1)).mean() + math.log(len(m)))
    return torch.stack(found).reshape(z.shape[-2:]).to(_dtype(*q, z))


def sample(gaussian: Gaussian, noise: Tensor) -> Tensor:
    """A reparametrised draw (..., node, dim); noise is standard normal, shaped like the mean.

    Leading axes broadcast: more of them on the noise are more draws. Source: Kingma & Welling
    2014, section 2.4.
    """
    _shape(gaussian=gaussian, noise=noise)
    if isinstance(gaussian, Diagonal):
        return widened(gaussian.mean) + torch.exp(0.5 * widened(gaussian.logvar)) * noise
    away = _times(noise.double().flatten(-2), gaussian.cholesky.double().mT)
    drawn = gaussian.mean.double() + away.unflatten(-1, gaussian.mean.shape[-2:])
    return drawn.to(_dtype(*gaussian, noise))


class _Comparison(NamedTuple):
    """What every KL here is made of, each (..., node, dim)."""

    spread: Tensor  # twice the KL if the means were equal
    shift: Tensor  # difference of means in units of p's std (given the dims before)
    logvar: Tensor  # of p (given the dims before)


def _compare(q: Gaussian, p: Gaussian) -> _Comparison:
    if isinstance(q, Diagonal) and isinstance(p, Diagonal):
        logvar = widened(p.logvar)
        shift = (widened(q.mean) - widened(p.mean)) * torch.exp(-0.5 * logvar)
        return _Comparison(_excess(widened(q.logvar) - logvar), shift, logvar)
    if isinstance(p, Diagonal):
        std = torch.exp(0.5 * p.logvar.double()).flatten(-2)
        p = Full(p.mean, torch.diag_embed(std))
    return _compare_with_full(q, p)


def _compare_with_full(q: Gaussian, p: Full) -> _Comparison:
    lower = p.cholesky.double()
    log_std = _diagonal(lower).log()
    inverse = _inverse(lower.mT)
    shift = _times((widened(q.mean) - widened(p.mean)).double().flatten(-2), inverse)
    if isinstance(q, Diagonal):
        logvar = q.logvar.double().flatten(-2)
        d = torch.sub(logvar, log_std, alpha=2)
        before = _times(logvar.exp(), inverse.triu(1).square())
    else:
        lower_q = q.cholesky.double()
        d = 2 * (_diagonal(lower_q) / _diagonal(lower)).log()
        before = (lower_q.mT @ inverse).triu(1).square().sum(-2)
    latent = p.mean.shape[-2:]
    terms = (_excess(d) + before, shift, 2 * log_std)
    return _Comparison(*(term.reshape(term.shape[:-1] + latent) for term in terms))


def _excess(d: Tensor) -> Tensor:
    """exp(d) - 1 - d >= 0, zero only at d = 0, in float64."""
    d = d.double()
    return torch.expm1(d) - d


def _inverse(upper: Tensor) -> Tensor:
    """Of an upper triangular matrix: one, of n x n, serves every image that shares it."""
    eye = torch.eye(upper.shape[-1], dtype=upper.dtype, device=upper.device)
    return torch.linalg.solve_triangular(upper, eye, upper=True)


def _times(vectors: Tensor, matrix: Tensor) -> Tensor:
    if matrix.dim() == 2:  # shared: one product for all vectors
        return vectors @ matrix
    return (vectors.unsqueeze(-2) @ matrix).squeeze(-2)


def _diagonal(matrix: Tensor) -> Tensor:
    return matrix.diagonal(dim1=-2, dim2=-1)


def widened(tensor: Tensor) -> Tensor:
    """Half precision as float32; float32 and float64 as they are."""
    return tensor.float() if tensor.itemsize < 4 else tensor


def _dtype(*tensors: Tensor) -> torch.dtype:
    return torch.float64 if torch.float64 in [t.dtype for t in tensors] else torch.float32


def _shape(**named: Gaussian | Tensor) -> tuple[int, ...]:
    """The shape (..., node, dim) that Gaussians and latents broadcast to, or ParameterError."""
    tensors: list[tuple[str, str, Tensor]] = []
    for name, thing in named.items():
        if name in ("z", "noise"):
            check(isinstance(thing, Tensor), f"{name} must be a tensor", thing)
        else:
            fits = isinstance(thing, Gaussian) and all(isinstance(part, Tensor) for part in thing)
            check(fits, f"{name} must be a Diagonal or a Full, of tensors", thing)
        if isinstance(thing, Tensor):
            tensors.append((name, "", thing))
        else:
            tensors += [(name, "mean", thing[0]), (name, thing._fields[1], thing[1])]
    latent = tensors[0][2].shape[-2:]
    for name, field, tensor in tensors:
        wanted = (latent.numel(),) * 2 if field == "cholesky" else tuple(latent)
        if tensor.dim() < 2 or tensor.shape[-2:] != wanted:
            allowed = ", ".join(map(str, wanted)) if len(latent) == 2 else "node, dim"
            label = f"{name}.{field}".rstrip(".")
            raise ParameterError(f"{label} must be (..., {allowed}), got {tuple(tensor.shape)}")
    leading = [tensor.shape[:-2] for _, _, tensor in tensors]
    if len(batch := {axes for axes in leading if axes}) < 2:  # usual; the general way is slow
        return (*next(iter(batch), ()), *latent)
    try:
        return (*torch.broadcast_shapes(*leading), *latent)
    except RuntimeError:
        raise ParameterError(
            f"leading axes of {' and '.join(named)} must broadcast, "
            f"got {', '.join(str(tuple(axes)) for axes in leading)}"
        ) from None
