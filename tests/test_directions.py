"""Bounds without sampling, and directions, against closed forms."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import linalg

import vaenotes as vn

SAMPLES = 1000
SEEN = 256  # compared: enough for what is asked here
SIGNALS = torch.tensor([1.0, 0.5]).double()


def normals(dims):
    """Of mean 0 and covariance 1, exactly."""
    drawn = torch.randn(SAMPLES, dims, generator=torch.Generator().manual_seed(0)).double()
    drawn -= drawn.mean(0)
    return drawn @ torch.linalg.inv(torch.linalg.cholesky(drawn.T @ drawn / SAMPLES)).T


def rotation(dims):
    generator = torch.Generator().manual_seed(1)
    return torch.linalg.qr(torch.randn(dims, dims, generator=generator).double())[0]


def diagnose(mean, std=0.2, **rest):
    return vn.diagnose(posterior_mean=mean, posterior_std=std, compared=SEEN, **rest)


def channels(signals, noise=0.2):
    return np.log1p((np.asarray(signals) / noise) ** 2) / 2


def test_the_bound_of_a_gaussian_channel_is_its_information_at_any_number_of_samples():
    exact = 12.0
    report = diagnose(normals(1), math.expm1(2 * exact) ** -0.5)
    row = report.dims.iloc[0]
    assert row["bound_nats"] == pytest.approx(exact)
    assert report.totals["bound_nats"] == pytest.approx(exact)
    assert row["at_ceiling"] and row["added_nats"] == pytest.approx(math.log(SEEN), abs=0.01)
    said = f"≥ {report.totals['information_nats']:.2f} nats, and at most 12.00 ± 0.02."
    assert f"Information about the sample {said}" in str(report)


def test_of_other_codes_the_bound_is_above_the_information():
    signs = torch.where(torch.arange(SAMPLES) % 2 == 0, 1.0, -1.0)[:, None]
    row = diagnose(signs, 0.01).dims.iloc[0]
    assert row["added_nats"] == pytest.approx(math.log(2), abs=0.01)
    assert row["bound_nats"] == pytest.approx(channels(1.0, 0.01), rel=1e-3)
    assert not row["at_ceiling"]


def test_the_bound_holds_widths_that_differ_from_sample_to_sample():
    std = torch.linspace(0.1, 1, SAMPLES)[:, None].double()
    report = diagnose(0 * std, std)
    exact = 0.5 * (float((std**2).mean().log()) - float((2 * std.log()).mean()))
    assert report.dims["bound_nats"].iloc[0] == pytest.approx(exact)
    assert report.totals["bound_nats"] == pytest.approx(exact)


def test_two_dims_rotated_into_sixteen_are_two_directions():
    code = torch.cat([normals(2) * SIGNALS, torch.zeros(SAMPLES, 14)], 1).double()
    plain, turned = diagnose(code), diagnose(code @ rotation(16))
    for report in (plain, turned):
        assert report.totals["directions"] == 2
        assert np.allclose(report.directions[:2], channels(SIGNALS))
        assert np.allclose(report.directions[2:], 0, atol=1e-9)
        assert report.totals["bound_nats"] == pytest.approx(channels(SIGNALS).sum())
    assert plain.counts["alive"] == 2 < turned.counts["alive"]
    assert "By second moments, 2 directions." in str(turned) and "directions" not in str(plain)
    assert turned.totals["dims_nats"] > plain.totals["dims_nats"] + 0.5
    assert "Dims, each by itself, add up to" in str(turned)


def test_four_copies_of_a_dim_are_one_direction():
    report = diagnose(normals(1).repeat(1, 4), 0.5)
    assert report.counts["alive"] == 4 and report.totals["directions"] == 1
    assert report.directions[0] == pytest.approx(channels(2.0, 0.5))  # four looks at one number


def test_directions_of_correlated_posteriors_do_not_depend_on_the_basis():
    code, basis = normals(3) * torch.tensor([1.0, 0.5, 0.0]), rotation(3) * 7
    factor = torch.linalg.cholesky(basis.T @ basis * 0.04)
    report = vn.diagnose(
        posterior_mean=code @ basis, posterior_cholesky=factor, prior_mean=0.0, prior_std=7.0,
        compared=SEEN,
    )  # fmt: skip
    assert np.allclose(report.directions, [*channels(SIGNALS), 0], atol=1e-9)
    assert report.totals["bound_nats"] == pytest.approx(channels(SIGNALS).sum())


def test_directions_are_in_units_of_a_prior_that_knows_the_sample():
    sees = 5 * normals(3)[:, :2]
    known = diagnose(sees, 0.2, prior_mean=sees, prior_std=0.2)
    assert known.totals["directions"] == 0
    assert known.totals["bound_nats"] == pytest.approx(0, abs=1e-9)
    step = normals(3)[:, 2:]
    one = diagnose(sees + step, 0.2, prior_mean=sees, prior_std=1.0)
    assert one.totals["directions"] == 1
    assert one.dims["bound_nats"].to_numpy() == pytest.approx(channels(1.0))


def test_narrow_posteriors_and_copies_break_no_eigenvalues():
    report = diagnose(normals(1).repeat(1, 4), 1e-12)
    assert report.totals["directions"] == 1 and math.isfinite(report.totals["bound_nats"])


def test_beyond_a_thousand_dims_directions_are_left_out_and_that_is_said():
    report = diagnose(torch.zeros(4, 1025), 1.0)
    assert report.directions is None and "directions" not in report.totals
    assert "Directions and joint bound are left out beyond 1,024 dims." in str(report)


def test_directions_of_random_covariances_are_the_generalised_eigenvalues():
    generator = torch.Generator().manual_seed(2)
    mean = torch.randn(50, 3, generator=generator).double()
    std = torch.rand(50, 3, generator=generator).double() + 0.1
    report = vn.diagnose(posterior_mean=mean, posterior_std=std)
    whole = np.diag((std**2).mean(0)) + np.cov(mean.T, bias=True)
    within = np.diag((2 * std.log()).mean(0).exp())  # geometric means
    lambdas = linalg.eigh(within, whole, eigvals_only=True)
    assert np.allclose(report.directions, -0.5 * np.log(lambdas))
    entropy = 0.5 * (np.linalg.slogdet(whole)[1] - float((2 * std.log()).sum(1).mean()))
    assert report.totals["bound_nats"] == pytest.approx(entropy)


# ---- what is provably wasted ----


def randoms(samples, dims, seed):
    return torch.randn(samples, dims, generator=torch.Generator().manual_seed(seed)).double()


def waste(report):
    found = [report.totals[f"wasted_{name}nats"] for name in ("", "offset_", "width_")]
    return [*found[1:], found[0] - sum(found[1:])]


@pytest.mark.parametrize("samples", [64, 1000])
@pytest.mark.parametrize("nats", [7.0, 8.0])
def test_a_matched_prior_wastes_nothing_whatever_few_samples_look_like(nats, samples):
    signal = math.expm1(2 * nats / 16) ** 0.5
    for seed in range(8):
        mean = signal * randoms(samples, 16, seed)
        report = vn.diagnose(
            posterior_mean=mean, posterior_std=1.0, prior_mean=0.0,
            prior_std=math.hypot(signal, 1), compared=SEEN,
        )  # fmt: skip
        assert "wasted" not in str(report)
    assert report.totals["information_nats"] < nats
    assert report.totals["information_at_ceiling"] and "about the sample ≥ " in str(report)


def test_of_many_dims_the_offsets_of_few_samples_are_no_waste():
    signal = math.expm1(2 * 20 / 400) ** 0.5
    for seed in range(4):
        mean = signal * randoms(60, 400, seed)
        fits = {"prior_mean": 0.0, "prior_std": math.hypot(signal, 1)}
        assert "wasted" not in str(diagnose(mean, 1.0, **fits))
        # nor is another waste taken for them, nor they for widths
        assert "on offsets" not in str(diagnose(mean, 1.0, **fits | {"prior_std": 2.0}))
        assert "on widths" not in str(diagnose(mean + 1, 1.0, **fits))


def test_few_samples_of_a_prior_that_sees_and_matches_claim_no_waste_either():
    for seed in range(8):
        sees, step = randoms(200, 8, seed), randoms(200, 8, seed + 100)
        report = diagnose(sees + step, 1.0, prior_mean=sees, prior_std=2**0.5)
        assert "wasted" not in str(report)


@pytest.mark.parametrize("sees", [0.1, 1.0])
def test_of_many_dims_a_bound_that_is_least_by_chance_claims_no_waste(sees):
    for seed in range(4):
        known, step = sees * randoms(60, 400, seed), randoms(60, 400, seed + 100)
        report = diagnose(known + step, 1.0, prior_mean=known, prior_std=2**0.5)
        assert report.totals["wasted_nats"] < 0.1


def test_waste_of_a_prior_that_moves_for_nothing_is_proved_by_the_codes_own_units():
    report = diagnose(0 * normals(1), 0.5, prior_mean=0.75**0.5 * normals(1), prior_std=1.0)
    exact = (0.25 + 0.75 - 1 - math.log(0.25)) / 2
    assert waste(report) == pytest.approx([0, 0, exact], abs=2e-3)
    assert "of it wasted: 0.69 or more on other misfits" in str(report)
    assert report.totals["directions"] == 0


@pytest.mark.parametrize("far", [0.5, 2.0, -1.0])
def test_waste_of_a_prior_at_a_wrong_place_is_proved_by_taking_it_from_the_code(far):
    report = diagnose(normals(1), 0.3, prior_mean=far * normals(1) + 7, prior_std=1.0)
    assert report.totals["wasted_nats"] == pytest.approx(report.totals["kl_nats"], abs=1e-2)
    assert report.dims["bound_nats"].iloc[0] == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize("level", [0.1, 1e8])
def test_what_rounding_makes_of_a_prior_that_never_moves_bounds_nothing(level):
    prior = {"prior_mean": torch.full((SAMPLES, 1), level).double(), "prior_std": 1.0}
    report = diagnose(normals(1) + level, 0.2, **prior)
    assert report.dims["bound_nats"].iloc[0] == pytest.approx(channels(1.0), rel=1e-6)


def test_waste_is_offset_width_and_correlation_in_closed_form():
    correlated = normals(2) @ torch.tensor([[1.0, 0.8], [0.0, 0.6]]).double()  # of variances 1
    for std, spread in ((1.0, "std"), (0.5, "std"), (0.5, "cholesky")):
        prior = {"prior_std": 2.0}
        if spread == "cholesky":
            prior = {"prior_cholesky": 2 * torch.eye(2)}
        report = diagnose(correlated + 3, std, prior_mean=torch.tensor([3.0, 0.0]), **prior)
        variance = (1 + std**2) / 4
        correlation = -0.5 * math.log(1 - (0.8 / (1 + std**2)) ** 2)
        exact = [9 / 8, variance - 1 - math.log(variance), correlation]
        assert waste(report) == pytest.approx(exact, abs=0.01)


def test_waste_of_independent_dims_is_proved_dim_by_dim():
    """One dim is best known by its own units, one by its prior's: neither joint bound is tight."""
    sees = 3 * normals(2)
    report = diagnose(
        sees * torch.tensor([0.0, 1.0]), 0.5, prior_mean=sees, prior_std=torch.tensor([3.0, 0.5])
    )
    assert report.totals["wasted_nats"] == pytest.approx(report.totals["kl_nats"], abs=0.02)
    assert report.totals["bound_nats"] == pytest.approx(0, abs=1e-6)


def test_a_direction_is_alive_where_its_dim_is():
    """Widths: one of a hundred is wide. And a rare mean, that second moments take for more."""
    rare = torch.arange(SAMPLES)[:, None] % 100 == 0
    wide = diagnose(randoms(SAMPLES, 1, 0), torch.where(rare, 100.0, 0.1))
    assert wide.counts["alive"] == wide.totals["directions"] == 1
    assert wide.directions.sum() == pytest.approx(wide.totals["bound_nats"])
    far = diagnose(30.0 * (torch.arange(SAMPLES)[:, None] == 0), 1.0)
    assert far.counts["alive"] == 0 and "directions" not in str(far)


@pytest.mark.attack("wrong")
def test_no_estimate_that_is_above_the_bound_by_chance_is_told_as_one():
    report = vn.diagnose(posterior_mean=[[2.0], [-2.0]], posterior_std=1.5, seed=1)
    row = report.dims.iloc[0]
    assert row["added_nats"] > row["bound_nats"] and row["at_ceiling"]
    _, status, _, least, most, *_ = str(report).splitlines()[-1].split()
    assert status == "unsure" and least == most == f"{row['bound_nats']:.2f}"
    bound = report.totals["bound_nats"] + report.totals["bound_slack_nats"]
    above = replace(report, totals=report.totals | {"information_nats": bound + 0.01})
    assert f"about the sample at most {bound:.2f} ± " in str(above)
    many = vn.diagnose(posterior_mean=0.07 * randoms(2000, 1000, 101), posterior_std=1.0)
    assert not many.totals["information_at_ceiling"] and "≥" not in str(many)


def test_of_few_samples_a_dim_the_bound_is_given_with_its_slack_and_no_directions():
    generator = torch.Generator().manual_seed(0)
    std = math.exp(-0.5)  # of 200 dims, half a nat each
    mean = torch.randn(300, 200, generator=generator, dtype=torch.float64)
    report = vn.diagnose(posterior_mean=mean * (1 - std**2) ** 0.5, posterior_std=std)
    bound = report.totals["bound_nats"]
    assert bound < 100 <= bound + report.totals["bound_slack_nats"] < 110
    assert "directions" not in report.totals and "directions" not in str(report)
    assert f"at most {bound + report.totals['bound_slack_nats']:.2f} ± " in str(report)


@pytest.mark.parametrize("samples, dims", [(60, 20), (100, 50), (1000, 3)])
def test_nineteen_of_twenty_intervals_of_the_bound_hold_the_truth(samples, dims):
    inside, std = [], 0.1
    for seed in range(60):
        mean = (1 - std**2) ** 0.5 * randoms(samples, dims, seed)
        totals = vn.diagnose(posterior_mean=mean, posterior_std=std, compared=16).totals
        apart = totals["bound_nats"] + totals["bound_slack_nats"] - dims * math.log(1 / std)
        inside.append(abs(apart) < 1.96 * totals["bound_error"])
    assert 0.85 <= np.mean(inside) <= 0.995


def test_a_direction_that_no_dim_shows_is_told():
    """Two nats along the diagonal of 64 dims, each of which says little."""
    along = torch.ones(64, dtype=torch.float64) / 8
    generator = torch.Generator().manual_seed(0)
    mean = torch.randn(3000, 1, generator=generator, dtype=torch.float64) * along * 0.99**0.5
    covariance = torch.eye(64, dtype=torch.float64) - 0.99 * torch.outer(along, along)
    report = vn.diagnose(posterior_mean=mean, posterior_covariance=covariance)
    assert not report.alive.any() and report.totals["directions"] == 1
    assert "By second moments, 1 direction." in str(report)


def test_codes_that_match_are_not_called_misfits_as_they_are_few():
    for seed in range(20):
        mean = torch.randn(8, 4, generator=torch.Generator().manual_seed(seed)) * (1 - 0.09) ** 0.5
        assert "misfits" not in str(vn.diagnose(posterior_mean=mean, posterior_std=0.3))
