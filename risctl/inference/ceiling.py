"""The ceiling: what the peak search finds on the true covariance. A reference, not an estimator.

``R_true = A diag(p) A^H``, scaled to trace N, is searched by the very stages that
search ``R_blend``: lattice of azimuth, elevation and range planes, refinement off the lattice, range MUSIC,
refinement in double precision. MUSIC is exact on an exact covariance (Schmidt, IEEE Trans. Antennas Propag.
34(3), 1986), so whatever error is left belongs to the search, to none of the measurements: below it no
covariance can bring the pipeline. The polish on the snapshots is left out, it would measure their noise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from risctl.config import InferenceConfig, PhysicsConfig
from risctl.inference.estimates import Estimates
from risctl.inference.greedy import Search
from risctl.inference.music import MusicSearch
from risctl.losses.truth import Truth
from risctl.physics import ArrayGeometry, FieldOfView, Scenes
from risctl.physics.grid import PolarGrid
from risctl.physics.polar import from_polar, polar_steering

CEILING = "ceiling"


class Reference(Protocol):
    """Positions from scenes whose truth it is given; no estimator, and no measurement could stand for it."""

    @property
    def name(self) -> str:
        """Name under which it is chosen and reported."""
        ...

    @property
    def told(self) -> str:
        """What it is told, in a few words."""
        ...

    def __call__(self, scenes: Scenes) -> Estimates:
        """Locate the sources of simulated scenes."""
        ...


@dataclass(frozen=True)
class Ceiling:
    """The peak search on ``R_true``, the number of sources given.

    The load that the blend carries would move every eigenvalue alike and no eigenvector: it is left out.

    Attributes:
        peaks: the search that inference uses. max_sources: K_max.
        batch: scenes worked on at a time.
    """

    peaks: MusicSearch
    max_sources: int
    batch: int = 64
    name: str = CEILING
    told: str = "R_true and the number of sources"

    @torch.no_grad()
    def __call__(self, scenes: Scenes) -> Estimates:
        """Locate the sources of B scenes from their truth; deviations and noise are unknown (NaN)."""
        truth = Truth.of(scenes, self.peaks.search.geometry)
        F = truth.covariance().F
        result = Estimates.empty(len(scenes), self.max_sources, F.device)
        for K in torch.unique(truth.num_sources).tolist():
            for rows in (truth.num_sources == K).nonzero().squeeze(-1).split(self.batch):
                points = self.peaks.locate(F[rows, :, :K], K)
                result.put(rows, self._answers(points, F[rows, :, :K]))
        return result

    def _answers(self, points: Tensor, F: Tensor) -> Estimates:
        """Estimates at polar points [B, K, 3], strongest first."""
        power = fitted_powers(points, F, self.peaks.search.geometry)
        order = power.argsort(dim=1, descending=True)
        azimuth, elevation, range_ = (x.gather(1, order) for x in from_polar(points.double()))
        unknown = torch.full_like(azimuth, torch.nan)
        B, K = order.shape
        return Estimates(
            num_sources=torch.full((B,), K, dtype=torch.int64, device=order.device),
            azimuth=azimuth,
            elevation=elevation,
            range=range_,
            power=power.gather(1, order).double(),
            std_azimuth=unknown,
            std_elevation=unknown,
            std_range=unknown,
            noise_var=unknown[:, 0],
        )


def fitted_powers(points: Tensor, F: Tensor, geometry: ArrayGeometry) -> Tensor:
    """Powers [B, K] of sources at polar points [B, K, 3]: the diagonal of ``A^+ F F^H A^+H``."""
    A = polar_steering(points, geometry)
    gram = A.conj() @ A.mT
    eye = torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
    amplitudes = torch.linalg.solve(gram + 1e-6 * eye, A.conj() @ F)
    return amplitudes.abs().square().sum(-1)


def build_ceiling(
    physics: PhysicsConfig,
    inference: InferenceConfig,
    device: torch.device | str = "cpu",
) -> Ceiling:
    """The ceiling of a surface with the grids of a configuration."""
    geometry = ArrayGeometry.from_config(physics, device)
    search = Search(geometry, FieldOfView.from_config(physics))
    grid = PolarGrid.build(geometry, search.view, inference.grid_oversampling, inference.range_rings)
    peaks = MusicSearch(search, grid, inference.range_grid)
    return Ceiling(peaks, physics.max_sources)
