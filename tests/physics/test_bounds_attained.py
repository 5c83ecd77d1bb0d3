"""Maximum likelihood attains the bound: 400 noise draws on one fixed pair of sources at 25 dB.

Errors e with covariance C make ``sum e^H C^-1 e`` a chi-square of 400 x 6 degrees of freedom, each variance
one of 400, and the likelihood ratio of the sample covariance against C (Bartlett's test) one of 21. Every
statistic is held in its central 99.9 % band; deviations five per cent off the bound would leave the first.

The unconditional bound is asymptotic in the snapshots (at high SNR too, a finite sample of symbols costs
``1/(L-1)`` in place of ``1/L``), so there are more of them there.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from risctl.config import PhysicsConfig
from risctl.inference.concentrated import refine
from risctl.inference.gaussian import GaussianParameters, refine_gaussian
from risctl.inference.observation import Observation
from risctl.physics import ArrayGeometry, FieldOfView, Scenes, received_signal, steering_vector
from risctl.physics.bounds import scene_bounds
from risctl.physics.polar import from_polar, to_polar
from risctl.physics.random import complex_normal
from tests.physics.reference import Array, double_geometry, simulate

DRAWS, CHUNK, ITERATIONS = 400, 50, 12
COVERAGE = 0.999
K = 2


def pair(num_snapshots: int) -> tuple[Scenes, PhysicsConfig]:
    """Two sources well inside the field of view, at the 25 dB of their scene."""
    physics = PhysicsConfig(
        min_sources=K, max_sources=K, num_snapshots=num_snapshots, snr_values_db=(25.0,), power_spread_db=1.0
    )
    scene = simulate(physics, 1, seed=11)
    where = {"azimuth": [[0.35, -0.4]], "elevation": [[0.1, -0.2]], "range": [[2.0, 3.0]]}
    scene = replace(scene, **{name: torch.tensor(value) for name, value in where.items()})
    A = steering_vector(scene.azimuth, scene.elevation, scene.range, ArrayGeometry.from_config(physics))
    clean = received_signal(scene.H, scene.codes, A, scene.power, scene.symbols)
    return replace(scene, noise_var=clean.abs().square().mean((1, 2)) / 10.0**2.5), physics


def observe(scene: Scenes, physics: PhysicsConfig, symbols: Tensor, rng: np.random.Generator) -> Observation:
    """Fresh noise, one draw for each row of `symbols` [B, K, L]."""
    B, wide = len(symbols), torch.complex128
    at = (x.double() for x in (scene.azimuth, scene.elevation, scene.range))
    A = steering_vector(*at, double_geometry(physics)).expand(B, -1, -1)
    H, codes = (x.to(wide).expand(B, -1, -1) for x in (scene.H, scene.codes))
    clean = received_signal(H, codes, A, scene.power.double().expand(B, -1), symbols.to(wide))
    noise = complex_normal(rng, clean.shape).to(wide) * scene.noise_var.double().sqrt()
    return Observation.build(clean + noise, H, codes)


def errors_of(scene: Scenes, physics: PhysicsConfig, kind: str) -> Array:
    """Conditional: symbols held, only the noise is random; unconditional: symbols drawn anew with it."""
    rng = np.random.default_rng(5 if kind == "conditional" else 6)
    fixed = (double_geometry(physics), FieldOfView.from_config(physics), ITERATIONS)
    truth = torch.stack([x.double() for x in (scene.azimuth, scene.elevation, scene.range)], dim=-1)
    start, errors = to_polar(*truth.unbind(-1)).expand(CHUNK, -1, -1), []
    power, noise = scene.power.double().log(), scene.noise_var.double().log()
    for _ in range(DRAWS // CHUNK):
        if kind == "conditional":
            obs = observe(scene, physics, scene.symbols.expand(CHUNK, -1, -1), rng)
            points, _ = refine(obs, start, *fixed)
        else:
            obs = observe(scene, physics, complex_normal(rng, (CHUNK, *scene.symbols.shape[1:])), rng)
            first = GaussianParameters(start, power.expand(CHUNK, -1), noise.expand(CHUNK))
            points = refine_gaussian(obs, first, *fixed).params.points
        errors.append(torch.stack(from_polar(points), dim=-1) - truth)
    return torch.cat(errors).reshape(DRAWS, 3 * K).numpy()


def assert_in_band(statistic: float, freedom: int, name: str) -> None:
    low, high = stats.chi2.interval(COVERAGE, freedom)
    assert low <= statistic <= high, f"{name}: {statistic:.1f} outside {low:.1f}-{high:.1f}"


def likelihood_ratio(W: Array, count: int) -> float:
    """``n (tr W - log det W - p)`` for a sample covariance W that should be the identity."""
    p = len(W)
    ratio = count * (np.trace(W) - np.linalg.slogdet(W)[1] - p)
    return float(ratio * (1.0 - (2 * p + 1 - 2 / (p + 1)) / (6 * count)))  # Bartlett's correction


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "num_snapshots"), [("conditional", 16), ("unconditional", 64)])
def test_maximum_likelihood_attains_the_bound(kind: str, num_snapshots: int) -> None:
    scene, physics = pair(num_snapshots)
    C = scene_bounds(scene, ArrayGeometry.from_config(physics), kind).covariance[0].numpy()
    errors = errors_of(scene, physics, kind)
    white = np.linalg.solve(np.linalg.cholesky(C), errors.T).T
    deviation = errors / np.sqrt(np.diag(C))
    assert_in_band(float(np.sum(white**2)), DRAWS * 3 * K, "whitened error")
    for i, energy in enumerate(np.sum(deviation**2, axis=0)):
        assert_in_band(float(energy), DRAWS, f"variance of parameter {i}")
    ratio = likelihood_ratio(white.T @ white / DRAWS, DRAWS)
    assert_in_band(ratio, 3 * K * (3 * K + 1) // 2, "likelihood ratio")
    assert_in_band(float(DRAWS * np.sum(np.mean(white, axis=0) ** 2)), 3 * K, "bias")
