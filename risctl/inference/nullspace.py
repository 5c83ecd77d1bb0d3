"""The MUSIC null spectrum with other sources projected out, its refinement, and the search along a direction.

With U an orthonormal basis of the signal subspace and b a unit vector, the null spectrum is
``n = |b - U U^H b|^2 = 1 - |U^H b|^2``, zero at a source of an exact covariance (Schmidt, IEEE Trans.
Antennas Propag. 34(3), 1986). The spectrum is computed as the norm of a residual: the difference
``1 - |U^H b|^2`` would lose all digits at a null in single precision.

With Q an orthonormal basis of the steering vectors of the other sources and ``P = I - Q Q^H``,
``b = P a / |P a|`` is the part of a steering vector that the others cannot explain, and a source is sought at
the largest ``|U^H P a|^2 / |P a|^2`` (recursively applied and projected MUSIC; Mosher and Leahy, IEEE Trans.
Signal Process. 47(2), 1999). On an exact covariance this is one at the remaining sources and below one
elsewhere. The side lobes of the others, which mask weaker peaks of the plain spectrum, are removed, and no
two sources end in one peak.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from risctl.inference.levenberg import QuadraticModel, descend
from risctl.inference.newton import Slope, angles_box, climb, from_angles, slope_in_angles, to_angles
from risctl.physics.geometry import ArrayGeometry, FieldOfView
from risctl.physics.grid import PolarGrid
from risctl.physics.polar import polar_direction, polar_jet, polar_steering
from risctl.physics.steering import steering_towards

SHARE_FLOOR = 0.1  # least factor on the Gauss-Newton matrix, so that it stays definite
SETTLED = 1e-4  # root of the change of n by the last step of a refinement
REMAINDER_FLOOR = 0.05  # least |P a|^2: below it a point is too close to another source


@dataclass(frozen=True)
class DeflatedSubspace:
    """Signal subspaces of B scenes with other sources projected out.

    Attributes:
        U: orthonormal basis [B, 1, N, K].
        Q: orthonormal basis of the other sources [B, C, N, k], for each of C points or, with C = 1, for all;
            k may be zero.
    """

    U: Tensor
    Q: Tensor

    @classmethod
    def compute(cls, U: Tensor, others: Tensor, geometry: ArrayGeometry) -> DeflatedSubspace:
        """Subspace U [B, N, K] with sources at polar points `others` [B, C, k, 3] projected out."""
        A = polar_steering(others, geometry).mT
        return cls(U.unsqueeze(1), torch.linalg.qr(A)[0] if others.shape[2] else A)

    def slot(self, c: int) -> DeflatedSubspace:
        """The subspace for point c."""
        return DeflatedSubspace(self.U, self.Q[:, c : c + 1])

    def double(self) -> DeflatedSubspace:
        """This subspace in complex128."""
        return DeflatedSubspace(self.U.to(torch.complex128), self.Q.to(torch.complex128))

    def project(self, X: Tensor) -> Tensor:
        """``P x`` of vectors x in the rows of X [B, C, J, N]."""
        return X - (X @ self.Q.conj()) @ self.Q.mT

    def on_grid(self, grid: PolarGrid) -> Tensor:
        """The share of ``P a`` in the subspace at every grid point [B, G] (Q the same for all points)."""
        U = self.U.squeeze(1)
        signal = grid.energy(self.project(U.mT.unsqueeze(1)).squeeze(1))
        if not self.Q.shape[-1]:
            return signal
        return _share(signal, grid.energy(self.Q.squeeze(1).mT))

    def along(self, a: Tensor) -> Tensor:
        """The share of ``P a`` in the subspace [B, C, J] for steering vectors a [B, C, J, N]."""
        signal = (self.project(self.U.mT) @ a.mH).abs().square().sum(-2)
        return _share(signal, (self.Q.mH @ a.mT).abs().square().sum(-2))


def _share(signal: Tensor, explained: Tensor) -> Tensor:
    return signal / (1.0 - explained).clamp_min(REMAINDER_FLOOR)


def null_model(space: DeflatedSubspace, points: Tensor, geometry: ArrayGeometry) -> QuadraticModel:
    """Second-order model of n at polar points [B, C, 3], (u_y, u_z, q), flattened to P = B C points.

    Derivatives ``d`` of b are taken across it, ``d - b (b^H d)``: n depends neither on its phase nor on its
    norm. The Gauss-Newton matrix ``2 Re D^H D``, D the part of them outside U, is exact at a perfect null;
    where only the share s = 1 - n of b lies in U the curvature of n is about s times smaller, and so is the
    matrix made.
    """
    a, da = polar_jet(points, geometry)
    V = space.project(torch.cat([a.unsqueeze(-2), da], dim=-2))
    energy = V[..., :1, :].abs().square().sum(-1, keepdim=True)
    floored = energy.clamp_min(REMAINDER_FLOOR)
    V = V * floored.rsqrt()
    b, d = V[..., :1, :], V[..., 1:, :]
    V = torch.cat([b, d - (d @ b.mH) @ b], dim=-2)
    V = V - (V @ space.U.conj()) @ space.U.mT
    r, D = V[..., :1, :], V[..., 1:, :]
    value = (r.abs().square().sum(-1, keepdim=True) + (1.0 - energy / floored)).squeeze(-1)
    gradient = 2.0 * (D @ r.mH).real.squeeze(-1)
    curvature = 2.0 * (D @ D.mH).real * (1.0 - value.unsqueeze(-1)).clamp_min(SHARE_FLOOR)
    return QuadraticModel(value.flatten(), gradient.flatten(0, 1), curvature.flatten(0, 1))


def refine_nulls(
    space: DeflatedSubspace, points: Tensor, geometry: ArrayGeometry, view: FieldOfView, iterations: int
) -> Tensor:
    """Lower the null spectrum from each of the `points` [B, C, 3] separately, inside the field of view.

    Returns:
        points [B, C, 3] whose null spectrum is not higher than at the start.
    """

    def evaluate(x: Tensor) -> QuadraticModel:
        return null_model(space, x.view(points.shape), geometry)

    return descend(evaluate, points.reshape(-1, 1, 3), view, iterations)[0].view(points.shape)


def settle_nulls(
    space: DeflatedSubspace, points: Tensor, geometry: ArrayGeometry, view: FieldOfView
) -> Tensor:
    """The null of the spectrum in the field of view next to each of the `points` [B, C, 3] separately.

    All in double precision.
    """
    (B, C, _), U, Q = points.shape, space.U, space.Q
    U, Q = U.repeat_interleave(C, dim=0), Q.expand(-1, C, -1, -1).flatten(0, 1).unsqueeze(1)
    z = to_angles(points).view(B * C, 3)
    low, high = (x.expand(B * C, -1) for x in angles_box(z, view))

    def evaluate(rows: Tensor, z: Tensor) -> Slope:
        model = null_model(DeflatedSubspace(U[rows], Q[rows]), from_angles(z).unsqueeze(1), geometry)
        return slope_in_angles(z.unsqueeze(1), -model.cost, -model.gradient, model.curvature)

    return from_angles(climb(evaluate, z, low, high, SETTLED)).view(points.shape)


def search_range(space: DeflatedSubspace, points: Tensor, ranges: Tensor, geometry: ArrayGeometry) -> Tensor:
    """One-dimensional range MUSIC: each point [B, C, 3] at its best range.

    Args:
        space: for each of the C points. points: directions; their own range is one of the candidates.
        ranges: metres [R].
    """
    u, found = polar_direction(points), points.clone()
    for c in range(points.shape[1]):  # one slot at a time bounds memory: [B, R, N]
        q = torch.cat([points[:, c, 2:], (1.0 / ranges).expand(len(points), -1)], dim=1)
        a = steering_towards(u[:, c : c + 1], q, geometry)
        share = space.slot(c).along(a.unsqueeze(1)).squeeze(1)
        found[:, c, 2] = q.gather(1, share.argmax(dim=1, keepdim=True)).squeeze(1)
    return found
