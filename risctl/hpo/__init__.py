"""Hyper-parameter search: trials that are trainings, in a study that loses none of them.

Only this layer imports optuna, and only where a search is really run: names are loaded when first used.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
