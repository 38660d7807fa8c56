"""A `Diagnosis` as a metric of torchmetrics; needs `pip install 'vaenotes[metric]'`.

self.codes = DiagnosisMetric()                               # in a LightningModule's __init__
self.codes.update(posterior_mean=..., posterior_std=...)     # in its validation_step
self.log_dict(self.codes.compute()); self.codes.reset()      # in its on_validation_epoch_end
"""

import copy
import inspect
from functools import partial
from typing import Any

import torch
from torch import Tensor, distributed
from torchmetrics import Metric

from vaenotes.diagnosis.decoded import Decode
from vaenotes.diagnosis.report import Report
from vaenotes.diagnosis.stream import Diagnosis, diagnose
from vaenotes.errors import check

OF_ALL = ("compared", "seed", "since", "decode")  # the rest is of a batch
GIVEN = inspect.signature(diagnose).parameters
SELF = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
ARGUMENTS = inspect.Signature([SELF, *(GIVEN[name] for name in GIVEN if name not in OF_ALL)])
"""Of `update`: by it a MetricCollection knows what to give to which of its metrics."""


class DiagnosisMetric(Metric):
    """Codes of all batches, and of all processes: `compute` gives `Report.to_dict(dims=False)` as
    tensors, and leaves the whole report in `report`. Of what `update` is given only sums and the
    samples compared are kept, on the CPU.

    compared, seed, decode: as in `Diagnosis`; the rest as in torchmetrics' Metric.
    """

    full_state_update = True  # `forward` takes a batch twice: beside those before, and by itself

    def __init__(
        self, *, compared: int = 1024, seed: int = 0, decode: Decode | None = None, **rest: Any
    ) -> None:
        super().__init__(**rest)
        self.seed, self.new = seed, partial(Diagnosis, compared=compared, decode=decode)
        self.diagnosis = self.new(seed=seed)
        self.report: Report | None = None

    def update(self, **arguments: Any) -> None:
        """The arguments of `Diagnosis.update`."""
        if self.diagnosis.empty and distributed.is_available() and distributed.is_initialized():
            self.diagnosis = self.new(seed=self.seed + distributed.get_rank())
        self.diagnosis.update(**arguments)

    update.__signature__ = ARGUMENTS  # type: ignore[attr-defined]

    def compute(self) -> dict[str, Tensor]:
        """Totals, and how many dims have each status."""
        self.report = self.diagnosis.compute()
        numbers = self.report.to_dict(dims=False)
        return {name: torch.tensor(n, device=self.device) for name, n in numbers.items()}

    def reset(self) -> None:
        """Forget all samples."""
        super().reset()
        self.diagnosis = self.new(seed=self.seed)

    def persistent(self, mode: bool = False) -> None:
        """Raise ParameterError unless mode is False: a state_dict has nothing of what was seen."""
        check(not mode, "mode must be False: pickle keeps a metric, a state_dict does not", mode)

    def merge_state(self, incoming_state: Any) -> None:
        """Add what another DiagnosisMetric has seen."""
        fits = isinstance(incoming_state, DiagnosisMetric)
        check(fits, "incoming_state must be a DiagnosisMetric", type(incoming_state).__name__)
        self.diagnosis.merge(incoming_state.diagnosis)
        self._computed = None

    def _copy_state_dict(self) -> dict[str, Any]:
        return {"diagnosis": self.diagnosis}  # which is replaced meanwhile, not changed

    def _sync_dist(self, dist_sync_fn: Any = None, process_group: Any = None) -> None:
        group = process_group or self.process_group
        bare = copy.copy(self.diagnosis)
        bare.decode = None  # each process has it
        every: list[Any] = [None] * distributed.get_world_size(group)
        distributed.all_gather_object(every, bare, group)
        self.diagnosis = self.new(seed=self.seed)
        for one in every:
            self.diagnosis.merge(one)
