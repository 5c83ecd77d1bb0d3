"""Array physics: geometry, steering vectors, channel, codebooks, signals, impairments, Cramer-Rao bounds.

Letters of the axes, here and in every other package:

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

from risctl.physics.codebook import code_phasors
from risctl.physics.geometry import ArrayGeometry, Device, FieldOfView, to_cartesian
from risctl.physics.scenes import Scenes
from risctl.physics.signals import received_signal, simulate_scenes
from risctl.physics.steering import steering_derivatives, steering_vector

__all__ = [
    "ArrayGeometry",
    "Device",
    "FieldOfView",
    "Scenes",
    "code_phasors",
    "received_signal",
    "simulate_scenes",
    "steering_derivatives",
    "steering_vector",
    "to_cartesian",
]
