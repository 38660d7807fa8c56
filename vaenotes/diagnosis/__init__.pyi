from . import adapters as adapters
from . import figures as figures
from .inputs import SPREADS as SPREADS
from .recorder import Recorder as Recorder
from .report import Report as Report
from .status import STATUSES as STATUSES
from .stream import Diagnosis as Diagnosis
from .stream import diagnose as diagnose
