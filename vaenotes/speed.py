"""What makes training faster and changes no bit of what comes out."""

import ctypes
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

import torch
from torch import Tensor, no_grad


def best_precision() -> str:
    """What products are fastest in on this machine's CPU: "bfloat16", where it has instructions for
    it, or "float32"."""
    known = torch.cpu.get_capabilities()
    return "bfloat16" if known.get("avx512_bf16") or known.get("amx_bf16") else "float32"


def recorded(
    function: Callable[..., Sequence[Tensor]], *inputs: Tensor
) -> Callable[..., Sequence[Tensor]]:
    """The same function as a plain list of tensor operations, for inputs of these shapes: calling
    it spares torch's transforms and autograd, and leaves out what no result depends on (as the
    value of a loss, where gradients are asked for). Whatever changes must be an input.

    TorchScript runs the list, as Python would take as long to start a few replicas' operations as
    these take; but not the gradients of convolutions, which it does not know, and not on a GPU,
    where it may fuse operations and round otherwise.
    """
    from torch.fx.experimental.proxy_tensor import make_fx  # slow; reading results needs it not

    graph = make_fx(function)(*inputs)
    graph.graph.eliminate_dead_code()
    graph.recompile()
    inputs = tuple(tensor.detach() for tensor in inputs)
    if not any(tensor.is_cuda for tensor in inputs):
        with no_grad(), warnings.catch_warnings(), suppress(RuntimeError):
            warnings.simplefilter("ignore", DeprecationWarning)  # torch.compile needs a compiler
            return no_grad()(torch.jit.trace(graph, inputs, check_trace=False))
    return no_grad()(graph)


@contextmanager
def freed_memory_kept() -> Iterator[None]:
    """Ask the C library (glibc; others are left alone) not to give freed memory back meanwhile: to
    fetch fresh pages for each step's gradients takes as long as the products that fill them."""
    library = ctypes.CDLL(None) if os.name == "posix" else None
    mallopt, trim = (getattr(library, name, None) for name in ("mallopt", "malloc_trim"))
    if mallopt is None or trim is None:
        yield
        return
    trim_threshold, map_threshold, arenas = -1, -3, -8  # mallopt's names for these
    mallopt(trim_threshold, 2**31 - 1)
    mallopt(map_threshold, 2**25)
    mallopt(arenas, 1)  # or a thread would have memory of its own, which is kept less well
    try:
        yield
    finally:
        mallopt(trim_threshold, 2**17)  # glibc's defaults
        mallopt(map_threshold, 2**17)
        mallopt(arenas, 0)
        trim(0)
