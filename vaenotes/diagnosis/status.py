"""What a dim may be called, and the bounds that decide it. No tensors here: tables and figures use
these bounds too."""

import numpy as np
import pandas as pd

ALIVE_NATS = 0.1
"""A dim is alive if it adds more information about the sample than this to what its prior knew; KL
that is larger and adds nothing is a waste. Where a prior matches its codes, a ratio of 0.9 adds
about so much."""
DEVIATIONS = 1.96
"""Standard errors on each side of an estimate that make its 95% interval."""
ACTIVE_VARIANCE = 0.01
"""A unit is called active if the variance of its means is larger (Burda et al. 2016)."""
SHRUNK_SHARE = 0.5
"""A dead dim whose prior variance is below this share of where it started is free-riding."""
STATUSES = {
    "alive": f"adds more than {ALIVE_NATS} nats about the sample, and its 95% interval says so;"
    " beside a prior that sees the sample, it may",
    "unsure": f"its 95% interval has {ALIVE_NATS} nats in it, or it may add much more (≥): give"
    " more samples; or of places that are pooled one may add more: see the report without groups",
    "wasting": f"adds less, and more than {ALIVE_NATS} nats of KL buy nothing: see offset, width;"
    " a rest is a prior that moves for nothing",
    "known to the prior": "adds less: what it says of the sample the prior knew",
    "free-riding": "dead, but narrow like its prior, which shrank with it since an earlier report,"
    " or has always been so in the units of this code",
    "dead": "adds less, and costs as little",
}
"""What a dim may be, and what that means; where several fit, the first. What is added to a prior
that sees the sample is known from above only (`added`): there all but "alive" are certain."""


def classify(dims: pd.DataFrame, start: float | np.ndarray) -> np.ndarray:
    """The status of each row of `Report.dims`; start: the prior variances, in the order of these
    rows, that shrinking is measured from."""
    added, error = dims["added_nats"], DEVIATIONS * dims["added_error"]
    may = dims["at_ceiling"] & (dims["bound_nats"] > ALIVE_NATS)
    may |= dims.get("place_nats", pd.Series(0.0, dims.index)) > ALIVE_NATS
    conditions = {
        "alive": added - error > ALIVE_NATS,
        "unsure": may | (added + error > ALIVE_NATS),
        "wasting": dims["wasted_nats"] > ALIVE_NATS,
        "known to the prior": dims["information_nats"] > ALIVE_NATS,
        "free-riding": dims["prior_variance"] < SHRUNK_SHARE * start,
    }
    return np.select(list(conditions.values()), list(conditions), "dead")
