"""`peak_contrast`: contrast of the MUSIC spectrum of R between the true sources and their neighbours.

With the MUSIC denominator ``D(a) = 1 - a^H P_R a`` (the spectrum is 1/D), true point a_0 and neighbours a_j

    contrast = mean_j D(a_0) / (D(a_0) + D(a_j) + CONTRAST_FLOOR),

the mean over the sources of a scene: 0 where the true point lies in the signal subspace, as it does at the
truth (there the rounding of D over the floor remains, 1e-3 in single precision), 1/2 on flat ground, towards
1 where the true point is a hole among peaks. Bounded and smooth, unlike the ratio or the logarithm of the
spectrum itself.

The neighbours are a step up and down in each polar coordinate ``(u_y, u_z, q = 1/r)``, the step being that
which, by the phases' slope at the source, turns them by `stencil_phase` radians across the aperture (root
mean square about their mean): for 1 rad 0.55 of a beamwidth (null to peak) in the direction cosines. That
puts them as far from the source in the one coordinate as in the other, wherever it is. Curvatures below zero
(converging waves) continue the spectrum past infinity, so a far source has neighbours on both sides like any
other.
"""

import torch
from torch import Tensor

from risctl.config import LossConfig
from risctl.losses.truth import Truth
from risctl.physics import ArrayGeometry
from risctl.physics.polar import polar_direction, polar_steering, to_polar
from risctl.physics.steering import path_difference

CONTRAST_FLOOR = 1e-3


def stencil_steps(points: Tensor, geometry: ArrayGeometry, phase: float) -> Tensor:
    """Offsets [..., J, 3] of the neighbours of polar points [..., 3], ups first, then downs.

    J is twice the number of coordinates that change any phase: a single row or column of elements leaves one
    out, a plane wave the curvature.
    """
    p = geometry.positions
    path = path_difference(polar_direction(points) @ p.mT, points[..., 2], geometry)
    along_w, along_q = path.slopes(geometry)
    found = {0: along_w * p[:, 1], 1: along_w * p[:, 2], 2: along_q}
    extent = p.amax(0) - p.amin(0)
    missing = {0: not extent[1], 1: not extent[2], 2: geometry.wavefront == "planar"}
    used = [i for i in found if not missing[i]]
    size = phase / (geometry.wavenumber * torch.stack([_spread(found[i]) for i in used], dim=-1))
    axes = torch.eye(3, dtype=size.dtype, device=size.device)[used]
    steps = size.unsqueeze(-1) * axes
    return torch.cat([steps, -steps], dim=-2)


def _spread(x: Tensor) -> Tensor:
    """Standard deviation over the elements."""
    return (x - x.mean(-1, keepdim=True)).square().mean(-1).sqrt()


def stencil_steering(truth: Truth, geometry: ArrayGeometry, loss: LossConfig) -> Tensor:
    """Steering vectors [B, K_max J, N] of every true source's J neighbours, those of a source in a row."""
    points = to_polar(truth.position[..., 0], truth.position[..., 1], truth.position[..., 2])
    neighbours = points.unsqueeze(-2) + stencil_steps(points, geometry, loss.stencil_phase)
    return polar_steering(neighbours.flatten(1, 2), geometry)


def peak_contrast(inside: Tensor, inside_stencil: Tensor, truth: Truth) -> Tensor:
    """`peak_contrast` [B] in [0, 1].

    Args:
        inside: ``a^H P_R a`` of the true steering vectors [B, K_max].
        inside_stencil: the same of their neighbours [B, K_max J].
        truth: the sources.
    """
    peak = (1.0 - inside).clamp_min(0.0).unsqueeze(-1)
    around = (1.0 - inside_stencil).clamp_min(0.0).reshape(*inside.shape, -1)
    return truth.mean_over_sources((peak / (peak + around + CONTRAST_FLOOR)).mean(-1))
