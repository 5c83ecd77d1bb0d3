"""Scoring of the surface and of all scenes' sources together, by the Schur complement of the sources.

The information of S scenes is an arrow: one block of the surface, one of each scene, and the crosses between.
With J_s, F_s and h_s the block, cross and gradient of scene s,

    ``S = F + I/v - sum_s F_s J_s^-1 F_s^T``,
    ``d psi = S^-1 (gradient - (psi - psi_0)/v - sum_s F_s J_s^-1 h_s)``,
    ``d theta_s = J_s^-1 (h_s - F_s^T d psi)``,

damped after Levenberg and Marquardt. v is the variance of the prior; it is learned between rounds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from risctl.inference.gaussian import LOG_LIMIT, pack, unpack
from risctl.inference.levenberg import POINT_LIMIT
from risctl.inference.surface.likelihood import SceneGroup, SurfaceModel, average_model, fisher_model
from risctl.inference.surface.response import Parameters, SurfaceResponse
from risctl.physics.geometry import ArrayGeometry, FieldOfView
from risctl.physics.polar import clamp_to_view, polar_limits

FIRST_DAMPING, LEAST_DAMPING, MOST_DAMPING = 1e-3, 1e-7, 1.0
DAMPING_FACTOR = 10.0
EDGE, EDGE_ROUNDS = 1e-9, 3  # what counts as at the edge of the view; times that more is held there
PRIOR_STEPS, LEAST_DETERMINED, LEAST_SHRINKAGE = 30, 1e-3, 0.1
NULL_WEIGHT = 1.0  # curvature along directions without information, in units of the mean one


@dataclass(frozen=True)
class Prior:
    """Normal prior of each kind of parameters: means, and one variance a kind (of a real parameter)."""

    mean: Parameters
    variance: dict[str, float]

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds that are estimated, in the order of the parameters."""
        return tuple(self.variance)

    def precision(self) -> Tensor:
        """Of every parameter, [P]."""
        parts = [torch.full_like(self.mean[kind], 1.0 / v) for kind, v in self.variance.items()]
        return torch.cat(parts)

    def deviation(self, response: SurfaceResponse) -> Tensor:
        """Of the parameters from their means, [P]."""
        x = response.parameters()
        return torch.cat([x[kind] - self.mean[kind] for kind in self.kinds])

    def split(self, x: Tensor) -> Parameters:
        """A vector of all parameters by kind."""
        sizes = [len(self.mean[kind]) for kind in self.kinds]
        return dict(zip(self.kinds, torch.split(x, sizes), strict=True))

    def cost(self, response: SurfaceResponse) -> float:
        """Negative log-density, but for a constant."""
        return 0.5 * float((self.precision() * self.deviation(response).square()).sum())

    def learned(self, response: SurfaceResponse, information: Tensor) -> Prior:
        """Empirical Bayes: the variances that make the data most likely, in the model at `response`.

        MacKay's fixed point ``v = |psi - psi_0|^2 / gamma``, ``gamma = P - tr(Sigma) / v`` the number of
        parameters that the data determine (Neural Comput. 4(3), 1992). Without gamma v collapses where
        scenes are few.

        Args:
            information: of the data [P, P], the sources eliminated.
        """
        x, prior = (information + torch.diag(self.precision())) @ self.deviation(response), self
        for _ in range(PRIOR_STEPS):
            covariance = torch.linalg.inv(information + torch.diag(prior.precision()))
            square = self.split((covariance @ x).square())
            spread = self.split(covariance.diagonal())
            variance = {}
            for kind, v in prior.variance.items():
                determined = (1.0 - spread[kind] / v).sum().clamp_min(LEAST_DETERMINED)
                variance[kind] = max(float(square[kind].sum() / determined), LEAST_SHRINKAGE * v)
            prior = replace(prior, variance=variance)
        return prior


@dataclass(frozen=True)
class Joint:
    """A response with the sources of all scenes, grouped by their number."""

    response: SurfaceResponse
    groups: tuple[SceneGroup, ...]

    def log_likelihood(self, geometry: ArrayGeometry) -> float:
        """Sum over all scenes."""
        return sum(float(g.local_model(self.response, geometry).log_likelihood.sum()) for g in self.groups)

    def normalised(self, kinds: tuple[str, ...]) -> Joint:
        """The response with unit mean square and zero phase; powers of the sources take the scale."""
        response, factor = self.response.normalised(kinds)
        shift = torch.tensor(factor, dtype=torch.float64).log()
        groups = [g.with_params(replace(g.params, log_power=g.params.log_power + shift)) for g in self.groups]
        return Joint(response, tuple(groups))


@dataclass(frozen=True)
class Arrow:
    """The joint model of all groups, its Schur complement (without damping) and free parameters of scenes."""

    models: tuple[SurfaceModel, ...]
    free: tuple[Tensor, ...]  # bool [B, 4K + 1] a group

    @classmethod
    def compute(
        cls,
        joint: Joint,
        geometry: ArrayGeometry,
        view: FieldOfView,
        kinds: tuple[str, ...],
        model: Callable[..., SurfaceModel] = fisher_model,
    ) -> Arrow:
        """The model at `joint`; positions of anchors and those pressed against the view's edge are held."""
        models = [model(g, joint.response, geometry, kinds) for g in joint.groups]
        free = [_free(g, m.local.gradient, view) for g, m in zip(joint.groups, models, strict=True)]
        return cls(tuple(models), tuple(free))

    def reduced(self, damping: float = 0.0) -> tuple[Tensor, Tensor, list[tuple[Tensor, Tensor]]]:
        """Information [P, P] and gradient [P] of the surface with the sources eliminated.

        Third come, for the back-substitution in each group, ``J^-1 F^T`` [B, D, P] and ``J^-1 h`` [B, D].
        """
        information = torch.stack([m.information for m in self.models]).sum(0)
        gradient = torch.stack([m.gradient for m in self.models]).sum(0)
        back = []
        for model, free in zip(self.models, self.free, strict=True):
            cross = model.cross * free.unsqueeze(1)
            slope = model.local.gradient * free
            right = torch.cat([cross.mT, slope.unsqueeze(-1)], dim=-1)
            solved = _solve_scaled(model.local.information, free, right, damping)
            left, last = solved[..., :-1], solved[..., -1]
            information = information - (cross @ left).sum(0)
            gradient = gradient - (cross @ last.unsqueeze(-1)).sum(0).squeeze(-1)
            back.append((left, last))
        return (information + information.mT) / 2.0, gradient, back


def _free(group: SceneGroup, slope: Tensor, view: FieldOfView) -> Tensor:
    """Which of the parameters of B scenes are free to go along `slope` [B, 4K + 1].

    Held are the positions of anchors, coordinates that are known, and what the slope would press through
    the edge of the view.
    """
    points = group.params.points
    low, high = polar_limits(points, view)
    slope = slope[:, : 3 * points.shape[1]].view(points.shape)
    pressed = ((points <= low + EDGE) & (slope < 0)) | ((points >= high - EDGE) & (slope > 0))
    held = (pressed | group.anchored[:, None, None] | torch.tensor(view.known)).flatten(1)
    nuisance = held.new_ones(len(held), points.shape[1] + 1)
    return torch.cat([~held, nuisance], dim=1)


def _solve_scaled(J: Tensor, free: Tensor, right: Tensor, damping: float) -> Tensor:
    """``(J + damping diag J)^-1 right`` of the free parameters, by J of unit diagonal; zero for the held."""
    diagonal = J.diagonal(dim1=-2, dim2=-1)
    root = diagonal.clamp_min(torch.finfo(J.dtype).tiny).rsqrt() * free
    eye = torch.eye(J.shape[-1], dtype=J.dtype)
    scaled = J * root.unsqueeze(-1) * root.unsqueeze(-2) + eye * (damping + 1e-12)
    scaled = scaled + torch.diag_embed((~free).to(J.dtype))
    return root.unsqueeze(-1) * torch.linalg.solve(scaled, root.unsqueeze(-1) * right)


def pinned(information: Tensor, response: SurfaceResponse, kinds: tuple[str, ...]) -> Tensor:
    """The information with some added along the common factor of all elements, of which there is none."""
    null = response.null_vectors(kinds)
    return information + null.mT @ null * (NULL_WEIGHT * information.diagonal().mean())


def posterior(arrow: Arrow, joint: Joint, prior: Prior) -> Tensor:
    """Covariance [P, P] of the surface's parameters, the common factor taken out; positive semidefinite."""
    width = prior.precision().rsqrt()
    data = pinned(arrow.reduced()[0], joint.response, prior.kinds) * width * width.unsqueeze(-1)
    w, U = torch.linalg.eigh(data)
    null = joint.response.null_vectors(prior.kinds)
    keep = torch.eye(len(w), dtype=w.dtype) - null.mT @ null
    root = keep @ (width.unsqueeze(-1) * U * (1.0 + w.clamp_min(0.0)).rsqrt())
    return root @ root.mT


def score(
    joint: Joint,
    prior: Prior,
    geometry: ArrayGeometry,
    view: FieldOfView,
    iterations: int,
    enough: float,
    damping: float = FIRST_DAMPING,
) -> tuple[Joint, Arrow]:
    """Raise likelihood plus log-prior by steps of average information; the result is never below the start.

    Args:
        iterations: most steps. enough: nats; a step that promises or gains less is the last.
        damping: of the first step, relative.

    Returns:
        Where it ended, and the model that the last step was taken by.
    """
    value = joint.log_likelihood(geometry) - prior.cost(joint.response)
    for _ in range(iterations):
        arrow = Arrow.compute(joint, geometry, view, prior.kinds, average_model)
        while True:
            trial, promised = _step(joint, arrow, prior, view, damping)
            if promised < enough or damping > MOST_DAMPING:
                return joint, arrow
            found = trial.log_likelihood(geometry) - prior.cost(trial.response)
            if found > value:
                break
            damping *= DAMPING_FACTOR
        joint, gain, value = trial, found - value, found
        if gain < enough:
            break
        damping = max(LEAST_DAMPING, damping / DAMPING_FACTOR**2)
    return joint, arrow


def _step(joint: Joint, arrow: Arrow, prior: Prior, view: FieldOfView, damping: float) -> tuple[Joint, float]:
    """The damped step, and the gain that the model promises for it."""
    for _ in range(EDGE_ROUNDS):
        S, gradient, back = arrow.reduced(damping)
        slope = gradient - prior.precision() * prior.deviation(joint.response)
        normal = pinned(S, joint.response, prior.kinds)
        step = torch.linalg.solve(normal + torch.diag(prior.precision() + damping * S.diagonal()), slope)
        moves = [last - left @ step for left, last in back]
        pairs = zip(joint.groups, moves, arrow.free, strict=True)
        free = tuple(f & _free(g, move, view) for g, move, f in pairs)
        if all(bool((a == b).all()) for a, b in zip(free, arrow.free, strict=True)):
            break
        arrow = replace(arrow, free=free)
    promised = 0.5 * float(slope @ step)
    for (_, last), model, free_ in zip(back, arrow.models, arrow.free, strict=True):
        promised += 0.5 * float((last * model.local.gradient * free_).sum())
    groups = [_moved(g, move, view) for g, move in zip(joint.groups, moves, strict=True)]
    return Joint(joint.response.moved(prior.split(step)), tuple(groups)), promised


def _moved(group: SceneGroup, move: Tensor, view: FieldOfView) -> SceneGroup:
    """The scenes with their sources moved, no coordinate further than half a beam, inside the view."""
    K = group.params.points.shape[1]
    limit = move.new_tensor([*POINT_LIMIT * K, *[LOG_LIMIT] * (K + 1)])
    params = unpack(pack(group.params) + torch.minimum(torch.maximum(move, -limit), limit))
    points = clamp_to_view(params.points, view)
    points = torch.where(group.anchored[:, None, None], group.params.points, points)
    return group.with_params(replace(params, points=points))
