"""vaenotes: why the variances of a VAE with a learned prior do what they do.

`import vaenotes as vn` gives the science; `from vaenotes import lab` many runs; `from vaenotes
import report` this book. Names, listed beside this file in __init__.pyi, are looked up when they
are first used: what needs no torch does not import it.
"""

import lazy_loader

__version__ = "2.0.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
