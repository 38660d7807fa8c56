from . import measures as measures
from . import pictures as pictures
from . import plots as plots
from . import summary as summary
from .runs import load_data as load_data
from .runs import load_model as load_model
from .runs import run as run
from .store import Store as Store
