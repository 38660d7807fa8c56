"""Codes in batches, and merged."""

import math
import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from given import KINDS, agree, arguments, codes, parts

import vaenotes as vn
from vaenotes.errors import ParameterError


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


@pytest.mark.attack("wrong")
def test_of_objects_that_compare_different_numbers_none_counts_for_more():
    """Two clusters, far apart, one in each: as of log 2 and what lies within each."""
    found = []
    for seed in range(12):
        mean = 0.1 * torch.randn(2, 1000, 1, generator=torch.Generator().manual_seed(seed))
        many, few = vn.Diagnosis(seed=100 + seed), vn.Diagnosis(compared=200, seed=200 + seed)
        many.update(posterior_mean=mean[0], posterior_std=0.1)
        few.update(posterior_mean=mean[1] + 9, posterior_std=0.1)
        many.merge(few)
        found.append(many.compute().dims[["added_nats", "added_error"]].iloc[0])
    added, error = np.array(found).T
    exact = math.log(2) + 0.5 * math.log(2)
    assert abs(added.mean() - exact) < 3 * math.hypot(*error) / 12


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


@pytest.mark.attack("wrong")
def test_a_batch_that_is_refused_leaves_everything_as_it_was():
    labels = torch.randn(40, 1)
    streams = [vn.Diagnosis(compared=10, decode=lambda z, rows: labels[rows]) for _ in range(2)]
    for refuses, stream in enumerate(streams):
        stream.update(**arguments(*codes(20, 5)))
        if refuses:
            with pytest.raises(ParameterError, match="as before"):
                stream.update(**arguments(*codes(20, 4)))
            with pytest.raises(ParameterError, match="of whole samples with decode"):
                stream.update(**arguments(*codes(9, 5), weights=torch.eye(9, 5)))
        stream.update(**arguments(*codes(20, 5, seed=1)))
    one, other = (stream.compute() for stream in streams)  # labels has no row 40
    pd.testing.assert_frame_equal(one.dims, other.dims)


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


def test_a_diagnosis_merges_with_no_copy_of_itself():
    diagnosis = vn.Diagnosis()
    diagnosis.update(posterior_mean=codes(20, 2)[0], posterior_std=0.5)
    with pytest.raises(ParameterError, match="other must be another Diagnosis"):
        diagnosis.merge(diagnosis)


def priors():
    """Priors of one condition, and what each is with a row per sample."""
    prior_mean, prior_std = torch.tensor([0.3, 1.1, -0.7, 1.0, 2.0]), torch.linspace(0.4, 2, 5)
    factor = torch.diag(prior_std) + 0.1 * torch.ones(5, 5).tril(-1)
    there = {"weights": (codes(400, 5, seed=2)[1] > 0.5).float()}
    return {
        "diagonal": ({"prior_mean": prior_mean, "prior_std": prior_std}, {}),
        "full": ({"prior_mean": prior_mean, "prior_cholesky": factor}, {}),
        "diagonal, masked": ({"prior_mean": prior_mean, "prior_std": prior_std}, there),
    }


@pytest.mark.parametrize("kind", priors())
def test_a_prior_whose_rows_are_all_the_same_is_the_constant_one_that_it_is(kind):
    (prior, weights), (mean, std) = priors()[kind], codes(400, 5)
    once = vn.diagnose(**arguments(mean, std, **prior, **weights))
    rows = {name: value.repeat(400, *[1] * value.dim()) for name, value in prior.items()}
    if weights:  # what does not count may be anything
        rows["prior_mean"][weights["weights"] == 0] = 7.0
    given = arguments(mean, std, **rows, **weights)
    stream, merged, other = (vn.Diagnosis() for _ in range(3))
    for some in (slice(150), slice(150, 400)):
        stream.update(**{name: value[some] for name, value in given.items()})
    other.update(**given)
    merged.merge(other)
    for report in (vn.diagnose(**given), merged.compute()):
        pd.testing.assert_frame_equal(report.dims, once.dims)
        assert report.totals == pytest.approx(once.totals, nan_ok=True)
        assert str(report) == str(once) and "≤" not in str(report)
    assert not stream.compute().sees


@pytest.mark.parametrize("name", ["prior_mean", "prior_std", "prior_cholesky"])
def test_a_prior_whose_rows_differ_in_a_later_batch_alone_sees_the_sample(name):
    mean, std = codes(400, 5)
    prior = {"prior_mean": torch.zeros(400, 5), "prior_std": torch.ones(400, 5)}
    if name == "prior_cholesky":
        prior["prior_cholesky"] = torch.eye(5).repeat(400, 1, 1)
        del prior["prior_std"]
    prior[name][(-1, 4, 0) if name == "prior_cholesky" else (-1, 0)] += 1e-4
    prior["prior_mean"][5] += 1e-7  # by rounding alone
    batches = [{n: v[s] for n, v in arguments(mean, std, **prior).items()}
               for s in (slice(200), slice(200, 400))]  # fmt: skip
    stream = vn.Diagnosis()
    for batch, sees in zip(batches, (False, True), strict=True):
        stream.update(**batch)
        assert stream.compute().sees == sees
    assert "adds ≤" in str(stream.compute())


@pytest.mark.attack("wrong")
@pytest.mark.parametrize(("at", "std"), [(1.7e9, 100.0), (20.0, 1e-5)])
def test_a_prior_that_sees_the_sample_does_so_wherever_it_lies(at, std):
    """The posterior is the prior itself, and adds nothing to it."""
    mean = at + std * codes(500, 4)[0][:, 3:].double()
    given = arguments(mean, 0.1 * std, prior_mean=mean, prior_std=0.1 * std)
    report = vn.diagnose(**given)
    assert report.sees and report.totals["added_nats"] == pytest.approx(0, abs=1e-6)
    blind = arguments(mean, 0.1 * std, prior_mean=0 * mean + at, prior_std=std)
    assert not vn.diagnose(**blind).sees


def test_codes_that_a_generator_of_the_same_seed_has_drawn_are_codes_as_others():
    """Noise that is the codes' own again would make any information of them."""
    truth = 0.5 * math.log(1 + 0.2**-2) * 32
    for seed in (0, 1):
        torch.manual_seed(seed)
        mean = torch.randn(1000, 32, dtype=torch.float64)
        report = vn.diagnose(posterior_mean=mean, posterior_std=0.2, seed=seed)
        found = report.dims["information_nats"]
        assert found.sum() == pytest.approx(truth, rel=0.05)
        torch.manual_seed(seed)
        weak = vn.diagnose(posterior_mean=0.4 * torch.randn(1000, 32).double(), posterior_std=1.0)
        assert weak.totals["information_nats"] > 1
