"""Hardware impairments: they change the data, not the model that estimators have of it."""

import math
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from risctl.config import PhysicsConfig
from risctl.physics.geometry import ArrayGeometry
from risctl.physics.random import normal, uniform


def draw_impairments(
    rng: np.random.Generator, physics: PhysicsConfig, num_scenes: int, geometry: ArrayGeometry
) -> tuple[ArrayGeometry, Tensor | None]:
    """Impairments of `num_scenes` scenes, constant over the snapshots of a scene.

    Element positions err by N(0, position_error^2) in each coordinate; phases by N(0, phase_error^2);
    amplitudes by N(0, amplitude_jitter^2) in dB; each element is dead with probability `dead_elements`; the
    true wavelength is ``(1 + wavelength_mismatch)`` times the nominal one.

    Returns:
        The true geometry (`geometry` itself if it has no error), and a complex gain per element [n, 1, N],
        None if all are one.
    """
    imp = physics.impairments
    if imp.wavelength_mismatch:
        geometry = replace(geometry, wavelength=geometry.wavelength * (1.0 + imp.wavelength_mismatch))
    shape = (num_scenes, 1, geometry.num_elements)
    if imp.position_error:
        errors = normal(rng, (num_scenes, geometry.num_elements, 3), imp.position_error)
        geometry = replace(geometry, positions=geometry.positions + errors.to(geometry.positions))
    gain = torch.ones(shape, dtype=torch.complex64)
    if imp.phase_error_deg:
        gain = gain * torch.exp(1j * normal(rng, shape, math.radians(imp.phase_error_deg)))
    if imp.amplitude_jitter_db:
        gain = gain * 10.0 ** (normal(rng, shape, imp.amplitude_jitter_db) / 20.0)
    if imp.dead_elements:
        gain = gain * (uniform(rng, shape) >= imp.dead_elements)
    ideal = not (imp.phase_error_deg or imp.amplitude_jitter_db or imp.dead_elements)
    return geometry, None if ideal else gain.to(geometry.positions.device)
