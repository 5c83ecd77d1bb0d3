"""The sparse Bayesian learning estimator: powers on a grid, merged peaks, off-grid refinement, count."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import accumulate

import torch
from torch import Tensor

from risctl.config import CovarianceConfig, InferenceConfig, PhysicsConfig
from risctl.inference.batched import BatchedEstimator
from risctl.inference.count import CountRule, choose_count, fit_nuisance, noise_only, to_estimates
from risctl.inference.estimates import Estimates
from risctl.inference.gaussian import GaussianParameters, Hypothesis
from risctl.inference.greedy import Search
from risctl.inference.observation import Observation, tree_index
from risctl.inference.sbl_learning import GridPowers, grid_responses, learn
from risctl.physics.geometry import Device
from risctl.physics.grid import PolarGrid
from risctl.physics.polar import clamp_to_view
from risctl.physics.scenes import rows_by_count

OVERSAMPLING, NUM_RANGES = 2.8, 8  # about 4,300 lattice points over the default field of view
# Grid points kept and share of the iterations spent on them.
STAGES = ((1 << 30, 1 / 7), (1000, 2 / 7), (300, 4 / 7))
MERGE_STEPS = (1.55, 1.55, 1.25)  # half sides in lattice steps: just over half a beam width, and one ring
SUPPRESS_STEPS = (1.55, 1.55, 2.1)
RESPONSE_BYTES = 1 << 26  # of one batch; about four times that is in use at the peak
SPARE_PEAKS = 2  # more candidates than sources: the weakest fall out once powers are fitted jointly


@dataclass(frozen=True)
class SblEstimator(BatchedEstimator):
    """Sparse Bayesian learning on a polar grid.

    The fixed point is stopped early on purpose: the marginal likelihood goes on rising while the map breaks
    each source into spikes and fits the noise, and the peaks get worse, most of all at low SNR.

    The peaks are refined in double precision. A few steps with more sources than there are end on a flat
    ridge of the likelihood, which single precision resolves to about 0.003 nats only: rounding would decide
    whether a step is kept, and move positions by a fifth of their standard deviation.

    Attributes:
        search: geometry and field of view. rule: how counts are compared. max_sources: K_max.
        inference: of which ``sbl_iterations`` and ``sbl_refine_steps`` are read.
        grid: the lattice.
    """

    search: Search
    rule: CountRule
    max_sources: int
    inference: InferenceConfig
    name: str = "sbl"
    grid: PolarGrid = field(init=False)

    def __post_init__(self) -> None:
        grid = PolarGrid.build(self.search.geometry, self.search.view, OVERSAMPLING, NUM_RANGES)
        object.__setattr__(self, "grid", grid)

    @classmethod
    def from_config(
        cls, physics: PhysicsConfig, covariance: CovarianceConfig, inference: InferenceConfig, device: Device
    ) -> SblEstimator:
        """The estimator of a configuration; it reads no `covariance`."""
        rule = CountRule.from_config(physics, inference.count_rule, inference.count_price)
        return cls(Search.from_config(physics, device), rule, physics.max_sources, inference)

    def _locate(self, obs: Observation, counts: Tensor | None, rows: Tensor, result: Estimates) -> None:
        obs = obs.compressed()
        powers = self.learn(obs)
        if counts is None:
            self._count(obs, powers, rows, result)
            return
        for K, here in rows_by_count(counts):
            final = list(self.hypotheses(obs[here], tree_index(powers, here), K, K))[-1]
            result.put(rows[here], to_estimates(final))

    def _count(self, obs: Observation, powers: GridPowers, rows: Tensor, result: Estimates) -> None:
        """Estimate at the best-supported counts, into `rows` of `result`."""
        found, null = list(self.hypotheses(obs, powers, self.max_sources, 1))[::-1], noise_only(obs)
        counts, probability = choose_count(null, found, self.rule, self.inference.false_alarm)
        result.noise_var[rows] = null.params.log_noise.double().exp()
        for K, here in rows_by_count(counts):
            result.put(rows[here], to_estimates(tree_index(found[K - 1], here)))
        result.count_probability[rows] = probability

    def batch_size(self, y: Tensor) -> int:
        """Scenes worked on at a time; the responses of one are L M G complex numbers."""
        return max(1, RESPONSE_BYTES // (y.shape[1:].numel() * y.element_size() * self.grid.num_points))

    def learn(self, obs: Observation) -> GridPowers:
        """Powers on the thinned grid."""
        stages = schedule(self.inference.sbl_iterations)
        return learn(grid_responses(obs, self.grid), obs.y, self.grid.inside, stages)

    def hypotheses(self, obs: Observation, powers: GridPowers, most: int, least: int) -> Iterator[Hypothesis]:
        """Backward elimination: hypotheses of `most`, `most` - 1, ..., `least` sources from spare peaks."""
        steps = self.inference.sbl_refine_steps
        points = self.peaks(powers, max(most, min(most + SPARE_PEAKS, obs.y.shape[-1] - 1)))
        fine, obs = self.search.double(), obs.double()
        params = fit_nuisance(obs, points.double(), fine.geometry, fine.view).params
        for k in range(points.shape[1], least - 1, -1):
            hypothesis = fine.polish(obs, strongest(params, k), steps)
            params = hypothesis.params
            if k <= most:
                yield hypothesis

    def peaks(self, powers: GridPowers, count: int) -> Tensor:
        """Polar points [B, count, 3] of the strongest merged peaks."""
        step = self.grid.steps
        merge, suppress = step * step.new_tensor(MERGE_STEPS), step * step.new_tensor(SUPPRESS_STEPS)
        found = merged_peaks(powers.gamma, self.grid.points[powers.index], count, merge, suppress)
        return clamp_to_view(found, self.search.view)


def schedule(iterations: int) -> list[tuple[int, int]]:
    """(points kept, iterations) of every stage; the iterations add up, the first stage has at least one."""
    shares = accumulate(share for _, share in STAGES)
    ends = [max(1, round(iterations * share)) for share in shares]
    return [(keep, end - start) for (keep, _), start, end in zip(STAGES, [0, *ends], ends, strict=False)]


def strongest(params: GaussianParameters, count: int) -> GaussianParameters:
    """The `count` most powerful sources of every scene."""
    order = params.log_power.topk(count, dim=1).indices
    points = params.points.gather(1, order.unsqueeze(-1).expand(-1, -1, 3))
    return GaussianParameters(points, params.log_power.gather(1, order), params.log_noise)


def merged_peaks(gamma: Tensor, points: Tensor, count: int, merge: Tensor, suppress: Tensor) -> Tensor:
    """The `count` strongest peaks of a power map on the polar lattice, strongest first.

    A learnt map spreads a source between lattice points over its neighbours, so a peak is ranked by the power
    of its whole neighbourhood and placed at the centroid of that power.

    Args:
        gamma: powers [B, J], not negative. points: polar points [B, J, 3].
        merge: half sides [3] of the box about a point whose power counts as its own.
        suppress: half sides [3] of the box about a peak that holds no other peak.

    Returns:
        Centroids [B, count, 3].
    """
    near = _within(points.unsqueeze(2) - points.unsqueeze(1), merge).to(gamma.dtype)
    rows = torch.arange(gamma.shape[0], device=gamma.device)
    found = []
    for _ in range(count):
        top = (near @ gamma.unsqueeze(-1)).squeeze(-1).argmax(dim=1)
        weight = near[rows, top] * gamma
        total = weight.sum(1, keepdim=True)
        centroid = (weight.unsqueeze(1) @ points).squeeze(1) / total.clamp_min(torch.finfo(gamma.dtype).tiny)
        found.append(torch.where(total > 0, centroid, points[rows, top]))
        gamma = gamma * ~_within(points - found[-1].unsqueeze(1), suppress)
    return torch.stack(found, dim=1)


def _within(difference: Tensor, box: Tensor) -> Tensor:
    return (difference.abs() < box).all(dim=-1)
