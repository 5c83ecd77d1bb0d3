"""Two sources of a scene at a stated coherence: what resolution is measured with."""

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
    where the coherence, one at the first source, first falls to the value asked for. Nothing is drawn, so
    scenes of one seed differ between two coherences in nothing but how far the second source has come.

    Args:
        position: azimuth, elevation, range stacked [3, n, K]; the coherence of the first two sources is at
            most `coherence`. With K = 1 there is nothing to move.
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
        a, b = _steering(start, fine), _steering(start + t * way, fine)
        return (b @ a.mH).abs().squeeze(-1)

    steps = torch.arange(1, PATH_STEPS + 1, dtype=torch.float64, device=position.device) / PATH_STEPS
    steps = steps.expand(position.shape[1], -1)
    reached = (coherence_at(steps) <= coherence).to(torch.uint8)
    reached[:, -1] = 1  # the place drawn: at most rounding above the value
    high = steps.gather(1, reached.argmax(dim=1, keepdim=True))
    low = high - 1.0 / PATH_STEPS
    for _ in range(BISECTIONS):
        middle = (low + high) / 2.0
        above = coherence_at(middle) > coherence
        low, high = torch.where(above, middle, low), torch.where(above, high, middle)
    moved = position.clone()
    moved[..., 1:2] = (start + high * way).to(position.dtype)
    return moved


def _steering(position: Tensor, geometry: ArrayGeometry) -> Tensor:
    azimuth, elevation, range_ = position.unbind(0)
    return steering_vector(azimuth, elevation, range_, geometry)
