"""Whether products in bfloat16 change what the report measures: the same seeds both ways.

    python benchmarks/precision.py

For each measure: the difference between the two, seed by seed, over the standard deviation
of the float32 replicas among themselves. The runs are kept in the store.
"""

import numpy as np
from measuring import Row, report

from vaenotes import lab
from vaenotes import report as book

SEEDS = 16
MEASURES = (
    "dims_used", "kl_total", "kl_used", "kl_unused", "ratio_used", "ratio_unused", "reconstruction",
    "posterior_variance_unused", "prior_variance_unused", "prior_variance_used", "matching",
    "offset_unused", "knockout_used", "knockout_unused",
)  # fmt: skip


def main() -> None:
    settings = book.Settings(seeds=SEEDS)
    both = {p: lab.run(book.arm(settings, precision=p)) for p in ("float32", "bfloat16")}
    rows = []
    for measure in MEASURES:
        exact, rough = (
            np.asarray(lab.measures.values_of(measure, runs), dtype=float) for runs in both.values()
        )
        spread = np.nanstd(exact, ddof=1)
        shift = np.nanmean(rough - exact) / spread if spread else np.nanmean(rough - exact)
        error = np.nanstd(rough - exact, ddof=1) / np.sqrt(SEEDS) / (spread or 1)
        what = f"{measure}: {lab.measures.MEASURES[measure].meaning}"
        rows.append(Row(what, "seeds' std", shift, shift - 2 * error, shift + 2 * error))
    setting = (
        f"{SEEDS} seeds of the notes' system, book profile: mean of (bfloat16 - float32) per seed, "
        "in standard deviations between seeds; the range is two standard errors."
    )
    report("precision", setting, rows)


if __name__ == "__main__":
    main()
