"""The notes' own sizes: profile "paper" starts, streams, is taken up again and traces, in 6 GB."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import vaenotes as vn
from vaenotes import paper, runs, trace
from vaenotes.measures import MEASURES
from vaenotes.store import Store

# Two epochs of two steps each of the whole grid, 64 by 64 pixels. Arguments: the store, and the
# epoch after which the process is to end, as if it had been killed, or 0.
CHILD = """
import json, os, re, sys
from pathlib import Path
import vaenotes as vn
from vaenotes import runs, workers
from vaenotes.store import Store

class Ended(Store):
    def save(self, key, *entry):
        super().save(key, *entry)
        if key.startswith("unfinished") and entry[1]["epoch"] == int(sys.argv[2]):
            os._exit(3)

settings = vn.Settings(profile="paper", epochs=2, data=sys.argv[3])
configs = vn.arm(settings, epoch_steps=2)
entry = runs.fetch(configs, Ended(sys.argv[1]))[configs[0]]
peak = int(re.search(r"VmHWM:\\s*(\\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024
facts = {name: array.tolist() for name, array in entry.arrays.items() if "weights" not in name}
print(json.dumps({"peak": peak, "trace": facts, "images": configs[0].images}))
"""


def child(store: Path, stop_after: int, data: str = "sprites") -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", CHILD, str(store), str(stop_after), data]
    environment = os.environ | {"LOKY_MAX_CPU_COUNT": "1"}
    return subprocess.run(command, env=environment, capture_output=True, text=True)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux tells a process's peak")
def test_the_paper_profile_streams_resumes_and_traces_in_six_gb(tmp_path: Path) -> None:
    whole = child(tmp_path / "whole", 0)
    assert whole.returncode == 0, whole.stderr[-2000:]
    assert child(tmp_path / "stopped", 1).returncode == 3
    resumed = child(tmp_path / "stopped", 0)
    assert "going on with 1 replicas after epoch 1 of 2" in resumed.stderr
    one, two = json.loads(whole.stdout), json.loads(resumed.stdout)
    assert one["images"] == 737_280
    assert one["trace"] == two["trace"]
    assert len(one["trace"]["trace/ratio"]) == 3  # the start and two epochs
    assert one["trace"]["trace/ratio"][0] != one["trace"]["trace/ratio"][2]
    assert max(one["peak"], two["peak"]) < 6e9


def test_stored_runs_are_the_runs_that_were_stored(tmp_path: Path) -> None:
    """To the last bit, but for what is recorded image by image."""
    small = {"images": 64, "size": 8, "hidden": 4, "batch": 64, "epochs": 2}
    wild = {"kl_weight": 1e38, "prior_logvar": -20.0}
    configs = [vn.Config(**small, seed=1), vn.Config(**small, **wild, seed=2)]
    with pytest.warns(UserWarning, match="seed 2 diverged"):
        made = runs.run(configs, Store(tmp_path))
    again = paper.unpacked(json.loads(json.dumps(paper.packed(made))))
    tables = {**trace.QUANTITIES, **trace.FINAL_QUANTITIES}
    kept = [n for n, quantity in tables.items() if not {"followed", "image"} & {*quantity.axes}]
    assert set(again.data_vars) == set(kept) and len(kept) > 15
    xr.testing.assert_identical(again, made[kept].drop_vars("factors", errors="ignore"))
    assert np.isnan(again.ratio.sel(replica=1)).any() and again.ratio.dtype == np.float32


def test_the_stored_run_is_of_a_clean_commit_and_of_the_papers_profile() -> None:
    kept = paper.stored()
    assert kept["commit"].isalnum()
    profile = vn.PROFILES["paper"]
    for name in ("images", "size", "encoder", "hidden", "batch", "learning_rate"):
        assert kept["config"][name] == getattr(profile, name)
    found = paper.runs()
    assert found.sizes["epoch"] == kept["config"]["epochs"] + 1
    assert kept["images"] == kept["steps"] * profile.batch
    assert paper.path().stat().st_size < 300_000


def test_every_prediction_is_of_a_measure_and_was_measured() -> None:
    found = paper.findings(paper.runs())
    for prediction in paper.predictions():
        assert prediction.finding.removeprefix("paper.") in MEASURES
        assert prediction.low < prediction.high and prediction.because
        assert prediction.finding in found


def test_where_the_run_comes_from_is_said() -> None:
    kept, line = paper.stored(), paper.provenance().data
    for fact in (kept["commit"], kept["hardware"], f"{kept['images']:,} images", "bfloat16"):
        assert fact in line
