"""The NOMP estimator: greedy search, swap moves, Gaussian polish, count by evidence."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache, partial

import torch
from torch import Tensor

from risctl.config import CovarianceConfig, InferenceConfig, PhysicsConfig, nomp_calibration
from risctl.errors import InputError
from risctl.inference.batched import ExplainingEstimator
from risctl.inference.converge import Once
from risctl.inference.count import CountRule, gaussian_start, noise_only, to_estimates
from risctl.inference.decision import CUTOFF, Deciding, answer, explanation, report
from risctl.inference.detection import Detector
from risctl.inference.estimates import Estimates
from risctl.inference.exchange import GaussianFit
from risctl.inference.fusion import CountHypotheses
from risctl.inference.gaussian import Hypothesis
from risctl.inference.greedy import Search, greedy_step, swap
from risctl.inference.observation import Observation
from risctl.model.fusion import LoadedFusion, load_fusion
from risctl.physics.geometry import Device
from risctl.physics.grid import PolarGrid

POLISH_STEPS = 3  # before the swap moves
FINAL_STEPS = 12  # most steps until a hypothesis has converged


@dataclass(frozen=True)
class NompEstimator(ExplainingEstimator):
    """Newtonised orthogonal matching pursuit with swap moves.

    Attributes:
        search: geometry and field of view. grid: detection lattice. rule: how counts are compared.
        max_sources: K_max. deciding: what is reported. swap_rounds: most exchanges per scene and count; 0:
            none.
        batch: scenes worked on at a time, which bounds memory and keeps working sets in cache.
    """

    search: Search
    grid: PolarGrid
    rule: CountRule
    max_sources: int
    deciding: Deciding
    swap_rounds: int
    batch: int = 32
    name: str = "nomp"

    @classmethod
    def from_config(
        cls, physics: PhysicsConfig, covariance: CovarianceConfig, inference: InferenceConfig, device: Device
    ) -> NompEstimator:
        """The estimator of a configuration; it reads no `covariance`."""
        search = Search.from_config(physics, device)
        known = any(search.view.known)  # whose errors the fit has not seen
        fusion = None if known else shipped_fusion(physics.max_sources, device)
        if inference.count_by == "fusion" and fusion is None:
            expected = "best or evidence where no probabilities of NOMP were fitted"
            raise InputError("configuration", "inference.count_by", expected, "fusion")
        rule = CountRule.choose(physics, inference, calibrated=fusion is not None)
        deciding = Deciding(inference, rule, fusion)
        grid, most = search.grid(inference), physics.max_sources
        return cls(search, grid, rule, most, deciding, inference.swap_rounds)

    def _locate(
        self,
        obs: Observation,
        counts: Tensor | None,
        rows: Tensor,
        result: Estimates,
        best: Estimates | None = None,
    ) -> None:
        """Estimate into `rows` of `result`, and what explains the scenes into those of `best`."""
        obs = obs.compressed()
        if counts is not None:
            self._locate_given(obs, counts, rows, result, best)
            return
        found, converge = self.find(obs), Once(partial(self._converged, obs))
        result.put(rows, answer(found, self.deciding, None, converge))
        if best is not None:
            best.put(rows, explanation(found, self.deciding, None, converge))

    def _locate_given(
        self, obs: Observation, counts: Tensor, rows: Tensor, result: Estimates, best: Estimates | None
    ) -> None:
        """Estimate the given numbers of sources [B], without the other hypotheses that probabilities need."""
        detector, points = Detector.compute(obs, self.grid), obs.y.real.new_empty(len(obs), 0, 3)
        index = torch.arange(len(obs), device=counts.device)
        for K in range(1, int(counts.max()) + 1):
            points = greedy_step(detector, self.search, points)
            done = counts[index] == K
            if bool(done.any()):
                here = index[done]
                hypothesis = self._converged(obs, self._best(detector[done], points[done]), here)
                result.put(rows[here], report(hypothesis, self.search.view, None, None))
                if best is not None:
                    best.put(rows[here], to_estimates(hypothesis))
            index, points, detector = index[~done], points[~done], detector[~done]

    def find(self, obs: Observation) -> CountHypotheses:
        """The fitted hypotheses for K = 0, ..., K_max, and what bears on the choice between them."""
        hypotheses = [noise_only(obs), *self.hypotheses(obs)]
        weight = obs.weight.unsqueeze(1)
        fits = [GaussianFit.compute(obs, h.params, self.search.geometry) for h in hypotheses[1:]]
        none, losses = obs.y.real.new_empty(len(obs), 0), [fit.losses() * weight for fit in fits]
        return CountHypotheses.of(obs, hypotheses, [none, *losses], self.rule, CUTOFF)

    def _best(self, detector: Detector, points: Tensor) -> Hypothesis:
        """The most likely hypothesis found from sources at `points` [B, K, 3]: polish, swap moves, polish."""
        start = gaussian_start(detector.obs, points, self.search.geometry)
        first = self.search.polish(detector.obs, start, POLISH_STEPS)
        better = swap(detector, self.search, first, self.swap_rounds)
        return self.search.polish(detector.obs, better.params, FINAL_STEPS)

    def _converged(self, obs: Observation, hypothesis: Hypothesis, rows: Tensor) -> Hypothesis:
        """A hypothesis of the scenes `rows` of `obs`, converged."""
        return self.search.converge(obs[rows], hypothesis)

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


@lru_cache(maxsize=4)
def shipped_fusion(max_sources: int, device: Device) -> LoadedFusion | None:
    """The shipped probabilities of NOMP, fitted by ``risctl calibrate nomp``; None for another K_max than
    theirs."""
    path = nomp_calibration()
    if not path.is_file():
        return None
    found = load_fusion(path, None)
    if found is None or found.state.max_sources != max_sources:
        return None
    found.network.to(device)
    return found
