"""Geometry of the surface: element positions, directions, field of view.

The RIS is a uniform planar array in the y-z plane, centred at the origin, looking along +x. Element
``n = i_v * N_H + i_h`` sits at ``(0, (i_h - (N_H-1)/2) d, (i_v - (N_V-1)/2) d)``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from risctl.config import PhysicsConfig

Device = torch.device | str


@dataclass(frozen=True)
class ArrayGeometry:
    """Element positions, wavelength and wavefront model: all that a steering vector depends on.

    Attributes:
        positions: element positions [..., N, 3] in metres; leading axes, if any, are scenes.
        wavelength: carrier wavelength in metres.
        wavefront: ``spherical``, ``fresnel`` or ``planar``.
        amplitude_taper: whether the 1/d amplitude across the aperture is modelled.
    """

    positions: Tensor
    wavelength: float
    wavefront: str
    amplitude_taper: bool

    @classmethod
    def from_config(
        cls, physics: PhysicsConfig, device: Device = "cpu", dtype: torch.dtype = torch.float32
    ) -> ArrayGeometry:
        """Nominal geometry of a configuration, positions on `device` in real `dtype`."""
        if physics.elements.positions:
            positions = torch.tensor(physics.elements.in_surface_frame(), dtype=torch.float64)
        else:
            spacing = physics.element_spacing * physics.wavelength
            positions = planar_array_positions(physics.ris_columns, physics.ris_rows, spacing)
        return cls(
            positions=positions.to(device=device, dtype=dtype),
            wavelength=physics.wavelength,
            wavefront=physics.wavefront,
            amplitude_taper=physics.amplitude_taper,
        )

    @property
    def num_elements(self) -> int:
        """Number of elements N."""
        return int(self.positions.shape[-2])

    @property
    def wavenumber(self) -> float:
        """``k0 = 2 pi / lambda`` in rad/m."""
        return 2.0 * math.pi / self.wavelength

    @property
    def squared_radius(self) -> Tensor:
        """``|p_n|^2`` in square metres, [N] or [B, 1, N], ready to broadcast against [..., K, N]."""
        P = self.positions.square().sum(-1)
        return P if P.dim() == 1 else P.unsqueeze(-2)

    def to(self, device: Device, dtype: torch.dtype) -> ArrayGeometry:
        """This geometry on another device or in another real precision."""
        return replace(self, positions=self.positions.to(device=device, dtype=dtype))


@dataclass(frozen=True)
class FieldOfView:
    """Region of the sources: limits of |azimuth| and |elevation| in radians, range interval in metres.

    An elevation or a range that is known (`inf`: plane waves) replaces its interval; None: not known.
    """

    azimuth: float
    elevation: float
    range_min: float
    range_max: float
    known_elevation: float | None = None
    known_range: float | None = None

    @property
    def known(self) -> tuple[bool, bool, bool]:
        """Which of azimuth, elevation and range (of u_y, u_z and 1/r) are known."""
        return False, self.known_elevation is not None, self.known_range is not None

    @classmethod
    def from_config(cls, physics: PhysicsConfig) -> FieldOfView:
        """Field of view of a configuration."""
        return cls(
            azimuth=math.radians(physics.azimuth_limit_deg),
            elevation=math.radians(physics.elevation_limit_deg),
            range_min=physics.range_min,
            range_max=physics.range_max,
            known_elevation=physics.known_elevation,
            known_range=physics.known_range,
        )


def planar_array_positions(columns: int, rows: int, spacing: float) -> Tensor:
    """Element positions [N, 3] (float64, metres) of a `rows` x `columns` panel in the y-z plane."""
    y = (torch.arange(columns, dtype=torch.float64) - (columns - 1) / 2) * spacing
    z = (torch.arange(rows, dtype=torch.float64) - (rows - 1) / 2) * spacing
    zz, yy = torch.meshgrid(z, y, indexing="ij")
    return torch.stack([torch.zeros_like(yy), yy, zz], dim=-1).reshape(-1, 3)


def direction(azimuth: Tensor, elevation: Tensor) -> Tensor:
    """Unit vector ``(cos t cos p, cos t sin p, sin t)`` towards azimuth p, elevation t; [..., 3]."""
    c = elevation.cos()
    return torch.stack([c * azimuth.cos(), c * azimuth.sin(), elevation.sin()], dim=-1)


def to_cartesian(azimuth: Tensor, elevation: Tensor, range_: Tensor) -> Tensor:
    """Cartesian position [..., 3] in metres."""
    return range_.unsqueeze(-1) * direction(azimuth, elevation)


def direction_slopes(azimuth: Tensor, elevation: Tensor) -> tuple[Tensor, Tensor]:
    """Derivatives [..., 3] of the unit vector in azimuth and in elevation."""
    c, s = elevation.cos(), elevation.sin()
    d_azimuth = torch.stack([-c * azimuth.sin(), c * azimuth.cos(), torch.zeros_like(c)], dim=-1)
    return d_azimuth, torch.stack([-s * azimuth.cos(), -s * azimuth.sin(), c], dim=-1)


def cartesian_jacobian(azimuth: Tensor, elevation: Tensor, range_: Tensor) -> Tensor:
    """``d(x, y, z) / d(azimuth, elevation, range)`` [..., 3, 3], metres per radian and per metre."""
    d_azimuth, d_elevation = direction_slopes(azimuth, elevation)
    r = range_.unsqueeze(-1)
    return torch.stack([r * d_azimuth, r * d_elevation, direction(azimuth, elevation)], dim=-1)
