"""Latents of many dims and places, and how their reports are shown."""

import json
import math

import numpy as np
import pytest
import torch
from given import agree, arguments, codes

import vaenotes as vn
from vaenotes.diagnosis.printed import SHOWN
from vaenotes.errors import ParameterError


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
    with pytest.raises(ParameterError, match=r"\(one number a dim: \(3, 1, 1\)\), got \(3,\)"):
        vn.diagnose(**arguments(mean, std, prior_mean=torch.zeros(3), prior_std=1.0, groups=1))
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
    assert report.hints and dataset.attrs["hints"].split("\n") == list(report.hints)
    dataset.to_netcdf(tmp_path / "report.nc", engine="scipy")  # which has no lists of texts
    assert json.loads(json.dumps(report.to_dict(dims=False)))


def test_a_channel_that_one_place_uses_is_unsure_and_the_report_says_where_to_look():
    """Two nats at one place of 64 are 0.03 in the mean."""
    g = torch.randn(1000, generator=torch.Generator().manual_seed(2))
    mean, std = torch.zeros(1000, 3, 8, 8), torch.ones(1000, 3, 8, 8)
    mean[:, 0, 3, 3], std[:, 0, 3, 3] = 0.7 * g, 0.1
    mean[:, 2], std[:, 2] = g[:, None, None], 0.1
    stream = vn.Diagnosis()
    for some in (slice(400), slice(400, 1000)):
        stream.update(**arguments(mean[some], std[some], groups=1))
    exact = 0.5 * math.log((float(mean[:, 0, 3, 3].var(correction=0)) + 0.01) / 0.01)
    hint = f"dim 0 adds little, and at one place maybe {exact:.2f} nats: the report without groups"
    for report in (vn.diagnose(**arguments(mean, std, groups=1)), stream.compute()):
        assert report.dims["status"].tolist() == ["unsure", "dead", "alive"]
        assert report.dims["place_nats"].iloc[:2].tolist() == pytest.approx([exact, 0])
        row = report.dims.iloc[0]
        assert row["added_nats"] + 1.96 * row["added_error"] < 0.1  # else it would be so anyway
        assert hint in str(report)
    every = vn.diagnose(**arguments(mean[:, :1], std[:, :1]), compared=100)
    assert every.alive.sum() == 1 and every.alive[0, 3, 3] and "place_nats" not in every.dims
    there = torch.ones(1000, 3, 8, 8)
    there[:, 0, 3, 3] = 0
    masked = vn.diagnose(**arguments(mean, std, groups=1, weights=there))
    assert masked.dims["status"].tolist() == ["dead", "dead", "alive"]
    assert "without groups" not in str(masked)
    there[:, 0, 3, 3], there[:, 0, 0, 0] = 1, 0  # nothing is known of a place: it hides no other
    masked = vn.diagnose(**arguments(mean, std, groups=1, weights=there))
    assert masked.dims["status"].tolist() == ["unsure", "dead", "alive"]
    everywhere = vn.diagnose(
        posterior_mean=0.45 * torch.randn(200, 1, 8, 8, generator=torch.Generator().manual_seed(0)),
        posterior_std=1.0, groups=1,
    )  # fmt: skip
    assert everywhere.dims["place_nats"].iloc[0] > 0.1 and everywhere.counts["unsure"]
    assert "without groups" not in str(everywhere)
    # a prior that moves for nothing, or tells it all, makes no place alive
    moves = vn.diagnose(**arguments(0 * mean, 0.5, groups=1, prior_mean=mean, prior_std=1.0))
    known = vn.diagnose(**arguments(mean, std, groups=1, prior_mean=mean, prior_std=std))
    for report in (moves, known):
        assert not report.counts["unsure"] and not report.alive.any()
