"""MUSIC on the sample covariance: peaks of the signal subspace in azimuth, elevation and range.

Schmidt, IEEE Trans. Antennas Propag. 34(3), 1986; in the near field Huang and Barkat, IEEE Trans. Antennas
Propag. 39(9), 1991. Sources are detected one at a time on a polar lattice with those already found projected
out, which keeps them about a beam apart, and refined to the null of the spectrum off the lattice. The range
of each is then searched along its own direction on a fine grid, and all are refined once more.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from risctl.config import CovarianceConfig, InferenceConfig, PhysicsConfig
from risctl.covariance import leading_subspace, snapshot_factor, snapshot_factor_through
from risctl.inference.batched import BatchedEstimator
from risctl.inference.count import (
    CountRule,
    choose_count,
    fit_nuisance,
    gaussian_start,
    noise_only,
    to_estimates,
)
from risctl.inference.estimates import Estimates
from risctl.inference.greedy import Search
from risctl.inference.nullspace import DeflatedSubspace, refine_nulls, search_range, settle_nulls
from risctl.inference.observation import Observation
from risctl.physics.geometry import ArrayGeometry, Device
from risctl.physics.grid import PolarGrid
from risctl.physics.polar import polar_steering
from risctl.physics.scenes import rows_by_count
from risctl.physics.steering import steering_vector

CANDIDATES = 3  # lattice maxima refined for every source
PEAK_STEPS = 4  # from the lattice: enough to compare heights
COUNT_STEPS = 5  # of the polish before counts are compared
NULL_FLOOR = 1e-12  # least null spectrum in a picture


@dataclass(frozen=True)
class MusicSearch:
    """Search for the peaks of a signal subspace.

    Attributes:
        search: geometry and field of view. grid: the lattice. range_grid: points of the range search.
    """

    search: Search
    grid: PolarGrid
    range_grid: int

    @classmethod
    def build(cls, search: Search, inference: InferenceConfig) -> MusicSearch:
        """The search on the grids of a configuration."""
        return cls(search, search.grid(inference), inference.range_grid)

    def locate(self, F: Tensor, K: int) -> Tensor:
        """Polar points [B, K, 3] of K sources from covariance factors F [B, N, r], in the order found.

        Found in double precision: a null is flat, in single its position is known only to about sqrt(eps).
        """
        return self.refine(leading_subspace(F.to(torch.complex128), K)[0]).to(F.real.dtype)

    def detect(self, U: Tensor) -> Tensor:
        """Polar points [B, K, 3] of the K sources whose signal subspace is U [B, N, K].

        In double precision each is settled in its null before the next is sought.
        """
        points = U.real.new_empty(len(U), 0, 3)
        for _ in range(U.shape[-1]):
            points = torch.cat([points, self._next_source(U, points)], dim=1)
        return points

    def refine(self, U: Tensor) -> Tensor:
        """The K sources [B, K, 3] of the subspace U [B, N, K], complex128, each in a null of the spectrum.

        They are detected, the range is searched along the direction of each with the other sources, at their
        detected positions, projected out, and all are refined once more.
        """
        points, geometry, view = self.detect(U), self.search.double().geometry, self.search.view
        slots = torch.arange(points.shape[1], device=points.device)
        others = torch.stack([slots[slots != k] for k in slots])  # [K, K - 1]
        space = DeflatedSubspace.compute(U, points[:, others], geometry)
        if view.known_range is None:
            ranges = torch.linspace(view.range_min, view.range_max, self.range_grid).to(points)
            points = search_range(space, points, ranges, geometry)
        return settle_nulls(space, points, geometry, view)

    def _next_source(self, U: Tensor, points: Tensor) -> Tensor:
        """One more source [B, 1, 3]: the best of the strongest lattice maxima after refinement."""
        geometry, view, single = self.search.geometry, self.search.view, self.grid.points.dtype
        space = DeflatedSubspace.compute(U.to(torch.complex64), points.to(single).unsqueeze(1), geometry)
        found = self.grid.strongest_maxima(space.on_grid(self.grid), min(CANDIDATES, self.grid.num_points))
        found = refine_nulls(space, found, geometry, view, PEAK_STEPS)
        best = space.along(polar_steering(found, geometry).unsqueeze(1)).squeeze(1).argmax(dim=1)
        found = found[torch.arange(len(U), device=U.device), best].unsqueeze(1)
        if points.dtype == single:
            return found
        geometry = self.search.double().geometry
        space = DeflatedSubspace.compute(U, points.unsqueeze(1), geometry)
        return settle_nulls(space, found.to(points), geometry, view)


@dataclass(frozen=True)
class MusicEstimator(BatchedEstimator):
    """MUSIC positions, with powers and noise from the likelihood at them; deviations are not stated.

    The count is the one whose positions score best after a polish on the likelihood, made for this purpose
    only: without it the errors of MUSIC exceed the noise at high SNR and the count comes out too large.

    Attributes:
        peaks: the search for the peaks of a subspace. rule: how counts are compared. max_sources: K_max.
        covariance: the covariance pipeline. false_alarm: probability of a source in noise. batch: scenes
            worked on at a time.
    """

    peaks: MusicSearch
    rule: CountRule
    max_sources: int
    covariance: CovarianceConfig
    false_alarm: float = 0.01
    batch: int = 32
    name: str = "music"

    @classmethod
    def from_config(
        cls, physics: PhysicsConfig, covariance: CovarianceConfig, inference: InferenceConfig, device: Device
    ) -> MusicEstimator:
        """The estimator of a configuration."""
        peaks = MusicSearch.build(Search.from_config(physics, device), inference)
        rule = CountRule.from_config(physics, inference.count_rule, inference.count_price)
        return cls(peaks, rule, physics.max_sources, covariance, inference.false_alarm)

    def _locate(self, obs: Observation, counts: Tensor | None, rows: Tensor, result: Estimates) -> None:
        """Estimate at the given or the best-supported counts, into `rows` of `result`."""
        search = self.peaks.search
        fine = obs.double()
        if fine.H is not None and fine.codes is not None:
            F = snapshot_factor(fine.y, fine.H, fine.codes, self.covariance)
        else:
            F, obs = snapshot_factor_through(fine.y, fine.Phi, self.covariance), obs.compressed()
        U, _ = leading_subspace(F, self.max_sources)
        probability = None
        if counts is None:
            single = U.to(obs.y.dtype)
            found = [self.peaks.detect(single[..., :K]) for K in range(1, self.max_sources + 1)]
            starts = [gaussian_start(obs, points, search.geometry) for points in found]
            polished = [search.polish(obs, start, COUNT_STEPS) for start in starts]
            null = noise_only(obs)
            counts, probability = choose_count(null, polished, self.rule, self.false_alarm)
            result.noise_var[rows] = null.params.log_noise.double().exp()
        for K, here in rows_by_count(counts):
            part, points = obs[here].double(), self.peaks.refine(U[here, :, :K])
            fitted = to_estimates(fit_nuisance(part, points, search.double().geometry, search.view))
            # The Fisher information describes a maximum of the likelihood, which these positions are not.
            unknown = torch.full_like(fitted.azimuth, torch.inf)
            unstated = dict.fromkeys(("std_azimuth", "std_elevation", "std_range"), unknown)
            result.put(rows[here], replace(fitted, **unstated))
        if probability is not None:
            result.count_probability[rows] = probability


@torch.no_grad()
def music_pseudospectrum(
    F: Tensor, K: int, elevation: Tensor, azimuth: Tensor, range_: Tensor, geometry: ArrayGeometry
) -> npt.NDArray[np.float64]:
    """The pseudo-spectrum over range and azimuth, ``1 / (1 - |U^H a|^2)``, float64 [R, A], for pictures.

    Of several elevations the largest value counts.

    Args:
        F: one scene's covariance factor [N, r], or its covariance [N, N], which has the same eigenvectors.
        K: dimension of the signal subspace.
        elevation: radians, one or several. azimuth: radians [A]. range_: metres [R].
        geometry: nominal geometry.
    """
    U, _ = leading_subspace(F.to(torch.complex128).unsqueeze(0), K)
    space = DeflatedSubspace(U.unsqueeze(1), U[:, None, :, :0])
    surface = geometry.to(U.device, torch.float64)
    phi, r = azimuth.to(surface.positions), range_.to(surface.positions)
    best = phi.new_zeros(len(r), len(phi))
    for theta in elevation.to(phi).reshape(-1):
        a = steering_vector(phi, theta.expand_as(phi), r.unsqueeze(-1), surface)
        share = space.along(a.unsqueeze(0))[0]
        best = torch.maximum(best, share)
    return (1.0 / (1.0 - best).clamp_min(NULL_FLOOR)).cpu().numpy()
