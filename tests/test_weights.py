"""Samples that count more or less, and masks."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from given import EXACT, agree, arguments, codes, parts

import vaenotes as vn
from vaenotes.errors import ParameterError


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


@pytest.mark.parametrize("spread", ["covariance", "cholesky"])
@pytest.mark.parametrize("padding", [torch.nan, 0.0])
def test_a_matrix_of_no_weight_may_hold_anything(spread, padding):
    mean, kept = codes(300, 3)[0], torch.arange(300) % 3 != 0
    lower = torch.eye(3) + 0.2 * torch.ones(3, 3).tril(-1)
    given = (lower @ lower.mT if spread == "covariance" else lower).repeat(300, 1, 1)
    matrices = {f"{of}_{spread}": given * size for of, size in (("posterior", 1), ("prior", 2))}
    without = vn.diagnose(posterior_mean=mean[kept], prior_mean=mean[kept] / 2,
                          **{name: value[kept] for name, value in matrices.items()})  # fmt: skip
    for value in matrices.values():
        value[~kept] = padding
    some = vn.diagnose(posterior_mean=mean, prior_mean=mean / 2, **matrices, weights=kept)
    pd.testing.assert_frame_equal(some.dims, without.dims)


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
    assert "KL per place (6.5 of them) " in str(pooled)  # not 12
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


@pytest.mark.attack("wrong")
@pytest.mark.parametrize("sees", [False, True])
def test_that_a_step_counts_tells_nothing(sees):
    """Steps that are independent, of codes narrower than their prior: padding that is as the prior
    has it would tell the length of a sequence. What is known and what is wasted is the KL."""
    samples, steps, apart = 1500, 6, []
    exact = (steps + 1) / 2 * 0.5 * math.log(1 + (0.2 / 0.3) ** 2)
    for seed in range(8):
        generator = torch.Generator().manual_seed(seed)
        lengths = torch.randint(1, steps + 1, (samples,), generator=generator)
        there = torch.arange(steps) < lengths[:, None]
        mean = 0.2 * torch.randn(samples, steps, generator=generator)
        prior = 3 * torch.randn(samples, steps, generator=generator) if sees else torch.zeros(steps)
        given = arguments(mean + prior, 0.3, prior_mean=prior, prior_std=1.0, weights=there)
        report = vn.diagnose(**given)
        totals = report.totals
        apart.append((totals["added_nats"] - exact) / totals["added_error"])
        told = totals["added_nats"] + totals["wasted_nats"]
        assert told == pytest.approx(totals["kl_nats"], abs=0.1)
        assert "are added" in str(report) if sees else "sample at most " in str(report)
    assert np.abs(apart).max() < 3 and abs(np.mean(apart)) < 1


@pytest.mark.attack("wrong")
def test_a_step_that_counts_less_costs_as_much_where_it_counts():
    mean, std = 0.1 * codes(400, 2)[0], 0.1
    alike, less = (
        vn.diagnose(**arguments(mean, std, weights=torch.tensor([1.0, weight]).expand(400, 2)))
        for weight in (1.0, 0.01)
    )
    for name in ("kl_nats", "wasted_nats", "wasted_width_nats", "added_nats"):
        assert less.totals[name] == pytest.approx(alike.totals[name], abs=0.01), name


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


@pytest.mark.attack("wrong")
@pytest.mark.parametrize(
    "given",
    [
        {"weights": np.ma.masked_array(np.ones(9), [1] + [0] * 8)},
        {"prior_mean": np.zeros((2, 5)), "prior_std": 1.0,
         "prior_weights": np.ma.masked_array([0.5, 0.5], [0, 1])},
        {"posterior_std": [np.ma.masked_array(np.ones(5), [0, 0, 0, 0, 1])] * 9},
        {"posterior_mean": [[np.ma.masked_array(np.ones(5), True)] * 2] * 9},
        {"posterior_mean": torch.masked.as_masked_tensor(torch.ones(9, 5), torch.ones(9, 5) > 0)},
    ],
)  # fmt: skip
def test_a_mask_that_would_not_be_heeded_is_refused(given):
    mean, std = codes(9, 5)
    with pytest.raises(ParameterError, match=r"mask.*: weights.* serve instead"):
        vn.diagnose(**{"posterior_mean": mean, "posterior_std": std, **given})


def test_dims_of_which_few_samples_count_are_hinted_at():
    """A step that 81 of 1,500 sequences reach, of which about 55 are compared."""
    mean, std = codes(1500, 4)
    there = torch.ones(1500, 4)
    there[81:, 0] = 0
    there[:, 1] = torch.where(torch.arange(1500) < 81, 1.0, 1e-3)  # worth about as many
    given = arguments(mean, std, weights=there)
    said = "Of 2 dims fewer than 100 samples count among those compared: give more, or raise"
    assert said in str(vn.diagnose(**given))
    there[81:160, 0] = 1
    there[:, 1] = 1
    assert "Of 1 dim fewer than 100" in str(vn.diagnose(**given, compared=700))
    assert "count among those" not in str(vn.diagnose(**given, compared=1500))
    assert "count among those" not in str(vn.diagnose(**arguments(mean, std), compared=50))
    pooled = {"posterior_mean": mean[..., None].expand(-1, -1, 8), "posterior_std": 1.0}
    few = vn.diagnose(**pooled, weights=there[..., None].expand(-1, -1, 8), groups=1, compared=1500)
    assert "count among those" in str(few)  # its places are no samples of their own


def test_of_more_samples_than_are_compared_those_that_count_most_are():
    """Against all of them, compared; and two that count, which are not known from each other."""
    generator = torch.Generator().manual_seed(3)
    mean = torch.randn(6000, 2, generator=generator)
    weights = (2.0 * torch.randn(6000, generator=generator) + mean[:, 0]).exp()
    for weight in (weights, torch.stack([weights, weights.flip(0)], 1)):
        given = {"posterior_mean": mean, "posterior_std": 0.3, "weights": weight}
        every = vn.diagnose(**given, compared=6000).dims
        for seed in range(3):
            some = vn.diagnose(**given, seed=seed).dims
            apart = (some["information_nats"] - every["information_nats"]).abs()
            assert (apart < 4 * some["information_error"]).all()
    few = torch.full((2000,), 1e-6)
    few[:2] = 1
    codes = torch.zeros(2000, 1)
    codes[2:] = torch.randn(1998, 1, generator=generator)
    found = vn.diagnose(posterior_mean=codes, posterior_std=1.0, weights=few).dims
    assert found["information_nats"].iloc[0] < 0.01


def test_batches_of_weights_are_sampled_as_they_are_together():
    generator = torch.Generator().manual_seed(4)
    mean = torch.randn(4000, 1, generator=generator)
    weights = (3 * mean[:, 0]).exp()
    diagnosis = vn.Diagnosis(compared=500)
    for some in torch.arange(4000).split(700):
        diagnosis.update(posterior_mean=mean[some], posterior_std=0.3, weights=weights[some])
    found = diagnosis.compute().dims.iloc[0]
    true = vn.diagnose(posterior_mean=mean, posterior_std=0.3, weights=weights, compared=4000)
    apart = abs(found["information_nats"] - true.dims["information_nats"].iloc[0])
    assert apart < 4 * found["information_error"]


def test_weights_that_are_not_finite_are_named():
    weights = torch.tensor([1.0, math.inf, 1.0])
    with pytest.raises(ParameterError, match="weights must be finite, got inf at"):
        vn.diagnose(posterior_mean=torch.zeros(3, 1), posterior_std=1.0, weights=weights)


@pytest.mark.attack("wrong")
@pytest.mark.parametrize("tilt", [0.0, 0.3, 0.5])
def test_the_error_of_the_kl_holds_for_weights_that_go_with_the_code(tilt):
    """Weights exp(tilt x) of x ~ N(0, 1) are those of N(tilt, 1): in batches, as at once."""
    exact, apart = 0.5 * (0.25 + tilt**2 - math.log(0.25)), []
    for seed in range(100):
        generator = torch.Generator().manual_seed(seed)
        mean = torch.randn(1000, 1, generator=generator).double()
        weights, stream = (tilt * mean[:, 0]).exp(), vn.Diagnosis(compared=8)
        for some in torch.arange(1000).split(300):
            stream.update(posterior_mean=mean[some], posterior_std=0.5, weights=weights[some])
        totals = stream.compute().totals
        apart.append((totals["kl_nats"] - exact) / totals["kl_error"])
    share = weights / weights.sum()
    kl = 0.5 * (0.25 + mean[:, 0].square() - 1 - math.log(0.25))
    variance = (share * (kl - (share * kl).sum())).square().sum() / (1 - share.square().sum())
    assert totals["kl_error"] == pytest.approx(float(variance.sqrt()))
    assert np.mean(np.abs(apart) < 1.96) >= 0.88
