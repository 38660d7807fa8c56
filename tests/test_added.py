"""What a dim adds to its prior, its error, and every status, against closed forms."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

import vaenotes as vn
from vaenotes.diagnosis import STATUSES
from vaenotes.diagnosis.added import information
from vaenotes.diagnosis.status import ALIVE_NATS, DEVIATIONS
from vaenotes.kl import Diagonal

SAMPLES = 1000
NORMAL = torch.from_numpy(stats.norm.ppf((np.arange(SAMPLES) + 0.5) / SAMPLES))[:, None]


def shuffled(seed):
    return NORMAL[torch.randperm(SAMPLES, generator=torch.Generator().manual_seed(seed))]


def one(mean, std, prior_mean=None, prior_std=None, **rest):
    """The report on a dim, and its row; the spreads are numbers."""
    given = {"posterior_mean": mean, "posterior_std": torch.full_like(mean, std)}
    if prior_mean is not None:
        given |= {"prior_mean": prior_mean, "prior_std": torch.full_like(prior_mean, prior_std)}
    report = vn.diagnose(**given, **rest)
    return report, report.dims.iloc[0]


def channel(signal, noise):
    """Nats of a Gaussian signal of this std in Gaussian noise."""
    return math.log1p((signal / noise) ** 2) / 2


def test_a_posterior_that_is_its_prior_is_known_to_the_prior():
    report, row = one(NORMAL, 0.3, NORMAL, 0.3)
    assert row["status"] == "known to the prior" and not report.alive.any()
    assert row["added_nats"] == pytest.approx(0, abs=1e-9)
    assert row["added_error"] < 1e-6
    assert row["information_nats"] == pytest.approx(channel(1, 0.3), abs=0.06)
    assert "1 known to the prior" in str(
        report
    ) and "of which at most 0.00 ± 0.00 are added" in str(report)


def test_a_posterior_that_is_narrower_than_a_prior_that_knows_it_wastes_its_width():
    report, row = one(2 * NORMAL, 0.5, 2 * NORMAL, 1.0)
    wasted = (0.25 - 1 - math.log(0.25)) / 2
    assert row["status"] == "wasting" and row["added_nats"] == pytest.approx(0, abs=1e-9)
    found = row[["kl_nats", "wasted_nats", "wasted_width_nats", "wasted_offset_nats"]]
    assert np.allclose(found.astype(float), [wasted, wasted, wasted, 0])
    assert "KL 0.32 ± 0.00 nats, of it wasted: 0.32 on widths." in str(report)


@pytest.mark.parametrize("step", [0.1, 0.4, 2.0])
def test_a_residual_model_adds_the_information_of_its_residual(step):
    """Posterior mean = prior mean + delta, delta independent of it."""
    sees, delta = 3 * shuffled(0), step * shuffled(1)
    _, row = one(sees + delta, 0.5, sees, (0.25 + step**2) ** 0.5, compared=SAMPLES)
    exact = channel(step, 0.5)
    assert abs(row["added_nats"] - exact) < 3 * row["added_error"] < 0.11
    assert row["information_nats"] > 1.5
    assert row["kl_nats"] == pytest.approx(exact, rel=1e-2)  # the prior fits: nothing is wasted
    assert row["status"] == {0.1: "known to the prior", 0.4: "alive", 2.0: "alive"}[step]


def test_what_is_added_is_at_most_the_kl_and_the_rest_is_wasted_in_closed_form():
    sees, delta = 3 * shuffled(0), 0.4 * shuffled(1)
    _, row = one(sees + delta + 0.7, 0.5, sees, 2.0, compared=SAMPLES)
    variance = (0.4**2 + 0.5**2) / 4  # of the aggregate, in units of the prior
    offset, width = 0.35**2 / 2, (variance - 1 - math.log(variance)) / 2
    assert row["wasted_offset_nats"] == pytest.approx(offset)
    assert row["wasted_width_nats"] == pytest.approx(width, rel=1e-2)
    assert row["wasted_nats"] == pytest.approx(offset + width, abs=3 * row["added_error"])


FOUR = torch.arange(SAMPLES)[:, None] % 4 - 1.5
MISPLACED = {  # the posterior's means without its own step, and the prior's
    "half as far": (NORMAL, 0.5 * NORMAL),
    "twice as far": (torch.sign(NORMAL), 2 * torch.sign(NORMAL)),
    "of four classes each elsewhere": (FOUR**3 + 3 * FOUR**2, FOUR),
}


@pytest.mark.parametrize("places", MISPLACED)
@pytest.mark.parametrize("step", [0.0, 0.5])
def test_a_prior_at_a_wrong_place_that_follows_from_its_own_is_seen_through(places, step):
    """A map of the prior's mean gives the place away: only the step is added."""
    where, prior = MISPLACED[places]
    _, row = one(where + step * shuffled(1), 0.5, prior, 1.0, compared=SAMPLES)
    true = channel(step, 0.5) if step else 0
    assert abs(row["added_nats"] - true) < 3 * row["added_error"] + 4 / (2 * SAMPLES)
    assert row["information_nats"] > true + 0.5


def test_of_a_prior_of_wrong_widths_what_is_reported_is_an_upper_bound():
    """Classes of one width, which the prior takes for two: in its units they still differ."""
    sees, delta = torch.sign(shuffled(0)), 0.5 * shuffled(1)
    mean = sees + delta
    report = vn.diagnose(
        posterior_mean=mean, posterior_std=0.5, prior_mean=sees, prior_std=2.5 + 1.5 * sees
    )
    true, row = channel(0.5, 0.5), report.dims.iloc[0]
    assert true + 5 * row["added_error"] < row["added_nats"] < row["kl_nats"]
    assert f"of which at most {row['added_nats']:.2f}" in str(report) and "adds ≤" in str(report)
    assert report.figure().axes[0].get_xlabel() == "adds at most (nats)"
    fits = one(mean, 0.5, sees, 0.5**0.5, compared=SAMPLES)[1]
    assert abs(fits["added_nats"] - true) < 3 * fits["added_error"]
    some = (sees > 0)[:, 0]  # of one condition by itself, nothing is left to be known
    alone = one(mean[some], 0.5, torch.ones(1), 4.0)[1]
    assert abs(alone["added_nats"] - true) < 3 * alone["added_error"]


def test_of_the_whole_code_each_dim_is_taken_as_is_best_for_it():
    """Priors whose width changes for nothing, and at a wrong place: in no unit both come out."""
    moves, wrong = shuffled(0), 2 * shuffled(1)
    report = vn.diagnose(
        posterior_mean=torch.cat([0 * moves, 2 * wrong], 1),
        posterior_std=0.5,
        prior_mean=torch.cat([0 * moves, wrong], 1),
        prior_std=torch.cat([moves.exp(), 0 * wrong + 1], 1),
    )
    assert report.totals["added_nats"] == pytest.approx(0, abs=0.01)


def test_a_prior_that_moves_for_nothing_makes_no_dim_alive():
    """Against such a prior the code seems to move: what it says alone bounds what it adds."""
    report, row = one(0 * NORMAL, 0.3, NORMAL, 1.0)
    assert row["status"] == "wasting" and row["added_nats"] == pytest.approx(0, abs=1e-9)
    assert row["wasted_nats"] == pytest.approx(row["kl_nats"])
    assert "on other misfits" in str(report)


def test_under_a_prior_that_is_one_for_all_what_is_said_is_added():
    mean = torch.randn(300, 5, generator=torch.Generator().manual_seed(0))
    given = {"posterior_mean": mean, "posterior_std": torch.full_like(mean, 0.5)}
    prior = {"prior_mean": torch.ones(5), "prior_std": torch.linspace(0.5, 2, 5)}
    constant = vn.diagnose(**given, **prior)
    everyone = {name: value.expand(300, 5) for name, value in prior.items()}
    mixture = {name: value[None] for name, value in prior.items()} | {"prior_weights": [1.0]}
    for more in (prior, everyone, mixture):
        found = vn.diagnose(**given, **more)
        for name in ("nats", "error"):
            assert found.dims[f"added_{name}"].equals(found.dims[f"information_{name}"])
            assert found.dims[f"added_{name}"].equals(constant.dims[f"added_{name}"])
            assert found.totals[f"added_{name}"] == constant.totals[f"information_{name}"]
    wasted = constant.dims[["wasted_offset_nats", "wasted_width_nats"]].sum(axis=1)
    assert np.allclose(wasted, constant.dims["gap_nats"])  # what the best constant prior saves


@pytest.mark.parametrize("full", ["posterior", "prior", "both"])
def test_a_full_prior_is_whitened_by_each_samples_own_factor(full):
    """Two dims, of which the residual's first only differs: in all that is what is added."""
    generator = torch.Generator().manual_seed(0)
    sees = 3 * torch.randn(SAMPLES, 2, generator=generator).double()
    factor = torch.tensor([[1.0, 0.0], [0.8, 0.6]]).double() * (1 + sees[:, :1, None].square())
    u = torch.cat([1.5 * NORMAL, 0 * NORMAL], 1)
    away = (factor @ u[..., None]).squeeze(-1)
    q = {"posterior_cholesky": 0.5 * factor}
    p = {"prior_cholesky": factor}
    if full == "prior":  # of one dim's own noise, in z: in u it is no longer independent
        q = {"posterior_std": 0.5 * factor.diagonal(dim1=1, dim2=2)}
    if full == "posterior":
        q, p = {"posterior_cholesky": 0.5 * factor}, {"prior_std": 0 * u + 1}
        away, sees = u, 0 * sees + torch.arange(SAMPLES)[:, None] % 2
        q["posterior_cholesky"] = 0.5 * torch.eye(2).double().expand(SAMPLES, 2, 2)
    found = vn.diagnose(posterior_mean=sees + away, prior_mean=sees, **q, **p, compared=SAMPLES)
    exact = channel(1.5, 0.5)
    if full == "prior":
        # in u: noise M M^T with M = L^-1 diag(L), signal along the first dim
        whiten = torch.linalg.inv(factor[0]) @ torch.diag(factor[0].diagonal()) * 0.5
        noise, signal = whiten @ whiten.T, torch.diag(torch.tensor([2.25, 0.0]).double())
        exact = float(torch.logdet(noise + signal) - torch.logdet(noise)) / 2
    assert abs(found.totals["added_nats"] - exact) < 3 * found.totals["added_error"] < 0.2
    assert found.totals["information_nats"] > exact + 0.5 or full == "posterior"


def test_widths_that_cost_are_wasting_and_the_sentence_says_how_much():
    """Ten dims of std 0.4; and one of std 0.01, which would cost 4.11 nats."""
    ten, _ = one(torch.zeros(100, 10), 0.4)
    assert ten.counts["wasting"] == 10
    assert "10 dims: 10 wasting. KL 4.96 ± 0.00 nats, of it wasted: 4.96 on widths." in str(ten)
    assert "No prior was given, and N(0, I) misfits these codes by 4.96 nats" in str(ten)
    _, row = one(torch.zeros(100, 1), 0.01)
    assert row["status"] == "wasting" and row["wasted_width_nats"] == pytest.approx(4.105, abs=1e-3)


def test_correlations_that_the_prior_lacks_are_wasted_and_said():
    factor = torch.linalg.cholesky(torch.tensor([[1.0, 0.9], [0.9, 1.0]]))
    report = vn.diagnose(posterior_mean=torch.zeros(200, 2), posterior_cholesky=factor)
    assert report.counts["dead"] == 2
    wasted = -0.5 * math.log(1 - 0.9**2)
    assert (
        f"KL {wasted:.2f} ± 0.00 nats, of it wasted: {wasted:.2f} or more on other misfits"
        in str(report)
    )


def test_a_prior_that_fits_is_not_asked_for():
    fits, _ = one(0.8 * NORMAL, 0.6)
    assert not fits.hints
    learned, _ = one(torch.zeros(100, 10), 0.4, torch.zeros(10), 0.4)
    assert not learned.hints and learned.counts["free-riding"] == 10


ROWS = {  # status: mean, std, prior mean, prior std
    "alive": (NORMAL, 0.3, torch.zeros(1), 1.0),
    "unsure": (NORMAL, math.expm1(2 * ALIVE_NATS) ** -0.5, torch.zeros(1), 2.3),
    "wasting": (0 * NORMAL + 0.8, 1.0, torch.zeros(1), 1.0),
    "known to the prior": (NORMAL, 0.3, NORMAL, 0.3),
    "free-riding": (0 * NORMAL, 0.05, torch.zeros(1), 0.05),
    "dead": (0 * NORMAL, 1.0, torch.zeros(1), 1.0),
}


@pytest.mark.parametrize("status", STATUSES)
def test_every_status_can_be_reached(status):
    report, row = one(*ROWS[status])
    assert row["status"] == status and report.counts[status] == 1
    assert report.alive.tolist() == [status == "alive"]


@pytest.mark.parametrize("unit", [0.03, 1.0, 30.0])
def test_since_an_earlier_report_no_status_depends_on_the_units(unit):
    means = torch.cat([NORMAL, 0 * NORMAL, 0 * NORMAL, 0 * NORMAL + 1, NORMAL], 1) * unit
    sees = torch.cat([0 * NORMAL] * 4 + [NORMAL], 1) * unit

    def report(widths, **rest):
        std = torch.tensor(widths) * unit
        priors = torch.tensor([1.0, widths[1], widths[2], 1.0, widths[4]]) * unit
        prior = {"prior_mean": sees, "prior_std": priors}
        return vn.diagnose(posterior_mean=means, posterior_std=std, **prior, **rest)

    later = report([0.3, 0.1, 0.9, 1.0, 0.3], since=report([0.3, 1.0, 1.0, 1.0, 0.3]))
    statuses = ["alive", "free-riding", "dead", "wasting", "known to the prior"]
    assert later.dims["status"].tolist() == statuses


REPORTED = {  # what people asked about: mean, std, prior std, status, KL of a dim
    "a KL of 3.8e-7, averaged over 32 dims": (0 * NORMAL, 1 + 6.16e-4, 1.0, "dead", 3.8e-7),
    "noise multiplied by 0.01": (0 * NORMAL, 0.01, 1.0, "wasting", 4.105),
    "drawn with a sigma of 1.3": (0 * NORMAL, 1.0, 1.3, "dead", 0.058),
    "channels that were never centred": (0 * NORMAL + 1.5508, 1.0, 1.0, "wasting", 1.2025),
    "a std that goes to 0": (NORMAL, 1e-4, 1.0, "alive", 9.21),
    "a KL that rises in training": (NORMAL, 0.3, 1.0, "alive", 1.247),
}


@pytest.mark.parametrize("report", REPORTED)
def test_what_people_report_is_told_for_what_it_is(report):
    mean, std, prior_std, status, kl = REPORTED[report]
    _, row = one(mean, std, torch.zeros(1), prior_std)
    assert row["status"] == status and row["kl_nats"] == pytest.approx(kl, rel=5e-3)


def binary(std, share):
    """Nats of a signal of +-1, and of the mean's share at +1, in Gaussian noise, by quadrature."""
    z = np.linspace(-1 - 9 * std, 1 + 9 * std, 20001)
    low, high = (stats.norm.pdf(z, at, std) for at in (-1, 1))
    density = (1 - share) * low + share * high
    entropy = -np.trapezoid(density * np.log(np.maximum(density, 1e-300)), z)
    return entropy - math.log(2 * math.pi * math.e * std**2) / 2


def signs(samples, share):
    return lambda generator: 2.0 * (torch.rand(samples, generator=generator) < share) - 1


def normals(generator):
    return torch.randn(64, generator=generator)


CASES = {  # nats, std, means
    "gaussian, 0.1 nats": (0.1, math.expm1(0.2) ** -0.5, normals),
    "gaussian, 1 nat": (1.0, math.expm1(2) ** -0.5, normals),
    "binary": (binary(2.06, 0.5), 2.06, signs(64, 0.5)),
    "rare": (binary(0.3, 0.1), 0.3, signs(128, 0.1)),
}


@pytest.mark.parametrize("case", CASES)
def test_nineteen_of_twenty_intervals_hold_the_truth(case):
    exact, std, draw = CASES[case]
    inside = []
    for seed in range(120):
        generator = torch.Generator().manual_seed(seed)
        mean = draw(generator)[:, None, None].double()
        q = Diagonal(mean, torch.full_like(mean, 2 * math.log(std)))
        found = information(q, torch.randn(mean.shape, generator=generator).double()).dims
        inside.append(abs(float(found.mean) - exact) < DEVIATIONS * float(found.standard_error))
    assert 0.88 <= np.mean(inside) <= 0.995


def test_where_there_are_too_few_samples_to_tell_the_error_says_so():
    """At 6 nats a thousand samples see too little, and at 20 nothing but their own number."""
    for exact in (5.0, 6.0, 20.0):
        _, row = one(NORMAL, math.expm1(2 * exact) ** -0.5)
        assert row["added_nats"] < exact
        assert row["added_error"] > 0.12 and row["at_ceiling"]
        assert not one(NORMAL, math.expm1(2 * 3) ** -0.5)[1]["at_ceiling"]
        if exact < 7:
            assert row["added_nats"] + DEVIATIONS * row["added_error"] > exact


def seldom(share, dims, std, seed):
    """Codes that this share of samples spreads over a cube of side 10, others at 0, and their
    information: which it is, and where."""
    generator = torch.Generator().manual_seed(seed)
    on = torch.rand(1000, 1, generator=generator).double() < share
    mean = torch.where(on, 5 + 10 * torch.rand(1000, dims, generator=generator).double(), 0.0)
    where = dims * math.log(10 / (std * math.sqrt(2 * math.pi * math.e)))
    return mean, stats.bernoulli(share).entropy() + share * where


@pytest.mark.parametrize("share, dims, std", [(0.1, 1, 1e-3), (0.05, 1, 1e-4), (0.1, 2, 0.1)])
@pytest.mark.attack("wrong")
def test_what_draws_miss_that_lie_far_from_all_others_is_known(share, dims, std):
    """Of few that are alone the jackknife knows no more than a nat each."""
    told, missed = [], []
    for seed in range(10):
        mean, exact = seldom(share, dims, std, seed)
        report = vn.diagnose(posterior_mean=mean, posterior_std=std, seed=seed)
        assert report.totals["information_at_ceiling"] and "sample ≥ " in str(report)
        assert (report.dims["at_ceiling"] == (dims == 1)).all() and report.alive.all()
        noise = torch.randn(1000, 1, dims, generator=torch.Generator().manual_seed(99 + seed))
        q = Diagonal(mean[:, None], torch.full((1000, 1, dims), 2 * math.log(std)).double())
        found = information(q, noise.double()).code
        told.append(float(found.mean - found.bias))
        missed.append(exact - float(found.mean))
    assert np.mean(missed) > 0.1 and abs(np.mean(told) - exact) < 0.1 * exact


def test_a_dim_that_few_use_may_add_more_than_it_seems_and_is_unsure():
    mean, exact = seldom(0.01, 1, 1e-9, seed=6)
    row = one(mean, 1e-9)[1]
    assert row["added_nats"] + DEVIATIONS * row["added_error"] < ALIVE_NATS < exact
    assert row["at_ceiling"] and row["status"] == "unsure"


def generated(samples, dims, seed=9):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(samples, dims, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("alike", [True, False])
def test_what_many_dims_that_are_not_alive_carry_together_is_said(alike):
    """Sixteen looks at one number; 32 numbers of their own. Beside a dim of a nat, too."""
    if alike:
        little, std, true = 0.3 * generated(1000, 1).expand(-1, 16), 0.91**0.5, 0.474
        assert channel(4 * 0.3, std) == pytest.approx(true, abs=1e-3)
    else:
        nats = 0.07
        std, true = math.exp(-nats), 32 * nats
        little = (1 - std**2) ** 0.5 * generated(1000, 32)
    large = generated(1000, 1, seed=1)
    mean = torch.cat([large, little], 1)
    stds = torch.tensor([math.expm1(2) ** -0.5, *[std] * little.shape[1]], dtype=torch.float64)
    report, alone = (
        vn.diagnose(posterior_mean=mean[:, some], posterior_std=stds[some])
        for some in (slice(None), slice(1, None))
    )
    for one_of in (report, alone):
        assert one_of.alive.sum() == len(one_of.dims) - little.shape[1]
        carried = one_of.totals["not_alive_nats"]
        assert 0.5 * true < carried < true
        said = f"Dims that are not alive carry {carried:.2f} nats or more together: do not drop"
        assert said in str(one_of)


def test_of_dims_that_are_not_alive_nothing_is_claimed_that_is_not_so():
    """By chance; of what live dims say again; and where it would not follow."""
    more = []
    for seed in range(20, 60):
        little = vn.diagnose(posterior_mean=0.3 * generated(100, 4, seed), posterior_std=1.0)
        more.append(little.totals["not_alive_nats"] > 4 * channel(0.3, 1.0))
    assert sum(more) <= 3
    mean = generated(1000, 1).expand(-1, 8) * torch.tensor([1.0] * 4 + [0.1] * 4)
    again = vn.diagnose(posterior_mean=mean, posterior_std=0.5)
    assert again.counts["alive"] == 4 and again.totals["not_alive_nats"] == 0
    few = 0.3 * generated(1000, 1).expand(-1, 16)
    sees = {"prior_mean": few, "prior_std": torch.full_like(few, 0.91**0.5)}
    full = {"posterior_cholesky": 0.91**0.5 * torch.eye(16)}
    for given in ({"posterior_std": 0.91**0.5} | sees, full):
        report = vn.diagnose(posterior_mean=few, **given)
        assert "not_alive_nats" not in report.totals and "together" not in str(report)


def test_what_is_added_to_a_prior_that_sees_is_never_said_to_be_more_than_its_kl():
    """Each dim's own KL bounds it, with the error of a mean over all samples."""
    sees, step = generated(300, 64), generated(300, 64, seed=1)
    std = math.expm1(2 * 1.74) ** -0.5
    report = vn.diagnose(
        posterior_mean=sees + step, posterior_std=std, prior_mean=sees,
        prior_std=math.hypot(1, std), compared=150,
    )  # fmt: skip
    dims, totals = report.dims, report.totals
    assert (dims["added_nats"] <= dims["kl_nats"]).all()
    cut = dims["added_nats"] == dims["kl_nats"]
    assert 5 < cut.sum() < 64 and not dims["at_ceiling"][cut].any()
    away = step.square() / (1 + std**2) / 2
    errors = away.std(0, correction=0).numpy() / 299**0.5
    assert np.allclose(dims["added_error"][cut], errors[cut])
    assert totals["added_nats"] <= totals["kl_nats"]
