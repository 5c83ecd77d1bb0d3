"""The ceiling: an oracle that runs the MUSIC peak search on the true covariance.

``R_true = A diag(p) A^H``, scaled to trace N, is searched by the same stages as
``R_blend``: lattice of azimuth, elevation and range planes, refinement off the lattice, range MUSIC,
refinement in double precision. MUSIC is exact on an exact covariance (Schmidt, IEEE Trans. Antennas Propag.
34(3), 1986), so the remaining error is that of the search and a floor for the pipeline with any estimated
covariance. The polish on the snapshots is left out: it would measure their noise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from risctl.config import CovarianceConfig, InferenceConfig, PhysicsConfig
from risctl.inference.estimates import Estimates
from risctl.inference.greedy import Search
from risctl.inference.music import MusicSearch
from risctl.losses.truth import Truth
from risctl.physics import ArrayGeometry, Device, Scenes
from risctl.physics.polar import polar_steering
from risctl.physics.scenes import rows_by_count

MERGED = 1e-6  # diagonal load, for peaks found at one place


class Oracle(Protocol):
    """A reference method that has side information: it reads simulated scenes, not their measurements."""

    @property
    def name(self) -> str:
        """Name under which it is chosen and reported."""
        ...

    @property
    def side_information(self) -> str:
        """Which true quantities it is given, in a few words."""
        ...

    def __call__(self, scenes: Scenes) -> Estimates:
        """Locate the sources of simulated scenes."""
        ...


@dataclass(frozen=True)
class Ceiling:
    """The MUSIC peak search on ``R_true``, the number of sources known.

    The diagonal load of the blend is left out: it shifts all eigenvalues alike and changes no eigenvector.

    Attributes:
        peaks: the peak search of inference. max_sources: K_max.
        batch: scenes worked on at a time.
    """

    peaks: MusicSearch
    max_sources: int
    batch: int = 64
    name: str = "ceiling"
    side_information: str = "R_true and the number of sources"

    @classmethod
    def from_config(
        cls, physics: PhysicsConfig, covariance: CovarianceConfig, inference: InferenceConfig, device: Device
    ) -> Ceiling:
        """The ceiling of a surface; of `inference` the grids are read, `covariance` is not."""
        search = Search.from_config(physics, device)
        return cls(MusicSearch.build(search, inference), physics.max_sources)

    @torch.no_grad()
    def __call__(self, scenes: Scenes) -> Estimates:
        """Locate the sources of B scenes from ``R_true``; deviations and noise are unknown (NaN)."""
        truth = Truth.of(scenes, self.peaks.search.geometry)
        F = truth.covariance().F
        result = Estimates.empty(len(scenes), self.max_sources, F.device)
        for K, scenes_of_k in rows_by_count(truth.num_sources):
            for rows in torch.split(scenes_of_k, self.batch):
                part = F[rows, :, :K]
                points = self.peaks.locate(part, K)
                power = fitted_powers(points, part, self.peaks.search.geometry).double()
                unknown = torch.full_like(points, torch.nan, dtype=torch.float64)
                result.put(rows, Estimates.ranked(points.double(), power, unknown, unknown[:, 0, 0]))
        return result


def fitted_powers(points: Tensor, F: Tensor, geometry: ArrayGeometry) -> Tensor:
    """Powers [B, K] of sources at polar points [B, K, 3]: the diagonal of ``A^+ F F^H A^+H``."""
    A = polar_steering(points, geometry)
    gram = A.conj() @ A.mT
    eye = torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
    amplitudes = torch.linalg.solve(gram + MERGED * eye, A.conj() @ F)
    return amplitudes.abs().square().sum(-1)
