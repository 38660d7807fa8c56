"""KLs against torch.distributions, an independent chain rule, decimals and the gauge."""

import decimal
import functools
import itertools
import math

import mpmath
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, distributions

from vaenotes.errors import ParameterError
from vaenotes.kl import (
    Diagonal,
    Full,
    Gaussian,
    kl_nats,
    kl_parts,
    log_density,
    match,
    match_full,
    sample,
)

NODE, DIM = 3, 2
N = NODE * DIM
KINDS = ("diagonal", "full")
PAIRS = list(itertools.product(KINDS, KINDS))
seeds = st.integers(0, 2**31 - 1)
quick = settings(max_examples=25, deadline=None)


def draw(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def randn(*shape: int, rng: torch.Generator) -> Tensor:
    return torch.randn(shape, generator=rng, dtype=torch.float64)


def random_factor(*lead: int, rng: torch.Generator) -> Tensor:
    raw = randn(*lead, N, N, rng=rng)
    return 0.4 * raw.tril(-1) + torch.diag_embed((0.5 * raw.diagonal(dim1=-2, dim2=-1)).exp())


def random_gaussian(
    kind: str, rng: torch.Generator, lead: tuple[int, ...] = (), scale_lead: tuple | None = None
) -> Gaussian:
    scale_lead = lead if scale_lead is None else scale_lead
    mean = randn(*lead, NODE, DIM, rng=rng)
    if kind == "diagonal":
        return Diagonal(mean, randn(*scale_lead, NODE, DIM, rng=rng))
    return Full(mean, random_factor(*scale_lead, rng=rng))


def factor(gaussian: Gaussian) -> Tensor:
    if isinstance(gaussian, Full):
        return gaussian.cholesky
    return torch.diag_embed((0.5 * gaussian.logvar).exp().flatten(-2))


def total(q: Gaussian, p: Gaussian) -> Tensor:
    return kl_nats(q, p).sum((-2, -1))


# --- values -------------------------------------------------------------------------------------

LEADS = [
    ((), (), (), ()),
    ((4,), (4,), (), ()),  # a prior shared by all images
    ((4,), (4,), (4,), ()),  # its mean differs, its covariance is shared
    ((2, 1), (4,), (4,), (2, 4)),
]


@pytest.mark.parametrize("leads", LEADS)
@pytest.mark.parametrize("kinds", PAIRS)
def test_total_equals_torch_distributions(kinds, leads):
    rng = draw(0)
    q = random_gaussian(kinds[0], rng, *leads[:2])
    p = random_gaussian(kinds[1], rng, *leads[2:])
    lead = torch.broadcast_shapes(*leads)
    kl = kl_nats(q, p)
    assert kl.shape == (*lead, NODE, DIM) and kl.dtype == torch.float64
    # kl_divergence does not broadcast one batch against another: expand for it.
    wide = [
        distributions.MultivariateNormal(
            g.mean.flatten(-2).expand(*lead, N), scale_tril=factor(g).expand(*lead, N, N)
        )
        for g in (q, p)
    ]
    torch.testing.assert_close(
        kl.sum((-2, -1)), distributions.kl_divergence(*wide), rtol=1e-11, atol=1e-12
    )


def conditional(mean: Tensor, cov: Tensor, j: int) -> tuple[Tensor, Tensor, Tensor]:
    """Schur complements: z_j | z_<j ~ N(intercept + slope . z_<j, variance)."""
    slope = torch.linalg.solve(cov[:j, :j], cov[:j, j])
    return mean[j] - slope @ mean[:j], slope, cov[j, j] - slope @ cov[:j, j]


@pytest.mark.parametrize("kinds", PAIRS)
def test_each_term_is_the_chain_rules_by_schur_complements(kinds):
    rng = draw(2)
    q, p = (random_gaussian(kind, rng) for kind in kinds)
    terms = kl_nats(q, p).flatten()
    q_mean, p_mean = q.mean.flatten(), p.mean.flatten()
    q_cov, p_cov = (factor(g) @ factor(g).mT for g in (q, p))
    for j in range(N):
        q_at, q_slope, q_var = conditional(q_mean, q_cov, j)
        p_at, p_slope, p_var = conditional(p_mean, p_cov, j)
        slope = q_slope - p_slope
        gap = q_at - p_at + slope @ q_mean[:j]  # E_q of the difference of conditional means
        square = gap**2 + slope @ q_cov[:j, :j] @ slope
        expected = 0.5 * ((q_var + square) / p_var - 1 - (q_var / p_var).log())
        torch.testing.assert_close(terms[j], expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_log_density_and_sample_moments(kind):
    rng = draw(5)
    gaussian = random_gaussian(kind, rng)
    z = randn(7, NODE, DIM, rng=rng)
    mean = gaussian.mean.flatten()
    normal = distributions.MultivariateNormal(mean, scale_tril=factor(gaussian))
    expected = normal.log_prob(z.flatten(-2))
    torch.testing.assert_close(log_density(gaussian, z), expected)
    count = 100_000
    drawn = sample(gaussian, randn(count, NODE, DIM, rng=rng)).flatten(-2)
    cov = factor(gaussian) @ factor(gaussian).mT
    sigma = cov.diagonal().sqrt()
    assert ((drawn.mean(0) - mean).abs() < 5 * sigma / math.sqrt(count)).all()
    cov_error = torch.sqrt((sigma[:, None] * sigma) ** 2 + cov**2) / math.sqrt(count)
    assert ((torch.cov(drawn.T) - cov).abs() < 5 * cov_error).all()


# --- precision ----------------------------------------------------------------------------------


def exact_excess(d: float) -> mpmath.mpf:
    with mpmath.workdps(60):
        return (mpmath.expm1(mpmath.mpf(d)) - mpmath.mpf(d)) / 2


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("d", [1e-9, 1e-7, 1e-4, 0.02, 1.0, 8.0])
def test_near_collapse_in_float32(d, sign):
    logvar = torch.full((1, 1), sign * d, dtype=torch.float32, requires_grad=True)
    zero = torch.zeros(1, 1)
    kl = kl_nats(Diagonal(zero, logvar), Diagonal(zero, zero))
    kl.sum().backward()
    exact = logvar.item()
    assert kl.dtype == torch.float32
    assert kl.item() == pytest.approx(float(exact_excess(exact)), rel=1e-6, abs=0)
    assert logvar.grad.item() == pytest.approx(0.5 * math.expm1(exact), rel=1e-6, abs=0)


@pytest.mark.parametrize("d", [1e-6, -1e-4, 1e-2])
def test_near_collapse_in_float64(d):
    zero = torch.zeros(1, 1, dtype=torch.float64)
    for p in (Diagonal(zero, zero), Full(zero, torch.ones_like(zero))):
        kl = kl_nats(Diagonal(zero, zero + d), p).item()
        assert kl == pytest.approx(float(exact_excess(d)), rel=2**-51 / abs(d) + 1e-14, abs=0)


def test_full_near_collapse_in_float32():
    rng = draw(6)
    p = random_factor(rng=rng).float()
    q = p + 1e-4 * randn(N, N, rng=rng).tril().float()
    zero = torch.zeros(NODE, DIM)
    kl = kl_nats(Full(zero, q), Full(zero, p))
    m = torch.linalg.solve(p.double(), q.double())
    d = 2 * m.diagonal().log()
    expected = 0.5 * (torch.expm1(d) - d + m.tril(-1).square().sum(-1)).view(NODE, DIM)
    assert kl.dtype == torch.float32 and kl.max() < 1e-5
    torch.testing.assert_close(kl.double(), expected, rtol=1e-6, atol=1e-20)


@pytest.mark.parametrize("kinds", PAIRS)
def test_log_variances_of_minus_120_in_float32(kinds):
    std = math.exp(-60)
    gap = torch.linspace(-2, 2, N).view(NODE, DIM)  # in units of the std
    tensors = []
    for kind, mean in zip(kinds, (gap * std, torch.zeros(NODE, DIM)), strict=True):
        scale = torch.full((NODE, DIM), -120.0) if kind == "diagonal" else std * torch.eye(N)
        tensors.append((mean.requires_grad_(), scale.requires_grad_()))
    build = {"diagonal": Diagonal, "full": Full}
    q, p = (build[kind](*pair) for kind, pair in zip(kinds, tensors, strict=True))
    kl = kl_nats(q, p)
    torch.testing.assert_close(kl, 0.5 * gap.square(), rtol=1e-5, atol=1e-9)
    kl.sum().backward()
    torch.testing.assert_close(q.mean.grad * std, gap.detach(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(p.mean.grad * std, -gap.detach(), rtol=1e-5, atol=1e-5)
    # d KL / d logvar_p = -w^2 / 2; per std, times 2 / std; of q, zero.
    scale_grad = p[1].grad if kinds[1] == "diagonal" else 0.5 * std * p[1].grad.diagonal()
    torch.testing.assert_close(
        scale_grad.flatten(), -0.5 * gap.detach().square().flatten(), rtol=1e-4, atol=1e-5
    )
    assert q[1].grad.isfinite().all() and p[1].grad.isfinite().all()


@pytest.mark.parametrize(
    ("dtype", "logvar_p"),
    [(torch.float32, value) for value in (-176.0, -100.0, 0.0, 100.0, 700.0)]
    + [(torch.float64, value) for value in (-1400.0, -700.0, -100.0, 0.0, 100.0, 700.0)],
)
def test_extreme_log_variances_against_decimals(dtype, logvar_p):
    """By Python's decimals, to 50 digits; what float32 or float64 cannot hold is inf."""
    largest = torch.finfo(dtype).max
    close = {"rel": 2e-6 if dtype == torch.float32 else 1e-12, "abs": 1e-37}
    for logvar_q in (-1400.0, -700.0, -100.0, -87.0, 0.0, 87.0, 100.0, 700.0):
        for gap in (0.0, 1e-30, 1e-3, 3.0):
            mean, q_logvar, p_logvar = (
                torch.full((1, 1), value, dtype=dtype) for value in (gap, logvar_q, logvar_p)
            )
            q, p = Diagonal(mean, q_logvar), Diagonal(torch.zeros_like(mean), p_logvar)
            with decimal.localcontext(prec=50):
                d = decimal.Decimal(logvar_q) - decimal.Decimal(logvar_p)
                square = decimal.Decimal(mean.item()) ** 2 * decimal.Decimal(-logvar_p).exp()
                exact = float((d.exp() - 1 - d + square) / 2)
            expected = exact if exact < largest else math.inf
            assert kl_nats(q, p).item() == pytest.approx(expected, **close), (logvar_q, gap)
            if exact < largest:
                parts = kl_parts(Diagonal(*(part[None] for part in q)), p)
                assert sum(parts).item() == pytest.approx(exact, **close), (logvar_q, gap)


@pytest.mark.parametrize("kinds", PAIRS)
def test_half_precision_and_autocast_only_round_the_inputs(kinds):
    rng = draw(7)
    q, p = (random_gaussian(kind, rng, (4,)) for kind in kinds)
    half_q, half_p = (type(g)(*(t.bfloat16() for t in g)) for g in (q, p))
    expected = kl_nats(*(type(g)(*(t.double() for t in g)) for g in (half_q, half_p)))
    noise = randn(4, NODE, DIM, rng=rng).float()
    single_q = type(q)(*(t.float() for t in half_q))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        kl, drawn = kl_nats(half_q, half_p), sample(single_q, noise)
        log_p = log_density(half_p, noise)
    assert kl.dtype == drawn.dtype == log_p.dtype == torch.float32
    torch.testing.assert_close(kl.double(), expected, rtol=1e-5, atol=1e-6)
    assert torch.equal(drawn, sample(single_q, noise))
    assert torch.equal(log_p, log_density(half_p, noise))


# --- properties ---------------------------------------------------------------------------------


@quick
@given(seeds, st.sampled_from(PAIRS), st.floats(-9, 1))
def test_never_negative_and_zero_only_at_equality(seed, kinds, exponent):
    rng = draw(seed)
    p = random_gaussian(kinds[1], rng)
    if kinds[0] == kinds[1]:
        q: Gaussian = p
        assert (kl_nats(q, p).abs() < 1e-28).all()
        field = seed % 2
        nudge = 10**exponent * torch.rand(p[field].shape, generator=rng).double()
        nudge = nudge.tril() if p._fields[field] == "cholesky" else nudge
        changed = list(q)
        changed[field] = changed[field] + nudge
        q = type(p)(*changed)
        assert total(q, p) > 0
    else:
        q = random_gaussian(kinds[0], rng)
    assert (kl_nats(q, p) > -1e-28).all()


def mapped(gaussian: Gaussian, signs: Tensor, order: list[int], scale: Tensor, shift: Tensor):
    """z -> A z + b on every node: A permutes the dims, flips and scales them."""
    mean = (gaussian.mean * signs * scale)[..., order] + shift
    if isinstance(gaussian, Diagonal):
        return Diagonal(mean, (gaussian.logvar + 2 * scale.log())[..., order])
    matrix = torch.block_diag(*[torch.diag(signs * scale)[order]] * NODE)
    moved = matrix @ gaussian.cholesky
    return Full(mean, torch.linalg.cholesky(moved @ moved.mT))


@quick
@given(seeds, st.sampled_from(PAIRS), st.sampled_from([[0, 1], [1, 0]]))
def test_gauge_invariance(seed, kinds, order):
    rng = draw(seed)
    q, p = (random_gaussian(kind, rng, (3,)) for kind in kinds)
    signs = torch.where(randn(DIM, rng=rng) > 0, 1.0, -1.0).double()
    scale, shift = (3 * randn(DIM, rng=rng)).exp(), randn(NODE, DIM, rng=rng)
    gauge = [mapped(g, signs, order, scale, shift * scale[order]) for g in (q, p)]
    torch.testing.assert_close(total(*gauge), total(q, p), rtol=1e-8, atol=1e-8)
    if kinds == ("diagonal", "diagonal") or order == [0, 1]:  # else the chain's order changes
        close = {"rtol": 1e-7, "atol": 1e-7}
        torch.testing.assert_close(kl_nats(*gauge), kl_nats(q, p)[..., order], **close)
        for before, after in zip(kl_parts(q, p), kl_parts(*gauge), strict=True):
            torch.testing.assert_close(after, before[..., order], **close)


@quick
@given(seeds, st.sampled_from(PAIRS), st.booleans())
def test_parts_are_nonnegative_and_sum_to_the_kl(seed, kinds, shared):
    rng = draw(seed)
    q = random_gaussian(kinds[0], rng, (5,))
    p = random_gaussian(kinds[1], rng, () if shared else (5,))
    parts = kl_parts(q, p)
    assert all((part >= 0).all() and part.shape == (NODE, DIM) for part in parts)
    torch.testing.assert_close(sum(parts), kl_nats(q, p).mean(-3), rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("kinds", [("diagonal", "diagonal"), ("diagonal", "full"), ("full",) * 2])
def test_offset_is_what_the_best_constant_shift_saves(kinds, shared):
    rng = draw(8)
    q = random_gaussian(kinds[0], rng, (6,))
    p = random_gaussian(kinds[1], rng, (6,), () if shared else (6,))
    chained = kinds[1] == "full" and not shared

    def mean_kl(shift: Tensor) -> Tensor:
        if chained:  # a constant in p's mean of z_j given z_<j moves p's mean by L (c / std)
            std = p.cholesky.diagonal(dim1=-2, dim2=-1)
            moved = (p.cholesky @ (shift.flatten() / std).unsqueeze(-1)).view(6, NODE, DIM)
        else:
            moved = shift
        return kl_nats(q, type(p)(p.mean + moved, p[1])).mean(0)

    shift = torch.zeros(NODE, DIM, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS(
        [shift],
        max_iter=300,
        tolerance_grad=1e-12,
        tolerance_change=0,
        line_search_fn="strong_wolfe",
    )

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss = mean_kl(shift).sum()
        loss.backward()
        return loss

    optimiser.step(closure)
    with torch.no_grad():
        saved = mean_kl(torch.zeros_like(shift)) - mean_kl(shift)
        parts = kl_parts(q, p)
        torch.testing.assert_close(saved, parts.offset, rtol=1e-6, atol=1e-8)
        moved_p = mean_kl(shift)
        torch.testing.assert_close(parts.variance + parts.mean, moved_p, rtol=1e-6, atol=1e-8)


def test_parts_of_a_known_case():
    # Means 0 and 2 against N(0, 1): E[w^2]/2 = 1, of which the shift by 1 saves 1/2.
    mean = torch.tensor([0.0, 2.0], dtype=torch.float64).view(2, 1, 1)
    q = Diagonal(mean, torch.zeros_like(mean))
    p = Diagonal(torch.zeros(1, 1).double(), torch.zeros(1, 1).double())
    variance, spread, offset = kl_parts(q, p)
    assert (variance.item(), spread.item(), offset.item()) == (0, 0.5, 0.5)
    assert kl_parts(q, Full(p.mean, torch.eye(1).double())).offset.item() == 0.5


# --- gradients and vmap -------------------------------------------------------------------------


@pytest.mark.parametrize("kinds", PAIRS)
def test_gradcheck(kinds):
    rng = draw(9)
    q, p = random_gaussian(kinds[0], rng, (1,)), random_gaussian(kinds[1], rng)
    inputs = [tensor.detach().requires_grad_() for tensor in (*q, *p)]

    def call(*tensors: Tensor, of=kl_nats):
        lower = [t.tril() if t.shape[-1] == N else t for t in tensors]
        return of(type(q)(*lower[:2]), type(p)(*lower[2:]))

    assert torch.autograd.gradcheck(call, inputs, fast_mode=True)
    parts = functools.partial(call, of=kl_parts)
    assert torch.autograd.gradcheck(parts, inputs, fast_mode=True)


@pytest.mark.parametrize("kinds", PAIRS)
def test_vmap_and_grad_agree_with_a_loop(kinds):
    rng = draw(10)
    q = random_gaussian(kinds[0], rng, (3, 4))  # (replica, image)
    p = random_gaussian(kinds[1], rng, (3,))
    value = torch.func.vmap(kl_nats)(q, p)
    loop = torch.stack(
        [kl_nats(type(q)(*(t[i] for t in q)), type(p)(*(t[i] for t in p))) for i in range(3)]
    )
    torch.testing.assert_close(value, loop)
    gradient = torch.func.vmap(torch.func.grad(lambda q, p: kl_nats(q, p).sum()))(q, p)
    leaf = type(q)(*(t.clone().requires_grad_() for t in q))
    wide = type(p)(*(t.unsqueeze(1) for t in p))
    kl_nats(leaf, wide).sum().backward()
    for mine, tensor in zip(gradient, leaf, strict=True):
        torch.testing.assert_close(mine, tensor.grad)


# --- bad input ----------------------------------------------------------------------------------


def flat(*shape: int) -> Diagonal:
    return Diagonal(torch.zeros(shape), torch.zeros(shape))


PLAIN = flat(3, 2)


@pytest.mark.parametrize(
    ("call", "arguments", "message"),
    [
        (kl_nats, (flat(4, 3, 2), flat(2, 3)), "p.mean must be (..., 3, 2), got"),
        (kl_nats, (flat(4, 3, 2), flat(5, 3, 2)), "leading axes of q and p must"),
        (kl_nats, (flat(3), flat(3)), "q.mean must be (..., node, dim)"),
        (kl_nats, (PLAIN, Full(torch.zeros(3, 2), torch.eye(5))), "p.cholesky must be (..., 6, 6)"),
        (kl_parts, (PLAIN, PLAIN), "must be (..., image, node, dim)"),
        (kl_parts, (flat(0, 3, 2), PLAIN), "of an image or more"),
        (sample, (PLAIN, torch.zeros(3)), "noise must be"),
    ],
)
def test_bad_input_is_one_clear_line(call, arguments, message):
    with pytest.raises(ParameterError) as error:
        call(*arguments)
    assert message in str(error.value) and "\n" not in str(error.value)


# --- the best prior -----------------------------------------------------------------------------


@pytest.mark.parametrize("full", [False, True])
def test_the_matched_prior_is_the_best_one(full):
    """No step away from it lowers the mean KL, and its slope is zero."""
    rng = draw(11)
    q = Diagonal(2 * randn(50, NODE, DIM, rng=rng), randn(50, NODE, DIM, rng=rng))
    best = match_full(q) if full else match(q)
    free = [part.clone().requires_grad_() for part in best]
    least = kl_nats(q, type(best)(*free)).sum((-2, -1)).mean()
    least.backward()
    for part in free:
        assert part.grad.tril().abs().max() < 1e-12
    for _ in range(20):
        step = [0.01 * randn(*part.shape, rng=rng) for part in best]
        if full:
            step[1] = step[1].tril()
        away = type(best)(*(part + s for part, s in zip(best, step, strict=True)))
        assert kl_nats(q, away).sum((-2, -1)).mean() > least
    # moments, by plain sums
    torch.testing.assert_close(best.mean, q.mean.mean(0))
    second = (q.mean - q.mean.mean(0)).square().mean(0) + q.logvar.exp().mean(0)
    found = best.cholesky.square().sum(-1).reshape(NODE, DIM) if full else best.logvar.exp()
    torch.testing.assert_close(found, second)
