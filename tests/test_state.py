"""What is trained depends on no state that a caller has torch in."""

import ctypes
import signal
import threading
import warnings
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from torch import backends
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn.modules import module
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from vaenotes import state
from vaenotes.config import Config
from vaenotes.errors import ParameterError
from vaenotes.lab import cluster, runs, workers
from vaenotes.lab.store import Store
from vaenotes.state import SETTINGS, torch_as_it_starts

CONFIG = Config(images=128, size=16, hidden=4, epochs=1, batch=64, encoder="cnn")
QUICK = Config(images=64, size=8, hidden=4, epochs=1, batch=64)
RECORDED = replace(QUICK, epochs=60)
TWICE = replace(QUICK, epochs=2)
SCALE = torch.tensor(1.01)


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    return fetched(tmp_path_factory.mktemp("store"), CONFIG, QUICK, RECORDED, TWICE)


def fetched(folder, *configs):
    return {config: runs.fetch([config], Store(folder))[config].arrays for config in configs}


def settings():
    return [setting.read() for setting in SETTINGS]


def another(setting):
    other = {True: False, False: True, "ieee": "bf16", "tf32": "ieee", torch.float32: torch.float64}
    exact = setting.name == "torch.backends.cuda.matmul.fp32_precision"
    return "tf32" if exact else other[setting.starts]


@contextmanager
def another_state():
    """Everything otherwise than torch starts."""
    before = settings()
    for setting in SETTINGS:
        setting.write(another(setting))
    hook = module.register_module_forward_hook(lambda module, inputs, output: output)
    torch.autograd.set_detect_anomaly(True)
    try:
        with torch.autocast("cpu", torch.bfloat16), torch.inference_mode(), torch.device("meta"):
            yield
    finally:
        torch.autograd.set_detect_anomaly(False)
        hook.remove()
        for setting, value in zip(SETTINGS, before, strict=True):
            setting.write(value)


@contextmanager
def hook(register, change):
    def larger(what):
        if isinstance(what, tuple):
            return tuple(map(larger, what))
        floats = isinstance(what, torch.Tensor) and what.is_floating_point()
        return what * SCALE if floats else what

    handle = register(lambda *seen: larger(seen[change]))
    try:
        yield
    finally:
        handle.remove()


class Functions(TorchFunctionMode):
    def __torch_function__(self, function, types, inputs=(), named=None):
        found = function(*inputs, **named or {})
        return found * 1.01 if function is torch.Tensor.mul else found


class Operations(TorchDispatchMode):
    def __torch_dispatch__(self, function, types, inputs=(), named=None):
        found = function(*inputs, **named or {})
        return found + 1e-3 if "mul" in str(function) else found


STATES = {
    "everything": another_state,
    "forward pre-hook": partial(hook, module.register_module_forward_pre_hook, 1),
    "forward hook": partial(hook, module.register_module_forward_hook, 2),
    "backward pre-hook": partial(hook, module.register_module_full_backward_pre_hook, 1),
    "backward hook": partial(hook, module.register_module_full_backward_hook, 1),
    "buffer hook": partial(hook, module.register_module_buffer_registration_hook, 2),
    "function mode": Functions,
    "dispatch mode": Operations,
    "fake tensors": FakeTensorMode,
    "default device": partial(torch.device, "meta"),
    "saved tensors": partial(
        torch.autograd.graph.saved_tensors_hooks, lambda saved: saved * 2, lambda kept: kept
    ),
    "saved on the CPU": torch.autograd.graph.save_on_cpu,
    "anomalies": partial(torch.autograd.set_detect_anomaly, True),
    "forward differentiation": torch.autograd.forward_ad.dual_level,
    "numpy's errors": partial(np.errstate, all="raise"),
    "bfloat16": partial(torch.autocast, "cpu", torch.bfloat16),
}
TRANSFORMS = {
    "vmap": torch.func.vmap,
    "grad": torch.func.grad,
    "functionalize": torch.func.functionalize,
    "make_fx": make_fx,
    "jit.trace": lambda called: torch.jit.trace(called, torch.ones(2), check_trace=False),
}


def check_same(found, expected):
    for config, mine in found.items():
        right = expected[config]
        assert {name for name in right if mine[name].tobytes() != right[name].tobytes()} == set()


@pytest.mark.parametrize("of", STATES)
@pytest.mark.attack("wrong")
def test_a_replica_is_the_same_whatever_state_the_caller_has_torch_in(of, expected, tmp_path):
    with warnings.catch_warnings(), STATES[of]():
        warnings.simplefilter("ignore")  # torch's own, of a state
        found = fetched(tmp_path, QUICK, *((CONFIG, RECORDED) if of == "everything" else ()))
        model = runs.load_model(QUICK, Store(tmp_path))
    check_same(found, expected)
    for parameter in model.parameters():
        assert parameter.device.type == "cpu" and parameter.dtype == torch.float32
        assert parameter.requires_grad and not parameter.is_inference()


@pytest.mark.parametrize("of", TRANSFORMS)
@pytest.mark.filterwarnings("ignore:.*jit.trace")
@pytest.mark.attack("wrong")
def test_a_replica_is_the_same_inside_any_transform_of_torch(of, expected, tmp_path):
    found = {}

    def called(x):
        found.update(fetched(tmp_path, QUICK))
        return x.sum()

    transformed = TRANSFORMS[of](called)
    if not found:  # a trace has called it already
        transformed(torch.ones(2))
    check_same(found, expected)


@pytest.mark.attack("wrong")
def test_training_takes_nothing_from_the_random_numbers_of_its_caller(expected, tmp_path):
    torch.manual_seed(3)
    drawn = torch.rand(4)
    torch.manual_seed(3)
    runs.load_model(QUICK, Store(tmp_path))
    assert torch.equal(torch.rand(4), drawn)


@pytest.mark.parametrize("mode", [0x400, 0x800, 0xC00])  # of x86: down, up, to zero
@pytest.mark.attack("wrong")
def test_nothing_is_trained_where_the_processor_rounds_otherwise(mode, tmp_path):
    library = ctypes.CDLL(None)
    try:
        library.fesetround(mode)
        with pytest.raises(ParameterError, match="must round to nearest"):
            runs.fetch([QUICK], Store(tmp_path))
    finally:
        library.fesetround(0)
    assert not list(tmp_path.glob("*.npz"))


@pytest.mark.attack("wrong")
def test_every_part_of_the_state_is_set_and_then_as_the_caller_had_it():
    def told():
        return [
            torch.is_autocast_enabled("cpu"), torch.is_inference_mode_enabled(),
            torch.is_grad_enabled(), torch.get_default_device().type, *settings(),
            torch.is_anomaly_enabled(), any(state.HOOKS),
        ]  # fmt: skip

    meanwhile = []

    @torch_as_it_starts
    def fail():
        meanwhile.extend(told())
        raise KeyError

    starts = told()
    with another_state():
        mixed = told()
        with pytest.raises(KeyError):
            fail()
        assert told() == mixed
    assert all(one != other for one, other in zip(meanwhile, mixed, strict=True))
    unasked = {"none": "ieee"}  # that nobody set it
    chosen = 4 + [setting.name for setting in SETTINGS].index("torch.backends.cudnn.deterministic")
    assert meanwhile.pop(chosen) and not starts[chosen]
    known = [unasked.get(one, one) for at, one in enumerate(starts) if at != chosen]
    assert known == meanwhile
    assert told() == starts


OF_ALL_THREADS = {
    setting.name: (partial(setting.write, another(setting)), setting.read)
    for setting in SETTINGS
    if setting.name != "flushing of denormals"  # each thread has its own
} | {
    "hooks of all modules": (
        partial(module.register_module_forward_hook, lambda *_: None), lambda: None
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", OF_ALL_THREADS)
@pytest.mark.attack("wrong")
def test_what_another_thread_changes_meanwhile_is_refused_and_not_kept(
    name, expected, monkeypatch, tmp_path
):
    (change, read), handles = OF_ALL_THREADS[name], []
    before = read()

    def after_an_epoch(*_):
        other = threading.Thread(target=lambda: handles.append(change()))
        other.start()
        other.join()

    with monkeypatch.context() as patched:
        patched.setattr(workers, "BETWEEN_CHECKPOINTS", 0)
        patched.setattr(workers, "add", after_an_epoch)
        with pytest.raises(ParameterError, match=f"^no other thread may change torch's {name} "):
            fetched(tmp_path, TWICE)
    if handles[0]:
        handles[0].remove()
    assert read() == before and not list(tmp_path.glob("[0-9a-f]*.npz"))
    assert Store(tmp_path).unfinished()  # of the epoch before
    check_same(fetched(tmp_path, TWICE), {TWICE: expected[TWICE]})


@pytest.mark.attack("hang")
def test_who_is_interrupted_ends_what_is_computed_for_them():
    ended, begun = threading.Event(), threading.Event()

    @torch_as_it_starts
    def never():
        try:
            begun.set()
            while True:
                torch.ones(2).sum()
        finally:
            ended.set()

    def interrupt():
        begun.wait()
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        never()
    assert ended.is_set()
    assert torch_as_it_starts(torch.is_grad_enabled)()  # the next is not kept waiting


@pytest.mark.attack("wrong")
def test_a_key_and_a_worker_know_which_instructions_products_use(monkeypatch):
    found = set()
    for limit, capability in (("", "AVX2"), ("COMPATIBLE", "AVX2"), ("", "DEFAULT")):
        monkeypatch.setenv("MKL_CBWR", limit)
        monkeypatch.setitem(state.STARTED, "MKL_CBWR", limit)
        monkeypatch.setattr(backends.cpu, "get_cpu_capability", lambda known=capability: known)
        found |= {runs.store_key(CONFIG), cluster._code("cpu", cluster.packed({}))}
    assert len(found) == 6


@pytest.mark.parametrize("limit", state.LIMITS)
@pytest.mark.attack("wrong")
def test_a_limit_that_is_set_too_late_names_no_results(limit, monkeypatch):
    monkeypatch.setenv(limit, "another")
    with pytest.raises(ParameterError, match=f"^{limit} .* start Python again"):
        runs.store_key(CONFIG)
