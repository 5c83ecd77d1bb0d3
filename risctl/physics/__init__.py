"""Array physics: geometry, steering vectors, channel, codebooks, signals, impairments, Cramer-Rao bounds."""

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
