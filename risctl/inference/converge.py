"""Convergence of a hypothesis to the maximum of the Gaussian-symbol likelihood, far below its deviations.

Fisher scoring converges slowly where a few snapshots make the observed information differ from the expected
one, and in single precision the likelihood cannot tell steps of less than some hundredths of a standard
deviation apart. Here parameters and likelihood are double (products with the measurement matrices are not,
whose rounding does not matter), steps are taken by the gradient alone, and are accelerated by Anderson's
mixing in the metric of the information (Walker and Ni, SIAM J. Numer. Anal. 49(4), 2011).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from risctl.inference.gaussian import (
    LOG_LIMIT,
    LOG_RANGE,
    GaussianModel,
    GaussianParameters,
    Hypothesis,
    gaussian_model,
    pack,
    unpack,
)
from risctl.inference.levenberg import POINT_LIMIT, damped_step
from risctl.inference.observation import Observation, tree_index, tree_map, tree_scatter, tree_where
from risctl.physics.bounds import with_known
from risctl.physics.geometry import ArrayGeometry, FieldOfView
from risctl.physics.polar import clamp_to_view, polar_limits

STEPS = 20
MEMORY = 3  # earlier steps that are mixed
SETTLED = 1e-4  # standard deviations: a shorter step ends it
LOSS = 1e-3  # nats: a fall of the likelihood beyond rounding
RIDGE = 1e-10  # relative load of the mixing


@dataclass(frozen=True)
class _Path:
    """Where B scenes are and how they came there.

    Attributes:
        x: packed parameters [B, P]. model: likelihood at the last `x` that was evaluated.
        points, steps: earlier x and scoring steps from them [B, MEMORY, P], latest first.
        length: of the last step in standard deviations [B].
    """

    x: Tensor
    model: GaussianModel
    points: Tensor
    steps: Tensor
    length: Tensor


def converge(obs: Observation, start: Hypothesis, geometry: ArrayGeometry, view: FieldOfView) -> Hypothesis:
    """The maximum of the likelihood next to `start`, in double precision; `start` where none is reached.

    Args:
        obs: B scenes, in any precision. start: polished. geometry: the surface. view: field of view.
    """
    first = tree_map(Tensor.double, start)
    fine, x = geometry.to(obs.y.device, torch.float64), pack(first.params)
    memory = x.unsqueeze(1).expand(-1, MEMORY, -1)
    far = torch.full_like(x[:, 0], torch.inf)
    part = whole = _Path(x, first.model, memory, torch.zeros_like(memory), far)
    nuisance, rows = x[:, x.shape[1] // 4 * 3 :], torch.arange(len(x), device=x.device)
    for taken in range(STEPS):
        part = _advance(obs, part, nuisance, fine, view, min(taken, MEMORY))
        moving = part.length > SETTLED
        if 4 * int(moving.sum()) > 3 * len(rows):
            continue
        whole = tree_scatter(whole, rows, part)
        rows, part = rows[moving], tree_index(part, moving)
        obs, nuisance = obs[moving], nuisance[moving]
        if not len(rows):
            break
    whole = tree_scatter(whole, rows, part)
    reached = whole.model.log_likelihood > first.model.log_likelihood - LOSS
    J = with_known(whole.model.information, start.params.points.shape[1], view)
    return tree_where(reached, Hypothesis(unpack(whole.x), replace(whole.model, information=J)), first)


def _advance(
    obs: Observation, now: _Path, nuisance: Tensor, geometry: ArrayGeometry, view: FieldOfView, known: int
) -> _Path:
    """One scoring step, mixed with the `known` latest ones."""
    x, params = now.x, unpack(now.x)
    K = params.points.shape[1]
    model = gaussian_model(obs, params, geometry)
    low, high = (limit.flatten(1) for limit in polar_limits(params.points, view))
    low = torch.cat([low, nuisance - LOG_RANGE], dim=1)
    high = torch.cat([high, nuisance + LOG_RANGE], dim=1)
    limit = x.new_tensor([*POINT_LIMIT * K, *[LOG_LIMIT] * (K + 1)])
    J = model.information
    step = damped_step(x, -model.gradient, J, torch.zeros_like(x[:, 0]), low, high, limit)
    step = torch.minimum(torch.maximum(x + step, low), high) - x
    length = (step * (J @ step.unsqueeze(-1)).squeeze(-1)).sum(-1).clamp_min(0.0).sqrt()
    moved = step
    if known:
        dF = (step.unsqueeze(1) - now.steps[:, :known]).mT
        dX = (x.unsqueeze(1) - now.points[:, :known]).mT
        normal = dF.mT @ (J @ dF)
        load = normal.diagonal(dim1=1, dim2=2).mean(-1) * RIDGE + torch.finfo(x.dtype).tiny
        normal = normal + torch.diag_embed(load.unsqueeze(-1).expand(-1, known))
        mixing, info = torch.linalg.solve_ex(normal, dF.mT @ (J @ step.unsqueeze(-1)))
        mixed = step - ((dX + dF) @ mixing).squeeze(-1)
        usable = (info == 0) & mixed.isfinite().all(-1)
        moved = torch.where(usable.unsqueeze(-1), mixed, step)
        moved = moved * (limit / moved.abs().clamp_min(1e-300)).amin(-1, keepdim=True).clamp_max(1.0)
    ahead = unpack(torch.minimum(torch.maximum(x + moved, low), high))
    ahead = GaussianParameters(clamp_to_view(ahead.points, view), ahead.log_power, ahead.log_noise)
    points, steps = (
        torch.cat([new.unsqueeze(1), old[:, :-1]], dim=1) for new, old in ((x, now.points), (step, now.steps))
    )
    return _Path(pack(ahead), model, points, steps, length)
