"""Many runs: trained side by side, kept, found again, and measured."""

import importlib.util

import lazy_loader

PACKAGES = ("cloudpickle", "filelock", "loky", "platformdirs", "tqdm", "xarray")
for _name in PACKAGES:
    if importlib.util.find_spec(_name) is None:
        raise ModuleNotFoundError(f"vaenotes.lab needs {_name}: pip install 'vaenotes[lab]'")

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
