"""Refinement of joint positions on either likelihood, batched over scenes, inside the field of view.

A step is kept only where it improves the likelihood, so a result is never worse than its start.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from risctl.inference.concentrated import local_model
from risctl.inference.gaussian import LOG_RANGE, GaussianModel, GaussianParameters, gaussian_model
from risctl.inference.levenberg import Damping, damped_step, predicted_gain
from risctl.inference.observation import Observation
from risctl.inference.records import choose, replace_rows, take
from risctl.physics.geometry import ArrayGeometry, FieldOfView
from risctl.physics.polar import clamp_to_view, polar_limits

POINT_LIMIT = (0.08, 0.08, 0.25)  # half a beam width in the direction cosines, one range ring in 1/r
LOG_LIMIT = 1.5
SETTLED = 1e-3  # nats: a step that changes the likelihood by less ends the refinement
STUCK = 1e4  # damping at which no step helps any more


def refine(
    obs: Observation, points: Tensor, geometry: ArrayGeometry, view: FieldOfView, iterations: int
) -> tuple[Tensor, Tensor]:
    """Lower the concentrated conditional cost from polar `points` [B, K, 3].

    Returns:
        points [B, K, 3] and their cost [B].
    """
    B, K, _ = points.shape
    limit = points.new_tensor(POINT_LIMIT).repeat(K)
    model = local_model(obs, points, geometry)
    damping = Damping.start(model.cost)
    for _ in range(iterations):
        low, high = (x.flatten(1) for x in polar_limits(points, view))
        step = damped_step(
            points.flatten(1), model.gradient, model.curvature, damping.level, low, high, limit
        )
        trial = clamp_to_view(points + step.view(B, K, 3), view)
        candidate = local_model(obs, trial, geometry)
        gain = model.cost - candidate.cost
        better = gain > 0
        damping = damping.updated(gain, predicted_gain(model.gradient, model.curvature, step))
        points = torch.where(better[:, None, None], trial, points)
        model = choose(better, candidate, model)
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

    Positions, powers and noise move together; with `hold_points` only powers and noise do. Scenes that have
    settled rest, whatever the batch does, and leave it when they are half of it.
    """
    x, model = pack(start), gaussian_model(obs, start, geometry)
    damping = Damping.start(model.log_likelihood)
    settled = torch.zeros_like(model.log_likelihood, dtype=torch.bool)
    part = whole = _Climb(x, x[:, 3 * start.points.shape[1] :], model, damping, settled)
    rows = torch.arange(len(obs), device=x.device)
    for _ in range(iterations):
        part = _scoring_step(obs, part, geometry, view, hold_points)
        if 2 * int(part.settled.sum()) < len(rows):
            continue
        whole = replace_rows(whole, rows, part)
        moving = (~part.settled).nonzero().squeeze(-1)
        rows, part, obs = rows[moving], take(part, moving), obs[moving]
        if not len(rows):
            break
    whole = replace_rows(whole, rows, part)
    return unpack(whole.x), whole.model


@dataclass(frozen=True)
class _Climb:
    """Packed parameters x [B, 4K+1], powers and noise at the start, the model at x, and which scenes rest."""

    x: Tensor
    nuisance: Tensor
    model: GaussianModel
    damping: Damping
    settled: Tensor


def _scoring_step(
    obs: Observation, now: _Climb, geometry: ArrayGeometry, view: FieldOfView, hold_points: bool
) -> _Climb:
    """One damped step, kept where the likelihood rises and the scene does not rest."""
    at, model, K = unpack(now.x).points, now.model, now.x.shape[1] // 4
    low, high = (at, at) if hold_points else polar_limits(at, view)
    low = torch.cat([low.flatten(1), now.nuisance - LOG_RANGE], 1)
    high = torch.cat([high.flatten(1), now.nuisance + LOG_RANGE], 1)
    limit = now.x.new_tensor([*POINT_LIMIT * K, *[LOG_LIMIT] * (K + 1)])
    step = damped_step(now.x, -model.gradient, model.information, now.damping.level, low, high, limit)
    trial = unpack(torch.minimum(torch.maximum(now.x + step, low), high))
    moved = at if hold_points else clamp_to_view(trial.points, view)
    trial = GaussianParameters(moved, trial.log_power, trial.log_noise)
    candidate = gaussian_model(obs, trial, geometry)
    gain = candidate.log_likelihood - model.log_likelihood
    better = (gain > 0) & ~now.settled
    damping = now.damping.updated(gain, predicted_gain(-model.gradient, model.information, step))
    settled = now.settled | (gain.abs() < SETTLED) | (damping.level > STUCK)
    x = torch.where(better.unsqueeze(-1), pack(trial), now.x)
    return _Climb(x, now.nuisance, choose(better, candidate, model), damping, settled)


def pack(at: GaussianParameters) -> Tensor:
    """Gaussian parameters as one vector [B, 4K+1]."""
    return torch.cat([at.points.flatten(1), at.log_power, at.log_noise.unsqueeze(-1)], dim=-1)


def unpack(x: Tensor) -> GaussianParameters:
    """The inverse of :func:`pack`."""
    K = x.shape[1] // 4
    return GaussianParameters(x[:, : 3 * K].reshape(-1, K, 3), x[:, 3 * K : 4 * K], x[:, 4 * K])
