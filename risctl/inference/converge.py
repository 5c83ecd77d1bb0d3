"""Convergence of a hypothesis to the maximum of the Gaussian-symbol likelihood, far below its deviations.

Fisher scoring converges slowly where a few snapshots make the observed information differ from the expected
one, and in single precision the likelihood cannot tell steps of less than some hundredths of a standard
deviation apart. Here parameters and likelihood are double (products with the measurement matrices are not,
whose rounding does not matter). Steps are taken by the gradient alone, in the metric of the information at
the start, which is near, and are accelerated by Anderson's mixing (Walker and Ni, SIAM J. Numer. Anal. 49(4),
2011).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from risctl.inference.gaussian import (
    LOG_LIMIT,
    LOG_RANGE,
    GaussianModel,
    GaussianParameters,
    Hypothesis,
    gaussian_gradient,
    gaussian_model,
    observed_jet,
    pack,
    slope_of_responses,
    unpack,
)
from risctl.inference.levenberg import POINT_LIMIT, damped_step
from risctl.inference.newton import (
    Slope,
    angles_box,
    angles_chain,
    climb,
    from_angles,
    slope_in_angles,
    symmetric,
    to_angles,
)
from risctl.inference.observation import Observation, tree_index, tree_map, tree_scatter, tree_where
from risctl.physics.bounds import with_known
from risctl.physics.geometry import ArrayGeometry, FieldOfView
from risctl.physics.polar import clamp_to_view, polar_limits

STEPS = 30
MEMORY = 8  # earlier steps that are mixed: with three, three times as many scenes need second derivatives
SETTLED = 1e-4  # standard deviations: a shorter step ends it
NEWTON_SETTLED = 2e-4  # standard deviations: the error after so short a step of Newton's is its square
NEAR = 0.1  # standard deviations: after a last step no longer than this Newton's method goes on from there
LOSS = 1e-3  # nats: a fall of the likelihood beyond rounding
RIDGE = 1e-10  # relative load of the mixing


@dataclass(frozen=True)
class _Path:
    """Where B scenes are and how they came there.

    Attributes:
        x: packed parameters [B, P]. information: at the start [B, P, P], the metric of the steps.
        points, steps: earlier x and scoring steps from them [B, MEMORY, P], latest first.
        length: of the last step in standard deviations [B].
    """

    x: Tensor
    information: Tensor
    points: Tensor
    steps: Tensor
    length: Tensor


def converge(obs: Observation, start: Hypothesis, geometry: ArrayGeometry, view: FieldOfView) -> Hypothesis:
    """The maximum of the likelihood next to `start`, in double precision; `start` where none is reached.

    Args:
        obs: B scenes, in any precision. start: polished. geometry: the surface. view: field of view.
    """
    fine, double = geometry.to(obs.y.device, torch.float64), tree_map(Tensor.double, start.params)
    first = Hypothesis(double, gaussian_model(obs, double, fine))
    x = pack(double)
    memory = x.unsqueeze(1).expand(-1, MEMORY, -1)
    far = torch.full_like(x[:, 0], torch.inf)
    part = whole = _Path(x, first.model.information, memory, torch.zeros_like(memory), far)
    nuisance, rows, here = x[:, x.shape[1] // 4 * 3 :], torch.arange(len(x), device=x.device), obs
    gradient = first.model.gradient
    for taken in range(STEPS):
        if taken:
            gradient = gaussian_gradient(here, unpack(part.x), fine)
        part = _advance(gradient, part, nuisance, view, min(taken, MEMORY))
        moving = part.length > SETTLED
        if 4 * int(moving.sum()) > 3 * len(rows):
            continue
        whole = tree_scatter(whole, rows, part)
        rows, part = rows[moving], tree_index(part, moving)
        here, nuisance = here[moving], nuisance[moving]
        if not len(rows):
            break
    whole = tree_scatter(whole, rows, part)
    params = unpack(whole.x)
    found = Hypothesis(params, gaussian_model(obs, params, fine))
    fallen = ~(found.model.log_likelihood > first.model.log_likelihood - LOSS)
    points = params.points
    bent = points[..., 0].abs() >= polar_limits(points, view)[1][..., 0]  # a limit that scoring misses
    rest = ((whole.length > SETTLED) | fallen | bent.any(1)).nonzero().squeeze(-1)
    if len(rest):
        begin = tree_where((whole.length < NEAR) & ~fallen, params, double)
        last = climb_likelihood(obs[rest].double(), tree_index(begin, rest), fine, view)
        found = tree_scatter(found, rest, last)
    reached = found.model.log_likelihood > first.model.log_likelihood - LOSS
    found = tree_where(reached, found, first)
    J = with_known(found.model.information, start.params.points.shape[1], view)
    return replace(found, model=replace(found.model, information=J))


def climb_likelihood(
    obs: Observation, start: GaussianParameters, geometry: ArrayGeometry, view: FieldOfView
) -> Hypothesis:
    """The maximum next to `start` by Newton's method, all in double precision.

    For the few scenes that scoring does not settle: the expected information is a poor curvature where few
    snapshots at low SNR decide, and the limit of azimuth is no straight line in direction cosines.
    """
    K, like = start.points.shape[1], start.log_noise
    nuisance = torch.cat([start.log_power, start.log_noise.unsqueeze(-1)], dim=-1)
    z = torch.cat([to_angles(start.points).flatten(1), nuisance], dim=-1)
    low, high = (x.repeat(K).expand(len(z), -1) for x in angles_box(like, view))
    low, high = torch.cat([low, nuisance - LOG_RANGE], dim=1), torch.cat([high, nuisance + LOG_RANGE], dim=1)

    def evaluate(rows: Tensor, z: Tensor) -> Slope:
        return _slope(z, gaussian_model(obs[rows], _from_angles(z), geometry))

    def curvature(rows: Tensor, z: Tensor, now: Slope, h: Tensor) -> Tensor:
        slopes = _displaced(obs[rows], z, h, geometry)
        return symmetric((now.gradient.unsqueeze(1) - slopes) / h.unsqueeze(-1))

    params = _from_angles(climb(evaluate, z, low, high, NEWTON_SETTLED, curvature))
    return Hypothesis(params, gaussian_model(obs, params, geometry))


def _from_angles(z: Tensor) -> GaussianParameters:
    """Parameters of angles, log-powers and log noise [B, 4K + 1]."""
    K = z.shape[1] // 4
    return GaussianParameters(from_angles(z[:, : 3 * K].reshape(-1, K, 3)), z[:, 3 * K : 4 * K], z[:, 4 * K])


def _slope(z: Tensor, model: GaussianModel) -> Slope:
    return slope_in_angles(_angles(z), model.log_likelihood, model.gradient, model.information)


def _angles(z: Tensor) -> Tensor:
    return z[:, : z.shape[1] // 4 * 3].reshape(len(z), -1, 3)


def _displaced(obs: Observation, z: Tensor, h: Tensor, geometry: ArrayGeometry) -> Tensor:
    """Gradients [B, P, P] where each of the parameters z is displaced by its h [B, P].

    Responses are computed anew for the one source that a parameter moves.
    """
    (B, P), (L, M) = z.shape, obs.y.shape[1:]
    K, z = P // 4, z.unsqueeze(1) + torch.diag_embed(h)  # [B, P, P]
    params = _from_angles(z.flatten(0, 1))
    points, each = params.points.view(B, P, K, 3), torch.arange(3 * K, device=z.device)
    V = observed_jet(obs, points[:, -1], geometry).unsqueeze(1).repeat(1, P, 1, 1, 1)  # [B, P, L, M, 4K]
    fresh = observed_jet(obs, points[:, each, each // 3], geometry)  # [B, L, M, 12K]
    own = torch.arange(4 * K, device=z.device)
    own = torch.cat([own[:K].unsqueeze(-1), own[K:].view(K, 3)], dim=-1)[each // 3]  # columns of each source
    fresh = torch.cat([fresh[..., : 3 * K].unsqueeze(-1), fresh[..., 3 * K :].view(B, L, M, -1, 3)], dim=-1)
    V[:, : 3 * K].scatter_(-1, own[:, None, None].expand(B, -1, L, M, -1), fresh.movedim(3, 1))
    y = obs.y.unsqueeze(1).expand(-1, P, -1, -1).reshape(-1, L, M)
    weight = obs.weight.repeat_interleave(P)
    slopes = slope_of_responses(V.flatten(0, 1), y, weight, params.log_power, params.log_noise)[1]
    T = angles_chain(_angles(z.flatten(0, 1)), P)
    return (T.mT @ slopes.unsqueeze(-1)).view(B, P, P)


@dataclass
class Once:
    """Polished hypotheses of B scenes, each made once: the answer and what explains it are often the same.

    Attributes:
        polish: of the hypotheses of the scenes with these indices, which depend on K and the scene alone.
        known: by K, indices of scenes and their polished hypotheses.
    """

    polish: Callable[[Hypothesis, Tensor], Hypothesis]
    known: dict[int, tuple[Tensor, Hypothesis]] = field(default_factory=dict)

    def __call__(self, hypothesis: Hypothesis, rows: Tensor) -> Hypothesis:
        """The polished hypothesis of the scenes `rows`."""
        K = hypothesis.params.points.shape[1]
        done, found = self.known.get(K, (rows[:0], tree_index(hypothesis, rows[:0])))
        new = ~torch.isin(rows, done)
        if bool(new.any()):
            fresh = self.polish(tree_index(hypothesis, new), rows[new])
            done, found = torch.cat([done, rows[new]]), tree_map(lambda *x: torch.cat(x), found, fresh)
            self.known[K] = done, found
        return tree_index(found, (rows.unsqueeze(1) == done).long().argmax(dim=1))


def _advance(gradient: Tensor, now: _Path, nuisance: Tensor, view: FieldOfView, known: int) -> _Path:
    """One scoring step along the gradient [B, P], mixed with the `known` latest ones."""
    x, params, J = now.x, unpack(now.x), now.information
    K = params.points.shape[1]
    low, high = (limit.flatten(1) for limit in polar_limits(params.points, view))
    low = torch.cat([low, nuisance - LOG_RANGE], dim=1)
    high = torch.cat([high, nuisance + LOG_RANGE], dim=1)
    limit = x.new_tensor([*POINT_LIMIT * K, *[LOG_LIMIT] * (K + 1)])
    step = damped_step(x, -gradient, J, torch.zeros_like(x[:, 0]), low, high, limit)
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
    return _Path(pack(ahead), J, points, steps, length)
