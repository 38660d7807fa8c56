"""Run every experiment once and keep what was found, for the book to show beside its own runs.

    python benchmarks/findings.py full            # vaenotes/results/full.json
    python benchmarks/findings.py book 1000       # the book's profile, seeds from 1000 on

Replicas are taken from the store where it has them, so a killed run can be taken up again. The
file says which commit made it; commit your changes first.
"""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "book" / "_ext"))

import vaenotes as vn
from vaenotes.ledger import HERE
from vaenotes_facts import commit, hardware


def main(profile: str = "full", first_seed: str = "0") -> None:
    settings = {
        data: vn.Settings(profile=profile, data=data, first_seed=int(first_seed))
        for data in ("sprites", "mnist5k")
    }
    kept = {
        "profile": profile,
        "commit": commit(HERE),
        "hardware": hardware(),
        "findings": {
            data: vn.all_experiments(chosen, main=data != "sprites").findings
            for data, chosen in settings.items()
        },
    }
    name = profile if first_seed == "0" else f"{profile}_{first_seed}"
    path = HERE / "results" / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(kept, indent=1) + "\n")
    print(path.relative_to(HERE.parent))


if __name__ == "__main__":
    main(*sys.argv[1:])
