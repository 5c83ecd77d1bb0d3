"""The NOMP estimator: greedy search, swap moves, Gaussian polish, count by evidence."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from risctl.config import CovarianceConfig, InferenceConfig, PhysicsConfig
from risctl.inference.count import CountRule, gaussian_start, keep_best, to_estimates
from risctl.inference.detection import Detector
from risctl.inference.estimates import Estimates
from risctl.inference.gaussian import Hypothesis
from risctl.inference.greedy import Search, greedy_step, swap
from risctl.inference.observation import Observation, batches
from risctl.physics.geometry import Device
from risctl.physics.grid import PolarGrid

POLISH_STEPS = 3  # before the swap moves
FINAL_STEPS = 12  # most steps until a hypothesis has converged


@dataclass(frozen=True)
class NompEstimator:
    """Newtonised orthogonal matching pursuit with swap moves.

    Attributes:
        search: geometry and field of view. grid: detection lattice. rule: how counts are compared.
        max_sources: K_max. swap_rounds: most exchanges per scene and count; 0: none.
        batch: scenes worked on at a time, which bounds memory and keeps working sets in cache.
    """

    search: Search
    grid: PolarGrid
    rule: CountRule
    max_sources: int
    swap_rounds: int
    batch: int = 32
    name: str = "nomp"

    @classmethod
    def from_config(
        cls, physics: PhysicsConfig, covariance: CovarianceConfig, inference: InferenceConfig, device: Device
    ) -> NompEstimator:
        """The estimator of a configuration; it reads no `covariance`."""
        search = Search.from_config(physics, device)
        rule = CountRule.from_config(physics, inference.count_rule, inference.count_price)
        return cls(search, search.grid(inference), rule, physics.max_sources, inference.swap_rounds)

    @torch.no_grad()
    def __call__(
        self,
        y: Tensor,
        H: Tensor | None,
        codes: Tensor | None,
        num_sources: Tensor | None = None,
        Phi: Tensor | None = None,
    ) -> Estimates:
        """Locate the sources of B scenes; see :class:`risctl.inference.estimates.Estimator`."""
        result = Estimates.empty(y.shape[0], self.max_sources, y.device)
        size = self.batch
        for obs, rows, counts in batches(y, H, codes, num_sources, self.max_sources, size, Phi):
            obs = obs.compressed()
            if counts is None:
                keep_best(self.hypotheses(obs), self.rule, rows, result, partial(self._converged, obs))
            else:
                self._given(obs, rows, counts, result)
        return result

    def _best(self, detector: Detector, points: Tensor) -> Hypothesis:
        """The most likely hypothesis found from sources at `points` [B, K, 3]: polish, swap moves, polish."""
        start = gaussian_start(detector.obs, points, self.search.geometry)
        first = self.search.polish(detector.obs, start, POLISH_STEPS)
        better = swap(detector, self.search, first, self.swap_rounds)
        return self.search.polish(detector.obs, better.params, FINAL_STEPS)

    def _converged(self, obs: Observation, rows: Tensor, hypothesis: Hypothesis) -> Hypothesis:
        """A hypothesis of the scenes `rows` of `obs`, converged."""
        return self.search.converge(obs[rows], hypothesis)

    def _given(self, obs: Observation, rows: Tensor, num_sources: Tensor, result: Estimates) -> None:
        """Estimate with the given source counts, into `rows` of `result`."""
        detector = Detector.compute(obs, self.grid)
        points = obs.y.real.new_empty(len(obs), 0, 3)
        index = torch.arange(len(obs), device=rows.device)
        for K in range(1, int(num_sources.max()) + 1):
            points = greedy_step(detector, self.search, points)
            here = num_sources[index] == K
            if bool(here.any()):
                part = detector[here]
                best = self.search.converge(part.obs, self._best(part, points[here]))
                result.put(rows[index[here]], to_estimates(best))
            if bool(here.all()):
                return
            index, points, detector = index[~here], points[~here], detector[~here]

    def hypotheses(self, obs: Observation) -> list[Hypothesis]:
        """The fitted hypotheses for K = 1, ..., K_max."""
        detector = Detector.compute(obs, self.grid)
        points = obs.y.real.new_empty(len(obs), 0, 3)
        found = []
        for _ in range(self.max_sources):
            points = greedy_step(detector, self.search, points)
            found.append(self._best(detector, points))
            points = found[-1].params.points
        return found
