"""Codes in batches, in groups, weighted and masked, and reports of any size."""

import json
import math
import pickle

import jax
import numpy as np
import pandas as pd
import pytest
import torch

import vaenotes as vn
from vaenotes.diagnosis.printed import SHOWN
from vaenotes.errors import ParameterError

EXACT = [
    "kl_nats", "variance_nats", "mean_nats", "offset_nats", "gap_nats", "bound_nats", "ratio",
    "spread", "posterior_variance", "prior_variance", "wasted_offset_nats", "wasted_width_nats",
]  # fmt: skip


def codes(samples, dims, seed=0):
    generator = torch.Generator().manual_seed(seed)
    mean = torch.randn(samples, dims, generator=generator) * torch.linspace(0, 2, dims)
    return mean + 1, torch.rand(samples, dims, generator=generator) + 0.2


def arguments(mean, std, **rest):
    return {"posterior_mean": mean, "posterior_std": std, **rest}


def agree(one, other, names=EXACT, tolerance=1e-9):
    for name in names:
        assert np.allclose(one.dims[name], other.dims[name], rtol=tolerance, atol=tolerance), name


def full(mean, std, sees):
    factors = torch.diag_embed(std) + 0.1 * torch.ones(*std.shape, std.shape[1]).tril(-1)
    prior = {"prior_mean": sees, "prior_cholesky": 2 * factors}
    return {"posterior_mean": mean, "posterior_cholesky": factors, **prior}


KINDS = {
    "a fixed prior": lambda m, s, c: arguments(m, s),
    "a learned prior": lambda m, s, c: arguments(m, s, prior_mean=torch.ones(5), prior_std=2.0),
    "a prior that sees": lambda m, s, c: arguments(m, s, prior_mean=c, prior_std=s + 1),
    "full covariances": full,
    "weights": lambda m, s, c: arguments(m, s, weights=s[:, 0]),
    "weights of each dim": lambda m, s, c: arguments(m, s, weights=(s > 0.5).float()),
}


def parts(kind, sizes=(150, 1, 249)):
    """The codes whole, and in batches."""
    (mean, std), (sees, _) = codes(400, 5), codes(400, 5, seed=1)
    batches = zip(*(value.split(sizes) for value in (mean, std, sees)), strict=True)
    return KINDS[kind](mean, std, sees), [KINDS[kind](*batch) for batch in batches]


@pytest.mark.parametrize("kind", KINDS)
def test_batches_and_merged_streams_give_the_report_on_all_at_once(kind):
    whole, batches = parts(kind)
    at_once, stream = vn.diagnose(**whole), vn.Diagnosis()
    merged, others = vn.Diagnosis(seed=7), [vn.Diagnosis(seed=seed) for seed in range(3)]
    for batch, other in zip(batches, others, strict=True):
        stream.update(**batch)
        other.update(**batch)
        merged.merge(pickle.loads(pickle.dumps(other)))  # as from another process
    for report in (stream.compute(), merged.compute()):
        agree(report, at_once)
        for name in ("kl_nats", "kl_error", "wasted_nats"):
            assert report.totals[name] == pytest.approx(at_once.totals[name])
        if kind == "weights of each dim":  # dims of different samples: nothing joint is known
            assert not {"bound_nats", "directions", "dims_nats"} & set(report.totals)
        else:
            assert report.totals["bound_nats"] == pytest.approx(at_once.totals["bound_nats"])
            assert np.allclose(report.directions, at_once.directions)
        both = np.hypot(report.dims["added_error"], at_once.dims["added_error"])
        apart = (report.dims["added_nats"] - at_once.dims["added_nats"]).abs()
        assert (apart < 3 * both + 1e-9).all()  # by their draws: all samples are compared
        assert report.totals["ceiling_nats"] == pytest.approx(at_once.totals["ceiling_nats"])


def test_a_stream_keeps_as_many_samples_as_it_compares_and_any_is_as_likely():
    stream = vn.Diagnosis(compared=50)
    for first in range(0, 5000, 500):
        place = torch.arange(first, first + 500.0)[:, None]
        stream.update(posterior_mean=place, posterior_std=1.0)
    kept = stream._sampled.posterior.mean.flatten()
    assert len(kept) == 50 and len(kept.unique()) == 50
    assert abs(float(kept.mean()) - 2500) < 3 * 5000 / (12 * 50) ** 0.5
    assert stream.compute().totals["ceiling_nats"] == pytest.approx(math.log(50))
    large = vn.Diagnosis(compared=50)
    large.update(posterior_mean=torch.zeros(10**5, 1), posterior_std=1.0)
    assert len(pickle.dumps(large)) < 10**5  # no view of all samples either


def test_a_stream_can_start_anew_and_has_nothing_to_say_of_nothing():
    whole, batches = parts("a fixed prior")
    stream = vn.Diagnosis()
    stream.update(**batches[0])
    stream.reset()
    with pytest.raises(
        ParameterError, match="must have 2 samples or more, of weights above 0, got 0"
    ):
        stream.compute()
    stream.merge(vn.Diagnosis())
    stream.update(**whole)
    assert stream.compute().dims.equals(vn.diagnose(**whole).dims)


def test_a_recorder_takes_streams_and_measures_shrinking_from_the_first():
    recorder = vn.Recorder()
    for epoch, width in enumerate((0.1, 0.1, 0.03)):
        stream = vn.Diagnosis()
        for _ in range(3):
            given = {"posterior_mean": torch.zeros(5, 2), "posterior_std": width}
            stream.update(**given, prior_mean=0.0, prior_std=width)
        recorder.record(epoch, stream)
    found = [report.dims["status"]["0"] for report in recorder.reports.values()]
    assert found == ["free-riding", "dead", "free-riding"]


@pytest.mark.parametrize(
    ("second", "words"),
    [
        (
            arguments(*codes(9, 4)),
            "posterior_mean must be (sample, ...) of (5,), as before, got (4,)",
        ),
        (
            arguments(*codes(9, 5), prior_mean=1.0, prior_std=1.0),
            "prior_mean must be the same in every batch, got 1 at (0,) and 4 more such",
        ),
        (
            arguments(*codes(9, 5), prior_mean=0.0, prior_std=torch.tensor([1.0, 1, 2, 1, 1])),
            "prior_std must be the same in every batch, got 2 at (2,)",
        ),
        (
            arguments(*codes(9, 5), prior_mean=codes(9, 5)[0], prior_std=1.0),
            "prior_mean and prior_std must be for each sample in every batch or in none",
        ),
        (
            arguments(*codes(9, 5), prior_mean=torch.zeros(1, 5), prior_std=1.0, prior_weights=[1]),
            "prior_weights must be given in every batch or in none, got 'some'",
        ),
        (
            arguments(*codes(9, 5), compared=3),
            "update must be given arguments of diagnose, got compared",
        ),
    ],
)
def test_a_batch_of_another_kind_is_refused(second, words):
    stream = vn.Diagnosis()
    stream.update(**arguments(*codes(9, 5)))
    with pytest.raises(ParameterError) as error:
        stream.update(**second)
    assert words in str(error.value)


@pytest.mark.parametrize(
    ("shape", "groups", "words"),
    [
        ((9, 3, 4, 4), 2, "groups must be (1,), as before, got (2,)"),
        ((9, 3, 4, 4), None, "groups must be (1,), as before, got (1, 2, 3)"),
        ((9, 3, 2, 8), 1, "posterior_mean must be (sample, ...) of (3, 4, 4), as before"),
    ],
)
def test_groups_and_places_are_the_same_in_every_batch(shape, groups, words):
    stream = vn.Diagnosis()
    stream.update(**arguments(torch.zeros(9, 3, 4, 4), 1.0, groups=1))
    with pytest.raises(ParameterError) as error:
        stream.update(**arguments(torch.zeros(shape), 1.0, groups=groups))
    assert words in str(error.value)


# ---- weights and masks ----


def test_a_weight_of_nothing_is_as_if_the_sample_were_not_there():
    (mean, std), (sees, _) = codes(300, 4), codes(300, 4, seed=1)
    kept = torch.arange(300) % 3 != 0
    mean[~kept] = torch.nan
    prior = {"prior_mean": sees, "prior_std": 1.5}
    some = vn.diagnose(**arguments(mean, std, **prior, weights=kept))
    prior["prior_mean"] = sees[kept]
    without = vn.diagnose(**arguments(mean[kept], std[kept], **prior))
    pd.testing.assert_frame_equal(some.dims, without.dims)
    assert some.totals == pytest.approx(without.totals)


def test_a_weight_of_two_is_as_if_the_sample_were_there_twice():
    mean, std = codes(200, 4)
    twice = torch.arange(200) % 2 + 1
    weighted = vn.diagnose(**arguments(mean, std, weights=twice))
    repeated = vn.diagnose(
        posterior_mean=mean.repeat_interleave(twice, 0),
        posterior_std=std.repeat_interleave(twice, 0),
    )
    agree(weighted, repeated)
    assert np.allclose(weighted.directions, repeated.directions)
    assert weighted.totals["kl_nats"] == pytest.approx(repeated.totals["kl_nats"])
    both = np.hypot(weighted.dims["added_error"], repeated.dims["added_error"])
    assert ((weighted.dims["added_nats"] - repeated.dims["added_nats"]).abs() < 3 * both).all()


def test_the_information_of_weighted_samples_is_their_entropy():
    """Two codes that cannot be confused, of which one counts for a tenth."""
    sign = torch.arange(400)[:, None] % 2
    report = vn.diagnose(
        posterior_mean=100.0 * sign,
        posterior_std=1.0,
        weights=torch.where(sign > 0, 1.0, 9.0)[:, 0],
    )
    entropy = -(0.1 * math.log(0.1) + 0.9 * math.log(0.9))
    assert report.dims["added_nats"].iloc[0] == pytest.approx(entropy)
    assert report.totals["information_nats"] == pytest.approx(entropy)


@pytest.mark.parametrize("masked", [False, True])
def test_padded_steps_do_not_count(masked):
    """Sequences of 1 to 12 steps: each step's rows are those of the sequences that reach it."""
    samples, steps, dims = 300, 12, 2
    mean, std = codes(samples, steps * dims)
    mean, std = mean.reshape(samples, steps, dims), std.reshape(samples, steps, dims)
    lengths = torch.arange(samples) % steps + 1
    there = torch.arange(steps) < lengths[:, None]
    mean[~there] = 1e9  # what a padding might hold
    given = arguments(mean, std, weights=there)
    if masked:
        hidden = np.broadcast_to(~there.numpy()[..., None], mean.shape)
        given = arguments(np.ma.masked_array(mean.numpy(), hidden), std)
    report = vn.diagnose(**given, compared=samples)
    kl = torch.zeros(samples)
    for step in range(steps):
        some = there[:, step]
        alone = vn.diagnose(**arguments(mean[some, step], std[some, step]), compared=samples)
        rows = report.dims.loc[[f"{step},{dim}" for dim in range(dims)]]
        for name in EXACT:
            assert np.allclose(rows[name], alone.dims[name], rtol=1e-6, atol=1e-6), name
        both = np.hypot(rows["added_error"].to_numpy(), alone.dims["added_error"].to_numpy())
        apart = np.abs(rows["added_nats"].to_numpy() - alone.dims["added_nats"].to_numpy())
        assert (apart < 4 * both).all()
        q = torch.distributions.Normal(mean[some, step], std[some, step])
        unit = torch.distributions.Normal(0.0, 1.0)
        kl[some] += torch.distributions.kl_divergence(q, unit).sum(1)
    assert report.totals["kl_nats"] == pytest.approx(float(kl.mean()), rel=1e-5)
    pooled = vn.diagnose(**given, groups=2)
    valid = vn.diagnose(**arguments(mean[there], std[there]))
    agree(pooled, valid, tolerance=1e-6)


def test_waste_of_padded_steps_is_that_of_those_that_count():
    """A prior that is 1 off: half a nat of each dim of a step, and of nothing else."""
    samples, steps, dims = 600, 4, 2
    lengths = torch.arange(samples) % steps + 1
    there = torch.arange(steps) < lengths[:, None]
    mean = codes(samples, steps * dims)[0].reshape(samples, steps, dims) * 0.2
    for some in range(steps):
        mean[there[:, some], some] -= mean[there[:, some], some].mean(0)
    report = vn.diagnose(**arguments(mean + 1, 1.0, weights=there))
    counted = float(lengths.double().mean()) * dims
    assert report.totals["wasted_offset_nats"] == pytest.approx(counted / 2, abs=0.01)
    assert f"of it wasted: {report.totals['wasted_offset_nats']:.2f} on offsets" in str(report)


def test_of_the_whole_code_what_is_masked_is_as_its_prior_has_it():
    """It costs nothing, and adds nothing, whatever the prior."""
    mean, std = codes(200, 6)
    sees, there = 5 * codes(200, 6, seed=1)[0], codes(200, 6, seed=2)[1] > 0.6
    same = vn.diagnose(**arguments(sees, std, prior_mean=sees, prior_std=std, weights=there))
    for name in ("kl_nats", "added_nats", "wasted_nats"):
        assert same.totals[name] == pytest.approx(0, abs=1e-6), name
    far = vn.diagnose(**arguments(1e3 * mean, std, weights=there))  # no two can be confused
    counted = int(there.any(1).sum())
    assert far.totals["information_nats"] == pytest.approx(math.log(counted), abs=0.01)
    assert far.totals["ceiling_nats"] == pytest.approx(math.log(counted))
    dead = vn.diagnose(**arguments(0 * mean + 3, 2.0, prior_mean=3.0, prior_std=2.0, weights=there))
    assert dead.totals["added_nats"] == pytest.approx(0, abs=1e-6)
    prior = torch.distributions.Normal(3.0, 2.0)
    kl = torch.distributions.kl_divergence(torch.distributions.Normal(mean, std), prior)
    report = vn.diagnose(**arguments(mean, std, prior_mean=3.0, prior_std=2.0, weights=there))
    assert report.totals["kl_nats"] == pytest.approx(float((kl * there).sum(1).mean()), rel=1e-5)


def test_a_dim_that_hardly_ever_counts_is_unsure_and_one_that_never_does_is_refused():
    mean, std = codes(100, 3)
    there = torch.ones(100, 3)
    there[1:, 0] = 0  # of one sample
    there[:90, 1] = 0  # of ten, of which some are compared
    report = vn.diagnose(**arguments(mean, std, weights=there), compared=20)
    assert report.dims["status"]["0"] == "unsure"
    few = vn.diagnose(**arguments(mean[90:, 1:2], std[90:, 1:2]))
    assert report.dims["kl_nats"]["1"] == pytest.approx(few.dims["kl_nats"]["0"], rel=1e-6)
    assert str(report) and report.figure()
    there[0, 0] = 0
    with pytest.raises(ParameterError, match="a sample or more of each dim, got '1 without'"):
        vn.diagnose(**arguments(mean, std, weights=there))


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        (
            torch.ones(8),
            "weights must be (9, 5) or its leading axes, as posterior_mean is, got (8,)",
        ),
        (-torch.ones(9), "weights must not be negative, got -1 at (0,) and 8 more such"),
        (torch.zeros(9), "must have 2 samples or more, of weights above 0, got 0"),
        (
            torch.full((9,), 1e-200, dtype=torch.float64),
            "weights must be 0 or at least 1e-60, got 1e-200 at",
        ),
    ],
)
def test_weights_that_do_not_fit_are_named(weights, words):
    with pytest.raises(ParameterError) as error:
        vn.diagnose(**arguments(*codes(9, 5), weights=weights))
    assert words in str(error.value)


def test_a_batch_in_which_nothing_counts_is_skipped():
    batches = parts("weights")[1]
    stream = vn.Diagnosis()
    stream.update(**batches[0])
    stream.update(**batches[1] | {"weights": torch.zeros(1)})
    alone = vn.diagnose(**batches[0])
    pd.testing.assert_frame_equal(stream.compute().dims, alone.dims)


def test_a_masked_prior_is_refused():
    hidden = np.ma.masked_array(np.ones(5), [0, 0, 0, 0, 1])
    with pytest.raises(ParameterError, match="a prior must not be a masked array"):
        vn.diagnose(**arguments(*codes(9, 5), prior_mean=hidden, prior_std=1.0))


# ---- arguments of other shapes and kinds ----


def test_one_number_or_one_for_each_dim_will_do():
    mean, _ = codes(100, 3)
    one = vn.diagnose(**arguments(mean, 0.5, prior_mean=0.0, prior_std=torch.tensor([1.0, 2, 3])))
    std, prior_std = torch.full((100, 3), 0.5), torch.tensor([1.0, 2, 3]).expand(100, 3)
    every = vn.diagnose(**arguments(mean, std, prior_mean=0 * mean, prior_std=prior_std))
    pd.testing.assert_frame_equal(one.dims, every.dims)
    shared = 0.25 * torch.eye(3)
    covariance = vn.diagnose(posterior_mean=mean, posterior_covariance=shared, prior_mean=0.0,
                             prior_covariance=torch.diag(torch.tensor([1.0, 4, 9])))  # fmt: skip
    agree(covariance, one, tolerance=1e-6)


def test_what_broadcasts_will_do():
    """As many axes as the latent or the codes have, of these sizes or 1."""
    mean, std = (value.reshape(40, 3, 4, 5) for value in codes(40, 60))
    prior_mean, prior_std = torch.arange(3.0)[:, None, None], std[0, :, :1] + 1
    width, steps = std[:, :, :1, :1], std[:, :, 0, 0] > 0.5
    every = {"prior_mean": prior_mean.expand(3, 4, 5), "prior_std": prior_std.expand(3, 4, 5)}
    whole = vn.diagnose(
        **arguments(mean, width.expand(40, 3, 4, 5), weights=steps, **every), compared=40
    )
    steps = steps[..., None, None]
    few = {"prior_mean": prior_mean, "prior_std": prior_std[None]}
    report = vn.diagnose(**arguments(mean, width, weights=steps, **few), compared=40)
    pd.testing.assert_frame_equal(report.dims, whole.dims)
    pooled = vn.diagnose(**arguments(mean, std[0, :, :1, :1], groups=-3))
    agree(pooled, vn.diagnose(**arguments(mean, std[:1, :, :1, :1].expand(mean.shape), groups=1)))
    mixture = {"prior_weights": [0.5, 0.5], "prior_mean": torch.arange(6.0).reshape(2, 3, 1, 1)}
    one, other = (
        vn.diagnose(**arguments(mean, 1.0, **mixture, prior_std=given), compared=40)
        for given in (1.0, torch.ones(2, 3, 4, 5))
    )
    pd.testing.assert_frame_equal(one.dims, other.dims)
    with pytest.raises(ParameterError, match=r"prior_mean must be one number, \(3, 4, 5\) or"):
        vn.diagnose(**arguments(mean, 1.0, prior_mean=torch.zeros(5), prior_std=1.0))


def test_columns_of_a_frame_keep_their_names():
    mean, std = codes(100, 3)
    frame = pd.DataFrame(mean.numpy(), columns=["size", "hue", "x"])
    report = vn.diagnose(**arguments(frame, pd.DataFrame(std.numpy())))
    assert list(report.dims.index) == ["size", "hue", "x"]
    assert list(report.to_xarray()["dim"].values) == ["size", "hue", "x"]


def test_bfloat16_of_jax_will_do():
    mean, std = codes(100, 3)
    of_jax = jax.numpy.asarray(mean.numpy(), jax.numpy.bfloat16)
    rounded = vn.diagnose(**arguments(of_jax, std))
    agree(rounded, vn.diagnose(**arguments(mean.bfloat16(), std)))


@pytest.mark.parametrize(
    ("logvar", "hint"),
    [
        (codes(50, 3)[1], "no posterior_logvar is near 0: is it a std?"),
        (
            codes(50, 3)[1].clamp_min(0.5) - 0.5,
            "no posterior_logvar is ever below 0: is it a ReLU's?",
        ),
        (codes(50, 3)[1] - 0.5, None),
    ],
)
def test_a_log_variance_that_looks_like_something_else_is_hinted_at(logvar, hint):
    report = vn.diagnose(posterior_mean=torch.zeros(50, 3), posterior_logvar=logvar)
    found = [line for line in report.hints if "posterior_logvar" in line]
    assert (hint is None and not found) or hint in found[0]


def test_a_list_of_two_batches_looks_like_two_samples():
    batches = [torch.randn(150, 3).tolist()] * 2
    report = vn.diagnose(posterior_mean=batches, posterior_std=1.0)
    assert "Fewer samples than dims: is the first axis that of samples?" in str(report)
    for given in ([torch.zeros(150, 3)] * 2, (np.zeros((150, 3)),) * 2):
        with pytest.raises(ParameterError, match=r"must be one array, got a .* of 2"):
            vn.diagnose(posterior_mean=given, posterior_std=1.0)


# ---- size ----


def test_groups_pool_the_places_of_the_other_axes():
    mean, std = (value.reshape(40, 3, 4, 5) for value in codes(40, 60))
    by_channel = vn.diagnose(**arguments(mean, std, groups=1))
    pooled = [value.permute(0, 2, 3, 1).reshape(-1, 3) for value in (mean, std)]
    agree(by_channel, vn.diagnose(**arguments(*pooled)))
    assert by_channel.alive.shape == (3,)
    rows = vn.diagnose(**arguments(mean, std, groups=(2, 1)))
    assert rows.alive.shape == (4, 3) and rows.dims.index[1] == "0,1"
    places = {"prior_mean": torch.arange(60.0).reshape(3, 4, 5), "prior_std": torch.ones(3, 4, 5)}
    moved = places["prior_mean"].permute(1, 2, 0).reshape(-1, 3).repeat(40, 1)
    whole = vn.diagnose(**arguments(*pooled, prior_mean=moved, prior_std=1.0))
    agree(vn.diagnose(**arguments(mean, std, **places, groups=1)), whole)
    with pytest.raises(
        ParameterError, match=r"groups must be one or more of the latent's axes \(1, 2"
    ):
        vn.diagnose(**arguments(mean, std, groups=0))


def test_places_of_one_sample_are_not_independent():
    """Sixteen places of the same code are as good as one, but for their draws."""
    mean, std = codes(64, 3)
    once = vn.diagnose(**arguments(mean, std))
    alike = [value[..., None].expand(-1, -1, 16) for value in (mean, std)]
    report = vn.diagnose(**arguments(*alike, groups=1))
    agree(report, once)
    for name in ("kl_nats", "kl_error"):
        assert report.totals[name] == pytest.approx(once.totals[name])
    assert report.totals["ceiling_nats"] == pytest.approx(math.log(64))
    rows = vn.diagnose(**arguments(*(value.mT.reshape(-1, 3) for value in alike)))
    for name in ("added", "information"):
        errors = [one.dims[f"{name}_error"] for one in (report, once, rows)]
        assert (errors[0][1:] > 0.5 * errors[1][1:]).all() and (errors[0] < errors[1] + 1e-6).all()
        assert (errors[0][1:] > 2 * errors[2][1:]).all()
    far = vn.diagnose(**arguments(1e3 * alike[0], 1.0, groups=1))
    assert far.totals["information_at_ceiling"] and far.dims["at_ceiling"]["1"]
    stream = vn.Diagnosis(compared=300)
    for some in (slice(20), slice(20, 64)):
        stream.update(**arguments(*(value[some] for value in alike), groups=1))
    assert stream.compute().totals["kl_error"] == pytest.approx(once.totals["kl_error"])


def test_pooled_places_are_named_and_what_they_share_is_hinted_at():
    mean, std = (value.reshape(100, 3, 4, 4) for value in codes(100, 48))
    report = vn.diagnose(**arguments(mean, std, groups=1))
    said = str(report)
    assert "KL per place (16 of them) " in said and "about the sample per place " in said
    assert "Places are pooled: a pattern that is the same in every sample counts as" in said
    assert "place" not in str(vn.diagnose(**arguments(mean, std, groups=(1, 2, 3))))


def test_of_few_samples_the_report_says_that_intervals_may_be_too_short():
    for samples, few in ((49, True), (50, False)):
        report = vn.diagnose(**arguments(*codes(samples, 2)))
        assert ("Fewer than 50 samples: intervals may be too short." in report.hints) == few


def test_an_offset_of_a_channel_is_told_in_nats_a_place():
    """Channels of mean 1.5508 and std 2.0743, standardised into neither, cost 1.20 nats a place."""
    mean = torch.full((50, 1, 8, 8), 1.5508)
    row = vn.diagnose(**arguments(mean, 1.0, groups=1)).dims.iloc[0]
    assert row["wasted_offset_nats"] == pytest.approx(1.5508**2 / 2) == pytest.approx(1.2025, 1e-3)


def test_a_report_of_many_dims_is_short_wherever_it_is_shown():
    mean = torch.randn(64, 500, generator=torch.Generator().manual_seed(0))
    report = vn.diagnose(**arguments(mean, 0.5))
    lines = str(report).splitlines()
    assert len(lines) < SHOWN + 8 and lines[-1].startswith("and 480 more: 4")
    assert report._repr_html_().count("<tr") < SHOWN + 4
    assert len(report.to_dict(dims=False)) < 30 < 500 < len(report.to_dict())
    assert len(report.figure().axes[0].get_yticklabels()) == SHOWN
    assert "480 more are not drawn" in report.figure().axes[0].get_ylabel()
    recorder = vn.Recorder()
    recorder.record(0, **arguments(mean, 0.5))
    assert len(recorder.figure().axes[0].lines) == SHOWN


def test_a_report_can_be_saved_as_one_page_and_taken_as_a_dataset(tmp_path):
    mean, std = (value.reshape(60, 2, 3) for value in codes(60, 6))
    report = vn.diagnose(**arguments(mean, std))
    report.save(tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert page.count("<svg") == 1 and "<table" in page and "6 dims" in page
    assert not [word for word in ("<script", "<link", " src=") if word in page]
    with pytest.raises(ParameterError, match=r"path must end in \.html, got 'report\.pdf'"):
        report.save("report.pdf")
    with pytest.raises(ParameterError, match=r"path must be in a folder that is there, got '.*no/"):
        report.save(tmp_path / "no" / "report.html")
    dataset = report.to_xarray()
    assert dict(dataset.sizes) == {"dim_0": 2, "dim_1": 3}
    assert np.array_equal(dataset["status"] == "alive", report.alive)
    assert dataset.attrs["kl_nats"] == report.totals["kl_nats"]
    assert json.loads(json.dumps(report.to_dict(dims=False)))


def test_a_diagnosis_merges_with_no_copy_of_itself():
    diagnosis = vn.Diagnosis()
    diagnosis.update(posterior_mean=codes(20, 2)[0], posterior_std=0.5)
    with pytest.raises(ParameterError, match="other must be another Diagnosis"):
        diagnosis.merge(diagnosis)


def test_nothing_depends_on_the_state_that_a_caller_has_torch_in():
    mean = codes(50, 2)[0].numpy()
    expected = vn.diagnose(posterior_mean=mean, posterior_std=0.5)
    with torch.device("meta"), torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        found = vn.diagnose(posterior_mean=mean, posterior_std=0.5)
    pd.testing.assert_frame_equal(found.dims, expected.dims)


def test_nested_tensors_are_one_line():
    ragged = torch.nested.nested_tensor([torch.ones(2), torch.ones(3)])
    with pytest.raises(ParameterError, match="posterior_mean must be a tensor or array of real"):
        vn.diagnose(posterior_mean=ragged, posterior_std=1.0)
