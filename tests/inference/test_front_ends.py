"""Any front end: H and codes, the matrices Phi, an ordinary array; many snapshots cost what M do."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from risctl.config import CovarianceConfig, InferenceConfig
from risctl.covariance import ridge_back_projection, snapshot_factor, snapshot_factor_through
from risctl.covariance.ridge import ridge_through
from risctl.errors import MeasurementError
from risctl.inference import build_estimator
from risctl.inference.count import gaussian_start
from risctl.inference.detection import Detector
from risctl.inference.gaussian import gaussian_gradient, gaussian_model
from risctl.inference.greedy import Search
from risctl.inference.observation import Observation, batches
from risctl.physics.polar import from_polar, polar_steering
from tests.inference.conftest import make_scenes, observe, true_points, with_count
from tests.oracle import Array, gaussian_log_likelihood

DOUBLE = torch.complex128


def _ordinary(num_snapshots: int, num_scenes: int = 3, K: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    """Snapshots [B, L, M] of K sources at the elements themselves, and their polar points [B, K, 3]."""
    physics, scenes = make_scenes(40, seed=3)
    rows = with_count(scenes, K)[:num_scenes]
    points = true_points(scenes, rows, K)
    rng = torch.Generator().manual_seed(5)
    A = polar_steering(points, Search.from_config(physics).double().geometry)
    shape = (num_scenes, num_snapshots)
    symbols = torch.randn(*shape, K, dtype=DOUBLE, generator=rng)
    noise = torch.randn(*shape, A.shape[-1], dtype=DOUBLE, generator=rng)
    return symbols @ A + 0.03 * noise, points


def _same_scene_both_ways() -> tuple[Observation, Observation, torch.Tensor]:
    scenes = make_scenes(12, seed=1)[1]
    rows = with_count(scenes, 3)
    factored = observe(scenes, rows, DOUBLE)
    return factored, Observation.of_matrices(factored.y, factored.Phi), true_points(scenes, rows, 3)


def test_products_with_the_matrices_are_those_with_their_factors() -> None:
    factored, general, points = _same_scene_both_ways()
    search = Search.from_config(make_scenes(1)[0]).double()
    assert general.H is None
    torch.testing.assert_close(general.back_project(general.y), factored.back_project(factored.y))
    rows = factored.observe(polar_steering(points, search.geometry)).mT
    torch.testing.assert_close(general.adjoint(rows), factored.adjoint(rows))
    grid = search.grid(InferenceConfig())
    start = gaussian_start(factored, points[:, :2], search.geometry)
    gains = [Detector.compute(obs, grid).gaussian_gain(start, search.geometry) for obs in (factored, general)]
    torch.testing.assert_close(gains[0], gains[1])


@pytest.mark.parametrize("name", ["nomp", "sbl", "music"])
def test_an_estimator_given_phi_finds_what_it_finds_given_h_and_codes(name: str) -> None:
    physics, scenes = make_scenes(8, seed=2, max_sources=3, snr_min_db=10.0)
    estimator = build_estimator(name, physics, CovarianceConfig(), InferenceConfig())
    known = scenes.num_sources.long()
    Phi = scenes.H.unsqueeze(1) * scenes.codes.unsqueeze(2)
    plain = estimator(scenes.y, scenes.H, scenes.codes, known)
    found = estimator(scenes.y, None, None, known, Phi=Phi)
    torch.testing.assert_close(found.azimuth, plain.azimuth, atol=1e-3, rtol=1e-3, equal_nan=True)
    torch.testing.assert_close(found.range, plain.range, atol=1e-2, rtol=1e-2, equal_nan=True)


def test_compressed_snapshots_have_the_same_likelihood_gradient_and_information() -> None:
    """Against the float64 oracle too, which sums over all snapshots."""
    y, points = _ordinary(400)
    physics, _ = make_scenes(1)
    geometry = Search.from_config(physics).double().geometry
    eye = torch.eye(144, dtype=DOUBLE).expand(len(y), 1, -1, -1)
    whole = Observation.of_matrices(y, eye)
    small = whole.compressed()
    assert small.y.shape == (len(y), 144, 144)
    params = gaussian_start(small, points, geometry)
    torch.testing.assert_close(params.log_noise, gaussian_start(whole, points, geometry).log_noise)
    a, b = gaussian_model(whole, params, geometry), gaussian_model(small, params, geometry)
    for name in ("log_likelihood", "information"):
        torch.testing.assert_close(getattr(a, name), getattr(b, name), rtol=1e-9, atol=0.0)
    for gradient in (
        b.gradient,
        gaussian_gradient(whole, params, geometry),
        gaussian_gradient(small, params, geometry),
    ):
        torch.testing.assert_close(gradient, a.gradient, rtol=1e-7, atol=1e-7 * float(a.gradient.abs().max()))
    sources = torch.stack(from_polar(points[0]), dim=-1).numpy()
    powers, noise = params.log_power[0].exp().numpy(), float(params.log_noise[0].exp())
    Phi = np.broadcast_to(np.eye(144), (400, 144, 144))
    expected = gaussian_log_likelihood(Array(), Phi, y[0].numpy(), sources, powers, noise)
    assert float(b.log_likelihood[0]) - y[0].numel() * math.log(math.pi) == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize("name", ["nomp", "sbl", "music"])
def test_an_ordinary_array_is_located_and_each_scene_counts_all_its_snapshots(name: str) -> None:
    """Sources come out where they are, with deviations that fall as the root of the snapshots."""
    physics, _ = make_scenes(1)
    estimator = build_estimator(name, physics, CovarianceConfig(), InferenceConfig())
    deviations = []
    for L in (200, 3200):
        y, points = _ordinary(L)
        eye = torch.eye(144, dtype=torch.complex64).expand(len(y), 1, -1, -1)
        found = estimator(y.to(torch.complex64), None, None, torch.full((len(y),), 2), Phi=eye)
        order = found.azimuth[:, :2].argsort(1)
        azimuth = from_polar(points)[0].sort(dim=1).values
        torch.testing.assert_close(found.azimuth.gather(1, order), azimuth, atol=2e-3, rtol=0.0)
        deviations.append(found.std_azimuth[:, :2].gather(1, order))
    if name == "music":  # which states none
        assert bool(torch.cat(deviations).isinf().all())
        return
    ratio = deviations[0] / deviations[1]
    torch.testing.assert_close(ratio, torch.full_like(ratio, 4.0), rtol=0.1, atol=0.0)


def test_one_code_throughout_is_one_matrix() -> None:
    factored = _same_scene_both_ways()[0]
    codes = factored.codes[:, :1].expand_as(factored.codes)
    held = Observation.build(factored.y, factored.H, codes)
    assert held.Phi.shape[1] == 1
    general = replace(held, Phi=held.Phi.expand(-1, held.y.shape[1], -1, -1), H=None, codes=None)
    assert Observation.of_matrices(held.y, general.Phi).Phi.shape == held.Phi.shape
    geometry, points = Search.from_config(make_scenes(1)[0]).double().geometry, _same_scene_both_ways()[2]
    params = gaussian_start(general, points, geometry)
    a, b = gaussian_model(held, params, geometry), gaussian_model(general, params, geometry)
    torch.testing.assert_close(a.information, b.information)
    torch.testing.assert_close(held.back_project(held.y), general.back_project(held.y))


def test_ridge_and_sample_covariance_through_phi_are_those_through_h_and_codes() -> None:
    obs = _same_scene_both_ways()[0]
    torch.testing.assert_close(
        ridge_through(obs.y, obs.Phi, 1e-3), ridge_back_projection(obs.y, obs.H, obs.codes, 1e-3)
    )
    F = snapshot_factor(obs.y, obs.H, obs.codes, CovarianceConfig())
    G = snapshot_factor_through(obs.y, obs.Phi, CovarianceConfig())
    torch.testing.assert_close(G @ G.mH, F @ F.mH)
    y, _ = _ordinary(300)
    eye = torch.eye(144, dtype=DOUBLE).expand(len(y), 1, -1, -1)
    G = snapshot_factor_through(y, eye, CovarianceConfig())
    assert G.shape == (len(y), 144, 144)
    centred = y - y.mean(1, keepdim=True)
    R = centred.mT @ centred.conj()
    trace = R.diagonal(dim1=-2, dim2=-1).real.sum(-1)[:, None, None]
    torch.testing.assert_close(G @ G.mH, R * 144 / trace)


def test_a_front_end_that_does_not_fit_is_refused_by_name() -> None:
    obs = _same_scene_both_ways()[1]
    with pytest.raises(MeasurementError, match="shapes disagree"):
        Observation.of_matrices(obs.y, obs.Phi[:, :3])
    with pytest.raises(MeasurementError, match=r"expected y \[B,L,M\], Phi"):
        Observation.of_matrices(obs.y, obs.Phi[:, 0])
    with pytest.raises(MeasurementError, match="scene 1 has no energy in y or Phi"):
        Observation.of_matrices(obs.y, obs.Phi * torch.tensor([1.0, 0.0, 1.0])[: len(obs), None, None, None])
    with pytest.raises(MeasurementError, match="got neither"):
        next(batches(obs.y, None, None, None, 5, 32))
