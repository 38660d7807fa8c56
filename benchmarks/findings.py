"""Run every experiment once and keep what was found, for the book to show beside its own runs.

    python benchmarks/findings.py full            # vaenotes/results/full.json
    python benchmarks/findings.py book 1000       # the book's profile, seeds from 1000 on
    python benchmarks/findings.py book 0 cnn      # main arms with another encoder, book_cnn.json

Replicas are taken from the store where it has them, so a killed run can be taken up again. The
file says which commit made it; commit your changes first.
"""

import json
import sys
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "book" / "_ext"))

import vaenotes as vn
from vaenotes.experiments import CNN, EXPERIMENTS, findings_of
from vaenotes.ledger import HERE
from vaenotes.summary import Interval
from vaenotes_facts import commit, hardware

CNN_SEEDS = 8  # a replica takes ten times as long
CNN_ARMS = ["notes", "standard", "factors_per_node"]  # those that P3 and Q1 need are left out


def main(profile: str = "full", first_seed: str = "0", encoder: str = "mlp") -> None:
    cnn = encoder == "cnn"
    make = found_with_cnn if cnn else found
    name = "_".join([profile, *([first_seed] * (first_seed != "0")), *["cnn"] * cnn])
    path = HERE / "results" / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    findings: dict[str, dict[str, Interval]] = {}
    kept = {"profile": profile, "commit": commit(HERE), "hardware": hardware()}
    for data in vn.DATASETS:
        findings[data] = make(vn.Settings(profile=profile, data=data, first_seed=int(first_seed)))
        path.write_text(json.dumps(kept | {"findings": findings}, indent=1) + "\n")
        print(f"{path.relative_to(HERE.parent)}: {data}")


def found(settings: vn.Settings) -> dict[str, Interval]:
    """Every finding on sprites; on other data, those of the main arms."""
    return vn.all_experiments(settings, main=settings.data != "sprites").findings


def found_with_cnn(settings: vn.Settings) -> dict[str, Interval]:
    """Those of CNN_ARMS, in half as many epochs, each of more and smaller steps (see CNN)."""
    settings = replace(settings, seeds=CNN_SEEDS, epochs=vn.arm(settings)[0].epochs // 2)
    runs = vn.run_arms(settings, CNN_ARMS, **CNN)
    findings: dict[str, Interval] = {}
    for one in EXPERIMENTS.values():
        findings |= findings_of(one, {name: runs[name] for name in one.arms if name in runs})
    return findings


if __name__ == "__main__":
    main(*sys.argv[1:])
