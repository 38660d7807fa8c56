"""vaenotes: why the variances of a VAE with a learned prior do what they do.

`import vaenotes as vn` gives the science; `from vaenotes import lab` many runs; `from vaenotes
import report` this book. Names, listed beside this file in __init__.pyi, are looked up when they
are first used: what needs no torch does not import it.
"""

from pathlib import Path

import lazy_loader

__version__ = "2.0.0"
CHANGED_AT = {path: path.stat().st_ctime_ns for path in Path(__file__).parent.rglob("*.py")}
"""When each module's file last changed, as this process began: a later one is not what it runs."""

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
