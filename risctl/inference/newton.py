"""Newton's method inside the field of view, for what slower methods do not settle.

Positions are azimuth, elevation and curvature 1/r, in which the field of view is a box; other parameters may
follow. Second derivatives are differences of the gradient, made definite in a metric that is so by
construction (an expected information, a Gauss-Newton matrix). Steps are limited in that metric, and
parameters that press against their limits are held (Nocedal and Wright, Numerical Optimization, sections 3.4,
4.1 and 16.7).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from risctl.inference.observation import tree_index, tree_scatter
from risctl.physics.geometry import FieldOfView
from risctl.physics.polar import from_polar

STEPS = 30
RADIUS = 1.0  # the first step's limit, in the metric
DIFFERENCE = 1e-4  # step of the differences, in the metric
FLATTEST = 0.02  # least curvature, relative to the metric
NEAR = 0.02  # so short a step, in the metric, leaves the second derivatives as they are
RISE = 1e-11  # relative error of a value
HELD = 1e-12  # distance from a limit at which a parameter is on it


@dataclass(frozen=True)
class Slope:
    """A function at z [B, P]: value [B], gradient [B, P], metric [B, P, P]; float64."""

    value: Tensor
    gradient: Tensor
    metric: Tensor


Evaluate = Callable[[Tensor, Tensor], Slope]  # of the problems `rows` [B] at z [B, P]
Curvature = Callable[[Tensor, Tensor, Slope, Tensor], Tensor]  # the same, with differences h [B, P]


def climb(
    evaluate: Evaluate,
    z: Tensor,
    low: Tensor,
    high: Tensor,
    settled: float,
    curvature: Curvature | None = None,
) -> Tensor:
    """The maximum [B, P] next to z in the box from `low` to `high`.

    Args:
        evaluate: the function. settled: so short a step, in the metric, is the last; the error that it leaves
            is of the order of its square.
        curvature: its negative second derivatives [B, P, P]; None: differences of `evaluate`.
    """
    curvature = curvature or _differences(evaluate)
    z = torch.minimum(torch.maximum(z, low), high)
    whole, rows = z, torch.arange(len(z), device=z.device)
    now, radius = evaluate(rows, z), torch.full_like(z[:, 0], RADIUS)
    H, old = torch.empty_like(now.metric), torch.ones_like(radius, dtype=torch.bool)
    for _ in range(STEPS):
        scale = now.metric.diagonal(dim1=1, dim2=2).clamp_min(torch.finfo(z.dtype).tiny).rsqrt()
        g = now.gradient
        held = ((z <= low + HELD) & (g < 0)) | ((z >= high - HELD) & (g > 0)) | (low >= high)
        if bool(old.any()):
            h = DIFFERENCE * scale[old].clamp_max(1.0)
            H[old] = curvature(rows[old], z[old], tree_index(now, old), h)
        step, length = _step(g, H, now.metric, scale, held, radius)
        leaving = ((z <= low + HELD) & (step < 0)) | ((z >= high - HELD) & (step > 0))
        if bool(leaving.any()):  # held, too, is what the step, but not the gradient, moves through a limit
            step, length = _step(g, H, now.metric, scale, held | leaving, radius)
        room = torch.where(step > 0, high - z, z - low) / step.abs().clamp_min(torch.finfo(z.dtype).tiny)
        nearest = room.masked_fill(step == 0, 1.0).amin(1, keepdim=True)
        step = step * nearest.clamp_max(1.0)  # to the first limit
        trial = torch.minimum(torch.maximum(z + step, low), high)
        ahead = evaluate(rows, trial)
        better = ahead.value - now.value > -RISE * now.value.abs()
        radius = torch.where(better, torch.maximum(radius, 2.0 * length), 0.25 * length)
        taken = better.nonzero().squeeze(-1)
        now, z = tree_scatter(now, taken, tree_index(ahead, taken)), torch.where(better[:, None], trial, z)
        whole = whole.index_copy(0, rows, z)
        moving = length > settled
        old = better & (length > NEAR)
        rows, z, low, high, radius, H, old = (x[moving] for x in (rows, z, low, high, radius, H, old))
        now = tree_index(now, moving)
        if not len(rows):
            break
    return whole


def _differences(evaluate: Evaluate) -> Curvature:
    def curvature(rows: Tensor, z: Tensor, now: Slope, h: Tensor) -> Tensor:
        B, P = z.shape
        moved = (z.unsqueeze(1) + torch.diag_embed(h)).flatten(0, 1)
        slopes = evaluate(rows.repeat_interleave(P), moved).gradient.view(B, P, P)
        return symmetric((now.gradient.unsqueeze(1) - slopes) / h.unsqueeze(-1))

    return curvature


def symmetric(H: Tensor) -> Tensor:
    """``(H + H^T) / 2`` of matrices [B, P, P]."""
    return 0.5 * (H + H.mT)


def _step(
    g: Tensor, H: Tensor, metric: Tensor, scale: Tensor, held: Tensor, radius: Tensor
) -> tuple[Tensor, Tensor]:
    """A step [B, P] of the parameters that are not held, at most `radius` [B] long, and its length [B]."""
    free = scale * (~held).to(g.dtype)
    mask, eye = free.unsqueeze(-1) * free.unsqueeze(-2), torch.diag_embed(held.to(g.dtype))
    load = torch.diag_embed(torch.full_like(g, 1e-9))
    root = torch.linalg.cholesky_ex(metric * mask + eye + load)[0]
    root = torch.linalg.solve_triangular(root, torch.diag_embed(torch.ones_like(g)), upper=False)
    values, V = torch.linalg.eigh((root @ (H * mask + eye) @ root.mT).nan_to_num())
    along = V.mT @ (root @ (g * free).unsqueeze(-1)) / values.abs().clamp_min(FLATTEST).unsqueeze(-1)
    length = along.square().sum((1, 2)).sqrt()
    along = along * (radius / length.clamp_min(torch.finfo(g.dtype).tiny)).clamp_max(1.0)[:, None, None]
    return (root.mT @ (V @ along)).squeeze(-1) * free, torch.minimum(length, radius)


def to_angles(points: Tensor) -> Tensor:
    """Azimuth, elevation and curvature [..., 3] of polar points [..., 3]."""
    azimuth, elevation, _ = from_polar(points)
    return torch.stack([azimuth, elevation, points[..., 2]], dim=-1)


def from_angles(angles: Tensor) -> Tensor:
    """Polar points [..., 3] of azimuth, elevation and curvature [..., 3]."""
    azimuth, elevation, q = angles.unbind(-1)
    return torch.stack([elevation.cos() * azimuth.sin(), elevation.sin(), q], dim=-1)


def angles_chain(angles: Tensor, parameters: int) -> Tensor:
    """Derivatives of ``(u_y, u_z, q)`` by angles [B, K, 3], and of others by themselves, [B, P, P]."""
    azimuth, elevation, _ = angles.unbind(-1)
    T = torch.eye(parameters, dtype=angles.dtype, device=angles.device).repeat(len(angles), 1, 1)
    at = 3 * torch.arange(azimuth.shape[1], device=angles.device)
    T[:, at, at] = elevation.cos() * azimuth.cos()
    T[:, at, at + 1] = -elevation.sin() * azimuth.sin()
    T[:, at + 1, at + 1] = elevation.cos()
    return T


def slope_in_angles(angles: Tensor, value: Tensor, gradient: Tensor, metric: Tensor) -> Slope:
    """The slope by angles [B, K, 3] of a function whose slope by ``(u_y, u_z, q)`` is given."""
    T = angles_chain(angles, gradient.shape[1])
    return Slope(value, (T.mT @ gradient.unsqueeze(-1)).squeeze(-1), T.mT @ metric @ T)


def angles_box(like: Tensor, view: FieldOfView) -> tuple[Tensor, Tensor]:
    """Least and largest azimuth, elevation and curvature [3]; equal where known."""
    high = like.new_tensor([view.azimuth, view.elevation, 1.0 / view.range_min])
    low = like.new_tensor([-view.azimuth, -view.elevation, 1.0 / view.range_max])
    if view.known_elevation is not None:
        low[1] = high[1] = view.known_elevation
    if view.known_range is not None:
        low[2] = high[2] = 1.0 / view.known_range
    return low, high
