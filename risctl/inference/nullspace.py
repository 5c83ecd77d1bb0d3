"""The MUSIC null spectrum near a point, its refinement, and the search along one direction.

With U an orthonormal basis of the signal subspace and b a unit vector, the null spectrum is
``n = |b - U U^H b|^2 = 1 - |U^H b|^2``, zero at a source of an exact covariance (Schmidt, IEEE Trans.
Antennas Propag. 34(3), 1986). Here ``b = P a / |P a|`` is the steering vector with other sources projected
out (:mod:`risctl.inference.deflation`). The spectrum is computed as the norm of a residual: the difference
``1 - |U^H b|^2`` would lose all digits at a null in single precision.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from risctl.inference.deflation import REMAINDER_FLOOR, DeflatedSubspace
from risctl.inference.levenberg import Damping, damped_step, predicted_gain
from risctl.inference.refine import POINT_LIMIT
from risctl.inference.tree import tree_where
from risctl.physics.geometry import ArrayGeometry, FieldOfView
from risctl.physics.polar import clamp_to_view, polar_direction, polar_jet, polar_limits
from risctl.physics.steering import steering_towards

SHARE_FLOOR = 0.1  # least factor on the Gauss-Newton matrix, so that it stays definite


@dataclass(frozen=True)
class NullModel:
    """The null spectrum [P], its gradient [P, 3] and a Gauss-Newton curvature [P, 3, 3] at P points."""

    value: Tensor
    gradient: Tensor
    curvature: Tensor


def null_model(space: DeflatedSubspace, points: Tensor, geometry: ArrayGeometry) -> NullModel:
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
    return NullModel(value.flatten(), gradient.flatten(0, 1), curvature.flatten(0, 1))


def refine_nulls(
    space: DeflatedSubspace, points: Tensor, geometry: ArrayGeometry, view: FieldOfView, iterations: int
) -> Tensor:
    """Lower the null spectrum from each of the `points` [B, C, 3] on its own, inside the field of view.

    Returns:
        points [B, C, 3] whose null spectrum is nowhere higher than at the start.
    """
    limit = points.new_tensor(POINT_LIMIT)
    x, model = points.flatten(0, 1), null_model(space, points, geometry)
    damping = Damping.initial(model.value)
    for _ in range(iterations):
        low, high = polar_limits(x, view)
        step = damped_step(x, model.gradient, model.curvature, damping.level, low, high, limit)
        trial = clamp_to_view(x + step, view)
        candidate = null_model(space, trial.view(points.shape), geometry)
        gain = model.value - candidate.value
        better = gain > 0
        damping = damping.updated(gain, predicted_gain(model.gradient, model.curvature, step))
        x = torch.where(better.unsqueeze(-1), trial, x)
        model = tree_where(better, candidate, model)
    return x.view(points.shape)


def search_range(space: DeflatedSubspace, points: Tensor, ranges: Tensor, geometry: ArrayGeometry) -> Tensor:
    """One-dimensional range MUSIC: each point [B, C, 3] at the range that lies best in the subspace.

    Args:
        space: as each of the C points sees it. points: where to look; their own range takes part.
        ranges: metres [R].
    """
    u, found = polar_direction(points), points.clone()
    for c in range(points.shape[1]):  # one slot at a time bounds memory: [B, R, N]
        q = torch.cat([points[:, c, 2:], (1.0 / ranges).expand(len(points), -1)], dim=1)
        a = steering_towards(u[:, c : c + 1], q, geometry)
        share = space.slot(c).along(a.unsqueeze(1)).squeeze(1)
        found[:, c, 2] = q.gather(1, share.argmax(dim=1, keepdim=True)).squeeze(1)
    return found
