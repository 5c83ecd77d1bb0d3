"""What an estimator is given, and the polar coordinates in which it searches."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from risctl.errors import MeasurementError
from risctl.physics.geometry import ArrayGeometry, FieldOfView
from risctl.physics.steering import steering_jet, steering_towards


@dataclass(frozen=True)
class Observation:
    """Snapshots, channel and codes of B scenes, with the measurement matrices ``Phi_l = H diag(c_l)``.

    Attributes:
        y: [B, L, M]. H: [B, M, N]. codes: [B, L, N]. Phi: [B, L, M, N]; all complex of one precision.
    """

    y: Tensor
    H: Tensor
    codes: Tensor
    Phi: Tensor

    @classmethod
    def of(cls, y: Tensor, H: Tensor, codes: Tensor) -> Observation:
        """Check the shapes and finiteness, and form ``Phi``.

        Raises:
            MeasurementError: naming the axis or the first scene at fault.
        """
        if y.dim() != 3 or H.dim() != 3 or codes.dim() != 3:
            raise MeasurementError(
                f"expected y [B,L,M], H [B,M,N], codes [B,L,N], got {y.shape}, {H.shape}, {codes.shape}"
            )
        B, L, M = y.shape
        if H.shape[:2] != (B, M) or codes.shape != (B, L, H.shape[2]):
            raise MeasurementError(
                f"shapes disagree: y {tuple(y.shape)}, H {tuple(H.shape)}, codes {tuple(codes.shape)}"
            )
        for name, x in (("y", y), ("H", H), ("codes", codes)):
            finite = torch.isfinite(x.abs()).flatten(1).all(dim=1)
            if not bool(finite.all()):
                raise MeasurementError(
                    f"{name} of scene {int((~finite).nonzero()[0])} has a value that is not finite"
                )
        silent = (y.abs().amax((1, 2)) == 0) | (H.abs().amax((1, 2)) == 0) | (codes.abs().amax((1, 2)) == 0)
        if bool(silent.any()):
            raise MeasurementError(f"scene {int(silent.nonzero()[0])} has no energy in y, H or codes")
        return cls(y, H, codes, H.unsqueeze(1) * codes.unsqueeze(2))

    def __len__(self) -> int:
        return int(self.y.shape[0])

    def __getitem__(self, rows: Tensor) -> Observation:
        return Observation(self.y[rows], self.H[rows], self.codes[rows], self.Phi[rows])

    def back_project(self, r: Tensor) -> Tensor:
        """``Phi_l^H r_l`` [B, L, N] of snapshot residuals r [B, L, M]."""
        return (r @ self.H.conj()) * self.codes.conj()

    def observe(self, columns: Tensor) -> Tensor:
        """``Phi_l x_j`` [B, L, M, J] of RIS-domain vectors [B, J, N]."""
        B, L, M, N = self.Phi.shape
        return (self.Phi.view(B, L * M, N) @ columns.mT).view(B, L, M, -1)


def _shapes(*tensors: Tensor) -> str:
    return ", ".join(str(tuple(t.shape)) for t in tensors)


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
    """Lower and upper limits [..., 3] of the field of view at each point's elevation."""
    u_z_max = math.sin(view.elevation)
    u_z = points[..., 1].clamp(-u_z_max, u_z_max)
    u_y_max = (1.0 - u_z.square()).sqrt() * math.sin(view.azimuth)
    near = torch.full_like(u_z, 1.0 / view.range_min)
    far = torch.full_like(u_z, 1.0 / view.range_max)
    z = torch.full_like(u_z, u_z_max)
    return torch.stack([-u_y_max, -z, far], dim=-1), torch.stack([u_y_max, z, near], dim=-1)


def clamp_to_view(points: Tensor, view: FieldOfView) -> Tensor:
    """The nearest points [..., 3] inside the field of view (elevation first, then azimuth at it)."""
    low, high = polar_limits(points, view)
    return torch.minimum(torch.maximum(points, low), high)
