"""Levenberg-Marquardt steps inside a box, and the refinement of joint positions by them.

A step is kept only where it improves the cost, so the result is never worse than the start.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from risctl.inference.observation import tree_where
from risctl.physics.geometry import FieldOfView
from risctl.physics.polar import clamp_to_view, polar_limits

DAMPING = 1e-2
# Largest step: on the default surface half a beam width in the direction cosines and one range ring in 1/r.
POINT_LIMIT = (0.08, 0.08, 0.25)


@dataclass(frozen=True)
class QuadraticModel:
    """A cost [B], its gradient [B, P] and a positive semidefinite curvature [B, P, P] at P parameters."""

    cost: Tensor
    gradient: Tensor
    curvature: Tensor


@dataclass(frozen=True)
class Damping:
    """Relative damping [B] and the factor [B] by which the next rejected step raises it.

    Nielsen's rule (Damping parameter in Marquardt's method, DTU report IMM-REP-1999-05): damping follows the
    ratio of the actual to the predicted gain smoothly, so it settles where the curvature is off by a factor.
    """

    level: Tensor
    growth: Tensor

    @classmethod
    def initial(cls, like: Tensor) -> Damping:
        """Initial damping for B problems."""
        return cls(torch.full_like(like, DAMPING), torch.full_like(like, 2.0))

    def updated(self, gain: Tensor, predicted: Tensor) -> Damping:
        """Damping after a step with this gain [B] (positive: kept) where the model predicted `predicted`."""
        kept = gain > 0
        ratio = (gain / predicted.clamp_min(torch.finfo(gain.dtype).tiny)).clamp(0.0, 2.0)
        eased = self.level * (1.0 - (2.0 * ratio - 1.0) ** 3).clamp_min(1.0 / 6.0)
        level = torch.where(kept, eased, self.level * self.growth)
        return Damping(level, torch.where(kept, 2.0, self.growth * 2.0))


def predicted_gain(gradient: Tensor, curvature: Tensor, step: Tensor) -> Tensor:
    """Decrease [B] of a cost that the model ``g^T s + s^T C s / 2`` predicts for step s [B, P]."""
    curved = (curvature @ step.unsqueeze(-1)).squeeze(-1)
    return -(step * (gradient + 0.5 * curved)).sum(-1)


def damped_step(
    x: Tensor, gradient: Tensor, curvature: Tensor, damping: Tensor, low: Tensor, high: Tensor, limit: Tensor
) -> Tensor:
    """Levenberg-Marquardt descent step of parameters x [B, P] (Marquardt, SIAM J. 11(2), 1963).

    Parameters that press against their limits are held; the step is shortened as a whole so that none moves
    further than `limit`; the curvature is scaled to unit diagonal first because units differ.

    Args:
        gradient: [B, P] of the function to be lowered. curvature: positive semidefinite [B, P, P].
        damping: [B], relative. low, high: box [B, P]. limit: largest move [P].

    Returns:
        The step [B, P], not yet clamped to the box.
    """
    held = ((x <= low) & (gradient > 0)) | ((x >= high) & (gradient < 0)) | (low >= high)
    free = (~held).to(x.dtype)
    scale = curvature.diagonal(dim1=-2, dim2=-1)
    scale = scale + scale.mean(-1, keepdim=True) * 1e-7 + torch.finfo(x.dtype).tiny
    root = scale.rsqrt()
    mask = root * free
    normal = curvature * mask.unsqueeze(-1) * mask.unsqueeze(-2)
    normal = normal + torch.diag_embed(damping.unsqueeze(-1) + (1.0 - free) + 1e-7)
    solution, info = torch.linalg.solve_ex(normal, mask * gradient)
    usable = (info == 0).unsqueeze(-1) & torch.isfinite(solution)
    step = torch.where(usable, -mask * solution, torch.zeros_like(solution))
    shrink = (limit / step.abs().clamp_min(1e-30)).amin(-1, keepdim=True).clamp_max(1.0)
    return step * shrink


def descend(
    evaluate: Callable[[Tensor], QuadraticModel], points: Tensor, view: FieldOfView, iterations: int
) -> tuple[Tensor, Tensor]:
    """Lower a cost of joint polar points by damped Gauss-Newton steps inside the field of view.

    Args:
        evaluate: model at points [B, K, 3], with P = 3K parameters. points: where to start, [B, K, 3].

    Returns:
        points [B, K, 3] and their cost [B].
    """
    limit = points.new_tensor(POINT_LIMIT).repeat(points.shape[1])
    model = evaluate(points)
    damping = Damping.initial(model.cost)
    for _ in range(iterations):
        low, high = (x.flatten(1) for x in polar_limits(points, view))
        g, C = model.gradient, model.curvature
        step = damped_step(points.flatten(1), g, C, damping.level, low, high, limit)
        trial = clamp_to_view(points + step.view(points.shape), view)
        candidate = evaluate(trial)
        gain = model.cost - candidate.cost
        better = gain > 0
        damping = damping.updated(gain, predicted_gain(g, C, step))
        points = torch.where(better[:, None, None], trial, points)
        model = tree_where(better, candidate, model)
    return points, model.cost
