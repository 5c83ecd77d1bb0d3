"""Pairs of sources at a given coherence, for measuring resolution."""

from __future__ import annotations

import torch
from torch import Tensor

from risctl.physics.geometry import ArrayGeometry
from risctl.physics.steering import steering_vector

PATH_STEPS = 64  # along the path: fine against a beam, so that the first crossing is seen
BISECTIONS = 24


def set_pair_coherence(position: Tensor, coherence: float, geometry: ArrayGeometry) -> Tensor:
    """Move the second source of each scene towards the first until ``|a_1^H a_2| = coherence``.

    It moves on the straight line in (azimuth, elevation, range), which stays in the field of view, and stops
    where the coherence first falls to the requested value. Nothing is drawn, so scenes of one seed
    differ between two coherences only in the position of the second source.

    Args:
        position: azimuth, elevation, range stacked [3, n, K]; the coherence of the first two sources is at
            most `coherence`. With K = 1 nothing is moved.
        coherence: in (0, 1).
        geometry: nominal geometry.

    Returns:
        The positions [3, n, K], the second source's replaced.
    """
    if position.shape[-1] < 2:
        return position
    fine = geometry.to(position.device, torch.float64)
    start, way = position[..., :1].double(), (position[..., 1:2] - position[..., :1]).double()

    def coherence_at(t: Tensor) -> Tensor:  # [n, T] -> [n, T]
        a, b = steering_at(start, fine), steering_at(start + t * way, fine)
        return (b @ a.mH).abs().squeeze(-1)

    steps = torch.arange(1, PATH_STEPS + 1, dtype=torch.float64, device=position.device) / PATH_STEPS
    steps = steps.expand(position.shape[1], -1)
    reached = (coherence_at(steps) <= coherence).to(torch.uint8)
    reached[:, -1] = 1  # the position drawn: above the value by rounding at most
    high = steps.gather(1, reached.argmax(dim=1, keepdim=True))
    low = high - 1.0 / PATH_STEPS
    for _ in range(BISECTIONS):
        middle = (low + high) / 2.0
        above = coherence_at(middle) > coherence
        low, high = torch.where(above, middle, low), torch.where(above, high, middle)
    moved = position.clone()
    moved[..., 1:2] = (start + high * way).to(position.dtype)
    return moved


def steering_at(position: Tensor, geometry: ArrayGeometry) -> Tensor:
    """Steering vectors [n, K, N] at azimuth, elevation, range stacked [3, n, K]."""
    azimuth, elevation, range_ = position.unbind(0)
    return steering_vector(azimuth, elevation, range_, geometry)
