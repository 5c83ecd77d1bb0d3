"""Speed of the covariance pipeline beside dense N x N algebra on the same scenes, in the same run."""

from collections.abc import Callable, Iterator
from functools import partial
from statistics import median

import torch
from torch import Tensor

from risctl.config import CovarianceConfig, PhysicsConfig
from risctl.covariance import covariances, snapshot_factor
from risctl.evaluation.timing import Figure, cost, cpu_seconds
from risctl.physics import ArrayGeometry, FieldOfView, Scenes, steering_vector
from risctl.physics.grid import PolarGrid

RIDGE_GAIN = 50.0  # asked of the M x M identity over N x N solves
FACTOR_GAIN = 10.0  # asked of Gram matrices over dense eigendecompositions


def covariance_figures(
    scenes: Scenes, covariance: CovarianceConfig, physics: PhysicsConfig, repeats: int
) -> Iterator[Figure]:
    """CPU seconds per scene of ``R_samp``, and of spectrum and MUSIC denominators of ``R_blend``.

    The target of each is the time of its dense baseline over the gain that is asked.
    """
    measured, K = (scenes.y, scenes.H, scenes.codes), physics.max_sources
    A = true_steering(scenes, physics)
    blend = covariances(*measured, A, A, covariance).blend
    R, directions = blend.dense(), look_directions(physics)
    jobs: tuple[tuple[str, str, float, Callable[[], object], Callable[[], object]], ...] = (
        (
            "ridge and R_samp",
            "N x N solves, dense R_samp",
            RIDGE_GAIN,
            partial(snapshot_factor, *measured, covariance),
            partial(dense_sample_covariance, *measured, covariance),
        ),
        (
            "K_max eigenvalues of R_blend",
            "dense eigendecomposition",
            FACTOR_GAIN,
            partial(blend.eigenvalues, K),
            partial(dense_eigenvalues, R, K),
        ),
        (
            "MUSIC denominators of R_blend",
            "dense eigendecomposition",
            FACTOR_GAIN,
            partial(blend.music_denominator, directions, K),
            partial(dense_denominator, R, directions, K),
        ),
    )
    for name, baseline, gain, fast, slow in jobs:
        seconds = cpu_seconds(fast, repeats)
        dense = median(cpu_seconds(slow, min(repeats, 3))) / len(scenes)
        yield cost(name, len(scenes), seconds, (dense / gain, dense, baseline))


def true_steering(scenes: Scenes, physics: PhysicsConfig) -> Tensor:
    """Steering vectors of the true sources, zero past K, [B, N, K_max]: a stand-in for a prediction."""
    geometry = ArrayGeometry.from_config(physics)
    A = steering_vector(scenes.azimuth, scenes.elevation, scenes.range.clamp_min(physics.range_min), geometry)
    return (A * scenes.source_mask.unsqueeze(-1)).mT.contiguous()


def look_directions(physics: PhysicsConfig) -> Tensor:
    """Steering vectors [G, N] of 32 x 16 directions at one range."""
    geometry, view = ArrayGeometry.from_config(physics), FieldOfView.from_config(physics)
    return PolarGrid.build_sized(geometry, view, 32, 16, 1).steering().mT.contiguous()


def dense_sample_covariance(y: Tensor, H: Tensor, codes: Tensor, covariance: CovarianceConfig) -> Tensor:
    """``R_samp`` [B, N, N] by the definition: one N x N solve per snapshot."""
    Phi = H.unsqueeze(1) * codes.unsqueeze(2)
    normal = Phi.mH @ Phi
    diagonal = normal.diagonal(dim1=-2, dim2=-1)
    diagonal += covariance.tikhonov_alpha * (diagonal.real.mean(-1, keepdim=True) + 1e-12)
    a = torch.linalg.solve(normal, Phi.mH @ y.unsqueeze(-1)).squeeze(-1)
    if covariance.center:
        a = a - a.mean(dim=1, keepdim=True)
    R = a.mT @ a.conj()
    R = (R + R.mH) / 2.0
    return R * (R.shape[-1] / R.diagonal(dim1=-2, dim2=-1).real.sum(-1))[:, None, None]


def dense_eigenvalues(R: Tensor, count: int) -> Tensor:
    """The `count` largest eigenvalues [B, count] of dense matrices [B, N, N]."""
    return torch.linalg.eigvalsh(R).flip(-1)[:, :count]


def dense_denominator(R: Tensor, directions: Tensor, num_sources: int) -> Tensor:
    """``|E^H a|^2`` [B, G] over the noise eigenvectors E of dense matrices; directions [G, N]."""
    noise = torch.linalg.eigh(R)[1][..., : R.shape[-1] - num_sources]
    return (noise.mH @ directions.mT).abs().square().sum(1)
