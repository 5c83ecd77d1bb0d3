"""Polar coordinates ``(u_y, u_z, q)``: direction cosines along the panel's sides and curvature ``q = 1/r``.

In them the beam of a uniform array has the same width everywhere: the coordinates to search in.
"""

import math

import torch
from torch import Tensor

from risctl.physics.geometry import ArrayGeometry, FieldOfView
from risctl.physics.steering import steering_jet, steering_towards


def polar_direction(points: Tensor) -> Tensor:
    """Unit vectors [..., 3] of polar points ``(u_y, u_z, q)`` [..., 3]."""
    u_y, u_z = points[..., 0], points[..., 1]
    u_x = (1.0 - u_y.square() - u_z.square()).clamp_min(1e-12).sqrt()
    return torch.stack([u_x, u_y, u_z], dim=-1)


def polar_steering(points: Tensor, geometry: ArrayGeometry) -> Tensor:
    """Unit-norm steering vectors [..., N] at polar points [..., 3]."""
    return steering_towards(polar_direction(points), points[..., 2], geometry)


def polar_jet(points: Tensor, geometry: ArrayGeometry) -> tuple[Tensor, Tensor]:
    """Steering vectors [..., N] and derivatives [..., 3, N] in ``(u_y, u_z, q)``."""
    u = polar_direction(points)
    zero, one = torch.zeros_like(u[..., 0]), torch.ones_like(u[..., 0])
    d_y = torch.stack([-u[..., 1] / u[..., 0], one, zero], dim=-1)
    d_z = torch.stack([-u[..., 2] / u[..., 0], zero, one], dim=-1)
    d_u = torch.stack([d_y, d_z, torch.zeros_like(d_y)], dim=-2)
    d_q = torch.stack([zero, zero, one], dim=-1)
    return steering_jet(u, points[..., 2], d_u, d_q, geometry)


def to_polar(azimuth: Tensor, elevation: Tensor, range_: Tensor) -> Tensor:
    """Polar points ``(u_y, u_z, q)`` [..., 3] of angles (rad) and ranges (m)."""
    return torch.stack([elevation.cos() * azimuth.sin(), elevation.sin(), 1.0 / range_], dim=-1)


def from_polar(points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Azimuth, elevation (rad) and range (m) of polar points [..., 3]."""
    u = polar_direction(points)
    return torch.atan2(u[..., 1], u[..., 0]), torch.asin(u[..., 2].clamp(-1.0, 1.0)), 1.0 / points[..., 2]


def polar_limits(points: Tensor, view: FieldOfView) -> tuple[Tensor, Tensor]:
    """Lower and upper limits [..., 3] of the field of view at each point's elevation; equal where known."""
    z_high, near, far = math.sin(view.elevation), 1.0 / view.range_min, 1.0 / view.range_max
    z_low = -z_high
    if view.known_elevation is not None:
        z_low = z_high = math.sin(view.known_elevation)
    if view.known_range is not None:
        near = far = 1.0 / view.known_range
    u_z = points[..., 1].clamp(z_low, z_high)
    u_y = (1.0 - u_z.square()).sqrt() * math.sin(view.azimuth)
    low = torch.stack([-u_y, torch.full_like(u_z, z_low), torch.full_like(u_z, far)], dim=-1)
    return low, torch.stack([u_y, torch.full_like(u_z, z_high), torch.full_like(u_z, near)], dim=-1)


def clamp_to_view(points: Tensor, view: FieldOfView) -> Tensor:
    """The nearest points [..., 3] inside the field of view (elevation first, then azimuth at it)."""
    low, high = polar_limits(points, view)
    return torch.minimum(torch.maximum(points, low), high)
