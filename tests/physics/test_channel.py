import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from risctl.config import PhysicsConfig
from risctl.physics.channel import draw_channel, ula_response
from tests import oracle
from tests.physics.reference import WAVE_MODELS, Array, assert_mean

NO_SCATTER = 1e9
SCENES = 300


def channel(k_min: float, k_max: float, count: int = SCENES, **changes: Any) -> Array:
    physics = PhysicsConfig(rician_k_min=k_min, rician_k_max=k_max, **changes)
    return draw_channel(np.random.default_rng(1), physics, count).numpy().astype(np.complex128)


def rician_fourth_moment(low: float, high: float) -> float:
    """E|H|^4 = E[1 + 2/(k+1) - 1/(k+1)^2] for k uniform on [low, high]; 2 for Rayleigh."""
    if low == high:
        return 1.0 + 2.0 / (low + 1.0) - 1.0 / (low + 1.0) ** 2
    first = math.log((high + 1.0) / (low + 1.0)) / (high - low)
    second = (1.0 / (low + 1.0) - 1.0 / (high + 1.0)) / (high - low)
    return 1.0 + 2.0 * first - second


@pytest.mark.parametrize("angle", [-1.0, 0.0, 0.3, math.pi / 3])
def test_ula_response(angle: float) -> None:
    b = ula_response(torch.tensor(angle, dtype=torch.float64), 16).numpy()
    np.testing.assert_allclose(np.abs(b), 1.0, rtol=1e-14)
    np.testing.assert_allclose(b, oracle.bs_response(16, -math.sin(angle)), atol=1e-13)


@pytest.mark.parametrize(("low", "high"), [(0.0, 0.0), (3.0, 3.0), (0.5, 10.0), (10.0, 10.0)])
def test_entries_have_unit_power_and_rician_fourth_moment(low: float, high: float) -> None:
    H = channel(low, high)
    assert H.shape == (SCENES, 16, 144)
    assert_mean(np.mean(np.abs(H) ** 2, axis=(1, 2)), 1.0)
    assert_mean(np.mean(np.abs(H) ** 4, axis=(1, 2)), rician_fourth_moment(low, high))
    assert_mean(np.mean(H, axis=(1, 2)), 0.0)
    assert_mean(np.mean(H**2, axis=(1, 2)), 0.0, sigmas=5.0)


@pytest.mark.parametrize(("wavefront", "taper"), WAVE_MODELS)
def test_the_line_of_sight_has_rank_one_and_unit_modulus(wavefront: str, taper: bool) -> None:
    """With the taper the modulus of the surface's response follows 1/d: half a per cent at 100 m."""
    H = channel(NO_SCATTER, NO_SCATTER, 20, wavefront=wavefront, amplitude_taper=taper)
    assert np.max(np.abs(np.mean(np.abs(H) ** 2, axis=(1, 2)) - 1.0)) < 1e-4
    np.testing.assert_allclose(np.abs(H), 1.0, atol=0.015 if taper else 3e-4)
    values = np.linalg.svd(H, compute_uv=False)
    assert np.max(values[:, 1] / values[:, 0]) < 1e-4


def test_the_line_of_sight_is_a_ula_and_the_surface_at_the_channel_distance() -> None:
    """Both directions are read off phase steps; the curvature of the wavefront at 100 m must then fit too."""

    def coherence(H: Array, sine: float, at: Array) -> float:
        los = np.outer(oracle.bs_response(16, sine), at)
        return abs(np.vdot(los, H)) / np.linalg.norm(los) / np.linalg.norm(H)

    for H in channel(NO_SCATTER, NO_SCATTER, 20):
        steps = np.angle(np.mean(H[1:] * H[:-1].conj()))
        assert abs(steps) <= math.pi * math.sin(math.pi / 3) + 1e-3
        panel = H[0].reshape(12, 12)
        u_y = np.angle(np.mean(panel[:, 1:] * panel[:, :-1].conj())) / math.pi
        u_z = np.angle(np.mean(panel[1:] * panel[:-1].conj())) / math.pi
        elevation = math.asin(u_z)
        azimuth = math.asin(u_y / math.cos(elevation))
        assert abs(elevation) < math.pi / 6 + 1e-3
        assert abs(azimuth) < math.pi / 3 + 1e-3
        curved = oracle.steering(oracle.Array(), azimuth, elevation, 100.0)
        plane = oracle.steering(oracle.Array(wavefront="planar"), azimuth, elevation, 1.0)
        assert coherence(H, steps / math.pi, curved) == pytest.approx(1.0, abs=1e-6)
        assert coherence(H, steps / math.pi, plane) < 1.0 - 1e-4


@pytest.mark.parametrize("k", [0.5, 3.0, 10.0])
def test_the_k_factor_splits_power_between_the_same_two_parts(k: float) -> None:
    los, scattered = channel(NO_SCATTER, NO_SCATTER, 4), channel(0.0, 0.0, 4)
    np.testing.assert_allclose(channel(k, k, 4), oracle.rician(los, scattered, k), atol=1e-4)


def test_the_k_factor_is_uniform_on_its_interval() -> None:
    """Least squares on the two parts, known from the runs with only one of them, gives each k back."""
    los, scattered = channel(NO_SCATTER, NO_SCATTER), channel(0.0, 0.0)
    ratios = []
    for H, *parts in zip(channel(0.5, 10.0), los, scattered, strict=True):
        basis = np.stack([part.ravel() for part in parts], axis=1)
        a, b = np.linalg.lstsq(basis, H.ravel())[0]
        assert abs(a) ** 2 + abs(b) ** 2 == pytest.approx(1.0, abs=1e-4)
        ratios.append(abs(a / b) ** 2)
    assert stats.kstest(ratios, stats.uniform(0.5, 9.5).cdf).pvalue > 1e-3


def test_scattering_is_white() -> None:
    W = channel(0.0, 0.0)
    neighbours = ((W[:, :-1], W[:, 1:]), (W[:, :, :-1], W[:, :, 1:]), (W[:, :, :-12], W[:, :, 12:]))
    for early, late in (*neighbours, (W[:-1], W[1:])):
        assert_mean(np.mean(late * early.conj(), axis=(1, 2)), 0.0)
