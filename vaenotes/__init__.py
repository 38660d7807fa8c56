"""vaenotes: why the variances of a VAE with a learned prior do what they do.

`import vaenotes as vn` is all that a notebook needs. Names are looked up when they are first
used, so that papermill, which imports this package for its handler, does not import torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "2.0.0.dev0"

# Every public name and its module, in the order of the page "The library". A name is added here
# and, for type checkers and editors, below; a test compares the two.
_HOME = {
    # say what to run, and run it
    "Settings": "settings",
    "arm": "experiments",
    "run": "runs",
    "experiment": "experiments",
    "all_experiments": "experiments",
    "run_arms": "experiments",
    "check_configs": "checks",
    "check_runs": "checks",
    "check_parameters": "notebook",
    "ParameterError": "errors",
    # a single model, or its KL
    "kl_nats": "kl",
    "VAE": "model",
    "Config": "config",
    "load_data": "runs",
    "load_model": "runs",
    # any VAE
    "diagnose": "diagnosis",
    "Recorder": "diagnosis",
    "adapters": "adapters",
    # what there is to choose from
    "PROFILES": "settings",
    "DATASETS": "data",
    "PRIORS": "priors",
    "ARMS": "experiments",
    "EXPERIMENTS": "experiments",
    # modules: what came out, as numbers, tables and figures
    "summary": "summary",
    "measures": "measures",
    "ledger": "ledger",
    "plots": "plots",
    "charts": "charts",
    "films": "films",
    "portrait": "portrait",
    "system": "system",
    "theory": "theory",
    "checks": "checks",
    "cost": "cost",
    "full_size": "full_size",
    "notes_figures": "notes_figures",
}
__all__ = ["__version__", *_HOME]

if TYPE_CHECKING:
    from vaenotes import adapters as adapters
    from vaenotes import charts as charts
    from vaenotes import checks as checks
    from vaenotes import cost as cost
    from vaenotes import films as films
    from vaenotes import full_size as full_size
    from vaenotes import ledger as ledger
    from vaenotes import measures as measures
    from vaenotes import notes_figures as notes_figures
    from vaenotes import plots as plots
    from vaenotes import portrait as portrait
    from vaenotes import summary as summary
    from vaenotes import system as system
    from vaenotes import theory as theory
    from vaenotes.checks import check_configs as check_configs
    from vaenotes.checks import check_runs as check_runs
    from vaenotes.config import Config as Config
    from vaenotes.data import DATASETS as DATASETS
    from vaenotes.diagnosis import Recorder as Recorder
    from vaenotes.diagnosis import diagnose as diagnose
    from vaenotes.errors import ParameterError as ParameterError
    from vaenotes.experiments import ARMS as ARMS
    from vaenotes.experiments import EXPERIMENTS as EXPERIMENTS
    from vaenotes.experiments import all_experiments as all_experiments
    from vaenotes.experiments import arm as arm
    from vaenotes.experiments import experiment as experiment
    from vaenotes.experiments import run_arms as run_arms
    from vaenotes.kl import kl_nats as kl_nats
    from vaenotes.model import VAE as VAE
    from vaenotes.notebook import check_parameters as check_parameters
    from vaenotes.priors import PRIORS as PRIORS
    from vaenotes.runs import load_data as load_data
    from vaenotes.runs import load_model as load_model
    from vaenotes.runs import run as run
    from vaenotes.settings import PROFILES as PROFILES
    from vaenotes.settings import Settings as Settings
else:  # hidden from type checkers, to which it would make every misspelt name right

    def __getattr__(name: str) -> object:
        if name not in _HOME:
            raise AttributeError(f"module 'vaenotes' has no attribute {name!r}")
        module = import_module(f"vaenotes.{_HOME[name]}")
        return module if name == _HOME[name] else getattr(module, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
