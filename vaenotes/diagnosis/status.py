"""What a dim may be called, and the bounds that decide it. No tensors here: tables and figures use
these bounds too."""

import numpy as np
import pandas as pd

ALIVE_NATS = 0.1
"""A dim is alive if it holds more information about the sample than this, and an offset whose KL is
larger is a waste. Where a prior matches its codes, a ratio of 0.9 holds about so much."""
ACTIVE_VARIANCE = 0.01
"""A unit is called active if the variance of its means is larger (Burda et al. 2016)."""
SHRUNK_SHARE = 0.5
"""A dead dim whose prior variance is below this share of where it started is free-riding."""
STATUSES = {
    "alive": f"more than {ALIVE_NATS} nats of information about the sample",
    "dead": "less information, and little KL",
    "free-riding": "dead, but narrow: the prior shrank with the posterior, or was made so",
    "offset-wasting": f"dead, with more than {ALIVE_NATS} nats of KL for a constant shift",
}
"""What a dim may be, and what that means."""


def classify(dims: pd.DataFrame, start: float | pd.Series) -> np.ndarray:
    """The status of each row of `Report.dims`; start: the prior variances shrinking is measured
    from."""
    conditions = {
        "alive": dims["information_nats"] > ALIVE_NATS,
        "offset-wasting": dims["offset_nats"] > ALIVE_NATS,
        "free-riding": dims["prior_variance"] < SHRUNK_SHARE * start,
    }
    return np.select(list(conditions.values()), list(conditions), "dead")
