from . import adapters as adapters
from . import figures as figures
from . import surgery as surgery
from .inputs import SPREADS as SPREADS
from .report import Recorder as Recorder
from .report import Report as Report
from .report import diagnose as diagnose
from .status import STATUSES as STATUSES
