"""A report for each epoch."""

from dataclasses import replace
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from vaenotes.diagnosis import figures
from vaenotes.diagnosis.report import Report
from vaenotes.diagnosis.stream import Diagnosis, diagnose
from vaenotes.errors import check, check_number


class Recorder:
    """A report for each epoch, from any training loop: no callback, no hook.

        recorder = Recorder()
        for epoch in range(epochs):
            ...
            report = recorder.record(epoch, posterior_mean=..., posterior_logvar=...)
            logger.log(report.to_dict())
        recorder.figure()

    The first report is where shrinking is measured from.
    """

    def __init__(self) -> None:
        self.reports: dict[float, Report] = {}

    def record(self, epoch: float, diagnosis: Diagnosis | None = None, **arguments: Any) -> Report:
        """The report of this diagnosis, or `diagnose` with these arguments, kept under this epoch;
        a second time, it replaces. What is done to the returned one does not change the kept one.
        Raises ParameterError for the first epoch once others are measured from it."""
        check_number("epoch", epoch)
        fits = isinstance(diagnosis, Diagnosis | None)
        check(fits, "diagnosis must be a Diagnosis or None", type(diagnosis).__name__)
        rule = "arguments must be none but since where there is a diagnosis"
        fits = diagnosis is None or arguments.keys() <= {"since"}
        check(fits, rule, ", ".join(arguments))
        first = next(iter(self.reports), epoch)
        rule = "epoch must not be the first again, from which others are measured (a new Recorder)"
        check(epoch != first or len(self.reports) < 2, rule, epoch)
        since = None if epoch == first else self.reports[first]
        compute = diagnose if diagnosis is None else diagnosis.compute
        report = compute(**{"since": since, **arguments})
        self.reports[epoch] = replace(report, dims=report.dims.copy())
        return report

    @property
    def table(self) -> pd.DataFrame:
        """The `dims` of all reports, by (epoch, dim)."""
        frames = {epoch: report.dims for epoch, report in sorted(self.reports.items())}
        check(bool(frames), "a Recorder must have recorded something", len(frames))
        return pd.concat(frames, names=["epoch", "dim"])

    def figure(self) -> Figure:
        """Over epochs, a line per dim: its variances, its ratio, and its information."""
        return figures.history(self.table)
