"""vaenotes: why the variances of a VAE with a learned prior do what they do.

`import vaenotes as vn` is all that a notebook needs. Names are looked up when they are first
used, so that papermill, which imports this package for its handler, does not import torch.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_HOME = {
    "CNN": "experiments",
    "Config": "config",
    "DATASETS": "data",
    "PRIORS": "priors",
    "PROFILES": "settings",
    "ParameterError": "errors",
    "Settings": "settings",
    "VAE": "model",
    "ARMS": "experiments",
    "all_experiments": "experiments",
    "arm": "experiments",
    "charts": "charts",
    "check_configs": "checks",
    "check_parameters": "notebook",
    "check_runs": "checks",
    "checks": "checks",
    "cost": "cost",
    "experiment": "experiments",
    "films": "films",
    "kl_nats": "kl",
    "ledger": "ledger",
    "load_data": "runs",
    "load_model": "runs",
    "measures": "measures",
    "plots": "plots",
    "run": "runs",
    "run_arms": "experiments",
    "summary": "summary",
    "theory": "theory",
}
__all__ = ["__version__", *_HOME]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'vaenotes' has no attribute {name!r}")
    module = import_module(f"vaenotes.{_HOME[name]}")
    return module if name == _HOME[name] else getattr(module, name)
