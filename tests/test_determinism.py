"""One configuration, one machine: the same bits in a fresh process, whatever the hash seed, the
number of threads and the number of workers are."""

import json
import os
import subprocess
import sys
from contextlib import suppress

import pytest
import torch

from vaenotes.config import Config
from vaenotes.lab.measures import median_of
from vaenotes.lab.runs import run_arms
from vaenotes.lab.store import Store
from vaenotes.report.claims import OPEN, claims, verdict
from vaenotes.report.experiments import ARMS, EXPERIMENTS

# Trains and loads data; prints a digest of each. Arguments: threads of torch, the store's folder.
CHILD = """
import hashlib, json, sys
import numpy as np, torch
from vaenotes import training
from vaenotes.config import Config
from vaenotes.data.load import load

training.WORTH_RECORDING = 8  # steps: the longest run below records one, the others do not

from vaenotes.lab import runs, workers  # which refuses what is changed from here on
from vaenotes.lab.store import Store

torch.set_num_threads(int(sys.argv[1]))
workers.WORTH_PROCESSES = 0  # seconds: little work is divided, too

def digest(*arrays):
    found = hashlib.sha256()
    for array in arrays:
        found.update(f"{array.dtype} {array.shape}".encode())
        found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()

small = {"images": 256, "hidden": 16, "epochs": 1, "batch": 128, "kl_warmup": 0}
configs = [Config(**small, seed=seed) for seed in range(2)]
full = {"prior": "cholesky", "likelihood": "gaussian_learned", "epochs": 2, "batch": 64}
notes = {"encoder": "multiscale", "size": 32, "precision": "bfloat16", "repeats": 2}
configs += [Config(**small | other, seed=8) for other in (full, notes)]
found = {}
entries = runs.fetch(configs, Store(sys.argv[2]))
for place, config in enumerate(configs):
    arrays = entries[config].arrays.items()
    found |= {f"replica {place} {name}": digest(array) for name, array in arrays}
for name in ("grey_sprites", "digits", "linear_3", "manifold_4"):
    loaded = load(name, images=500, size=16)
    found[f"data {name}"] = digest(loaded.images, loaded.factors, loaded.standard_factors)
print(json.dumps(found))
"""


def child(folder, threads, workers, hash_seed):
    environment = os.environ | {
        "PYTHONHASHSEED": hash_seed,
        "LOKY_MAX_CPU_COUNT": str(workers),
        **dict.fromkeys(
            ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads)
        ),
    }
    command = [sys.executable, "-c", CHILD, str(threads), str(folder)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
@pytest.mark.attack("wrong")
def test_bits_depend_on_no_hash_seed_no_thread_and_no_worker(tmp_path):
    first = child(tmp_path / "first", threads=1, workers=1, hash_seed="0")
    again = child(tmp_path / "again", threads=3, workers=2, hash_seed="random")
    assert len(first) > 100
    assert {name for name in first if first[name] != again[name]} == set()


def judged(findings):
    """The verdict on each claim by its rules alone, as runs as short as these are not at rest;
    without those that need other arms."""
    verdicts = {}
    for claim in claims():
        with suppress(KeyError):
            verdicts[claim.id] = verdict(claim._replace(end_state=False), findings)
    return verdicts


@pytest.mark.slow
def test_verdicts_agree_across_precision_and_threads(tmp_path):
    """Of all claims that the notes' system and a fixed prior decide, in runs just long enough to
    decide most. An interval that straddles its bound once ("open") contradicts nothing."""
    small = {"images": 1024, "hidden": 24, "batch": 64, "epochs": 24}
    found = []
    threads = torch.get_num_threads()
    for precision, count in (("float32", 1), ("bfloat16", 2)):
        torch.set_num_threads(count)
        arms = {
            name: [
                Config(**small | ARMS[name].changes, precision=precision, seed=seed)
                for seed in range(16)
            ]
            for name in ("notes", "standard")
        }
        trained = run_arms(arms, Store(tmp_path))
        asked = {(n, m) for one in EXPERIMENTS.values() for n in one.arms for m in one.each}
        findings = {f"{n}.{m}": median_of(m, trained[n]) for n, m in asked if n in trained}
        found.append(judged(findings))
    torch.set_num_threads(threads)
    both = {claim: {one[claim] for one in found} for claim in found[0].keys() & found[1].keys()}
    assert [claim for claim, verdicts in both.items() if len(verdicts - {OPEN}) > 1] == []
    assert sum(OPEN not in verdicts for verdicts in both.values()) >= 7
