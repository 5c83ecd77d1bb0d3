"""Refinement of joint positions on either likelihood, batched over scenes, inside the field of view.

A step is kept only where it improves the likelihood, so the result is never worse than the start.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from risctl.inference.concentrated import local_model
from risctl.inference.gaussian import LOG_RANGE, GaussianModel, GaussianParameters, gaussian_model
from risctl.inference.levenberg import Damping, QuadraticModel, damped_step, predicted_gain
from risctl.inference.observation import Observation
from risctl.inference.tree import tree_index, tree_scatter, tree_where
from risctl.physics.geometry import ArrayGeometry, FieldOfView
from risctl.physics.polar import clamp_to_view, polar_limits

POINT_LIMIT = (0.08, 0.08, 0.25)  # half a beam width in the direction cosines, one range ring in 1/r
LOG_LIMIT = 1.5
CONVERGED = 1e-3  # nats: a step that changes the likelihood by less ends the refinement
STUCK = 1e4  # damping at which no step helps any more


def refine(
    obs: Observation, points: Tensor, geometry: ArrayGeometry, view: FieldOfView, iterations: int
) -> tuple[Tensor, Tensor]:
    """Lower the concentrated conditional cost from polar `points` [B, K, 3].

    Returns:
        points [B, K, 3] and their cost [B].
    """
    return descend(lambda x: local_model(obs, x, geometry), points, view, iterations)


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


def refine_gaussian(
    obs: Observation,
    start: GaussianParameters,
    geometry: ArrayGeometry,
    view: FieldOfView,
    iterations: int,
    hold_points: bool = False,
) -> tuple[GaussianParameters, GaussianModel]:
    """Raise the Gaussian-symbol likelihood from `start` by Fisher scoring.

    Positions, powers and noise move together; with `hold_points` only powers and noise do. Converged scenes
    are not changed any more, and leave the batch once they are half of it.
    """
    x, model = pack(start), gaussian_model(obs, start, geometry)
    damping = Damping.initial(model.log_likelihood)
    converged = torch.zeros_like(model.log_likelihood, dtype=torch.bool)
    part = whole = _ScoringState(x, x[:, 3 * start.points.shape[1] :], model, damping, converged)
    rows = torch.arange(len(obs), device=x.device)
    for _ in range(iterations):
        part = _scoring_step(obs, part, geometry, view, hold_points)
        if 2 * int(part.converged.sum()) < len(rows):
            continue
        whole = tree_scatter(whole, rows, part)
        moving = (~part.converged).nonzero().squeeze(-1)
        rows, part, obs = rows[moving], tree_index(part, moving), obs[moving]
        if not len(rows):
            break
    whole = tree_scatter(whole, rows, part)
    return unpack(whole.x), whole.model


@dataclass(frozen=True)
class _ScoringState:
    """Packed parameters x [B, 4K+1], powers and noise at the start, model at x, which scenes converged."""

    x: Tensor
    nuisance: Tensor
    model: GaussianModel
    damping: Damping
    converged: Tensor


def _scoring_step(
    obs: Observation, now: _ScoringState, geometry: ArrayGeometry, view: FieldOfView, hold_points: bool
) -> _ScoringState:
    """One damped step, kept where the likelihood rises and the scene has not converged."""
    params, model, K = unpack(now.x).points, now.model, now.x.shape[1] // 4
    low, high = (params, params) if hold_points else polar_limits(params, view)
    low = torch.cat([low.flatten(1), now.nuisance - LOG_RANGE], 1)
    high = torch.cat([high.flatten(1), now.nuisance + LOG_RANGE], 1)
    limit = now.x.new_tensor([*POINT_LIMIT * K, *[LOG_LIMIT] * (K + 1)])
    step = damped_step(now.x, -model.gradient, model.information, now.damping.level, low, high, limit)
    trial = unpack(torch.minimum(torch.maximum(now.x + step, low), high))
    moved = params if hold_points else clamp_to_view(trial.points, view)
    trial = GaussianParameters(moved, trial.log_power, trial.log_noise)
    candidate = gaussian_model(obs, trial, geometry)
    gain = candidate.log_likelihood - model.log_likelihood
    better = (gain > 0) & ~now.converged
    damping = now.damping.updated(gain, predicted_gain(-model.gradient, model.information, step))
    converged = now.converged | (gain.abs() < CONVERGED) | (damping.level > STUCK)
    x = torch.where(better.unsqueeze(-1), pack(trial), now.x)
    return _ScoringState(x, now.nuisance, tree_where(better, candidate, model), damping, converged)


def pack(params: GaussianParameters) -> Tensor:
    """Gaussian parameters as one vector [B, 4K+1]."""
    return torch.cat([params.points.flatten(1), params.log_power, params.log_noise.unsqueeze(-1)], dim=-1)


def unpack(x: Tensor) -> GaussianParameters:
    """The inverse of :func:`pack`."""
    K = x.shape[1] // 4
    return GaussianParameters(x[:, : 3 * K].reshape(-1, K, 3), x[:, 3 * K : 4 * K], x[:, 4 * K])
