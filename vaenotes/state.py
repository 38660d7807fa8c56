"""Torch as it is when it starts: results are computed so, whatever state their caller has it in."""

import ctypes
import os
import re
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager, nullcontext
from functools import partial, reduce, wraps
from threading import RLock, get_ident, local, stack_size
from typing import Any, NamedTuple, ParamSpec, TypeVar

import torch
from torch.nn.modules import module

from vaenotes.errors import ParameterError, check

Arguments = ParamSpec("Arguments")
Returned = TypeVar("Returned")

backends: Any = torch.backends  # whose parts are not typed


class Setting(NamedTuple):
    """Of all threads: its name, how it is read and written, and what it is while results are
    computed: as torch starts, but for one."""

    name: str
    read: Callable[[], Any]
    write: Callable[[Any], Any]
    starts: Any


def _backend(name: str, starts: Any) -> Setting:
    *parts, last = name.split(".")
    of = reduce(getattr, parts, backends)
    return Setting(
        f"torch.backends.{name}", partial(getattr, of, last), partial(setattr, of, last), starts
    )


def _flushes() -> bool:  # for torch has no way to ask
    return not torch.tensor(1e-38, dtype=torch.float32, device="cpu") / 8


SETTINGS = (
    Setting("default dtype", torch.get_default_dtype, torch.set_default_dtype, torch.float32),
    Setting(
        "deterministic mode",
        torch.get_deterministic_debug_mode,
        torch.set_deterministic_debug_mode,
        0,
    ),
    Setting("flushing of denormals", _flushes, torch.set_flush_denormal, False),
    Setting(
        "fusion by oneDNN", torch.jit.onednn_fusion_enabled, torch.jit.enable_onednn_fusion, False
    ),
    _backend("mkldnn.enabled", True),
    _backend("mkldnn.matmul.fp32_precision", "ieee"),
    _backend("mkldnn.conv.fp32_precision", "ieee"),
    _backend("cuda.matmul.fp32_precision", "ieee"),
    _backend("cuda.matmul.allow_bf16_reduced_precision_reduction", True),
    _backend("cudnn.enabled", True),
    _backend("cudnn.benchmark", False),
    _backend("cudnn.deterministic", True),  # or the same replica has other bits each time
    _backend("cudnn.conv.fp32_precision", "tf32"),
)
"""What changes bits."""
ONE_THREAD = Setting("number of threads", torch.get_num_threads, torch.set_num_threads, 1)
HELD: list[Setting] = []  # at this moment
HOOKS: list[dict[int, Any]] = [
    hooks for name, hooks in vars(module).items() if re.fullmatch("_global_.*_hooks", name)
]
"""On every module that there is; nothing public lists them."""
LIMITS = (
    "MKL_CBWR", "MKL_ENABLE_INSTRUCTIONS", "ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA",
    "NVIDIA_TF32_OVERRIDE", "TORCH_BLAS_PREFER_CUBLASLT", "CUBLAS_WORKSPACE_CONFIG",
)  # fmt: skip
"""Of the environment, which the libraries behind torch read when they are first used."""
STARTED = {name: os.environ.get(name) for name in LIMITS}

ONE_AT_A_TIME = RLock()  # of a process's threads: much of the state belongs to all of it
STACK = 2**24  # bytes of the thread's own: torch needs more than callers and systems may give
INSIDE = local()


def torch_as_it_starts(
    function: Callable[Arguments, Returned],
) -> Callable[Arguments, Returned]:
    """The function, called in a thread of its own, which starts without the modes, transforms and
    hooks of its caller's: gradients are on, autocast and inference mode off, tensors float32 and on
    the CPU by default. What belongs to all threads, as how exact products are, hooks on every
    module and the global generator, is meanwhile as torch makes it unasked, and then as it was.
    Other threads that want the same wait.

    Raises ParameterError where the processor does not round to nearest."""

    @wraps(function)
    def clean(*arguments: Arguments.args, **named: Arguments.kwargs) -> Returned:
        if computing():
            return function(*arguments, **named)

        def work() -> Returned:
            INSIDE.thread = get_ident()
            with _as_it_starts():
                return function(*arguments, **named)

        with ONE_AT_A_TIME, ThreadPoolExecutor(1) as pool:
            return _outcome(pool, work)

    return clean


def computing() -> bool:
    """Whether this is such a thread, for which another one waits."""
    return hasattr(INSIDE, "thread")


def _outcome(pool: ThreadPoolExecutor, work: Callable[[], Returned]) -> Returned:
    usual = stack_size(STACK)
    try:
        started = pool.submit(get_ident)
    finally:
        stack_size(usual)
    done = pool.submit(work)
    try:
        while not wait([done], timeout=0.1).done:
            pass  # Python sees no signal that comes just as it begins to wait
        return done.result()
    except BaseException as error:
        if not done.done():  # the caller was interrupted: and so is the work
            thread = ctypes.c_ulong(started.result())
            ctypes.pythonapi.PyThreadState_SetAsyncExc(thread, ctypes.py_object(type(error)))
        raise


@contextmanager
def switches_as_they_start() -> Iterator[None]:
    """The same in the caller's own thread, whose modes and transforms stay: a thread costs
    milliseconds, more than a report on a batch."""
    with nullcontext() if computing() else ONE_AT_A_TIME, _as_it_starts():
        yield


@contextmanager
def _as_it_starts() -> Iterator[None]:
    least = sys.float_info.epsilon / 8
    if not 1 + least == 1 == 1 - least:
        raise ParameterError("the processor must round to nearest, got another rounding mode")
    hooked = [hooks.copy() for hooks in HOOKS]
    with ExitStack() as stack:
        for device in ("cpu", "cuda"):
            stack.enter_context(torch.autocast(device, enabled=False))
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        if torch.get_default_device().type != "cpu":  # or every operation would be slower
            stack.enter_context(torch.device("cpu"))
        stack.enter_context(torch.random.fork_rng(devices=[]))
        stack.enter_context(torch.autograd.set_detect_anomaly(False))
        try:
            for hooks in HOOKS:
                hooks.clear()
            with held(*SETTINGS):
                yield
        finally:
            for hooks, known in zip(HOOKS, hooked, strict=True):
                hooks.update(known)


@contextmanager
def held(*settings: Setting) -> Iterator[None]:
    """Settings as torch starts, and then as they were. Raises ParameterError where another thread
    has changed one meanwhile, or put a hook on every module: bits may be others."""
    before = [setting.read() for setting in settings]
    count = len(HELD)
    try:
        for setting in settings:
            setting.write(setting.starts)
        HELD.extend(settings)
        try:
            yield
        except Exception:
            check_held()  # which would be why
            raise
        check_held()
    finally:
        del HELD[count:]
        for setting, value in zip(settings, before, strict=True):
            setting.write(value)


def check_held() -> None:
    """Raise ParameterError if any of what is held is no longer so."""
    rule = "no other thread may change torch's {} while something is computed"
    for setting in HELD:
        check((now := setting.read()) == setting.starts, rule.format(setting.name), now)
    check(not any(HOOKS), rule.format("hooks of all modules"), "a new one")


def instructions() -> str:
    """Which of the processor's instructions products use: they change bits, and cannot be set.
    Raises ParameterError where a limit has changed, as that may or may not be heeded."""
    for name, value in STARTED.items():
        rule = f"{name} must be set before vaenotes is imported: start Python again"
        check(os.environ.get(name) == value, rule, os.environ.get(name))
    limits = [f"{name}={value}" for name, value in STARTED.items() if value is not None]
    return " ".join([backends.cpu.get_cpu_capability(), *limits])
