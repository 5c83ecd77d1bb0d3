"""Calibration of a surface from scenes of unknown sources, by turns of locating and joint scoring.

Each round locates all scenes through the response found so far, fits powers and noise there, and scores the
response and all sources together. The noise variances, fitted anew each round, absorb what the response does
not explain yet: no annealing is needed, and too many sources in the first round do no harm.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from risctl.errors import MeasurementError
from risctl.inference.count import fit_nuisance
from risctl.inference.estimates import Estimates
from risctl.inference.gaussian import GaussianParameters, refine_gaussian
from risctl.inference.observation import Observation, tree_index
from risctl.inference.stacked import VARYING, SymbolModel
from risctl.inference.surface.likelihood import SceneGroup
from risctl.inference.surface.response import GAINS, POSITIONS, STATES, SurfaceResponse
from risctl.inference.surface.scoring import FIRST_DAMPING, Arrow, Joint, Prior, pinned, posterior, score
from risctl.physics.geometry import ArrayGeometry, FieldOfView
from risctl.physics.polar import clamp_to_view, to_polar
from risctl.physics.scenes import rows_by_count

ROUNDS, STEPS, LAST_STEPS = 8, 6, 15
ENOUGH, LAST_ENOUGH = 0.3, 0.02  # nats: what a step has to gain for another, in a round and at the end
NEXT_DAMPING = 1e-6  # of the first step of a later round
SETTLED, SETTLED_SHARE = 1.0, 1e-5  # nats, and share of log L, below which a round changes nothing more
FIRST_VARIANCE = {GAINS: 0.5, STATES: 0.5, POSITIONS: 0.0075**2}
POLISH_STEPS = 15

Locator = Callable[[Observation, ArrayGeometry], Estimates]


@dataclass(frozen=True)
class CalibrationScenes:
    """Measurements of one surface, complex128.

    Attributes:
        obs: S scenes, with the nominal ``Phi``.
        state: code values, broadcast against ``Phi``; None where they are not told apart.
        anchors: polar positions [S, K_max, 3] of the known sources; NaN elsewhere.
        symbols: how they go from snapshot to snapshot.
    """

    obs: Observation
    state: Tensor | None
    anchors: Tensor
    symbols: SymbolModel = VARYING

    @property
    def anchored(self) -> Tensor:
        """Scenes whose source positions are known, bool [S]."""
        return torch.isfinite(self.anchors[:, 0, 0])

    def group(self, params: GaussianParameters, rows: Tensor) -> SceneGroup:
        """These scenes, `rows` of all, as a group with the same number of sources."""
        same = self.state is None and not self.symbols.constant  # a few snapshots have the same likelihood
        obs = self.obs.compressed() if same else self.obs
        return SceneGroup(obs, self.state, params, self.anchored, rows, self.symbols)

    def __len__(self) -> int:
        return len(self.obs)

    def __getitem__(self, rows: Tensor) -> CalibrationScenes:
        state = None if self.state is None else self.state[rows]
        return replace(self, obs=tree_index(self.obs, rows), state=state, anchors=self.anchors[rows])


@dataclass(frozen=True)
class Calibrator:
    """What a calibration needs besides scenes.

    Attributes:
        geometry: nominal, float64. view: field of view of the sources.
        locate: positions of all sources from measurements and a geometry; counts them.
        kinds: parameters to estimate. num_states: code values, Q.
        mean: prior mean of gains and states: 1 for a nominal surface, 0 for one with unknown phases.
    """

    geometry: ArrayGeometry
    view: FieldOfView
    locate: Locator
    kinds: tuple[str, ...] = (GAINS,)
    num_states: int = 1
    mean: float = 1.0

    def nominal(self) -> SurfaceResponse:
        """The response of the nominal surface."""
        return SurfaceResponse.nominal(self.geometry.num_elements, self.num_states)

    def prior(self) -> Prior:
        """The prior of the first round."""
        mean = self.nominal().parameters()
        mean = {kind: x * (1.0 if kind == POSITIONS else self.mean) for kind, x in mean.items()}
        return Prior(mean, {kind: FIRST_VARIANCE[kind] for kind in self.kinds})

    def joint(self, scenes: CalibrationScenes, response: SurfaceResponse) -> Joint:
        """All scenes located through `response`, their powers and noise fitted."""
        seen, geometry = response.observed(scenes.obs, scenes.state), response.geometry(self.geometry)
        anchored, points = scenes.anchored, scenes.anchors.clone()
        blind = (~anchored).nonzero().squeeze(-1)
        if len(blind):
            found = self.locate(seen[blind], geometry)
            located = to_polar(found.azimuth, found.elevation, found.range)
            width = max(points.shape[1], located.shape[1])
            points = _widened(points, width)
            points[blind] = _widened(located, width)
        counts = torch.isfinite(points[..., 0]).sum(1)
        groups = []
        for K, rows in rows_by_count(counts):
            part, here = scenes[rows], points[rows, :K]
            here = torch.where(part.anchored[:, None, None], here, clamp_to_view(here, self.view))
            params = fit_nuisance(scenes.symbols.seen(seen[rows]), here, geometry, self.view).params
            groups.append(part.group(params, rows))
        if scenes.symbols.constant:
            groups = _with_noise_level(groups)
        return Joint(response, tuple(groups))

    def rounds(self, scenes: CalibrationScenes, start: SurfaceResponse | None = None) -> Iterator[Round]:
        """Calibrate from `start` (None: nominal): the state after each round, the final one last.

        Raises:
            MeasurementError: no source is found in any scene.
        """
        response, prior, before = start or self.nominal(), self.prior(), -torch.inf
        for index in range(ROUNDS):
            damping = FIRST_DAMPING if index == 0 else NEXT_DAMPING
            located = self.joint(scenes, response)
            if not located.groups:
                raise MeasurementError("expected a source in one scene at least, found none in any")
            joint, arrow = score(located, prior, self.geometry, self.view, STEPS, ENOUGH, damping)
            joint = joint.normalised(prior.kinds)
            data = pinned(arrow.reduced()[0], joint.response, prior.kinds)
            prior = prior.learned(joint.response, data)
            response, value = joint.response, joint.log_likelihood(self.geometry)
            yield Round(index + 1, joint, arrow, prior, value, located)
            if value - before < SETTLED + SETTLED_SHARE * abs(value):
                break
            before = value
        joint, _ = score(joint, prior, self.geometry, self.view, LAST_STEPS, LAST_ENOUGH, NEXT_DAMPING)
        joint = joint.normalised(prior.kinds)
        arrow = Arrow.compute(joint, self.geometry, self.view, prior.kinds)
        yield Round(index + 2, joint, arrow, prior, joint.log_likelihood(self.geometry), located)

    def fitted_likelihood(self, scenes: CalibrationScenes, response: SurfaceResponse) -> Tensor:
        """log L [S] of scenes whose sources are located and refined through `response`."""
        joint, geometry = self.joint(scenes, response), response.geometry(self.geometry)
        seen = scenes.symbols.seen(scenes.obs)
        y, weight = seen.y, seen.weight  # without a source: noise alone
        size, mean = y[0].numel(), y.abs().square().mean((1, 2))
        values = -weight * size * (mean.log() + 1.0)
        for group in joint.groups:
            seen = group.observed(response)
            for hold in (True, False):
                rows = (group.anchored == hold).nonzero().squeeze(-1)
                if len(rows):
                    start = tree_index(group.params, rows)
                    best = refine_gaussian(seen[rows], start, geometry, self.view, POLISH_STEPS, hold)
                    values[group.rows[rows]] = best.model.log_likelihood
        return values


@dataclass(frozen=True)
class Round:
    """Where a calibration is.

    Attributes:
        index: from 1. joint: response and sources. arrow: the model of the sources and the
            response, of the last step that was scored. prior: learned in this round.
        log_likelihood: sum over all scenes. located: the scenes before scoring.
    """

    index: int
    joint: Joint
    arrow: Arrow
    prior: Prior
    log_likelihood: float
    located: Joint

    @property
    def response(self) -> SurfaceResponse:
        """The response found so far."""
        return self.joint.response

    @property
    def noise_db(self) -> tuple[float, float]:
        """Mean fitted noise variance of a scene before and after the scoring, dB."""
        means = (
            float(torch.cat([g.params.log_noise for g in joint.groups]).mean())
            for joint in (self.located, self.joint)
        )
        before, after = (10.0 / math.log(10.0) * mean for mean in means)
        return before, after

    @property
    def sources(self) -> float:
        """Mean number of sources of a scene."""
        groups = self.joint.groups
        return sum(len(g) * g.params.points.shape[1] for g in groups) / sum(map(len, groups))

    def covariance(self) -> Tensor:
        """Posterior covariance [P, P] of the response's parameters."""
        return posterior(self.arrow, self.joint, self.prior)


def _with_noise_level(groups: list[SceneGroup]) -> list[SceneGroup]:
    """The groups with a prior of their noise: the mean share of the energy of a scene, over all scenes."""
    if not groups:
        return groups
    energy = [g.symbols.seen(g.obs).y.abs().square().mean((1, 2)).log() for g in groups]
    pairs = list(zip(groups, energy, strict=True))
    share = torch.cat([g.params.log_noise - e for g, e in pairs]).mean()
    return [replace(g, noise_level=e + share) for g, e in pairs]


def _widened(points: Tensor, width: int) -> Tensor:
    """Points [S, K, 3] padded with NaN to `width` sources."""
    fill = points.new_full((len(points), width - points.shape[1], 3), torch.nan)
    return torch.cat([points, fill], dim=1)
