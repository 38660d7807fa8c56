"""Which units does training end in? Plain gradient descent against Adam, from the same start in
three units.

    python benchmarks/units.py charge
    python benchmarks/units.py dims

charge: the notes' system made small with one dim per node, and so with one charge
(vaenotes/gauge.py), of what learns. dims: with two, how many are used. Stored in
vaenotes/report/results/units.json; what was expected, in vaenotes/report/units.toml; read by
vaenotes/report/units.py.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from measuring import commit
from scipy.optimize import brentq
from torch import Tensor

from vaenotes import lab, trace, training
from vaenotes.adam import Adam
from vaenotes.config import Config
from vaenotes.gauge import charge, regauge
from vaenotes.lab.runs import run_arms
from vaenotes.report import results

STARTS = (0.3, 1.0, 3.0)
SEEDS = range(1010, 1016)
FLOW = 0.6  # learning rate times epochs, the same for every rate of plain descent
RATES = (0.01, 0.02, 0.04)
MANY = range(1010, 1018)
POINTS = 21  # epochs whose charge is kept


class Descent(Adam):
    """Plain gradient descent, in the place of Adam."""

    def __init__(self, parameters: Mapping[str, Tensor], rate: float):
        super().__init__(parameters, {name: [rate] * len(p) for name, p in parameters.items()})
        self.rate = rate

    @torch.no_grad()
    def step(self, gradients: Sequence[Tensor]) -> None:
        for received, gradient in zip(self.received, gradients, strict=True):
            received.copy_(gradient)
        self.values.sub_(self.gradients, alpha=self.rate)


class Replicas:
    """Every seed from every start, trained together."""

    def __init__(self, epochs: int, rate: float | None):
        changes = {} if rate is None else {"learning_rate": rate}
        self.configs = [
            Config(dims=1, units=(start,), seed=seed, epochs=epochs, **changes)
            for start in STARTS
            for seed in SEEDS
        ]
        datasets = [lab.load_data(self.configs[0])] * len(self.configs)
        self.ensemble = training.Ensemble(self.configs, datasets)
        if rate is not None:
            self.ensemble.optimizer = Descent(self.ensemble.parameters, rate)
            self.ensemble.parameters = self.ensemble.optimizer.parameters
        self.starts = [self.charge(i, self.learned(i)) for i in range(len(self.configs))]

    def learned(self, replica: int) -> dict[str, Tensor]:
        """A replica's parameters that learn: the regressions do not, as the term is off."""
        own = {name: p[replica].detach().clone() for name, p in self.ensemble.parameters.items()}
        return {name: p for name, p in own.items() if not name.startswith("regression_")}

    def charge(self, replica: int, parameters: Mapping[str, Tensor]) -> float:
        return float(charge(self.ensemble.module, parameters)[0])

    def units_for(self, replica: int, wanted: float) -> float:
        """By what factor the replica's units would have to change to have this charge, which rises
        with the factor."""
        own = {name: p.double() for name, p in self.learned(replica).items()}

        def missing(log_factor: float) -> float:
            factor = torch.tensor([log_factor]).double().exp()
            other = own | regauge(self.ensemble.module, own, [0], factor)
            return self.charge(replica, other) - wanted

        return float(np.exp(brentq(missing, -10, 10)))

    def run(self) -> list[dict[str, Any]]:
        epochs = self.configs[0].epochs
        shown = sorted({round(e) for e in np.linspace(0, epochs, POINTS)})
        kept: list[list[float]] = [[charge] for charge in self.starts]
        for epoch in range(1, epochs + 1):
            self.ensemble.epoch(epoch)
            if epoch in shown:
                for i in range(len(self.configs)):
                    kept[i].append(self.charge(i, self.learned(i)))
        measured = self.ensemble.measure(trace.measure, self.ensemble.pool.measured)
        rows = []
        for i, config in enumerate(self.configs):
            same_seed = [j for j, one in enumerate(self.configs) if one.seed == config.seed]
            usual = next(j for j in same_seed if self.configs[j].units == (1.0,))
            rows.append({
                "start": config.units[0],
                "seed": config.seed,
                "epochs": shown,
                "charge": np.round(kept[i], 5).tolist(),
                "prior_std": rounded(measured["prior_variance"][i, :, 0].sqrt()),  # (node,)
                "ratio": rounded(measured["ratio"][i, :, 0]),
                "reconstruction_nats": round(float(measured["reconstruction_nats"][i]), 3),
                "own": self.units_for(i, self.starts[i]),
                "other": self.units_for(usual, self.starts[i]),
            })  # fmt: skip
        return rows


def rounded(values: Any) -> list[float]:
    return [float(f"{value:.5g}") for value in values.tolist()]


def charges() -> dict[str, Any]:
    """Every optimiser's replicas, by its name."""
    rates = {f"sgd_{rate:g}": rate for rate in RATES} | {"adam": None}
    found = {}
    for name, rate in rates.items():
        epochs = Config().epochs if rate is None else round(FLOW / rate)
        found[name] = Replicas(epochs, rate).run()
        print(name, [(row["start"], row["own"], row["other"]) for row in found[name]], flush=True)
    return found


def dims() -> dict[str, dict[str, list[float]]]:
    """Of the notes' system made small, with Adam, by start: measures of each seed."""
    arms = {
        f"{start:g}": [Config(units=(start, start), seed=seed) for seed in MANY] for start in STARTS
    }
    return {
        start: {
            name: rounded(lab.measures.values_of(name, found).values)
            for name in ("dims_used", "prior_std_used")
        }
        for start, found in run_arms(arms).items()
    }


PARTS = {"charge": charges, "dims": dims}


def main(part: str) -> None:
    torch.set_num_threads(1)
    found = {"commit": commit(), "rows": PARTS[part]()}
    path = results.FOLDER / "units.json"
    kept = json.loads(path.read_text()) if path.exists() else {}
    kept[part] = found
    path.write_text(json.dumps(kept) + "\n")
    print(f"stored in {path.name}")


if __name__ == "__main__":
    main(sys.argv[1])
