"""Runs: their directory, provenance and records; training, search, evaluation, localisation.

Nothing here prints or knows a flag: listeners, a stop flag and progress displays are handed in, results are
returned. The names are loaded when they are first used, so that importing this package loads no torch.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
