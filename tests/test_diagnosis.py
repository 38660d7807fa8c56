"""The report against closed forms, integration, and torch's own distributions."""

import json
import math
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PathCollection
from scipy import integrate, stats
from torch.distributions import MultivariateNormal, Normal, kl_divergence

import vaenotes as vn
from vaenotes.diagnosis import STATUSES, figures, printed
from vaenotes.diagnosis.status import ALIVE_NATS
from vaenotes.errors import ParameterError

README = Path(__file__).parents[1] / "README.md"
SAMPLES = 2000
KINDS = ["alive", "dead", "free-riding", "wasting"]
POSTERIOR_STD = torch.tensor([0.2, 1.0, 0.05, 1.0])
PRIOR_MEAN, PRIOR_STD = torch.zeros(4), torch.tensor([1.1, 1.0, 0.05, 1.0])


def codes(samples=SAMPLES, seed=0):
    """Means (sample, 4): the first dim's differ from sample to sample, the last's sit at 0.8."""
    first = torch.randn(samples, generator=torch.Generator().manual_seed(seed))
    first = (first - first.mean()) / first.std(correction=0)
    return torch.stack([first, 0 * first, 0 * first, 0 * first + 0.8], 1)


def four(**changes):
    """The report on these codes: one dim of each kind."""
    arguments = {
        "posterior_mean": codes(),
        "posterior_std": POSTERIOR_STD.expand(SAMPLES, 4),
        "prior_mean": PRIOR_MEAN,
        "prior_std": PRIOR_STD,
    }
    return vn.diagnose(**arguments | changes)


def test_one_dim_of_each_kind():
    report = four()
    assert report.dims["status"].tolist() == KINDS
    assert report.counts == {status: int(status in KINDS) for status in STATUSES}
    assert report.alive.tolist() == [True, False, False, False]
    assert report.dims["active_unit"].tolist() == [True, False, False, False]


def test_kl_its_parts_and_the_gap_against_torch():
    report, q = four(), Normal(codes(), POSTERIOR_STD.expand(SAMPLES, 4))
    kl = kl_divergence(q, Normal(PRIOR_MEAN, PRIOR_STD))
    assert np.allclose(report.dims["kl_nats"], kl.mean(0), atol=1e-6)
    assert report.totals["kl_nats"] == pytest.approx(float(kl.sum(1).mean()), rel=1e-6)
    parts = report.dims[["variance_nats", "mean_nats", "offset_nats"]]
    assert np.allclose(parts.sum(axis=1), report.dims["kl_nats"], atol=1e-6)
    assert report.dims.loc["3", "offset_nats"] == pytest.approx(0.8**2 / 2)
    assert report.dims.loc["0", "mean_nats"] == pytest.approx(1 / 1.1**2 / 2, rel=1e-5)
    # the gap is the KL of the codes' own Gaussian from the prior
    moments = Normal(codes().mean(0), (codes().var(0, correction=0) + POSTERIOR_STD**2).sqrt())
    gap = kl_divergence(moments, Normal(PRIOR_MEAN, PRIOR_STD))
    assert np.allclose(report.dims["gap_nats"], gap, atol=1e-6)
    assert np.allclose(report.dims["ratio"], POSTERIOR_STD / PRIOR_STD)
    assert report.dims.loc["0", "spread"] == pytest.approx(1 / 1.1, rel=1e-5)


def test_information_of_gaussian_codes_is_that_of_a_gaussian_channel():
    report = four()
    exact = math.log(1 + 1 / 0.2**2) / 2
    found, error = report.dims.loc["0", ["information_nats", "information_error"]]
    assert abs(found - exact) < 4 * error < 0.2
    assert (report.dims["information_nats"][1:].abs() < 1e-6).all()
    assert abs(report.totals["information_nats"] - exact) < 4 * error


@pytest.mark.parametrize(("share", "alive"), [(0.6, False), (1.6, True)])
def test_a_dim_is_alive_by_its_information(share, alive):
    std = math.expm1(2 * share * ALIVE_NATS) ** -0.5  # of a channel whose means have variance 1
    given = {"posterior_mean": codes()[:, :1], "posterior_std": torch.full((SAMPLES, 1), std)}
    assert vn.diagnose(**given, compared=SAMPLES).alive.tolist() == [alive]


def test_information_stays_below_what_can_be_seen():
    far = torch.arange(64.0)[:, None] * 100
    report = vn.diagnose(posterior_mean=far, posterior_std=torch.ones(64, 1), compared=50)
    assert report.totals["information_nats"] == pytest.approx(math.log(50))
    assert report.totals["ceiling_nats"] == pytest.approx(math.log(50))


SPREADS = {
    "logvar": lambda std: 2 * std.log(),
    "variance": torch.square,
    "covariance": lambda std: torch.diag_embed(std**2),
    "cholesky": torch.diag_embed,
}


@pytest.mark.parametrize("name", SPREADS)
def test_every_way_to_give_a_spread_gives_the_same_report(name):
    usual, spread = four(compared=100), SPREADS[name]
    posterior = {f"posterior_{name}": spread(POSTERIOR_STD.expand(SAMPLES, 4))}
    prior = {f"prior_{name}": spread(PRIOR_STD)}
    other = four(posterior_std=None, prior_std=None, compared=100, **posterior, **prior)
    assert other.dims["status"].tolist() == KINDS
    numbers = usual.dims.columns.drop("status")
    assert np.allclose(*(one.dims[numbers].astype(float) for one in (other, usual)), atol=1e-5)


@pytest.mark.parametrize(
    "given",
    [
        torch.Tensor.double,
        torch.Tensor.bfloat16,
        torch.Tensor.numpy,
        torch.Tensor.tolist,
        torch.Tensor.to_sparse,
        torch.Tensor.requires_grad_,
    ],
    ids=lambda convert: convert.__name__,
)
def test_any_array_will_do(given):
    std = torch.ones(64, 4)
    report = vn.diagnose(posterior_mean=given(codes(64)), posterior_std=std)
    exact = vn.diagnose(posterior_mean=codes(64), posterior_std=std)
    assert np.allclose(report.dims["kl_nats"], exact.dims["kl_nats"], rtol=1e-2)


def test_other_units_change_nothing_but_the_variances_and_the_usual_count():
    usual, scale = four(), torch.tensor([0.01, 100.0, 20.0, 0.3])
    other = four(
        posterior_mean=codes() * scale,
        posterior_std=(POSTERIOR_STD * scale).expand(SAMPLES, 4),
        prior_std=PRIOR_STD * scale,
        prior_mean=PRIOR_MEAN * scale,
    )
    free = usual.dims.columns.drop(
        [
            "status",
            "posterior_variance",
            "prior_variance",
            "active_unit",
            "at_ceiling",
            "information_at_ceiling",
        ]
    )
    assert np.allclose(other.dims[free], usual.dims[free], atol=1e-6)
    assert other.alive.tolist() == usual.alive.tolist()
    assert not other.dims["active_unit"].any()  # the live dim's too: a variance has units


def test_a_prior_that_knows_the_sample_costs_nothing_and_nothing_is_added():
    mean, std = codes(), POSTERIOR_STD.expand(SAMPLES, 4)
    first = four(prior_mean=mean, prior_std=std).dims.iloc[0]
    assert first["status"] == "known to the prior" and first["ratio"] == pytest.approx(1)
    assert first["kl_nats"] == pytest.approx(0, abs=1e-9)
    # what it saves over the best constant prior, with a minus: the information, if it is Gaussian
    assert first["gap_nats"] == pytest.approx(-math.log(1 + 1 / 0.2**2) / 2, rel=1e-4)


def test_a_prior_that_differs_from_sample_to_sample_is_averaged():
    std = torch.linspace(1, 3, SAMPLES)[:, None].expand(SAMPLES, 4)
    last = four(prior_mean=torch.zeros(SAMPLES, 4), prior_std=std).dims.iloc[-1]
    assert last["prior_variance"] == pytest.approx(float((std[:, 0] ** 2).mean()))
    assert last["ratio"] == pytest.approx(float(torch.exp(-std[:, 0].log().mean())))


def test_no_prior_is_the_standard_normal_and_a_latent_of_two_axes_keeps_its_places():
    std = POSTERIOR_STD.expand(SAMPLES, 4)
    square = {"posterior_mean": codes().reshape(-1, 2, 2), "posterior_std": std.reshape(-1, 2, 2)}
    report = four(prior_mean=None, prior_std=None, **square)
    assert report.dims.index.tolist() == ["0,0", "0,1", "1,0", "1,1"]
    assert report.alive.tolist() == [[True, False], [False, False]]
    flat = four(prior_std=torch.ones(4)).dims
    assert report.dims.reset_index(drop=True).equals(flat.reset_index(drop=True))


def test_a_mixture_against_integration():
    mean = torch.linspace(-2, 2, 400)[:, None]
    report = vn.diagnose(
        posterior_mean=mean,
        posterior_std=torch.full((400, 1), 0.5),
        prior_mean=[[-1.0], [2.0]],
        prior_std=[[1.0], [0.5]],
        prior_weights=[0.7, 0.3],
    )

    z = np.linspace(-6, 6, 2001)
    q_z = stats.norm.pdf(z, mean.numpy(), 0.5)  # (sample, z)
    p_z = 0.7 * stats.norm.pdf(z, -1, 1) + 0.3 * stats.norm.pdf(z, 2, 0.5)
    exact = integrate.trapezoid(q_z * np.log(q_z / p_z), z).mean()
    assert abs(report.totals["kl_nats"] - exact) < 4 * report.totals["kl_error"] < 0.2
    assert report.dims["kl_nats"].iloc[0] == pytest.approx(report.totals["kl_nats"])
    # of the mixture: E[z] = -0.1, Var = 0.7 (1 + 0.9^2) + 0.3 (0.25 + 2.1^2)
    assert report.dims["prior_variance"].iloc[0] == pytest.approx(0.7 * 1.81 + 0.3 * 4.66)
    assert report.dims[["variance_nats", "mean_nats", "offset_nats"]].isna().all(axis=None)
    assert "nan" not in str(report)
    report.figure()  # draws the parts it has not as nothing


def test_correlated_posteriors_against_torch_and_the_gaussian_channel():
    generator = torch.Generator().manual_seed(0)
    cholesky = torch.tensor([[0.5, 0.0], [0.4, 0.2]], dtype=torch.float64)
    # a narrow spread of means: then it matters that the mixture's parts are correlated
    mean = 0.3 * torch.randn(500, 2, generator=generator, dtype=torch.float64)
    prior_mean = torch.tensor([0.1, -0.2]).double()
    prior = torch.tensor([[1.0, 0.6], [0.6, 1.3]], dtype=torch.float64)
    report = vn.diagnose(
        posterior_mean=mean,
        posterior_cholesky=cholesky.expand(500, 2, 2),
        prior_mean=prior_mean,
        prior_covariance=prior,
    )
    q = MultivariateNormal(mean, scale_tril=cholesky)
    kl = kl_divergence(q, MultivariateNormal(prior_mean, prior))
    assert report.totals["kl_nats"] == pytest.approx(float(kl.mean()), rel=1e-6)
    noise = cholesky @ cholesky.T
    exact = 0.5 * torch.logdet(torch.eye(2) + torch.linalg.inv(noise) @ torch.cov(mean.T))
    found, error = (report.totals[f"information_{name}"] for name in ("nats", "error"))
    assert abs(found - float(exact)) < 4 * error < 0.25
    one = 0.5 * math.log(1 + float(mean[:, 1].var() / noise[1, 1]))
    assert abs(report.dims.loc["1", "information_nats"] - one) < 0.05
    assert report.dims.loc["1", "ratio"] == pytest.approx((0.2 / 1.3) ** 0.5)


EYE = torch.eye(4)


def prior(**spread):
    return {"prior_std": None, **spread}


WRONG = [
    ({"posterior_mean": [1.0, 2.0]}, "posterior_mean must be (sample, ...)", "(2,)"),
    ({"posterior_mean": "codes"}, "posterior_mean must be a tensor or array", "'codes'"),
    ({"posterior_mean": codes() + 1j}, "of real numbers", "got 'complex64'"),
    ({"posterior_mean": codes() / 0}, "posterior_mean must be finite", "more such"),
    (
        {"posterior_std": None},
        "posterior_mean must come with exactly one of posterior_logvar",
        "got none",
    ),
    (
        {"posterior_logvar": codes()},
        "must come with exactly one of",
        "posterior_logvar, posterior_std",
    ),
    ({"posterior_std": torch.ones(3)}, "posterior_std must be one number, (4,) or", "(3,)"),
    ({"posterior_std": torch.zeros(SAMPLES, 4)}, "posterior_std must be above 0", "0 at (0, 0)"),
    (prior(prior_logvar=-301 * torch.ones(4)), "must be of log-variances in +-300", "-301 at (0,)"),
    ({"prior_mean": None}, "prior_mean must be given where prior_std is", "None"),
    ({"prior_mean": torch.zeros(3)}, "prior_mean must be one number, (4,) or (2000, 4)", "(3,)"),
    ({"prior_weights": [1.5, -0.5]}, "prior_weights must not be negative", "-0.5 at (1,)"),
    ({"prior_weights": [0.5, 0.6]}, "prior_weights must sum to 1", "1.1"),
    ({"prior_weights": [0.5, 0.5]}, "prior_mean must be (2, 4)", "(4,)"),
    (
        prior(prior_weights=[1.0], prior_mean=EYE[:1], prior_covariance=EYE[None]),
        "prior_covariance must not be given with prior_weights",
        "got (1, 4, 4)",
    ),
    (prior(prior_covariance=0 * EYE), "must have eigenvalues well above 0", "got 0"),
    (prior(prior_cholesky=EYE.cumsum(1)), "must be lower triangular", "(0, 1)"),
    ({"compared": 1}, "compared must be an integer of at least 2", "1"),
    ({"since": 3}, "since must be a Report", "3"),
]


@pytest.mark.parametrize(("changes", "rule", "got"), WRONG)
def test_a_wrong_argument_is_named_with_what_is_allowed(changes, rule, got):
    with pytest.raises(ParameterError) as error:
        four(**changes)
    assert rule in str(error.value) and got in str(error.value)


def test_at_the_largest_numbers_nothing_overflows():
    mean = torch.tensor([[1e60], [-1e60]], dtype=torch.float64)
    given = {"posterior_mean": mean, "posterior_logvar": torch.full((2, 1), 300.0)}
    prior = {"prior_mean": torch.zeros(1), "prior_logvar": torch.full((1,), -300.0)}
    report = vn.diagnose(**given, **prior)
    assert all(math.isfinite(value) for value in report.to_dict().values())


def test_the_report_can_be_shown_and_logged():
    report = four()
    assert "4 dims: 1 alive, 1 wasting, 1 free-riding, 1 dead." in str(report)
    assert "free-riding" in report._repr_html_()
    logged = report.to_dict()
    assert json.loads(json.dumps(logged)) == logged
    assert [logged[f"dim/{dim}/alive"] for dim in range(4)] == [1, 0, 0, 0]
    assert logged["alive"] == 1 and logged["kl_nats"] == report.totals["kl_nats"]


def record(recorder, epoch, width):
    """Codes of which the second dim is as wide as its prior, and the first is alive from 1 on."""
    return recorder.record(
        epoch,
        posterior_mean=codes(256)[:, :2] * min(epoch, 1),
        posterior_std=torch.tensor([0.3, width]).expand(256, 2),
        prior_mean=torch.zeros(2),
        prior_std=torch.tensor([1.0, width]),
        compared=128,
    )


def test_a_recorder_measures_shrinking_from_the_first_epoch():
    recorder, narrow = vn.Recorder(), 0.1  # from a variance of 1 all of these would have shrunk
    widths = {0: narrow, 2: 0.5 * narrow, 1: 0.8 * narrow}
    found = {epoch: record(recorder, epoch, width) for epoch, width in widths.items()}
    statuses = {epoch: report.dims["status"]["1"] for epoch, report in found.items()}
    assert statuses == {0: "free-riding", 1: "dead", 2: "free-riding"}
    assert recorder.table.index.tolist() == [(e, d) for e in (0, 1, 2) for d in ("0", "1")]
    assert recorder.table.loc[(2, "1"), "prior_variance"] == pytest.approx((0.5 * narrow) ** 2)
    again = record(recorder, 0, 0.7)  # replaces the first, and is not measured from it
    assert recorder.reports[0] is again and again.dims["status"]["1"] == "free-riding"


def test_what_a_recorder_cannot_use_is_one_line():
    recorder = vn.Recorder()
    with pytest.raises(ParameterError, match="must have recorded something"):
        recorder.figure()
    with pytest.raises(ParameterError, match=r"epoch must be a finite number .*, got nan"):
        record(recorder, math.nan, 1.0)
    record(recorder, 0, 1.0)
    with pytest.raises(
        ParameterError, match=r"must be \(sample, 2\), as in the earlier report \(since\), got \("
    ):
        recorder.record(1, posterior_mean=codes(), posterior_std=torch.ones(SAMPLES, 4))


def test_figures_have_a_row_or_a_line_for_each_dim():
    report = four()
    information, kl, ratio, _ = report.figure().axes
    ordered = printed.ranked(report.dims)
    assert [label.get_text() for label in information.get_yticklabels()] == list(ordered.index)
    widths = sum(np.array([bar.get_width() for bar in part]) for part in kl.containers)
    assert np.allclose(widths, ordered["kl_nats"])
    assert np.allclose(ratio.collections[0].get_offsets()[:, 0], ordered["ratio"])
    recorder = vn.Recorder()
    for epoch in range(3):
        record(recorder, epoch, 0.5**epoch)
    *_, ratio, information = recorder.figure().axes
    assert [line.get_linestyle() for line in ratio.lines] == ["-", "--"]
    assert len(information.lines) == 3  # one is the bound
    counts = figures.counts(np.array([0.1, 1.0]), {"usual": [0, 4], "ours": [2, 2]}, 4)
    assert [line.get_ydata().tolist() for line in counts.axes[0].lines[:2]] == [[0, 4], [2, 2]]


def test_the_table_has_first_what_adds_most_and_else_keeps_the_order():
    mean = codes(100)[:, :1] * torch.tensor([0.0, 0.5, 0.0, 2.0])
    report = vn.diagnose(posterior_mean=mean, posterior_std=0.5)
    assert printed.table(report.dims, report.sees).index.tolist() == ["3", "1", "0", "2"]


@pytest.mark.parametrize(
    ("std", "unit"), [([0.01, 0.1, 1.0], 1.0), ([0.01, 0.1, 1.0], 1e-6), ([1.0] * 3, 1.0),
                      ([1e-6, 0.03, 30.0], 1.0), ([0.4, 0.5, 0.9], 1.0)],
)  # fmt: skip
def test_a_figures_numbers_can_be_read_and_its_marks_are_whole(std, unit):
    given = {"posterior_mean": codes(100)[:, :3] * unit, "posterior_std": torch.tensor(std) * unit}
    fig = vn.diagnose(**given, prior_mean=0.0, prior_std=unit).figure()
    fig.canvas = FigureCanvasAgg(fig)
    fig.canvas.draw()
    for ax in fig.axes:
        low, high = ax.get_xlim()
        ticks = zip(ax.get_xticks(), ax.get_xticklabels(), strict=True)
        boxes = [text.get_window_extent() for at, text in ticks if low <= at <= high]
        assert len(boxes) >= 2
        assert all(one.x1 + 3 < two.x0 for one, two in pairwise(boxes))
        for marks in ax.collections[-2:]:
            if isinstance(marks, PathCollection):
                x = ax.transAxes.inverted().transform(ax.transData.transform(marks.get_offsets()))
                assert (x[:, 0] > 0.01).all() and (x[:, 0] < 0.99).all()


def test_the_readmes_example_runs_as_it_stands_and_prints_what_it_shows(capsys):
    section = README.read_text().split("## Diagnose your own VAE")[1]
    code, shown = re.findall(r"```(?:python|text)\n(.*?)```", section, re.DOTALL)[:2]
    torch.manual_seed(0)
    exec(compile(code, "README.md", "exec"), {})
    printed = capsys.readouterr().out

    def words(text):
        return [re.sub(r"\d", "#", line).split() for line in text.strip().splitlines()]

    assert words(printed) == words(shown)  # digits aside


def test_diagnose_needs_no_model_no_lab_and_nothing_of_jupyter():
    code = "import sys; from vaenotes.diagnosis import diagnose, adapters; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(run.stdout.split())
    ours = {name for name in loaded if name.startswith("vaenotes.")}
    elsewhere = {name for name in ours if not name.startswith("vaenotes.diagnosis")}
    assert elsewhere == {f"vaenotes.{name}" for name in ("errors", "kl", "state", "style")}
    assert not loaded & {"IPython", "ipykernel", "papermill", "xarray", "sklearn", "mlxtend"}
