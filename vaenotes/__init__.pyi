import pathlib

from . import theory as theory
from .config import Config as Config
from .data.dataset import Dataset as Dataset
from .data.load import DATASETS as DATASETS
from .data.load import load as load
from .diagnosis import adapters as adapters
from .diagnosis.recorder import Recorder as Recorder
from .diagnosis.stream import Diagnosis as Diagnosis
from .diagnosis.stream import diagnose as diagnose
from .errors import ParameterError as ParameterError
from .kl import Diagonal as Diagonal
from .kl import Full as Full
from .kl import kl_nats as kl_nats
from .kl import kl_parts as kl_parts
from .model import VAE as VAE
from .priors import PRIORS as PRIORS
from .training import train as train

__version__: str
CHANGED_AT: dict[pathlib.Path, int]
