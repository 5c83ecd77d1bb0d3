"""Both likelihoods against the float64 oracle, autograd and the bounds."""

import numpy as np
import pytest
import torch

from risctl.inference.concentrated import fit_amplitudes, local_model
from risctl.inference.gaussian import (
    GaussianParameters,
    gaussian_gradient,
    gaussian_model,
    gaussian_value,
    pack,
    unpack,
)
from risctl.inference.observation import Observation
from risctl.physics import ArrayGeometry, Scenes
from risctl.physics.bounds import SourceModel, conditional_information, unconditional_information
from risctl.physics.polar import from_polar
from tests.inference.conftest import make_scenes, observe, true_points, with_count
from tests.oracle import Array, gaussian_log_likelihood, residual_energy


@pytest.fixture(scope="module")
def scenes() -> Scenes:
    return make_scenes(30, seed=5, stratified=True, snr_values_db=(10.0,))[1]


Setting = tuple[Observation, torch.Tensor, GaussianParameters]


@pytest.fixture(params=[1, 2, 3, 5])
def setting(scenes: Scenes, request: pytest.FixtureRequest) -> Setting:
    """Measurements of three scenes with K sources, points a little off the truth, and parameters there."""
    rows, K = with_count(scenes, request.param)[:3], request.param
    part, points = scenes[rows], true_points(scenes, rows, K) + 0.01
    params = GaussianParameters(points, part.power[:, :K].double().log(), part.noise_var.double().log())
    return observe(scenes, rows, torch.complex128), points, params


def test_values_match_the_oracle(setting: Setting, geometry64: ArrayGeometry) -> None:
    obs, points, params = setting
    cost = local_model(obs, points, geometry64).cost
    value = gaussian_model(obs, params, geometry64).log_likelihood
    L, M = obs.y.shape[1:]
    for b in range(len(obs)):
        Phi, y, where = obs.Phi[b].numpy(), obs.y[b].numpy(), torch.stack(from_polar(points[b]), -1).numpy()
        assert float(cost[b]) == pytest.approx(residual_energy(Array(), Phi, y, where), rel=1e-8)
        power, noise = params.log_power[b].exp().numpy(), float(params.log_noise[b].exp())
        expected = gaussian_log_likelihood(Array(), Phi, y, where, power, noise) + L * M * np.log(np.pi)
        assert float(value[b]) == pytest.approx(expected, rel=1e-9)
    alone = gaussian_value(obs, params, geometry64)
    torch.testing.assert_close(alone.log_likelihood, value, rtol=1e-12, atol=0.0)
    assert bool(alone.gradient.isnan().all() & alone.information.isnan().all())


def test_gradients_match_autograd(setting: Setting, geometry64: ArrayGeometry) -> None:
    obs, points, params = setting
    x = points.clone().requires_grad_()
    model = local_model(obs, x, geometry64)
    (expected,) = torch.autograd.grad(model.cost.sum(), x)
    scale = expected.abs().max()
    assert torch.allclose(model.gradient, expected.flatten(1), atol=float(1e-8 * scale))

    z = pack(params).requires_grad_()
    gaussian = gaussian_model(obs, unpack(z), geometry64)
    (expected,) = torch.autograd.grad(gaussian.log_likelihood.sum(), z)
    alone = gaussian_gradient(obs, unpack(z.detach()), geometry64)
    for gradient in (gaussian.gradient, alone):
        assert torch.allclose(gradient, expected, atol=float(1e-10 * expected.abs().max()))


def test_information_matches_the_bounds(setting: Setting, geometry64: ArrayGeometry) -> None:
    """Two derivations of one matrix: K x K identities in polar coordinates, M x M solves in angles."""
    obs, points, params = setting
    at, power, noise = from_polar(points), params.log_power.exp(), params.log_noise.exp()
    sources = SourceModel(*at, fit_amplitudes(obs, points, geometry64).amplitudes.mT, power, noise)
    T = polar_from_angles(*at)
    curvature = local_model(obs, points, geometry64).curvature / noise[:, None, None]
    expected = conditional_information(obs.H, obs.codes, sources, geometry64)
    assert relative(T.mT @ curvature @ T, expected) < 1e-8

    J, P = gaussian_model(obs, params, geometry64).information, 3 * points.shape[1]
    effective = J[:, :P, :P] - J[:, :P, P:] @ torch.linalg.solve(J[:, P:, P:], J[:, P:, :P])
    expected = unconditional_information(obs.H, obs.codes, sources, geometry64)
    assert relative(T.mT @ effective @ T, expected) < 1e-9


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).abs().max() / b.abs().max())


def polar_from_angles(azimuth: torch.Tensor, elevation: torch.Tensor, range_: torch.Tensor) -> torch.Tensor:
    """Block-diagonal ``d(u_y, u_z, q) / d(azimuth, elevation, range)`` [B, 3K, 3K]."""
    B, K = azimuth.shape
    T = torch.zeros(B, K, 3, 3, dtype=azimuth.dtype)
    T[..., 0, 0] = elevation.cos() * azimuth.cos()
    T[..., 0, 1] = -elevation.sin() * azimuth.sin()
    T[..., 1, 1] = elevation.cos()
    T[..., 2, 2] = -1 / range_.square()
    return torch.stack([torch.block_diag(*blocks) for blocks in T])


def test_batch_equals_loop(setting: Setting, geometry64: ArrayGeometry) -> None:
    obs, points, params = setting
    whole = gaussian_model(obs, params, geometry64)
    for b in range(len(obs)):
        one = torch.tensor([b])
        own = GaussianParameters(points[one], params.log_power[one], params.log_noise[one])
        alone = gaussian_model(obs[one], own, geometry64)
        assert torch.allclose(alone.log_likelihood, whole.log_likelihood[one], rtol=1e-12)
        assert torch.allclose(alone.information, whole.information[one], rtol=1e-9)


@pytest.mark.parametrize("setting", [3], indirect=True)
def test_likelihoods_ignore_the_phase_and_the_order_of_snapshots(
    setting: Setting, geometry64: ArrayGeometry
) -> None:
    obs, points, params = setting
    generator = torch.Generator().manual_seed(0)
    order = torch.randperm(obs.y.shape[1], generator=generator)
    phase = torch.exp(2j * torch.pi * torch.rand(1, len(order), 1, generator=generator, dtype=torch.float64))
    moved = Observation.build((obs.y * phase)[:, order], obs.H, obs.codes[:, order])
    before, after = (gaussian_model(o, params, geometry64).log_likelihood for o in (obs, moved))
    assert torch.allclose(before, after, rtol=1e-12)
    before, after = (local_model(o, points, geometry64).cost for o in (obs, moved))
    assert torch.allclose(before, after, rtol=1e-12)


def test_merged_sources_stay_finite(scenes: Scenes, geometry: ArrayGeometry) -> None:
    rows = with_count(scenes, 2)[:2]
    obs = observe(scenes, rows)
    points = true_points(scenes, rows, 2).float()
    points[:, 1] = points[:, 0]
    model = local_model(obs, points, geometry)
    assert all(bool(torch.isfinite(x).all()) for x in (model.cost, model.gradient, model.curvature))
    params = GaussianParameters(points, torch.zeros(2, 2), torch.zeros(2))
    gaussian = gaussian_model(obs, params, geometry)
    assert bool(torch.isfinite(gaussian.log_likelihood).all())
    assert bool(torch.isfinite(gaussian.information).all())


@pytest.mark.parametrize(
    ("shapes", "words"),
    [
        (((2, 16, 16), (2, 16, 144), (2, 15, 144)), "disagree"),
        (((2, 16, 16), (1, 16, 144), (2, 16, 144)), "disagree"),
        (((16, 16), (2, 16, 144), (2, 16, 144)), "expected y"),
    ],
)
def test_wrong_shapes_are_named(shapes: tuple[tuple[int, ...], ...], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Observation.build(*(torch.ones(shape, dtype=torch.complex64) for shape in shapes))


def test_a_value_that_is_not_finite_is_named_with_its_scene(scenes: Scenes) -> None:
    part = scenes[:4]
    y = part.y.clone()
    y[2, 0, 0] = complex("nan")
    with pytest.raises(ValueError, match="y of scene 2"):
        Observation.build(y, part.H, part.codes)
