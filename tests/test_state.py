"""What is trained depends on no state that a caller has torch in."""

from contextlib import contextmanager

import pytest
import torch
from torch import backends

from vaenotes.config import Config
from vaenotes.lab import cluster, runs
from vaenotes.lab.store import Store
from vaenotes.state import SWITCHES, torch_as_it_starts

CONFIG = Config(images=128, size=16, hidden=4, epochs=1, batch=64, encoder="cnn")


def switches():
    return [getattr(of, name) for of, name, _ in SWITCHES]


@contextmanager
def another_state():
    """Everything otherwise than torch starts."""
    other = {True: False, False: True, "ieee": "bf16", "tf32": "ieee"}
    before = switches()
    for of, name, value in SWITCHES:
        exact = of is backends.cuda.matmul and value == "ieee"
        setattr(of, name, "tf32" if exact else other[value])
    torch.set_default_dtype(torch.float64)
    torch.set_deterministic_debug_mode(1)
    assert torch.set_flush_denormal(True)
    try:
        with torch.autocast("cpu", torch.bfloat16), torch.inference_mode(), torch.device("meta"):
            yield
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_deterministic_debug_mode(0)
        torch.set_flush_denormal(False)
        for (of, name, _), value in zip(SWITCHES, before, strict=True):
            setattr(of, name, value)


@pytest.mark.attack("wrong")
def test_a_replica_is_the_same_whatever_state_the_caller_has_torch_in(tmp_path):
    expected = runs.fetch([CONFIG], Store(tmp_path / "one"))[CONFIG].arrays
    with another_state():
        found = runs.fetch([CONFIG], store := Store(tmp_path / "other"))[CONFIG].arrays
        model = runs.load_model(CONFIG, store)
    assert {name for name in expected if found[name].tobytes() != expected[name].tobytes()} == set()
    for parameter in model.parameters():
        assert parameter.device.type == "cpu" and parameter.dtype == torch.float32
        assert parameter.requires_grad and not parameter.is_inference()


@pytest.mark.attack("wrong")
def test_every_part_of_the_state_is_set_and_then_as_the_caller_had_it():
    def told():
        return [
            torch.is_autocast_enabled("cpu"), torch.is_inference_mode_enabled(),
            torch.is_grad_enabled(), torch.get_default_dtype(), torch.get_default_device().type,
            torch.get_deterministic_debug_mode(), *switches(),
            not torch.tensor(1e-38, dtype=torch.float32, device="cpu") / 8,
        ]  # fmt: skip

    starts = told()
    with another_state():
        mixed = told()
        with pytest.raises(KeyError), torch_as_it_starts():
            meanwhile = told()
            raise KeyError
        assert told() == mixed
    assert all(one != other for one, other in zip(starts, mixed, strict=True))
    unasked = {"none": "ieee"}  # that nobody set it
    assert [unasked.get(one, one) for one in starts] == meanwhile


@pytest.mark.attack("wrong")
def test_a_key_and_a_worker_know_which_instructions_products_use(monkeypatch):
    found = set()
    for limit, capability in (("", "AVX2"), ("COMPATIBLE", "AVX2"), ("", "DEFAULT")):
        monkeypatch.setenv("MKL_CBWR", limit)
        monkeypatch.setattr(backends.cpu, "get_cpu_capability", lambda known=capability: known)
        found |= {runs.store_key(CONFIG), cluster._code("cpu", {})}
    assert len(found) == 6
