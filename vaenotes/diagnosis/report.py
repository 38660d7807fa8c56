"""What `diagnose` found."""

from dataclasses import dataclass, field
from html import escape
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from vaenotes.diagnosis import figures, printed
from vaenotes.diagnosis.inputs import Axes
from vaenotes.diagnosis.names import Names
from vaenotes.diagnosis.status import STATUSES
from vaenotes.errors import ParameterError, check

if TYPE_CHECKING:
    import xarray as xr


@dataclass(frozen=True, repr=False, eq=False)
class Report:
    """What `diagnose` found. Print it, show it in a notebook, draw or log it.

    dims: a row per dim, by its place in the latent ("3", or "4,1" in a latent of two axes):
        status              one of STATUSES
        added_nats          what the dim adds about the sample to what its prior knew: beside a
                            prior that sees the sample, at most, and then no more than the KL;
        added_error         and its standard error, over other samples and draws
        information_nats    mutual information of sample and dim; the same, if the prior is one for
        information_error   all samples. At most log of how many were compared
        bound_nats          what codes of these variances could add at most, whatever was compared:
                            exact if they are Gaussian all in all (`directions`); the least of that
                            in the code's units, its prior's, and less a multiple of its prior mean
        place_nats          where places are pooled: the same of the place where it is most. The
                            status is "unsure" where that is above 0.1 and the mean is not
        wasted_nats         the KL of the dim's own distribution beyond what it adds (of a dim at
                            its ceiling too much); of that,
        wasted_offset_nats  for a constant shift, in units of the prior,
        wasted_width_nats   and for a width of the codes that is not the prior's
        kl_nats             mean KL from the prior, and its parts:
        variance_nats       variances differ
        mean_nats           means vary from sample to sample
        offset_nats         a constant shift of the prior's mean would save this
        gap_nats            what the best constant Gaussian prior would save: 0 if the prior matches
                            the moments of the codes, negative if it knows the sample
        ratio               posterior std / prior std, geometric mean
        spread              std of the posterior means, in prior stds
        posterior_variance  mean, in units of the code
        prior_variance      mean, in units of the code
        active_unit         whether the means' variance is above 0.01 (Burda et al. 2016), which
                            depends on the units of the code
        at_ceiling          whether samples are so few that added_nats may be much too low: by
                            0.1 nats or more in the mean; and so
        information_at_ceiling  of information_nats
        decoder             with `decode`: which share of the variance of the decoder's output,
        decoder_error       in [0, 1], is through the dim (`decoded`); and its standard error
    totals: kl_nats, added_nats, information_nats, each with its error, of all dims together;
        added_at_ceiling and information_at_ceiling, 0 or 1; ceiling_nats, the entropy of the
        samples compared, which information cannot exceed. wasted_nats is what of the KL provably
        buys nothing: more than codes of these moments can add; of it, wasted_offset_nats and
        wasted_width_nats. dims_nats is the sum of what dims add, each by itself; not_alive_nats,
        where posteriors are diagonal and the prior is one for all samples, what those that are not
        alive carry together, or more; bound_nats the bound of all together, as the moments of these
        samples have it, bound_slack_nats what so few samples hide of it in the mean, bound_error
        its standard error, if the codes are Gaussian and weights have nothing to do with them;
        directions how many directions are alive (`directions`), of ten samples a dim or more. These
        are left out beyond 1,024 dims, and, as dims_nats is, where weights differ from dim to dim:
        there added_nats and information_nats are upper bounds, and which dims count is taken as
        known. places: how many of each sample were pooled, in the mean over samples if some do not
        count; then all nats are per place.
    alive: bool, of the latent's shape, to pick dims with: z[:, report.alive].
    hints: what looks like a mistake in what was given, a line each.
    directions: nats of each direction of the code, most first (`directions.directions`); or None.
    sees: whether the prior differs from sample to sample: then added_nats is an upper bound.
    groups, names: which axes of posterior_mean are dims, and what was known of these; both have to
        be those of a later report that measures shrinking from this one.

    With a full covariance kl_nats and its parts are terms of the chain rule (`kl.kl_nats`): their
    sum does not depend on the order of dims, each does; all else is of a dim's own distribution.
    From a mixture, a dim's KL and the total are estimated from a draw per sample; the parts are
    NaN, as is what is wasted on offset and width, and the dims need not add up to the total.
    """

    dims: pd.DataFrame
    totals: dict[str, float]
    alive: np.ndarray
    hints: tuple[str, ...] = ()
    directions: np.ndarray | None = None
    sees: bool = False
    groups: tuple[int, ...] = (1,)
    names: Names = field(default_factory=Names)

    def check_same_dims(self, axes: Axes, names: Names) -> None:
        """Raise ParameterError where codes with these axes, and names along those that are dims,
        have other dims than this earlier report."""
        earlier = "the earlier report (since)"
        before, now = (f"(sample, {', '.join(map(str, n))})" for n in (self.alive.shape, axes.dims))
        if before != now:
            raise ParameterError(f"posterior_mean must be {before}, as in {earlier}, got {now}")
        check(axes.kept == self.groups, f"groups must be {self.groups}, as in {earlier}", axes.kept)
        self.names.joined(names, earlier)
        own, rows = axes.labels(self.names), list(self.dims.index)  # which may have been sorted
        check(rows == own, f"{earlier} must have its dims as they were, {own}", rows)

    @property
    def counts(self) -> dict[str, int]:
        """How many dims have each status."""
        return {status: int((self.dims["status"] == status).sum()) for status in STATUSES}

    def to_dict(self, dims: bool = True) -> dict[str, float]:
        """All of it as flat numbers for a logger: totals, counts, and, with `dims`, "dim/3/ratio"
        and so on (of two axes "dim/4_1/ratio": MLflow takes no comma)."""
        found = {**self.totals, **{name: float(n) for name, n in self.counts.items()}}
        if dims:
            numbers = self.dims.assign(alive=self.dims["status"] == "alive").drop(columns="status")
            for label, row in zip(numbers.index, numbers.to_numpy(float), strict=True):
                row_of = zip(numbers.columns, row.tolist(), strict=True)
                dim = label.replace(",", "_")
                found |= {f"dim/{dim}/{name}": value for name, value in row_of}
        return found

    def to_xarray(self) -> "xr.Dataset":
        """`dims` over the latent's axes ("dim"; of several, "dim_0" and so on); as attrs, totals,
        and hints as one text."""
        import xarray as xr

        shape = self.alive.shape
        axes = ["dim"] if len(shape) == 1 else [f"dim_{axis}" for axis in range(len(shape))]
        places = [",".join(map(str, at)) for at in np.ndindex(shape)]
        dims = self.dims if len(shape) == 1 else self.dims.loc[places]  # however they are sorted
        columns = {name: (axes, dims[name].to_numpy().reshape(shape)) for name in dims}
        coords = {"dim": list(self.dims.index)} if len(shape) == 1 else {}
        return xr.Dataset(columns, coords, {**self.totals, "hints": "\n".join(self.hints)})

    def save(self, path: str | Path) -> None:
        """The report with its figure, as one HTML file that needs no network."""
        named = isinstance(path, str | Path) and Path(path).suffix == ".html"
        check(named, "path must end in .html", path)
        check(Path(path).parent.is_dir(), "path must be in a folder that is there", str(path))
        svg = StringIO()
        self.figure().savefig(svg, format="svg")
        drawn = svg.getvalue()
        page = (
            '<!doctype html><html lang="en"><meta charset="utf-8"><title>Diagnosis</title>'
            "<style>body{font:15px sans-serif;margin:2em}th,td{padding:.1em .6em;text-align:right}"
            f"</style>{self._repr_html_()}{drawn[drawn.index('<svg') :]}</html>"
        )
        try:  # an earlier page stays until this one is whole
            with TemporaryDirectory(dir=Path(path).parent) as folder:
                new = Path(folder) / Path(path).name
                new.write_text(page, encoding="utf-8")
                new.replace(path)
        except OSError as error:
            raise ParameterError(f"path cannot be written ({error}), got {path}") from error

    def figure(self) -> Figure:
        """A row per dim, of those that add most: what it adds, its KL, ratio and variances."""
        return figures.report(self.dims, self.sees)

    def __str__(self) -> str:
        lines = (printed.sentence(self.dims, self.totals, self.sees), *self.hints)
        table, rest = printed.table(self.dims, self.sees).to_string(), printed.rest(self.dims)
        told = "\n".join([*lines, "", table, *([rest] if rest else [])])
        # A name may have what a terminal would obey.
        return "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in told)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        lines = (printed.sentence(self.dims, self.totals, self.sees), *self.hints)
        table = printed.table(self.dims, self.sees).to_html(border=0, classes="report")
        rest = f"<p>{printed.rest(self.dims)}</p>" if len(self.dims) > printed.SHOWN else ""
        return f"<p>{'<br>'.join(map(escape, lines))}</p>{table}{rest}"
