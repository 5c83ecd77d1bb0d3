"""Near-field localisation of several radio sources through a reconfigurable intelligent surface.

From a user's arrays to positions::

    import risctl

    located = risctl.locate(y, H, codes)  # y [S, L, M], H [S, M, N], codes [S, L, N]
    print(located)

The names below are loaded when they are first used: importing the package loads neither torch nor NumPy.
"""

import lazy_loader

__version__ = "0.1.0"
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
