"""A diagnosis as a metric of torchmetrics, in its own collections and over processes."""

import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from given import EXACT, agree, arguments, codes
from torchmetrics import MeanSquaredError, MetricCollection

import vaenotes as vn
from vaenotes.diagnosis.metric import DiagnosisMetric
from vaenotes.errors import ParameterError


def batches():
    mean, std = codes(400, 5)
    return [arguments(*pair) for pair in zip(mean.split(150), std.split(150), strict=True)]


def whole(**rest):
    return vn.diagnose(**arguments(*codes(400, 5)), **rest)


def same(metric, report):
    found = metric.compute()
    assert {name: float(value) for name, value in found.items()} == pytest.approx(
        report.to_dict(dims=False), rel=1e-6
    )
    agree(metric.report, report)


def filled(**given):
    metric = DiagnosisMetric(**given)
    for batch in batches():
        metric.update(**batch)
    return metric


def stream(**given):
    diagnosis = vn.Diagnosis(**given)
    for batch in batches():
        diagnosis.update(**batch)
    return diagnosis.compute()


def test_a_metric_gives_the_report_of_a_diagnosis_and_starts_anew():
    metric = filled(seed=3, compared=100)
    same(metric, stream(seed=3, compared=100))
    assert all(value.shape == () for value in metric.compute().values())
    metric.reset()
    metric.update(**batches()[1])
    same(metric, vn.diagnose(**batches()[1], seed=3, compared=100))


def test_forward_gives_the_report_on_the_batch_and_keeps_the_rest():
    metric = DiagnosisMetric()
    for batch in batches():
        found = metric(**batch)
        assert float(found["kl_nats"]) == pytest.approx(vn.diagnose(**batch).totals["kl_nats"])
    same(metric, stream())


def test_copies_go_on_by_themselves():
    metric = filled(decode=torch.sin)
    for copy in (metric.clone(), pickle.loads(pickle.dumps(metric)), metric.to("cpu")):
        same(copy, stream(decode=torch.sin))
        assert np.allclose(copy.report.dims["decoder"], stream(decode=torch.sin).dims["decoder"])
    copy = metric.clone()
    copy.update(**batches()[0])
    same(metric, stream())
    half = DiagnosisMetric()
    half.update(**batches()[0])
    rest = DiagnosisMetric(seed=1)
    for batch in batches()[1:]:
        rest.update(**batch)
    half.merge_state(rest)
    half.compute()
    agree(half.report, whole())


@pytest.mark.attack("wrong")
@pytest.mark.attack("lost")
def test_what_a_state_dict_would_not_keep_is_not_promised():
    metric = DiagnosisMetric()
    metric.persistent(False)
    with pytest.raises(ParameterError, match=r"must be False: pickle keeps a metric, .* got True"):
        metric.persistent(True)


def test_what_is_merged_after_a_report_is_in_the_next():
    metric, other = DiagnosisMetric(), DiagnosisMetric(seed=1)
    metric.update(**batches()[0])
    other.update(**batches()[1])
    before = float(metric.compute()["kl_nats"])
    metric.merge_state(other)
    stream = vn.Diagnosis()
    for batch in batches()[:2]:
        stream.update(**batch)
    assert float(metric.compute()["kl_nats"]) == pytest.approx(stream.compute().totals["kl_nats"])
    assert float(metric.compute()["kl_nats"]) != pytest.approx(before)


@pytest.mark.attack("line")
@pytest.mark.parametrize("other", [{"diagnosis": 1}, MeanSquaredError()])
def test_what_is_no_such_metric_is_not_merged(other):
    with pytest.raises(ParameterError, match="incoming_state must be a DiagnosisMetric, got '"):
        filled().merge_state(other)


def test_in_a_collection_each_metric_gets_its_own_arguments():
    metrics = MetricCollection(
        {"codes": DiagnosisMetric(), "error": MeanSquaredError()}, prefix="v/"
    )
    for batch in batches():
        found = metrics(**batch, preds=torch.ones(3), target=torch.zeros(3))
    assert found["v/error"] == 1 and found["v/kl_nats"] > 0
    assert float(metrics.compute()["v/kl_nats"]) == pytest.approx(whole().totals["kl_nats"])
    again = metrics.clone(prefix="test/")
    again.reset()
    again.update(**batches()[0], preds=torch.ones(3), target=torch.zeros(3))
    expected = vn.diagnose(**batches()[0]).totals["kl_nats"]
    assert float(again.compute()["test/kl_nats"]) == pytest.approx(expected)


PROCESS = """
import pickle, sys
from datetime import timedelta
import torch
from torch import distributed
from test_metric import batches
from vaenotes.diagnosis.metric import DiagnosisMetric

torch.set_num_threads(1)
rank, folder = int(sys.argv[1]), sys.argv[2]
metric = DiagnosisMetric(decode=lambda z: z.sin())  # built before there are processes
distributed.init_process_group(
    "gloo", f"file://{folder}/rendezvous", timedelta(seconds=60), rank=rank, world_size=2
)
for batch in batches()[rank::2]:
    metric.update(**batch)
first = metric.compute()
own = metric.diagnosis._moments.code.weight.item()
metric.update(**batches()[0])  # goes on with its own
metric.reset()
for batch in batches()[rank::2]:
    metric.update(**batch)
again = metric.compute()
found = {"first": first, "again": again, "own": own, "dims": metric.report.dims,
         "keys": metric.diagnosis._sampled.keys}
pickle.dump(found, open(f"{folder}/{rank}", "wb"))
"""


@pytest.mark.slow
def test_two_processes_give_the_report_on_the_samples_of_both(tmp_path):
    command = [sys.executable, "-c", PROCESS]
    here = str(Path(__file__).parent)
    started = [subprocess.Popen([*command, str(rank), str(tmp_path)], cwd=here) for rank in (0, 1)]
    assert [process.wait(timeout=120) for process in started] == [0, 0]
    one, other = (pickle.loads((tmp_path / str(rank)).read_bytes()) for rank in (0, 1))
    assert (one["own"], other["own"]) == (250, 150)  # after compute each has its own again
    expected = whole(decode=torch.sin)
    for found in (one["first"], one["again"], other["first"]):
        numbers = {name: float(value) for name, value in found.items()}
        for name in ("kl_nats", "kl_error", "bound_nats", "wasted_nats", "ceiling_nats"):
            assert numbers[name] == pytest.approx(expected.to_dict()[name], rel=1e-5), name
        assert abs(numbers["added_nats"] - expected.totals["added_nats"]) < 0.2
        assert found == one["first"]  # to the bit, in each process
    for name in EXACT:
        assert np.allclose(one["dims"][name], expected.dims[name]), name
    error = np.hypot(one["dims"]["decoder_error"], expected.dims["decoder_error"])
    assert ((one["dims"]["decoder"] - expected.dims["decoder"]).abs() < 4 * error + 1e-9).all()
    assert not set(one["keys"].tolist()) & set(other["keys"].tolist())  # a seed each
