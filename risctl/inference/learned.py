"""The learned estimator: the network's covariance blended with the snapshots', and what the blend tells.

Measurements go through :func:`risctl.model.predict`, the same function and the same knobs as in the training
step. On ``R_blend`` follow the source count, MUSIC in azimuth, elevation and range, and the polish by maximum
likelihood on the snapshots themselves.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from risctl.config import CovarianceConfig, InferenceConfig, PhysicsConfig
from risctl.inference.batching import batches
from risctl.inference.count import answers, fit_nuisance
from risctl.inference.estimates import Estimates
from risctl.inference.greedy import Search
from risctl.inference.music import MusicSearch
from risctl.inference.observation import Observation
from risctl.model import Forward, Network, predict
from risctl.physics import ArrayGeometry, FieldOfView
from risctl.physics.grid import PolarGrid


@dataclass(frozen=True)
class LearnedEstimator:
    """Positions from ``R_blend``.

    Attributes:
        network: in evaluation mode. covariance: the knobs it was trained with.
        search: geometry and field of view. grid: detection lattice. max_sources: K_max.
        inference: size of the range grid, steps of the polish. batch: scenes worked on at a time.
    """

    network: Network
    covariance: CovarianceConfig
    search: Search
    grid: PolarGrid
    max_sources: int
    inference: InferenceConfig
    batch: int = 64
    name: str = "learned"

    @cached_property
    def peaks(self) -> MusicSearch:
        """The peak search on this estimator's grids."""
        return MusicSearch(self.search, self.grid, self.inference.range_grid)

    @torch.no_grad()
    def forward(self, y: Tensor, H: Tensor, codes: Tensor) -> Forward:
        """Prediction and covariances of B scenes."""
        return predict(self.network, y, H, codes, self.covariance)

    @torch.no_grad()
    def __call__(self, y: Tensor, H: Tensor, codes: Tensor, num_sources: Tensor | None = None) -> Estimates:
        """Locate the sources of B scenes; see :class:`risctl.inference.estimates.Estimator`."""
        result = Estimates.empty(y.shape[0], self.max_sources, y.device)
        for part in batches(y, H, codes, num_sources, self.max_sources, self.batch):
            self._locate(part.obs, part.num_sources, part.rows, result)
        return result

    def _locate(self, obs: Observation, counts: Tensor | None, rows: Tensor, result: Estimates) -> None:
        """Write the answers at the given counts, or at the network's, into `rows` of `result`."""
        forward = self.forward(obs.y, obs.H, obs.codes)
        if counts is None:
            counts = forward.prediction.count_logits.argmax(dim=1) + 1
        F = forward.covariances.blend.F
        for K in torch.unique(counts[counts > 0]).tolist():
            here = (counts == K).nonzero().squeeze(-1)
            part = obs[here]
            found = fit_nuisance(part, self.peaks.locate(F[here], K), self.search.geometry, self.search.view)
            if self.inference.nf_mle_iters:
                polished = self.search.polish(part, found[0], self.inference.nf_mle_iters)
                found = polished.at, polished.model
            result.put(rows[here], answers(*found))


def build_learned(
    network: Network,
    covariance: CovarianceConfig,
    physics: PhysicsConfig,
    inference: InferenceConfig,
    device: torch.device | str = "cpu",
) -> LearnedEstimator:
    """The estimator of a trained network.

    Args:
        network: on `device`, in evaluation mode. covariance: the knobs it was trained with.
        physics: of the scenes: surface and field of view are those of the training.
        inference: grids and polish. device: where it computes.
    """
    geometry, view = ArrayGeometry.from_config(physics, device), FieldOfView.from_config(physics)
    grid = PolarGrid.build(geometry, view, inference.grid_oversampling, inference.range_rings)
    search = Search(geometry, view)
    return LearnedEstimator(network, covariance, search, grid, physics.max_sources, inference)
