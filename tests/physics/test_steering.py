"""Steering vectors and their derivatives, every wave model under the same contract."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from risctl.config import PhysicsConfig
from risctl.physics import ArrayGeometry, steering_derivatives, steering_vector
from risctl.physics.geometry import direction
from risctl.physics.polar import from_polar, polar_jet, polar_steering, to_polar
from risctl.physics.steering import path_difference, steering_jet, steering_towards
from tests import oracle
from tests.physics.reference import WAVE_MODELS, Array, double_geometry, oracle_array, relative_error

wave_models = pytest.mark.parametrize(("wavefront", "taper"), WAVE_MODELS)


def physics_of(wavefront: str, taper: bool, columns: int = 12, rows: int = 12) -> PhysicsConfig:
    return PhysicsConfig(
        wavefront=wavefront, amplitude_taper=taper, ris_columns=columns, ris_rows=rows, max_sources=2
    )


def points(count: int = 40) -> Array:
    """Positions [count, 3] over the field of view, its nearest and farthest corners among them."""
    low, high = np.array([-np.pi / 3, -np.pi / 6, 0.5]), np.array([np.pi / 3, np.pi / 6, 10.0])
    drawn = np.random.default_rng(3).uniform(low, high, (count, 3))
    drawn[:2] = low, high
    return drawn.astype(np.float32).astype(np.float64)  # exactly the same point in both precisions


def columns(where: Array, dtype: torch.dtype = torch.float64) -> tuple[Tensor, ...]:
    return torch.from_numpy(where).to(dtype).unbind(-1)


@wave_models
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_steering_matches_the_oracle(
    wavefront: str, taper: bool, dtype: torch.dtype, tolerance: float
) -> None:
    physics = physics_of(wavefront, taper)
    a = steering_vector(*columns(points(), dtype), ArrayGeometry.from_config(physics, dtype=dtype))
    assert a.dtype == (torch.complex128 if dtype == torch.float64 else torch.complex64)
    expected = oracle.steering_matrix(oracle_array(physics), points()).T
    assert np.max(np.abs(a.numpy() / expected - 1.0)) < tolerance


@wave_models
@pytest.mark.parametrize("curvature", [0.0, 1e-8, 0.1, 2.0])
def test_steering_has_unit_norm_down_to_the_plane_wave(wavefront: str, taper: bool, curvature: float) -> None:
    geometry = double_geometry(physics_of(wavefront, taper))
    azimuth, elevation, _ = columns(points())
    u, q = direction(azimuth, elevation), torch.full_like(azimuth, curvature)
    a = steering_towards(u, q, geometry)
    np.testing.assert_allclose(a.abs().square().sum(-1).numpy(), 1.0, rtol=1e-13)
    moved = steering_jet(u, q, torch.ones(len(u), 1, 3, dtype=u.dtype), torch.ones_like(q)[:, None], geometry)
    assert all(bool(torch.isfinite(x.abs()).all()) for x in moved)


@wave_models
def test_a_source_at_infinity_sends_a_plane_wave(wavefront: str, taper: bool) -> None:
    azimuth, elevation, _ = columns(points())
    u, zero = direction(azimuth, elevation), torch.zeros_like(azimuth)
    planar = steering_towards(u, zero, double_geometry(physics_of("planar", False)))
    a = steering_towards(u, zero, double_geometry(physics_of(wavefront, taper)))
    np.testing.assert_allclose(a.numpy(), planar.numpy(), atol=1e-13)


@pytest.mark.parametrize(("wavefront", "order"), [("planar", 1), ("fresnel", 2)])
def test_the_error_of_an_approximation_falls_at_its_order(wavefront: str, order: int) -> None:
    azimuth, elevation, _ = columns(points(8))
    ranges = np.array([1e2, 1e3, 1e4])
    exact, rough = (double_geometry(physics_of(w, False)) for w in ("spherical", wavefront))
    errors = []
    for r in ranges:
        at = (azimuth, elevation, torch.full_like(azimuth, r))
        errors.append((steering_vector(*at, exact) - steering_vector(*at, rough)).abs().amax(-1).numpy())
    slopes = np.diff(np.log(errors), axis=0) / np.diff(np.log(ranges))[:, None]
    np.testing.assert_allclose(slopes, -order, atol=0.05)


def test_the_path_difference_does_not_cancel_in_single_precision() -> None:
    """At 10 km the subtraction ``d - r`` would leave one millimetre, or a fiftieth of a radian."""
    physics = physics_of("spherical", False)
    geometry = ArrayGeometry.from_config(physics)
    azimuth, elevation, _ = columns(points(), torch.float32)
    far = torch.full_like(azimuth, 1e4)
    w = direction(azimuth, elevation) @ geometry.positions.mT
    delta = path_difference(w, 1.0 / far, geometry).delta.double().numpy()
    where = np.stack([x.double().numpy() for x in (azimuth, elevation, far)], axis=1)
    expected = np.stack([oracle.excess_path(oracle_array(physics), *p) for p in where])
    assert np.max(np.abs(delta - expected)) < 5e-7


def test_positions_of_their_own_pair_with_the_sources_of_their_scene() -> None:
    geometry = double_geometry(physics_of("spherical", True))
    draw = torch.Generator().manual_seed(2)
    shifts = torch.randn(5, geometry.num_elements, 3, dtype=torch.float64, generator=draw)
    each = geometry.positions + 0.02 * shifts
    at = [x.reshape(5, 8) for x in columns(points())]
    together = steering_vector(*at, replace(geometry, positions=each))
    for b in range(5):
        alone = steering_vector(*(x[b] for x in at), replace(geometry, positions=each[b]))
        np.testing.assert_allclose(together[b].numpy(), alone.numpy(), atol=1e-14)


def test_an_unknown_wavefront_is_refused() -> None:
    geometry = replace(double_geometry(PhysicsConfig()), wavefront="cubic")
    with pytest.raises(ValueError, match="cubic"):
        steering_vector(*columns(points()), geometry)


PARAMETERS = {  # derivatives, vector, and the oracle's vector, each of (point, surface)
    "angles": (
        lambda at, geometry: steering_derivatives(*at.unbind(-1), geometry),
        lambda at, geometry: steering_vector(*at.unbind(-1), geometry),
        lambda point, array: oracle.steering(array, *point),
    ),
    "polar": (
        polar_jet,
        polar_steering,
        lambda point, array: oracle.steering(array, *map(float, from_polar(torch.from_numpy(point)))),
    ),
}
parameters = pytest.mark.parametrize("parameters", PARAMETERS)


def derivative_points(parameters: str) -> Tensor:
    at = torch.from_numpy(points(8))
    return at if parameters == "angles" else to_polar(*at.unbind(-1))


@wave_models
@parameters
def test_derivatives_match_autograd(wavefront: str, taper: bool, parameters: str) -> None:
    """Reverse mode gives the slopes of ``Re c^H a`` for random c: enough of them pin ``da`` down."""
    jet, vector, _ = PARAMETERS[parameters]
    geometry, at = double_geometry(physics_of(wavefront, taper)), derivative_points(parameters)
    a, da = jet(at, geometry)
    np.testing.assert_allclose(a.numpy(), vector(at, geometry).numpy(), atol=1e-14)
    generator, leaf = torch.Generator().manual_seed(1), at.clone().requires_grad_()
    for _ in range(8):
        c = torch.randn(a.shape, dtype=a.dtype, generator=generator)
        value = (c.conj() * vector(leaf, geometry)).sum().real
        automatic = torch.autograd.grad(value, leaf, allow_unused=True)[0]
        expected = (c.conj().unsqueeze(-2) * da).sum(-1).real
        scale = da.abs().square().sum(-1).sqrt().clamp_min(1.0)
        assert ((automatic - expected).abs() / scale).max() < 1e-12


@wave_models
@parameters
def test_derivatives_match_central_differences_of_the_oracle(
    wavefront: str, taper: bool, parameters: str
) -> None:
    jet, _, reference = PARAMETERS[parameters]
    physics, at = physics_of(wavefront, taper), derivative_points(parameters)
    da = jet(at, double_geometry(physics))[1].numpy()
    array = oracle_array(physics)
    for point, value in zip(at.numpy(), da, strict=True):
        for i, step in enumerate((1e-4, 1e-4, 3e-4 * point[2])):
            expected = oracle.central_difference(lambda p: reference(p, array), point, i, step)
            assert np.max(np.abs(value[i] - expected)) < 1e-8 * max(np.max(np.abs(expected)), 0.1)


@wave_models
@parameters
def test_gradcheck(wavefront: str, taper: bool, parameters: str) -> None:
    """Value and analytic derivative alike are differentiable (the latter trains a network)."""
    jet, vector, _ = PARAMETERS[parameters]
    geometry = double_geometry(physics_of(wavefront, taper, 3, 2))
    at = derivative_points(parameters)[:2].clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda p: vector(p, geometry), (at,))
    assert torch.autograd.gradcheck(lambda p: jet(p, geometry)[1], (at,), fast_mode=True)


@wave_models
def test_derivatives_are_orthogonal_to_scaling(wavefront: str, taper: bool) -> None:
    """``|a| = 1`` everywhere, so ``Re a^H da = 0``."""
    a, da = steering_derivatives(*columns(points()), double_geometry(physics_of(wavefront, taper)))
    projection = (a.conj().unsqueeze(-2) * da).sum(-1).real
    assert projection.abs().max() < 1e-12


def test_single_precision_derivatives() -> None:
    at = columns(points(), torch.float32)
    da = steering_derivatives(*at, ArrayGeometry.from_config(PhysicsConfig()))[1]
    exact = steering_derivatives(*columns(points()), double_geometry(PhysicsConfig()))[1]
    for i in range(3):
        assert relative_error(da[:, i].numpy(), exact[:, i].numpy()) < 1e-5


def test_polar_coordinates_return() -> None:
    back = from_polar(to_polar(*columns(points())))
    np.testing.assert_allclose(torch.stack(back, -1).numpy(), points(), rtol=1e-12)
