"""What of the notes' system is otherwise here, part by part, and whether it matters."""

from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd
from pandas.io.formats.style import Styler

from vaenotes.report.arms import ARMS
from vaenotes.report.cells import narrow, stacked, styled
from vaenotes.report.claims import Findings


class Part(NamedTuple):
    """One choice: as the notes' system had it, as it is run here, and arms that change it alone."""

    what: str
    notes: str
    here: str
    arms: Sequence[str]


SAME = "the same"
PARTS = (
    Part("pixels", "64 × 64", "16 × 16", ["large"]),
    Part("layers", "convolutions, read out at three scales", "dense, read out at three", []),
    Part("steps an epoch, and rate", "11,520 at 1e-4", "100 at 8e-3", ["slow_rate"]),
    Part("KL weight", "0.15 or 0.20", "0.15", ["costly"]),
    Part("supervised term", "0.05 times the error of the factors' indices, or off", "off",
         ["supervised", "standard_targets"]),
    Part("the loader", "15,360 images, each batch 48 times in a row", "6,400 images, shuffled",
         ["repeats_4", "repeats_20", "repeats_50", "few_4", "few_20", "few_50"]),
    Part("batch", "64", SAME, ["large_batch"]),
    Part("when the KL counts", "from the second epoch on", SAME, ["kl_at_once"]),
    Part("correlated factors, and graph", "orientation and x, on a blurred line", SAME,
         ["two_pairs"]),
    Part("grey levels", "black or white", SAME, ["grey"]),
    Part("the prior's noise", "9 numbers per node", SAME, ["two_inputs"]),
    Part("inside the graph networks", "4 units per node", SAME, ["wide_graph"]),
    Part("the decoder's start", "Xavier normal", SAME, ["uniform_start"]),
)  # fmt: skip
"""Every choice that this book or its first version made otherwise, or may have."""


def table(findings: Findings) -> Styler:
    """The parts, and what became of the dims where each is changed alone; the first row is the
    system as it is run here."""
    rows = [{"part": "as run here", **_became("notes", findings)}]
    for part in PARTS:
        known = {"part": stacked(part.what, f"the notes: {part.notes}", f"here: {part.here}")}
        changed = [{"changed to": ARMS[arm].title, **_became(arm, findings)} for arm in part.arms]
        for row, one in enumerate(changed or [{"changed to": "see the runs at full size"}]):
            rows.append((known if row == 0 else {}) | one)
    columns = ["part", "changed to", *_became("notes", findings)]
    return styled(pd.DataFrame(rows, columns=columns).fillna(""))


def _became(arm: str, findings: Findings) -> dict[str, str]:
    return {
        "dims in use per node": narrow(findings[f"{arm}.dims_used"]),
        "prior std halved by epoch": narrow(findings[f"{arm}.halved"]),
        "all nodes alike": narrow(findings[f"{arm}.agree"]),
    }
