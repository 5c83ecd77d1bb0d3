"""Constant symbols: stacked snapshots, the common-power likelihood against the oracle, NOMP end to end."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from risctl.config import CovarianceConfig, InferenceConfig, PhysicsConfig
from risctl.errors import InputError, MeasurementError
from risctl.inference import Estimates, build_estimator
from risctl.inference.common_power import common_power_fit, common_power_model
from risctl.inference.count import to_estimates
from risctl.inference.observation import Observation
from risctl.inference.pilots import PilotDetector, PilotNompEstimator, PilotSearch, condensed, without_each
from risctl.inference.stacked import stack_snapshots
from risctl.physics import ArrayGeometry, Scenes
from risctl.physics.bounds import scene_bounds
from risctl.physics.grid import PolarGrid
from risctl.physics.polar import polar_steering, to_polar
from tests import oracle
from tests.inference.conftest import make_scenes, observe, true_points
from tests.inference.test_nomp import angle_errors
from tests.physics.reference import oracle_array


def nomp(physics: PhysicsConfig, **changes: Any) -> PilotNompEstimator:
    estimator = build_estimator("nomp", physics, CovarianceConfig(), InferenceConfig(**changes))
    assert isinstance(estimator, PilotNompEstimator)
    return estimator


def pilots(count: int, K: int, seed: int = 0, **changes: Any) -> tuple[PhysicsConfig, Scenes]:
    fixed = {"symbols": "constant", "min_sources": K, "max_sources": K}
    return make_scenes(count, seed, **fixed | changes)


def stacked(scenes: Scenes, static_path: bool = False) -> Observation:
    return stack_snapshots(observe(scenes, torch.arange(len(scenes)), torch.complex128), static_path)


def locate(estimator: PilotNompEstimator, scenes: Scenes, given: bool) -> Estimates:
    return estimator(scenes.y, scenes.H, scenes.codes, scenes.num_sources.long() if given else None)


def oracle_log_likelihood(
    y: np.ndarray, Phi: np.ndarray, A: np.ndarray, ratio: float, noise_power: int
) -> float:
    """``log int p(y | sigma^2) d sigma^2 / sigma^2`` but for ``log Gamma(n) - n log pi``, by definition."""
    B = Phi @ A
    R = np.eye(len(y)) + ratio * B @ B.conj().T
    return float(-noise_power * np.log((y.conj() @ np.linalg.solve(R, y)).real) - np.linalg.slogdet(R)[1])


@pytest.mark.parametrize("K", [1, 2, 4])
@pytest.mark.parametrize("static_path", [False, True])
def test_likelihood_is_that_of_the_definition(K: int, static_path: bool, geometry64: ArrayGeometry) -> None:
    """At the fitted ratio the value is the oracle's, and no other ratio has a larger one."""
    physics, scenes = pilots(
        2, K, seed=3, num_antennas=4, num_snapshots=6, max_sources=K, static_path=static_path
    )
    obs, points = stacked(scenes, static_path), true_points(scenes, torch.arange(2), K)
    n = obs.y.shape[-1]
    assert n == (6 - static_path) * 4
    fit = common_power_fit(obs, points.unsqueeze(1), n, geometry64)
    for b in range(2):
        where = np.stack(
            [getattr(scenes, name)[b].double().numpy() for name in ("azimuth", "elevation", "range")], 1
        )
        A = oracle.steering_matrix(oracle_array(physics), where)
        y, Phi, ratio = obs.y[b, 0].numpy(), obs.Phi[b, 0].numpy(), float(fit.ratio[b, 0])
        best = oracle_log_likelihood(y, Phi, A, ratio, n)
        assert float(fit.log_likelihood[b, 0]) == pytest.approx(best, rel=1e-6)
        others = [
            oracle_log_likelihood(y, Phi, A, ratio * factor, n)
            for factor in (0.01, 0.5, 0.9, 1.1, 2.0, 100.0)
        ]
        assert max(others) < best
        x = np.linalg.solve(
            A.conj().T @ Phi.conj().T @ Phi @ A + np.eye(K) / ratio, A.conj().T @ Phi.conj().T @ y
        )
        np.testing.assert_allclose(fit.amplitudes[b, 0].numpy(), x, rtol=1e-5)


def test_marginal_is_the_mean_over_the_ratio(geometry64: ArrayGeometry) -> None:
    physics, scenes = pilots(2, 2, seed=4)
    obs, points = stacked(scenes), true_points(scenes, torch.arange(2), 2)
    fit = common_power_fit(obs, points.unsqueeze(1), 256, geometry64)
    where = np.stack(
        [getattr(scenes, name)[0].double().numpy() for name in ("azimuth", "elevation", "range")], 1
    )
    A = oracle.steering_matrix(oracle_array(physics), where)
    y, Phi = obs.y[0, 0].numpy(), obs.Phi[0, 0].numpy()
    mean = float(np.mean(np.sum(np.abs(Phi @ A) ** 2, axis=0)))
    ratios = np.exp(np.linspace(0.0, math.log(1e9), 400)) / mean
    values = np.array([oracle_log_likelihood(y, Phi, A, ratio, 256) for ratio in ratios])
    expected = values.max() + np.log(np.mean(np.exp(values - values.max())))
    assert float(fit.log_marginal[0, 0]) == pytest.approx(expected, abs=0.05)


@pytest.mark.parametrize("K", [1, 3])
def test_gradient_is_that_of_finite_differences(K: int, geometry64: ArrayGeometry) -> None:
    _, scenes = pilots(2, K, seed=5, num_antennas=8, num_snapshots=4)
    obs = stacked(scenes)
    at = true_points(scenes, torch.arange(2), K).unsqueeze(1) + 0.01
    model = common_power_model(obs, at, 32, geometry64)
    for i in range(3 * K):
        step = torch.zeros(3 * K, dtype=torch.float64)
        step[i] = 1e-5
        moved = [at + sign * step.view(K, 3) for sign in (1.0, -1.0)]
        up, down = (common_power_fit(obs, p, 32, geometry64).log_likelihood for p in moved)
        slope = -(up - down)[:, 0] / 2e-5
        torch.testing.assert_close(model.gradient[:, 0, i], slope, rtol=1e-4, atol=1e-3)


def test_curvature_is_the_conditional_information(geometry64: ArrayGeometry) -> None:
    """Without noise in the amplitudes and at a large ratio: the bound's information, in polar coordinates."""
    physics, scenes = pilots(3, 2, seed=6, snr_values_db=(60.0,))
    obs, points = stacked(scenes), true_points(scenes, torch.arange(3), 2)
    found = nomp(physics).fitted(obs, points)
    estimates = to_estimates(found)
    bound = scene_bounds(scenes, geometry64, symbols="constant")
    for name in ("azimuth", "elevation", "range"):
        ratio = getattr(estimates, f"std_{name}").sort(1).values / getattr(bound, name).sort(1).values
        assert bool((ratio.log().abs() < 0.15).all()), name  # the noise variance is an estimate


def test_a_condensed_snapshot_has_the_same_likelihood(geometry64: ArrayGeometry) -> None:
    _, scenes = pilots(2, 2, seed=7, num_snapshots=24)
    obs, points = stacked(scenes), true_points(scenes, torch.arange(2), 2).unsqueeze(1)
    short = condensed(obs)
    assert short.y.shape[-1] == 145 < obs.y.shape[-1]
    a, b = (common_power_fit(o, points, 384, geometry64) for o in (obs, short))
    torch.testing.assert_close(a.log_likelihood, b.log_likelihood)
    torch.testing.assert_close(a.amplitudes, b.amplitudes)


def test_candidates_are_where_the_likelihood_rises_most(geometry64: ArrayGeometry) -> None:
    """The first candidate is the best grid point when each is tried with the fitted ratio."""
    physics, scenes = pilots(2, 2, seed=8, num_antennas=8, num_snapshots=8)
    obs, known = stacked(scenes), true_points(scenes, torch.arange(2), 2)[:, None, :1]
    search = nomp(physics).search.search.double()
    grid = PolarGrid.build(geometry64, search.view, 1.0, 3)
    found = PilotDetector.compute(obs, grid, 64).candidates(search, known, 2)
    ratio = common_power_fit(obs, known, 64, geometry64).ratio
    inside = grid.points[grid.inside]
    for b in range(2):
        B = obs.Phi[b, 0] @ torch.stack([_steer(p, geometry64) for p in known[b, 0]], 1)
        values = []
        for point in inside:
            full = torch.cat([B, (obs.Phi[b, 0] @ _steer(point, geometry64)).unsqueeze(1)], 1)
            R = torch.eye(64, dtype=full.dtype) + ratio[b, 0] * full @ full.mH
            y = obs.y[b, 0]
            loss = (y.conj() @ torch.linalg.solve(R, y)).real
            values.append(-64 * loss.log() - torch.linalg.slogdet(R)[1])
        torch.testing.assert_close(found[b, 0, 0], inside[torch.stack(values).argmax()])


def _steer(point: Tensor, geometry: ArrayGeometry) -> Tensor:
    return polar_steering(point, geometry)


def test_each_source_is_left_out_once() -> None:
    points = torch.arange(12.0).view(1, 4, 3)
    left = without_each(points)[0, :, :, 0].tolist()
    assert left == [[3, 6, 9], [0, 6, 9], [0, 3, 9], [0, 3, 6]]


@pytest.mark.parametrize("static_path", [False, True])
@pytest.mark.parametrize("given", [pytest.param(True, marks=pytest.mark.slow), False])
def test_everything_is_found_at_high_snr(given: bool, static_path: bool) -> None:
    physics, scenes = make_scenes(
        10, seed=11, stratified=True, snr_values_db=(30.0,), symbols="constant", static_path=static_path
    )
    found = locate(nomp(physics), scenes, given)
    assert torch.equal(found.num_sources, scenes.num_sources.long())
    assert torch.nan_to_num(angle_errors(scenes, found)).max() < 0.5


def test_powers_and_noise_are_on_the_scale_of_the_data() -> None:
    physics, scenes = pilots(5, 2, seed=12, snr_values_db=(20.0,))
    found = locate(nomp(physics), scenes, True)
    assert 0.9 < float((found.noise_var / scenes.noise_var).median()) < 1.1
    expected = scenes.power.sort(1, descending=True).values.double()
    assert bool(((found.power[:, :2] / expected).log().abs() < 0.3).all())


@pytest.mark.parametrize(("snapshots", "antennas"), [(64, 1), (40, 16), (12, 3)])
def test_other_sizes_and_a_single_antenna(snapshots: int, antennas: int) -> None:
    physics, scenes = pilots(
        6, 2, seed=13, num_snapshots=snapshots, num_antennas=antennas, snr_values_db=(25.0,)
    )
    found = locate(nomp(physics), scenes, True)
    assert torch.nan_to_num(angle_errors(scenes, found)).median() < 0.5


def test_means_are_those_of_a_fine_grid() -> None:
    """One source of known elevation and range: the mean and deviation of the azimuth by brute force."""
    known = {"known_elevation_deg": 0.0, "known_range_m": 5.0}
    physics, scenes = pilots(4, 1, seed=21, num_antennas=1, num_snapshots=11, snr_values_db=(0.0,), **known)
    estimator, obs = nomp(physics), stacked(scenes)
    mode = estimator.fitted(obs, true_points(scenes, torch.arange(4), 1))
    found = to_estimates(estimator.expected(obs, mode))
    at = to_estimates(mode).azimuth
    reach = 4.0 * to_estimates(mode).std_azimuth
    azimuth = at + reach * torch.linspace(-1.0, 1.0, 401, dtype=torch.float64)
    azimuth = azimuth.clamp(-math.radians(60), math.radians(60))
    zero = torch.zeros_like(azimuth)
    points = to_polar(azimuth, zero, zero + 5.0).unsqueeze(2)
    search = estimator.search.search.double()
    weight = common_power_fit(obs, points, 11, search.geometry).log_marginal.softmax(1)
    mean = (weight * azimuth).sum(1)
    torch.testing.assert_close(found.azimuth[:, 0], mean, rtol=0, atol=2e-3)
    std = (weight * (azimuth - mean.unsqueeze(1)).square()).sum(1).sqrt()
    torch.testing.assert_close(found.std_azimuth[:, 0], std, rtol=0.05, atol=0)


def test_what_explains_the_scenes_is_the_maximum() -> None:
    physics, scenes = pilots(6, 2, seed=22, snr_values_db=(0.0,))
    estimator, obs = nomp(physics), stacked(scenes)
    answered, best = estimator.explained(scenes.y, scenes.H, scenes.codes, scenes.num_sources.long())
    values = []
    for found in (best, answered):
        points = to_polar(*(x[:, :2] for x in (found.azimuth, found.elevation, found.range)))
        geometry = estimator.search.search.double().geometry
        values.append(common_power_fit(obs, points.unsqueeze(1), 256, geometry).log_likelihood[:, 0])
    assert bool((values[0] >= values[1] - 1e-6).all())
    assert bool((values[0] > values[1] + 1e-3).any())


def test_a_constant_offset_and_a_common_phase_change_nothing() -> None:
    physics, scenes = pilots(4, 2, seed=14, snr_values_db=(15.0,), static_path=True)
    estimator = nomp(physics)
    before = locate(estimator, scenes, True)
    offset = torch.full_like(scenes.y[:, :1], 3.0 + 1.0j)
    after = estimator((scenes.y + offset) * 1j, scenes.H, scenes.codes, scenes.num_sources.long())
    torch.testing.assert_close(before.azimuth, after.azimuth, rtol=0, atol=1e-4, equal_nan=True)
    torch.testing.assert_close(before.power, after.power, rtol=1e-3, atol=0)


def test_a_static_path_needs_codes_that_change() -> None:
    physics, scenes = pilots(2, 1, static_path=True)
    codes = scenes.codes[:, :1].expand_as(scenes.codes)
    with pytest.raises(MeasurementError, match="different codes"):
        nomp(physics)(scenes.y, scenes.H, codes)


def test_more_sources_than_values_are_refused() -> None:
    physics, scenes = pilots(1, 3, num_antennas=1, num_snapshots=4)
    padded = physics.model_copy(update={"max_sources": 5})
    with pytest.raises(MeasurementError, match="than 4 for 4 sources"):
        nomp(padded)(scenes.y, scenes.H, scenes.codes, torch.tensor([4]))


@pytest.mark.parametrize("name", ["music", "sbl", "learned"])
def test_estimators_of_varying_symbols_refuse(name: str) -> None:
    with pytest.raises(InputError, match=r"nomp with physics\.symbols=constant"):
        build_estimator(name, PhysicsConfig(symbols="constant"), CovarianceConfig(), InferenceConfig())


@pytest.mark.parametrize("shape", [(16, 16), (24, 1)])
def test_noise_alone_has_no_source(shape: tuple[int, int]) -> None:
    L, M = shape
    physics, scenes = pilots(60, 1, seed=8, num_snapshots=L, num_antennas=M, max_sources=2)
    noise = torch.view_as_complex(torch.randn(60, L, M, 2, generator=torch.Generator().manual_seed(M)))
    found = nomp(physics, swap_rounds=0)(noise, scenes.H, scenes.codes)
    assert int((found.num_sources > 0).sum()) == 0
    none = found.count_probability[:, 0]
    assert int((none > found.count_probability[:, 1:].amax(1)).sum()) >= 57  # the most probable count
    assert float(none.median()) > 0.9
    exact = torch.view_as_real(noise).double().square().sum(-1).mean((1, 2))
    torch.testing.assert_close(found.noise_var, exact)


def test_the_probabilities_of_the_counts_are_stated_where_sources_are_found() -> None:
    physics, scenes = pilots(4, 2, seed=16, snr_values_db=(20.0,))
    found = locate(nomp(physics, swap_rounds=0), scenes, given=False)
    assert found.num_sources.tolist() == [2] * 4
    assert torch.equal(found.count_probability.argmax(1), found.num_sources)
    torch.testing.assert_close(found.count_probability.sum(1), torch.ones(4, dtype=torch.float64))


def test_search_without_swaps_is_never_better() -> None:
    physics, scenes = pilots(3, 5, seed=15, snr_values_db=(10.0,))
    estimator = nomp(physics)
    obs = stack_snapshots(observe(scenes, torch.arange(3)))
    detector = PilotDetector.compute(obs, estimator.grid, 256)
    plain, full = (
        PilotSearch(estimator.search.search, rounds).hypotheses(detector, 5)[4] for rounds in (0, 3)
    )
    geometry = estimator.search.search.geometry
    values = [common_power_fit(obs, p.unsqueeze(1), 256, geometry).log_likelihood for p in (plain, full)]
    assert bool((values[1] >= values[0] - 0.5).all())


def ratio_to_bound(scenes: Scenes, physics: PhysicsConfig, errors: Tensor) -> float:
    """RMSE of the direction over its bound, for the sources found, mean over K."""
    geometry = ArrayGeometry.from_config(physics)
    bounds = scene_bounds(scenes, geometry, symbols=physics.symbols, static_path=physics.static_path)
    variance = torch.rad2deg((bounds.azimuth.square() + bounds.elevation.square()).sqrt()).square()
    ratios = []
    for K in scenes.num_sources.unique().tolist():
        hit = (scenes.num_sources == K).unsqueeze(1) & scenes.source_mask & (errors < 5)
        ratios.append((errors[hit].square().mean() / variance[hit].mean()).sqrt())
    return float(torch.stack(ratios).mean())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "snr_db", "recall", "count"),
    [
        ({}, 5.0, 0.95, 0.90),
        ({}, 0.0, 0.88, 0.82),
        ({}, -5.0, 0.60, 0.50),
        ({}, 20.0, 0.99, 0.98),
        ({"num_antennas": 1, "num_snapshots": 64}, 20.0, 0.97, 0.90),
    ],
)
def test_reference_figures(changes: dict[str, Any], snr_db: float, recall: float, count: float) -> None:
    """Recall with K given, error over the bound, and blind count over 40 scenes for each K = 1..5."""
    fixed = {"symbols": "constant", "stratified": True, "snr_values_db": (snr_db,)}
    physics, scenes = make_scenes(200, seed=1000, **fixed | changes)
    estimator = nomp(physics)
    given, blind = locate(estimator, scenes, True), locate(estimator, scenes, False)
    errors = angle_errors(scenes, given)
    assert float((errors[scenes.source_mask] < 5).double().mean()) >= recall
    assert float((blind.num_sources == scenes.num_sources).double().mean()) >= count
    if snr_db >= 5:
        assert ratio_to_bound(scenes, physics, errors) <= 1.10
