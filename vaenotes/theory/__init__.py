"""Closed forms that the experiments are held against."""

from vaenotes.theory.closed_forms import (
    agree,
    blind_nats,
    lag,
    lag_share,
    mismatch_nats,
    offset_nats,
    resting_std,
    sight_nats,
)

__all__ = [
    "agree",
    "blind_nats",
    "lag",
    "lag_share",
    "mismatch_nats",
    "offset_nats",
    "resting_std",
    "sight_nats",
]
