"""Torch as it is when it starts: results are computed so, whatever state their caller has it in."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from threading import RLock
from typing import Any

import torch

backends: Any = torch.backends  # whose parts are not typed
SWITCHES = (
    (backends.mkldnn, "enabled", True),
    (backends.mkldnn.matmul, "fp32_precision", "ieee"),
    (backends.mkldnn.conv, "fp32_precision", "ieee"),
    (backends.cuda.matmul, "fp32_precision", "ieee"),
    (backends.cuda.matmul, "allow_bf16_reduced_precision_reduction", True),
    (backends.cudnn, "enabled", True),
    (backends.cudnn, "benchmark", False),
    (backends.cudnn, "deterministic", False),
    (backends.cudnn.conv, "fp32_precision", "tf32"),
)
"""What changes bits, and how it starts: of what, its name, its value."""
LIMITS = ("MKL_CBWR", "MKL_ENABLE_INSTRUCTIONS", "ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")
"""Of the environment, which the libraries behind torch read when they are first used."""


ONE_AT_A_TIME = RLock()  # of a process's threads: much of the state belongs to all of it


@contextmanager
def torch_as_it_starts() -> Iterator[None]:
    """Meanwhile gradients are on, autocast and inference mode off, tensors float32 and on the CPU
    by default, and products as exact as torch makes them unasked; then all is as it was. Other
    threads that want the same wait."""
    with ONE_AT_A_TIME, _as_it_starts():
        yield


@contextmanager
def _as_it_starts() -> Iterator[None]:
    dtype, debug = torch.get_default_dtype(), torch.get_deterministic_debug_mode()
    flushes = not torch.tensor(1e-38, dtype=torch.float32, device="cpu") / 8  # no torch.get_...
    before = [(of, name, getattr(of, name)) for of, name, _ in SWITCHES]
    with ExitStack() as stack:
        for device in ("cpu", "cuda"):
            stack.enter_context(torch.autocast(device, enabled=False))
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        if torch.get_default_device().type != "cpu":  # or every operation would be slower
            stack.enter_context(torch.device("cpu"))
        try:
            torch.set_default_dtype(torch.float32)
            torch.set_deterministic_debug_mode(0)
            torch.set_flush_denormal(False)
            for of, name, value in SWITCHES:
                setattr(of, name, value)
            yield
        finally:
            torch.set_default_dtype(dtype)
            torch.set_deterministic_debug_mode(debug)
            torch.set_flush_denormal(flushes)
            for of, name, value in before:
                setattr(of, name, value)


def instructions() -> str:
    """Which of the processor's instructions products use: they change bits, and cannot be set."""
    limits = [f"{name}={os.environ[name]}" for name in LIMITS if name in os.environ]
    return " ".join([backends.cpu.get_cpu_capability(), *limits])
