"""What makes training faster and changes no bit of what comes out."""

import ctypes
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


def recorded(function: Callable[..., Any], *inputs: Any) -> Callable[..., Any]:
    """The same function as a plain list of tensor operations, for inputs of these shapes: calling
    it spares torch's transforms and autograd, and leaves out what no result depends on (as the
    value of a loss, where gradients are asked for)."""
    from torch.fx.experimental.proxy_tensor import make_fx  # slow; reading results needs it not

    graph = make_fx(function)(*inputs)
    graph.graph.eliminate_dead_code()
    graph.recompile()
    return graph


@contextmanager
def freed_memory_kept() -> Iterator[None]:
    """Ask the C library (glibc; others are left alone) not to give freed memory back meanwhile: to
    fetch fresh pages for each step's gradients takes as long as the products that fill them."""
    library = ctypes.CDLL(None) if os.name == "posix" else None
    mallopt, trim = (getattr(library, name, None) for name in ("mallopt", "malloc_trim"))
    if mallopt is None or trim is None:
        yield
        return
    trim_threshold, map_threshold = -1, -3  # mallopt's names for these two
    mallopt(trim_threshold, 2**31 - 1)
    mallopt(map_threshold, 2**25)
    try:
        yield
    finally:
        mallopt(trim_threshold, 2**17)  # glibc's defaults
        mallopt(map_threshold, 2**17)
        trim(0)
