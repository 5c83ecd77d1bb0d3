"""Hardware impairments: they change the data, not the model that estimators have of it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from risctl.config import PhysicsConfig
from risctl.physics.geometry import ArrayGeometry
from risctl.physics.random import normal, uniform

DIP_PHASE, DIP_SHARPNESS = 0.43 * math.pi, 1.6  # phi_0 and alpha of the varactor model


@dataclass(frozen=True)
class Impairments:
    """What the surfaces of n scenes differ in from the nominal one.

    Attributes:
        geometry: the true geometry; the nominal one itself where it has no error.
        gain: complex gain of every element [n, 1, N]; None: all one.
        states: factor of every code value q [n, 2^bits] on ``exp(j 2 pi q / 2^bits)``; None: all one.
    """

    geometry: ArrayGeometry
    gain: Tensor | None
    states: Tensor | None

    def applied(self, code_index: Tensor, codes: Tensor, scenes: slice) -> Tensor:
        """What the elements really do in `scenes` where the nominal codes [n, L, N] were set."""
        if self.states is None:
            return codes
        index = code_index.flatten(1).long()
        return codes * self.states[scenes].gather(1, index).view_as(codes)


def draw_impairments(
    rng: np.random.Generator, physics: PhysicsConfig, num_scenes: int, geometry: ArrayGeometry
) -> Impairments:
    """Impairments of `num_scenes` scenes, constant over the snapshots of a scene.

    Element positions err by N(0, position_error^2) in each coordinate; phases by N(0, phase_error^2);
    amplitudes by N(0, amplitude_jitter^2) in dB; each element is dead with probability `dead_elements`; the
    true wavelength is ``(1 + wavelength_mismatch)`` times the nominal one. Responses of code values dip in
    amplitude (`state_amplitudes`) and err by N(0, state_phase_error^2) in phase. With `shared` all scenes
    have the same surface, the only one that is drawn.
    """
    imp = physics.impairments
    drawn = 1 if imp.shared else num_scenes
    if imp.wavelength_mismatch:
        geometry = replace(geometry, wavelength=geometry.wavelength * (1.0 + imp.wavelength_mismatch))
    shape = (drawn, 1, geometry.num_elements)
    if imp.position_error:
        errors = normal(rng, (drawn, geometry.num_elements, 3), imp.position_error)
        positions = geometry.positions + errors.to(geometry.positions)
        geometry = replace(geometry, positions=positions.expand(num_scenes, -1, -1))
    gain = torch.ones(shape, dtype=torch.complex64)
    if imp.phase_error_deg:
        gain = gain * torch.exp(1j * normal(rng, shape, math.radians(imp.phase_error_deg)))
    if imp.amplitude_jitter_db:
        gain = gain * 10.0 ** (normal(rng, shape, imp.amplitude_jitter_db) / 20.0)
    if imp.dead_elements:
        gain = gain * (uniform(rng, shape) >= imp.dead_elements)
    ideal = not (imp.phase_error_deg or imp.amplitude_jitter_db or imp.dead_elements)
    return Impairments(
        geometry,
        None if ideal else gain.expand(num_scenes, -1, -1).to(geometry.positions.device),
        _draw_states(rng, physics, drawn, num_scenes, geometry.positions.device),
    )


def _draw_states(
    rng: np.random.Generator, physics: PhysicsConfig, drawn: int, num_scenes: int, device: torch.device
) -> Tensor | None:
    imp = physics.impairments
    if imp.state_amplitude_min == 1.0 and not imp.state_phase_error_deg:
        return None
    states = state_amplitudes(physics.phase_bits, imp.state_amplitude_min).to(torch.complex64)
    states = states.expand(drawn, -1)
    if imp.state_phase_error_deg:
        states = states * torch.exp(1j * normal(rng, states.shape, math.radians(imp.state_phase_error_deg)))
    return states.expand(num_scenes, -1).to(device)


def state_amplitudes(phase_bits: int, least: float) -> Tensor:
    """Amplitude of every code value [2^bits] of a varactor: it falls to `least` near phase -0.07 pi.

    ``(1 - b) ((sin(phi - phi_0) + 1) / 2)^alpha + b`` (Abeywickrama, Zhang, Wu and Yuen, IEEE Trans. Commun.
    68(9), 2020, with their phi_0 = 0.43 pi and alpha = 1.6).
    """
    phase = 2.0 * math.pi * torch.arange(2**phase_bits, dtype=torch.float64) / 2**phase_bits
    shape = ((torch.sin(phase - DIP_PHASE) + 1.0) / 2.0) ** DIP_SHARPNESS
    return (1.0 - least) * shape + least
