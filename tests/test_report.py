"""How a report is shown, drawn, logged and kept."""

import json
import math
import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from bs4 import BeautifulSoup
from given import SAMPLES, four
from given import four_codes as codes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PathCollection

import vaenotes as vn
from vaenotes.diagnosis import figures, printed
from vaenotes.errors import ParameterError


def test_the_report_can_be_shown_and_logged():
    report = four()
    assert "4 dims: 1 alive, 1 wasting, 1 free-riding, 1 dead." in str(report)
    assert "free-riding" in report._repr_html_()
    logged = report.to_dict()
    assert json.loads(json.dumps(logged)) == logged
    assert [logged[f"dim/{dim}/alive"] for dim in range(4)] == [1, 0, 0, 0]
    allowed = re.compile(r"[\w. :/-]+", re.ASCII)  # names that MLflow takes
    square = vn.diagnose(posterior_mean=codes().reshape(-1, 2, 2), posterior_std=1.0).to_dict()
    assert all(allowed.fullmatch(name) for name in square) and "dim/1_0/kl_nats" in square
    assert logged["alive"] == 1 and logged["kl_nats"] == report.totals["kl_nats"]
    assert report == report != four() and hash(report) == hash(report)


@pytest.mark.attack("wrong")
def test_numbers_have_their_places_however_the_table_is_sorted():
    report = vn.diagnose(posterior_mean=codes().reshape(-1, 2, 2), posterior_std=1.0)
    before = report.to_xarray()
    report.dims.sort_values("added_nats", inplace=True)
    assert list(report.dims.index) != ["0,0", "0,1", "1,0", "1,1"]
    assert report.to_xarray().equals(before)


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
    again = record(recorder, 1, 0.7)  # replaces
    assert recorder.reports[1].dims.equals(again.dims) and again.dims["status"]["1"] == "dead"
    with pytest.raises(ParameterError, match=r"epoch must not be the first again, .* got 0"):
        record(recorder, 0, 0.7)  # from which the others are measured
    assert recorder.reports[0].dims.equals(found[0].dims)
    alone = vn.Recorder()
    for width in (narrow, 0.7):  # replaces, and is not measured from itself
        assert record(alone, 0, width).dims["status"]["1"] == "free-riding"


@pytest.mark.attack("wrong")
def test_what_is_done_to_a_report_changes_no_recorder():
    recorder = vn.Recorder()
    for epoch in range(2):  # else the second would have shrunk
        found = record(recorder, epoch, 1.0)
        assert found.dims["status"]["1"] == "dead"
        before = recorder.table
        found.dims["prior_variance"] *= 100
        assert recorder.table.equals(before)


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


@pytest.mark.attack("run")
def test_names_of_dims_are_shown_as_text(tmp_path):
    names = ["$a_{$", "<script>alert(1)</script>", "{{ 1 }}"]
    mean = pd.DataFrame(codes(100)[:, :3].numpy(), columns=names)
    vn.diagnose(posterior_mean=mean, posterior_std=0.5).save(tmp_path / "page.html")
    page = BeautifulSoup((tmp_path / "page.html").read_text(), "html.parser")
    assert not page.find_all("script")
    obeyed = vn.diagnose(posterior_mean=mean.set_axis(["\x1b[31m", "\u202e", "\0"], axis=1),
                         posterior_std=0.5)  # fmt: skip
    assert all(letter.isprintable() or letter == "\n" for letter in str(obeyed))
    assert r"\x1b[31m" in str(obeyed)
    assert {cell.text for cell in page.select("tbody th")} == set(names)


def test_a_page_that_cannot_be_written_leaves_the_earlier_one(tmp_path, monkeypatch):
    report, page = four(), tmp_path / "kept.html"
    report.save(page)
    before = page.read_text()

    def full(path, text, **_):
        path.write_bytes(text.encode()[:100])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(ParameterError, match=r"path cannot be written .*No space left"):
        report.save(page)
    assert page.read_text() == before and list(tmp_path.iterdir()) == [page]
    monkeypatch.undo()
    other = tmp_path / "other"  # which another may have put where a page is written to first
    other.write_text("another's")
    (tmp_path / ".kept.html.tmp").symlink_to(other)
    page.write_text("")
    report.save(page)
    assert other.read_text() == "another's" and page.read_text().endswith("</html>")
    assert len(list(tmp_path.iterdir())) == 3
    for path in (None, 3, tmp_path / "page.htm"):
        with pytest.raises(ParameterError, match=r"path must end in \.html"):
            report.save(path)
    with pytest.raises(ParameterError, match="path cannot be written"):
        report.save(tmp_path / f"{'long' * 80}.html")
