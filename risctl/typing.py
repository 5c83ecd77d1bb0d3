"""Array-shape aliases and the one legend of axis letters.

========  =====================================================================
letter    axis
========  =====================================================================
``B``     batch of scenes
``L``     snapshots
``M``     base-station antennas
``N``     RIS elements, ``n = i_v * N_H + i_h``
``K``     sources (``K_max`` where padded)
``G``     grid points
``S``     scenes of a measurement file
========  =====================================================================

Angles are radians and lengths metres everywhere inside the library; degrees appear only at the command line
and in reports. Complex data are complex64 on disk and in the fast path, complex128 in oracles and bounds.
"""
