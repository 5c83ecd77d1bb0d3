"""Greedy maximum likelihood (NOMP), and swap moves out of its local optima.

Newtonised orthogonal matching pursuit (Mamandipoor, Ramasamy and Madhow, IEEE Trans. Signal Process.
64(19), 2016) for the near field and for a measurement matrix that changes every snapshot: detect a source on
the polar grid, refine all sources jointly on the concentrated likelihood, repeat. Swap moves work on the
Gaussian-symbol likelihood: its optimum is the better one at low SNR, and hypotheses can be compared in it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from risctl.config import InferenceConfig, PhysicsConfig
from risctl.inference.concentrated import fit_amplitudes, refine
from risctl.inference.converge import converge
from risctl.inference.count import gaussian_start
from risctl.inference.detection import Detector
from risctl.inference.exchange import add_source, drop_source
from risctl.inference.gaussian import GaussianParameters, Hypothesis, refine_gaussian
from risctl.inference.observation import Observation, tree_index, tree_scatter
from risctl.physics.geometry import ArrayGeometry, Device, FieldOfView
from risctl.physics.grid import PolarGrid

GREEDY_STEPS = 4  # joint refinement after a detection: enough for the residual of the next one
REST_STEPS = 3  # refinement of the remaining sources after one was dropped
JOIN_STEPS = 5  # refinement of all after another was detected in its place
FIRST_PEAKS = 3  # from which the first source is refined
SWAP_GAIN = 0.05  # nats by which the likelihood must rise for an exchange to be kept


@dataclass(frozen=True)
class Search:
    """Surface model and field of view, shared by all stages of a search."""

    geometry: ArrayGeometry
    view: FieldOfView

    @classmethod
    def from_config(cls, physics: PhysicsConfig, device: Device = "cpu") -> Search:
        """The nominal surface of a configuration on `device`."""
        return cls(ArrayGeometry.from_config(physics, device), FieldOfView.from_config(physics))

    def grid(self, inference: InferenceConfig) -> PolarGrid:
        """The detection grid of a configuration."""
        oversampling, rings = inference.grid_oversampling, inference.range_rings
        return PolarGrid.build(self.geometry, self.view, oversampling, rings)

    def polish(
        self,
        obs: Observation,
        start: GaussianParameters,
        iterations: int,
        responses: Tensor | None = None,
        informed: bool = True,
    ) -> Hypothesis:
        """Refine all parameters on the Gaussian-symbol likelihood from `start`; see `refine_gaussian`."""
        return refine_gaussian(obs, start, self.geometry, self.view, iterations, False, responses, informed)

    def converge(self, obs: Observation, start: Hypothesis) -> Hypothesis:
        """The maximum of the likelihood next to a polished hypothesis, in double precision."""
        return converge(obs, start, self.geometry, self.view)

    def double(self) -> Search:
        """This surface in double precision."""
        return Search(self.geometry.to(self.geometry.positions.device, torch.float64), self.view)


def greedy_step(detector: Detector, search: Search, points: Tensor) -> Tensor:
    """One more source: points [B, k, 3] -> refined points [B, k + 1, 3].

    With as many sources as antennas nothing is left of a snapshot that free symbols do not explain. Then the
    symbols are averaged over: how the power of the snapshots changes with the codes tells sources apart.
    """
    obs = detector.obs
    if points.shape[1] + 1 >= obs.y.shape[2]:
        rest = gaussian_start(obs, points, search.geometry)
        if points.shape[1]:
            rest = search.polish(obs, rest, REST_STEPS).params
        found = detector.grid.points[detector.gaussian_gain(rest, search.geometry).argmax(-1)]
        joint = torch.cat([points, found.unsqueeze(1)], dim=1)
        return search.polish(obs, gaussian_start(obs, joint, search.geometry), JOIN_STEPS).params.points
    if not points.shape[1]:
        return first_source(detector, search)
    fit = fit_amplitudes(obs, points, search.geometry)
    found = detector.grid.points[detector.conditional_gain(fit).argmax(-1)]
    joint = torch.cat([points, found.unsqueeze(1)], dim=1)
    return refine(obs, joint, search.geometry, search.view, GREEDY_STEPS)[0]


def first_source(detector: Detector, search: Search) -> Tensor:
    """The first source [B, 1, 3]: refined from each of the highest peaks, the best kept.

    A single peak is not enough: near the limits of the field of view the highest point of the lattice may
    belong to a side lobe.
    """
    obs, geometry, view = detector.obs, search.geometry, search.view
    gain = detector.conditional_gain(None)
    gain = gain / gain.amax(1, keepdim=True).clamp_min(torch.finfo(gain.dtype).tiny)
    peaks = detector.grid.strongest_maxima(gain, FIRST_PEAKS)  # [B, P, 3]
    rows = torch.arange(len(obs), device=peaks.device).repeat_interleave(FIRST_PEAKS)
    refined, cost = refine(obs[rows], peaks.reshape(-1, 1, 3), geometry, view, GREEDY_STEPS)
    best = cost.view(-1, FIRST_PEAKS).argmin(1, keepdim=True)
    refined = refined.view(len(obs), FIRST_PEAKS, 3)
    return refined.gather(1, best.unsqueeze(-1).expand(-1, -1, 3))


def swap(detector: Detector, search: Search, start: Hypothesis, rounds: int) -> Hypothesis:
    """Drop each source in turn, detect anew, polish; keep the best exchange while the likelihood rises.

    Args:
        start: K sources in B scenes. rounds: most exchanges accepted per scene.

    Returns:
        A hypothesis in no scene less likely than `start`.
    """
    best = start
    B, K, _ = start.params.points.shape
    active = torch.arange(B, device=start.params.points.device)
    for _ in range(rounds if K > 1 else 0):
        trial = _best_exchange(detector[active], search, best.params, active)
        gain = trial.model.log_likelihood - best.model.log_likelihood[active]
        better = gain > SWAP_GAIN
        active = active[better]
        if not len(active):
            break
        best = tree_scatter(best, active, tree_index(trial, better))
    return best


def _best_exchange(
    detector: Detector, search: Search, params: GaussianParameters, rows: Tensor
) -> Hypothesis:
    """The best of the K exchanges of one source in scenes `rows`; all K are tried as one batch."""
    K = params.points.shape[1]
    each = torch.arange(len(rows), device=rows.device).repeat_interleave(K)
    many, here = detector[each], rows[each]
    rest = drop_source(tree_index(params, here), torch.arange(K, device=rows.device).repeat(len(rows)))
    rest = search.polish(many.obs, rest, REST_STEPS).params
    # one more at the largest Gaussian gain, at a little less than the mean power
    found = many.grid.points[many.gaussian_gain(rest, search.geometry).argmax(-1)]
    power = rest.log_power.exp().mean(1).log() - 0.5
    joint = search.polish(many.obs, add_source(rest, found, power), JOIN_STEPS)
    winner = joint.model.log_likelihood.view(-1, K).argmax(dim=1)
    return tree_index(joint, torch.arange(len(rows), device=rows.device) * K + winner)
