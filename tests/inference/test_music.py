"""MUSIC: exact on the exact covariance, indifferent to batching, and on data as good as it should be."""

from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import max_pool3d

from risctl.config import CovarianceConfig, InferenceConfig, PhysicsConfig
from risctl.inference import Estimates, build_estimator
from risctl.inference.greedy import Search
from risctl.inference.music import MusicEstimator, MusicSearch, music_pseudospectrum
from risctl.inference.nullspace import DeflatedSubspace, null_model, refine_nulls, search_range
from risctl.physics import ArrayGeometry, FieldOfView, Scenes, simulate_scenes, steering_vector
from risctl.physics.grid import PolarGrid, largest_around
from risctl.physics.polar import from_polar, polar_limits, polar_steering, to_polar
from tests import oracle

PHYSICS = PhysicsConfig(stratified=True, snr_values_db=(20.0,))
VIEW = FieldOfView.from_config(PHYSICS)


@pytest.fixture(scope="module")
def scenes() -> Scenes:
    return simulate_scenes(PHYSICS, np.random.Generator(np.random.SFC64(3)), 40)


@pytest.fixture(scope="module")
def music(geometry: ArrayGeometry) -> MusicSearch:
    return MusicSearch(Search(geometry, VIEW), PolarGrid.build(geometry, VIEW), range_grid=241)


def true_factor(scenes: Scenes, K: int, geometry: ArrayGeometry) -> tuple[Tensor, Tensor]:
    """``A sqrt(P)`` [n, N, K] and the true points [n, K, 3] of the scenes with K sources."""
    s = scenes[(scenes.num_sources == K).nonzero().squeeze(-1)]
    phi, theta, r = s.azimuth[:, :K], s.elevation[:, :K], s.range[:, :K]
    A = steering_vector(phi, theta, r, geometry)
    return (A * s.power[:, :K, None].sqrt()).mT, to_polar(phi, theta, r)


def same_order(found: Tensor, true: Tensor) -> Tensor:
    """`found` [n, K, 3] in the order of the nearest of the `true` points."""
    nearest = torch.cdist(true, found).argmin(dim=2)
    return found.gather(1, nearest.unsqueeze(-1).expand(-1, -1, 3))


@pytest.fixture(scope="module")
def estimator() -> MusicEstimator:
    built = build_estimator("music", PHYSICS, CovarianceConfig(), InferenceConfig())
    assert isinstance(built, MusicEstimator)
    return built


def locate(estimator: MusicEstimator, s: Scenes, known: bool) -> Estimates:
    return estimator(s.y, s.H, s.codes, s.num_sources.long() if known else None)


@pytest.mark.parametrize("K", [1, 2, 3, 4, 5])
def test_exact_on_the_exact_covariance(
    scenes: Scenes, K: int, geometry: ArrayGeometry, music: MusicSearch
) -> None:
    F, true = true_factor(scenes, K, geometry)
    found = from_polar(same_order(music.locate(F, K), true).double())
    azimuth, elevation, range_ = (
        (a - b).abs().max() for a, b in zip(found, from_polar(true.double()), strict=True)
    )
    assert float(torch.maximum(azimuth, elevation).rad2deg()) < 1e-3
    assert float(range_) < 1e-2


LIMITS = [(-60, -30, 0.5), (60, 30, 10.0), (0, 0, 0.5), (60, -30, 0.5), (-60, 0, 10)]


@pytest.mark.parametrize("place", LIMITS)
def test_exact_at_the_limits_of_the_field_of_view(
    place: tuple[float, float, float], geometry: ArrayGeometry, music: MusicSearch
) -> None:
    position = torch.tensor([place])
    position[:, :2] = position[:, :2].deg2rad()
    F = steering_vector(*position.T, geometry).unsqueeze(-1)
    found = music.locate(F, 1)[:, 0]
    torch.testing.assert_close(found, to_polar(*position.T), rtol=0.0, atol=2e-5)


def test_two_sources_in_one_direction_are_told_apart_by_range(
    geometry: ArrayGeometry, music: MusicSearch
) -> None:
    true = torch.tensor([[[0.2, -0.1, 1.6], [0.2, -0.1, 0.2]]])
    F = polar_steering(true, geometry).mT
    torch.testing.assert_close(same_order(music.locate(F, 2), true), true, rtol=0.0, atol=1e-4)


def test_noise_below_the_signal_subspace_changes_nothing(
    scenes: Scenes, geometry: ArrayGeometry, music: MusicSearch
) -> None:
    """``R + sigma^2 I`` has the eigenvectors of R, so MUSIC finds the same points."""
    F, true = true_factor(scenes, 3, geometry)
    R = F @ F.mH + 0.3 * torch.eye(144)
    found = same_order(music.locate(torch.linalg.cholesky(R), 3), true)
    torch.testing.assert_close(found, true, rtol=0.0, atol=2e-4)


def test_error_vanishes_with_the_perturbation(
    scenes: Scenes, geometry: ArrayGeometry, music: MusicSearch
) -> None:
    """First-order perturbation theory: the error is proportional to a small disturbance of the factor."""
    F, true = true_factor(scenes, 3, geometry)
    E = torch.randn(F.shape, dtype=F.dtype, generator=torch.Generator().manual_seed(0))
    errors = [(same_order(music.locate(F + e * E, 3), true) - true).abs().mean() for e in (4e-3, 1e-3)]
    assert float(errors[0] / errors[1]) == pytest.approx(4.0, rel=0.15)


def test_lattice_neighbours_are_neighbours_in_space(music: MusicSearch) -> None:
    order = music.grid.order
    box = music.grid.points[order]
    assert torch.equal(order.flatten().sort().values, torch.arange(music.grid.num_points))
    for axis in range(3):
        steps = box.diff(dim=axis).flatten(0, 2)
        along = steps[:, axis]
        assert bool((along > 0).all())
        torch.testing.assert_close(along, along.mean().expand(len(along)))
        assert not bool(steps[:, [i for i in range(3) if i != axis]].any())


def test_strongest_maxima_are_those_found_by_looking(music: MusicSearch) -> None:
    values = torch.rand(2, music.grid.num_points, generator=torch.Generator().manual_seed(4))
    found = music.grid.strongest_maxima(values, 5)
    for scene in range(2):
        box = torch.where(music.grid.inside, values[scene], -1.0)[music.grid.order].numpy()
        padded = np.pad(box, 1, constant_values=-1.0)
        maxima = [
            box[i, j, k]
            for i, j, k in np.ndindex(*box.shape)
            if box[i, j, k] >= padded[i : i + 3, j : j + 3, k : k + 3].max()
        ]
        index = [int((music.grid.points == p).all(-1).nonzero()[0]) for p in found[scene]]
        np.testing.assert_allclose(values[scene, index].numpy(), sorted(maxima)[::-1][:5])
        assert bool(music.grid.inside[index].all())


@pytest.mark.parametrize("shape", [(4, 6, 5), (1, 2, 7), (3, 1, 1)])
def test_the_largest_around_is_that_of_pooling(shape: tuple[int, int, int]) -> None:
    x = torch.rand(2, *shape, generator=torch.Generator().manual_seed(8))
    x[0].view(-1)[::3] = -torch.inf
    assert torch.equal(largest_around(x), max_pool3d(x.unsqueeze(1), 3, stride=1, padding=1).squeeze(1))


def test_when_maxima_run_out_other_points_in_view_follow(music: MusicSearch) -> None:
    values = music.grid.points.sum(-1).unsqueeze(0).sigmoid()
    found = music.grid.strongest_maxima(values, 40)[0]
    low, high = polar_limits(found, VIEW)
    assert len(found.unique(dim=0)) == 40
    assert bool(((found >= low - 1e-6) & (found <= high + 1e-6)).all())


def test_interpolation_finds_the_top_of_a_parabola(music: MusicSearch) -> None:
    """Amplitudes of one parabola an axis, with its top anywhere inside the lattice."""
    grid, rng = music.grid, torch.Generator().manual_seed(5)
    low, high = (f(grid.points, 0) for f in (torch.amin, torch.amax))
    inner = low + grid.steps, high - grid.steps
    top = inner[0] + (inner[1] - inner[0]) * torch.rand(20, 3, generator=rng)
    top = top[top[:, 0].abs() < 0.6]
    away = ((grid.points - top.unsqueeze(1)) / (high - low)).square().sum(-1)
    found = grid.interpolated_maxima((1.0 - 0.3 * away).square(), 1).squeeze(1)
    torch.testing.assert_close(found, top, rtol=0.0, atol=1e-4)


def test_a_beam_between_points_of_the_lattice_is_found_nearer(
    music: MusicSearch, geometry: ArrayGeometry
) -> None:
    rng = torch.Generator().manual_seed(6)
    truth = (torch.rand(200, 3, generator=rng) - 0.5) * torch.tensor([1.2, 0.7, 0.6]) + torch.tensor(
        [0, 0, 0.5]
    )
    energy = music.grid.energy(polar_steering(truth, geometry).unsqueeze(1))
    values = energy / energy.amax(1, keepdim=True)
    errors = [
        ((find(values, 1).squeeze(1) - truth) / music.grid.steps)[:, :2].abs().mean()
        for find in (music.grid.strongest_maxima, music.grid.interpolated_maxima)
    ]
    assert float(errors[1]) < 0.5 * float(errors[0])


def test_interpolation_stays_within_half_a_step_and_on_the_rim(music: MusicSearch) -> None:
    """Noise moves no point further than half a step; a top on the rim of the box stays there."""
    grid = music.grid
    values = torch.rand(3, grid.num_points, generator=torch.Generator().manual_seed(7))
    moved = grid.interpolated_maxima(values, 9) - grid.strongest_maxima(values, 9)
    assert bool((moved.abs() <= 0.5 * grid.steps + 1e-6).all())
    assert bool(moved.abs().sum() > 0)
    rising = (grid.points[:, 2:] * 0.5).mT.clamp(0.0, 1.0)
    assert torch.equal(grid.interpolated_maxima(rising, 1)[..., 2], grid.strongest_maxima(rising, 1)[..., 2])


def draw_space(geometry: ArrayGeometry, others: int) -> tuple[DeflatedSubspace, Tensor]:
    rng = torch.Generator().manual_seed(8)
    U = torch.linalg.qr(torch.randn(2, 144, 4, dtype=torch.complex128, generator=rng))[0]
    box, centre = torch.tensor([[0.5, 0.3, 0.4], [0.0, 0.0, 0.6]], dtype=torch.float64)
    points = (torch.rand(2, 3, 3, dtype=torch.float64, generator=rng) * 2 - 1) * box + centre
    beside = points[:, :others].flip(-1).unsqueeze(1) * torch.tensor([1.0, 1.0, 2.0])
    return DeflatedSubspace.compute(U, beside, geometry), points


@pytest.mark.parametrize("others", [0, 2])
def test_null_model_is_the_oracle_s_spectrum_and_its_slope(geometry64: ArrayGeometry, others: int) -> None:
    space, points = draw_space(geometry64, others)
    model = null_model(space, points, geometry64)
    share = space.along(polar_steering(points, geometry64).unsqueeze(2)).flatten()
    torch.testing.assert_close(model.cost, 1.0 - share)
    for j, step in enumerate(1e-5 * torch.eye(3, dtype=torch.float64)):
        after, before = (null_model(space, p, geometry64).cost for p in (points + step, points - step))
        torch.testing.assert_close(model.gradient[:, j], (after - before) / 2e-5, rtol=1e-5, atol=1e-7)
    assert bool((torch.linalg.eigvalsh(model.curvature) > 0).all())
    if not others:
        R = space.U[0, 0] @ space.U[0, 0].mH
        place = torch.stack(from_polar(points[0]), dim=-1).numpy()
        expected = oracle.music_null_spectrum(oracle.Array(), R.numpy(), 4, place)
        np.testing.assert_allclose(model.cost[:3].numpy(), expected, atol=1e-10)


def test_curvature_is_the_second_derivative_at_a_null(geometry64: ArrayGeometry) -> None:
    _, points = draw_space(geometry64, 0)
    U = torch.linalg.qr(polar_steering(points, geometry64).mT)[0]
    space = DeflatedSubspace.compute(U, points[:, None, :0], geometry64)
    model = null_model(space, points, geometry64)
    for j, step in enumerate(1e-4 * torch.eye(3, dtype=torch.float64)):
        after, before = (null_model(space, p, geometry64).gradient for p in (points + step, points - step))
        torch.testing.assert_close(model.curvature[:, j], (after - before) / 2e-4, rtol=1e-3, atol=1e-3)


def test_refinement_never_raises_the_null_spectrum_nor_leaves_the_view(geometry64: ArrayGeometry) -> None:
    space, points = draw_space(geometry64, 0)
    moved = refine_nulls(space, points, geometry64, VIEW, 5)
    before, after = (null_model(space, p, geometry64).cost for p in (points, moved))
    assert bool((after <= before).all())
    low, high = polar_limits(moved, VIEW)
    assert bool(((moved >= low) & (moved <= high)).all())


def test_range_search_finds_the_range_and_keeps_the_direction(geometry: ArrayGeometry) -> None:
    true = torch.tensor([[[0.3, 0.1, 1.0 / 2.5]], [[-0.5, 0.2, 1.0 / 0.7]]])
    space = DeflatedSubspace.compute(polar_steering(true, geometry).mT, true.new_empty(2, 1, 0, 3), geometry)
    start = true.clone()
    start[..., 2] = 0.2
    found = search_range(space, start, torch.linspace(0.5, 10.0, 96), geometry)
    assert torch.equal(found[..., :2], true[..., :2])
    torch.testing.assert_close(1.0 / found[..., 2], 1.0 / true[..., 2], rtol=0.0, atol=0.051)


def test_spectrum_peaks_at_the_source(geometry: ArrayGeometry) -> None:
    F = steering_vector(torch.tensor([0.3]), torch.tensor([-0.1]), torch.tensor([1.5]), geometry).mT
    azimuth, range_ = torch.linspace(-1.0, 1.0, 41), torch.linspace(0.5, 5.5, 11)
    arguments = (1, torch.tensor(-0.1), azimuth, range_, geometry)
    decibels = 10.0 * np.log10(music_pseudospectrum(F, *arguments))
    assert decibels.shape == (11, 41)
    assert np.unravel_index(decibels.argmax(), decibels.shape) == (2, 26)
    assert float(decibels.min()) >= 0.0
    assert float(decibels.max()) > 50.0
    of_covariance = 10.0 * np.log10(music_pseudospectrum(F @ F.mH, *arguments))
    np.testing.assert_allclose(of_covariance[0], decibels[0], atol=1e-4)


def test_spectrum_equals_the_oracle_and_takes_the_largest_over_elevation(geometry: ArrayGeometry) -> None:
    F = torch.randn(144, 6, dtype=torch.complex64, generator=torch.Generator().manual_seed(1))
    azimuth, elevation, range_ = map(torch.tensor, ([-0.5, 0.2], [-0.2, 0.1], [0.6, 3.0, 8.0]))
    R = (F @ F.mH).numpy()
    grid = np.array([[a, e, r] for e in elevation for r in range_ for a in azimuth], dtype=np.float64)
    expected = oracle.music_spectrum(oracle.Array(), R, 2, grid).reshape(2, 3, 2).max(0)
    got = music_pseudospectrum(F, 2, elevation, azimuth, range_, geometry)
    np.testing.assert_allclose(got, expected, rtol=1e-4)


def assert_same(a: Estimates, b: Estimates) -> None:
    """Positions to 1e-4; powers, noise and deviations to what a likelihood in single precision can tell."""
    for f in fields(Estimates):
        rtol, atol = (1e-4, 1e-4) if f.name in ("azimuth", "elevation", "range") else (2e-2, 1e-5)
        one, other = getattr(a, f.name), getattr(b, f.name)
        torch.testing.assert_close(one, other, rtol=rtol, atol=atol, equal_nan=True)


@pytest.mark.parametrize("known", [True, False])
def test_order_and_batching_of_the_scenes_do_not_matter(
    scenes: Scenes, estimator: MusicEstimator, known: bool
) -> None:
    few = scenes[:5]
    whole = locate(estimator, few, known)
    backwards = locate(replace(estimator, batch=3), few[torch.arange(4, -1, -1)], known)
    assert_same(Estimates(**{f.name: getattr(backwards, f.name).flip(0) for f in fields(Estimates)}), whole)
    alone = locate(estimator, few[3:4], known)
    assert_same(alone, Estimates(**{f.name: getattr(whole, f.name)[3:4] for f in fields(Estimates)}))


def test_one_strong_source_is_found_counted_and_measured(scenes: Scenes, estimator: MusicEstimator) -> None:
    s = scenes[(scenes.num_sources == 1).nonzero().squeeze(-1)]
    found = locate(estimator, s, known=False)
    assert bool((found.num_sources == 1).all())
    assert float((found.azimuth[:, 0] - s.azimuth[:, 0]).abs().rad2deg().max()) < 5.0
    assert float((found.elevation[:, 0] - s.elevation[:, 0]).abs().rad2deg().max()) < 5.0
    assert bool((found.power[:, 0].log10() - s.power[:, 0].log10()).abs().max() < 0.5)


@pytest.mark.slow
def test_hit_rate_is_no_worse_than_that_of_plain_grid_music(estimator: MusicEstimator) -> None:
    """Share of sources within 5 degrees, K known: plain grid MUSIC has 0.73 and 0.62 for K = 3, 5."""
    physics = PhysicsConfig(stratified=True, snr_values_db=(10.0,))
    s = simulate_scenes(physics, np.random.Generator(np.random.SFC64(17)), 300)
    found = locate(estimator, s, known=True)
    pairs = ((found.azimuth, s.azimuth), (found.elevation, s.elevation))
    near = [(a.unsqueeze(1) - b.unsqueeze(2).double()).rad2deg().abs() < 5.0 for a, b in pairs]
    hit = (near[0] & near[1]).any(dim=2)
    for K, expected in ((1, 1.0), (3, 0.73), (5, 0.62)):
        assert float(hit[s.num_sources == K][:, :K].double().mean()) > expected - 0.05
