import numpy as np
import pytest
import torch

from risctl.config import InferenceConfig, PhysicsConfig
from risctl.inference.count import CountRule
from risctl.inference.estimates import Estimates
from risctl.inference.greedy import Search
from risctl.inference.observation import Observation
from risctl.inference.sbl import NUM_RANGES, OVERSAMPLING, SblEstimator, merged_peaks, schedule
from risctl.inference.sbl_learning import fixed_point_step, grid_responses, initial_powers, learn, prune
from risctl.physics import ArrayGeometry, FieldOfView, simulate_scenes
from risctl.physics.grid import PolarGrid
from tests.oracle import snapshot_covariance

SMALL = PhysicsConfig(ris_columns=6, ris_rows=5, num_antennas=8, num_snapshots=6, max_sources=3)
WIDE, DOUBLE = torch.complex128, torch.float64


def simulated(physics, n, **changes):
    physics = PhysicsConfig(**physics.model_dump(exclude={"impairments"}) | changes)
    return simulate_scenes(physics, np.random.Generator(np.random.SFC64(7)), n)


def estimator(physics, dtype=torch.float32, **changes):
    inference = InferenceConfig(**{"sbl_iterations": 14, **changes})
    rule = CountRule.from_config(physics, inference.count_rule, inference.count_price)
    search = Search(ArrayGeometry.from_config(physics, dtype=dtype), FieldOfView.from_config(physics))
    return SblEstimator(search, rule, physics.max_sources, inference)


def small_grid(dtype=torch.float32):
    geometry = ArrayGeometry.from_config(SMALL, dtype=dtype)
    return PolarGrid.build(geometry, FieldOfView.from_config(SMALL), OVERSAMPLING, 4)


def observed(scenes, dtype=torch.complex64):
    return Observation.build(scenes.y.to(dtype), scenes.H.to(dtype), scenes.codes.to(dtype))


def marginal_oracle(y, Phi, A, gamma, noise):
    """-sum_l (log det S_l + y_l^H S_l^-1 y_l) of one scene, float64, one snapshot at a time."""
    total = 0.0
    for y_l, Phi_l in zip(y, Phi, strict=True):
        S = snapshot_covariance(Phi_l, A, gamma, noise)
        total -= np.linalg.slogdet(S)[1] + (y_l.conj() @ np.linalg.solve(S, y_l)).real
    return total


def oracle_of(obs, grid, state):
    A = grid.steering().numpy()
    y, Phi, gamma = obs.y.numpy(), obs.Phi.numpy(), state.gamma.numpy()
    each = zip(y, Phi, state.index, gamma, state.noise.tolist(), strict=True)
    return np.array([marginal_oracle(y, Phi, A[:, index], g, noise) for y, Phi, index, g, noise in each])


def test_fixed_point_does_not_lower_the_oracles_marginal_likelihood():
    obs, grid = observed(simulated(SMALL, 4, snr_values_db=(0.0, 15.0)), WIDE), small_grid(DOUBLE)
    R = grid_responses(obs, grid)
    state = initial_powers(R, obs.y, grid.inside)
    values = [oracle_of(obs, grid, state)]
    for _ in range(12):
        state = fixed_point_step(R, obs.y, state, torch.zeros(len(obs)), torch.empty_like(R))
        values.append(oracle_of(obs, grid, state))
    rises = np.diff(values, axis=0)
    assert (rises > -1e-8).all()
    assert (rises[0] > 0.1).all()


def test_a_fixed_point_is_a_stationary_point_in_the_live_powers():
    obs, grid = observed(simulated(SMALL, 1, snr_values_db=(10.0,)), WIDE), small_grid(DOUBLE)
    R = grid_responses(obs, grid)
    state = learn(R, obs.y, grid.inside, [(10**9, 200), (60, 1000)])
    live = int(state.gamma[0].argmax())
    scale = torch.ones_like(state.gamma)
    values = []
    for factor in (0.99, 1.0, 1.01):
        scale[0, live] = factor
        values.append(oracle_of(obs, grid, type(state)(state.index, state.gamma * scale, state.noise))[0])
    assert values[1] > max(values[0], values[2])


def test_float32_learning_follows_float64():
    scenes = simulated(SMALL, 4, snr_values_db=(10.0,))
    grid, grid64 = small_grid(), small_grid(DOUBLE)
    obs, obs64 = observed(scenes), observed(scenes, WIDE)
    got = learn(grid_responses(obs, grid), obs.y, grid.inside, [(10**9, 10)])
    want = learn(grid_responses(obs64, grid64), obs64.y, grid64.inside, [(10**9, 10)])
    torch.testing.assert_close(got.noise.double(), want.noise, rtol=1e-3, atol=0.0)
    error = (got.gamma.double() - want.gamma).abs().amax(1) / want.gamma.amax(1)
    assert float(error.max()) < 1e-3


def test_no_power_outside_the_field_of_view():
    obs, grid = observed(simulated(SMALL, 2)), small_grid()
    assert not bool(grid.inside.all())
    state = learn(grid_responses(obs, grid), obs.y, grid.inside, [(10**9, 5)])
    assert float(state.gamma[:, ~grid.inside].abs().max()) == 0.0


def test_pruning_keeps_the_strongest_points_and_their_responses():
    obs, grid = observed(simulated(SMALL, 2)), small_grid()
    R = grid_responses(obs, grid)
    state = learn(R, obs.y, grid.inside, [(10**9, 2)])
    thin, kept = prune(R, state, 20)
    for b in range(2):
        assert set(kept.index[b].tolist()) == set(state.gamma[b].topk(20).indices.tolist())
        torch.testing.assert_close(thin[b], R[b][:, :, kept.index[b]])


def test_pruning_does_not_change_the_answer_on_easy_scenes(monkeypatch):
    physics = PhysicsConfig()
    scenes = simulated(physics, 2, max_sources=2, snr_values_db=(20.0,), stratified=True)
    K = scenes.num_sources.long()
    pruned = estimator(physics)(scenes.y, scenes.H, scenes.codes, K)
    monkeypatch.setattr("risctl.inference.sbl.STAGES", ((10**9, 1.0), (300, 0.0)))
    whole = estimator(physics)(scenes.y, scenes.H, scenes.codes, K)
    torch.testing.assert_close(pruned.azimuth, whole.azimuth, rtol=0, atol=2e-3, equal_nan=True)
    torch.testing.assert_close(pruned.elevation, whole.elevation, rtol=0, atol=2e-3, equal_nan=True)


def test_one_strong_source_is_found_and_counted():
    physics = PhysicsConfig()
    scenes = simulated(physics, 4, max_sources=1, snr_values_db=(20.0,))
    found = estimator(physics)(scenes.y, scenes.H, scenes.codes)
    assert found.num_sources.tolist() == [1] * 4
    assert float((found.azimuth[:, 0] - scenes.azimuth[:, 0]).abs().max()) < np.radians(0.5)
    assert float((found.elevation[:, 0] - scenes.elevation[:, 0]).abs().max()) < np.radians(0.5)
    deviation = ((found.azimuth[:, 0] - scenes.azimuth[:, 0]) / found.std_azimuth[:, 0]).abs()
    assert float(deviation.max()) < 5.0
    ratio = found.noise_var / scenes.noise_var
    assert 0.7 < float(ratio.min()) <= float(ratio.max()) < 1.4


def test_learning_and_peaks_batch_equals_loop():
    locate = estimator(SMALL, DOUBLE)
    obs = observed(simulated(SMALL, 3, snr_values_db=(15.0,)), WIDE)
    together = locate.learn(obs)
    peaks = locate.peaks(together, 4)
    for i in range(3):
        alone = locate.learn(obs[torch.tensor([i])])
        assert torch.equal(alone.index[0], together.index[i])
        torch.testing.assert_close(alone.gamma[0], together.gamma[i], rtol=1e-9, atol=1e-15)
        torch.testing.assert_close(locate.peaks(alone, 4)[0], peaks[i], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("known", [True, False])
def test_batch_equals_loop(known):
    """In float64: unfinished refinement would carry float32 rounding into the ranges of weak sources."""
    locate, (*measured, K) = estimator(SMALL, DOUBLE), three_scenes()
    given = (*measured, K) if known else measured
    single = [locate(*(x[i : i + 1] for x in given)) for i in range(3)]
    assert_same(locate(*given), Estimates.concatenate(single))


def test_batches_are_bounded_by_memory(monkeypatch):
    locate, given = estimator(SMALL, DOUBLE), three_scenes()
    whole = locate(*given)
    monkeypatch.setattr("risctl.inference.sbl.RESPONSE_BYTES", 1)
    assert_same(whole, locate(*given))


def test_the_order_of_snapshots_does_not_matter():
    locate, (y, H, codes, K) = estimator(SMALL, DOUBLE), three_scenes()
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    assert_same(locate(y, H, codes, K), locate(y[:, order], H, codes[:, order], K))


@pytest.mark.parametrize("unit", [1e-8, 1e-4, 3.0, 1e4])
def test_the_unit_of_the_snapshots_does_not_matter(unit):
    """To far less than the deviations: the refinement in double precision hides the rounding of the map."""
    scenes = simulated(SMALL, 4, snr_values_db=(15.0,))
    locate, K = estimator(SMALL), scenes.num_sources.long()
    plain, scaled = (locate(scenes.y * c, scenes.H, scenes.codes, K) for c in (1.0, unit))
    torch.testing.assert_close(plain.azimuth, scaled.azimuth, rtol=0, atol=1e-5, equal_nan=True)
    torch.testing.assert_close(plain.noise_var * unit**2, scaled.noise_var, rtol=1e-4, atol=0)


def test_no_refinement_stays_on_the_map():
    scenes = simulated(SMALL, 2, snr_values_db=(15.0,))
    found = estimator(SMALL, sbl_refine_steps=0)(scenes.y, scenes.H, scenes.codes, scenes.num_sources.long())
    assert bool(torch.isfinite(found.azimuth[:, 0]).all())


@pytest.mark.parametrize("iterations", [1, 2, 3, 7, 14, 100])
def test_schedule_spends_every_iteration_and_starts_on_the_whole_grid(iterations):
    stages = schedule(iterations)
    assert sum(count for _, count in stages) == iterations
    assert stages[0][1] >= 1
    assert [keep for keep, _ in stages] == sorted((keep for keep, _ in stages), reverse=True)


def test_grid_has_about_4300_points_and_even_steps():
    physics = PhysicsConfig()
    view = FieldOfView.from_config(physics)
    grid = PolarGrid.build(ArrayGeometry.from_config(physics), view, OVERSAMPLING, NUM_RANGES)
    assert 4000 <= int(grid.inside.sum()) <= grid.num_points <= 4600
    for axis, step in enumerate(grid.steps):
        values = grid.points[:, axis].double().mul(1e4).round().unique() / 1e4
        torch.testing.assert_close(values.diff(), step.double().expand(len(values) - 1), rtol=0, atol=3e-4)


def three_scenes():
    """Measurements of three scenes, complex128, and their counts."""
    scenes = simulated(SMALL, 3, snr_values_db=(15.0,))
    return *(x.to(WIDE) for x in (scenes.y, scenes.H, scenes.codes)), scenes.num_sources.long()


def assert_same(a, b):
    assert torch.equal(a.num_sources, b.num_sources)
    for name in ("azimuth", "elevation", "range", "power", "noise_var", "std_azimuth"):
        torch.testing.assert_close(getattr(a, name), getattr(b, name), rtol=1e-6, atol=1e-8, equal_nan=True)


AXIS = torch.arange(11) * 0.1
LATTICE = torch.cartesian_prod(AXIS, AXIS, AXIS[:3])


def peaks(gamma, count):
    box = torch.tensor([0.15, 0.15, 0.15])
    return merged_peaks(gamma, LATTICE.expand(len(gamma), -1, -1), count, box, box)


def powers(*places):
    """Powers [1, G] of the lattice, zero but within a radius of each ``(point, radius, power)``."""
    gamma = torch.zeros(1, len(LATTICE))
    for point, radius, power in places:
        gamma[0, (LATTICE - torch.tensor(point)).norm(dim=1) < radius] = power
    return gamma


def test_a_peak_is_the_centroid_of_its_neighbourhood():
    found = peaks(powers(([0.5, 0.5, 0.1], 1e-3, 3.0), ([0.6, 0.5, 0.1], 1e-3, 1.0)), 1)
    torch.testing.assert_close(found[0], torch.tensor([[0.525, 0.5, 0.1]]))


def test_merged_power_outranks_a_taller_spike():
    six_neighbours = ([0.8, 0.8, 0.1], 0.101, 1.0)
    found = peaks(powers(([0.1, 0.1, 0.0], 1e-3, 5.0), six_neighbours), 2)
    torch.testing.assert_close(found[0], torch.tensor([[0.8, 0.8, 0.1], [0.1, 0.1, 0.0]]))


def test_peaks_are_nested_in_their_number():
    gamma = torch.rand(3, len(LATTICE), generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(peaks(gamma, 5)[:, :3], peaks(gamma, 3))


def test_no_power_left_still_gives_lattice_points():
    found = peaks(powers((LATTICE[7].tolist(), 1e-3, 1.0)), 3)
    assert bool(torch.isfinite(found).all())
    torch.testing.assert_close(found[0, 0], LATTICE[7])
