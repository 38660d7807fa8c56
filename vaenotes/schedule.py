"""When a run changes: what depends on how far training is. It needs no torch."""


def kl_counts(epoch: int, warmup: int) -> bool:
    """Whether the KL counts in this epoch (from 1): not in the first `warmup`."""
    return epoch > warmup


def rate_left(step: int, steps: int) -> float:
    """What is left of the learning rate before step 0, 1, ... of `steps`: a straight line to 0."""
    return 1 - step / steps


def halfway(epochs: int) -> int:
    """The epoch at whose end units change, where a configuration asks for it."""
    return -(-epochs // 2)
