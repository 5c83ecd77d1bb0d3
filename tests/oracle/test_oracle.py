"""The oracle held against theory: limits, expansion orders, the definition of Fisher information."""

import itertools
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from . import bounds, geometry, likelihood, music, signals, simulator
from . import covariance as cov

SMALL = geometry.Array(columns=4, rows=3)
DIRECTION = (0.4, -0.3)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


@pytest.fixture
def scene(rng: np.random.Generator) -> simulator.Scene:
    """Two sources close enough for a small array to see their range."""
    drawn = simulator.draw_scene(rng, 2, 10.0, SMALL, num_antennas=6, num_snapshots=5)
    return replace(drawn, positions=np.array([[0.5, -0.2, 1.1], [-0.4, 0.3, 0.8]]))


def test_elements_are_half_a_wavelength_apart_and_centred():
    elements = geometry.element_positions(geometry.Array())
    assert elements.shape == (144, 3)
    np.testing.assert_allclose(elements.mean(axis=0), 0.0, atol=1e-12)
    np.testing.assert_allclose(elements[1] - elements[0], [0.0, 0.15, 0.0], atol=1e-12)
    np.testing.assert_allclose(elements[12] - elements[0], [0.0, 0.0, 0.15], atol=1e-12)


def test_distance_by_hand():
    one = geometry.Array(columns=3, rows=1, spacing=0.5, wavelength=2.0)
    np.testing.assert_allclose(geometry.distances(one, 0.0, 0.0, 1.0), [np.sqrt(2), 1.0, np.sqrt(2)])


def test_taper_follows_the_inverse_distance_and_without_it_the_modulus_is_constant():
    assert np.ptp(np.abs(geometry.steering(geometry.Array(), 0.7, 0.3, 0.9))) < 1e-13
    array = geometry.Array(taper=True)
    a = geometry.steering(array, 0.7, 0.3, 0.9)
    product = np.abs(a) * geometry.distances(array, 0.7, 0.3, 0.9)
    np.testing.assert_allclose(product, product[0], rtol=1e-12)


def test_fresnel_keeps_the_cross_term():
    """Without the y-z cross term the corner elements would err at first order in 1/r."""
    array, (phi, theta), r = geometry.Array(wavefront="fresnel"), DIRECTION, 4.0
    excess = geometry.excess_path(array, phi, theta, r).reshape(12, 12)
    mixed = excess[-1, -1] - excess[-1, 0] - excess[0, -1] + excess[0, 0]
    u, side = geometry.unit_vector(phi, theta), 11 * 0.15
    assert mixed == pytest.approx(-u[1] * u[2] * side**2 / r, rel=1e-10)


def test_line_of_sight_is_unit_modulus_and_rank_one():
    los = signals.line_of_sight(geometry.Array(), 16, 0.3, *DIRECTION)
    np.testing.assert_allclose(np.abs(los), 1.0, atol=1e-12)
    assert np.linalg.matrix_rank(los) == 1


def test_rician_entries_have_unit_mean_power(rng: np.random.Generator):
    los = signals.line_of_sight(SMALL, 16, 0.3, *DIRECTION)
    draws = [signals.rician(los, simulator.complex_normal(rng, 16, 12), 2.0) for _ in range(500)]
    assert np.mean(np.abs(draws) ** 2) == pytest.approx(1.0, abs=0.02)
    np.testing.assert_allclose(np.mean(draws, axis=0), np.sqrt(2 / 3) * los, atol=0.12)


def test_codes_are_the_roots_of_unity():
    codes = signals.codes_from_index(np.array([0, 2, 4, 6]))
    np.testing.assert_allclose(codes, [1.0, 1j, -1.0, -1j], atol=1e-14)


def test_noise_free_by_explicit_sums(scene: simulator.Scene):
    A, x = geometry.steering_matrix(SMALL, scene.positions), scene.amplitudes
    mu = signals.noise_free(scene.Phi, A, x)
    indices = itertools.product(range(12), range(2))
    expected = sum(scene.H[4, n] * scene.codes[3, n] * A[n, k] * x[k, 3] for n, k in indices)
    assert mu[3, 4] == pytest.approx(expected, rel=1e-12)


def test_scene_snr_is_as_asked(rng: np.random.Generator):
    s = simulator.draw_scene(rng, 3, 7.0)
    mu = signals.noise_free(s.Phi, geometry.steering_matrix(s.array, s.positions), s.amplitudes)
    assert 10 * np.log10(np.mean(np.abs(mu) ** 2) / s.noise_var) == pytest.approx(7.0, abs=1e-9)
    assert np.mean(np.abs(s.y - mu) ** 2) == pytest.approx(s.noise_var, rel=0.25)


def test_back_projection_satisfies_its_push_through_identity(scene: simulator.Scene):
    """(Phi^H Phi + alpha I)^-1 Phi^H = Phi^H (Phi Phi^H + alpha I)^-1."""
    a = cov.back_projection(scene.Phi, scene.y)
    for Phi_l, y_l, a_l in zip(scene.Phi, scene.y, a, strict=True):
        alpha = 1e-3 * (np.linalg.norm(Phi_l) ** 2 / 12 + 1e-12)
        dual = Phi_l.conj().T @ np.linalg.solve(Phi_l @ Phi_l.conj().T + alpha * np.eye(6), y_l)
        np.testing.assert_allclose(a_l, dual, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("center", "rank"), [(True, 4), (False, 5)])
def test_sample_covariance_trace_rank_and_symmetry(scene: simulator.Scene, center: bool, rank: int):
    R = cov.sample_covariance(cov.back_projection(scene.Phi, scene.y), center)
    assert np.trace(R) == pytest.approx(12.0)
    assert np.linalg.matrix_rank(R, tol=1e-9) == rank
    np.testing.assert_array_equal(R, R.conj().T)


def test_gaussian_likelihood_of_one_antenna_by_hand():
    """M = N = K = 1: log CN(y; 0, p |phi|^2 + sigma^2)."""
    one, variance = geometry.Array(columns=1, rows=1), 2.0 * 9.0 + 0.5
    Phi, y, where = np.array([[[3.0j]]]), np.array([[1.0 + 2.0j]]), np.array([[0.0, 0.0, 1.0]])
    value = likelihood.gaussian_log_likelihood(one, Phi, y, where, np.array([2.0]), 0.5)
    assert value == pytest.approx(-np.log(np.pi * variance) - 5.0 / variance)


def test_concentrated_likelihood_is_the_maximum(scene: simulator.Scene, rng: np.random.Generator):
    args = (SMALL, scene.Phi, scene.y, scene.positions)
    x = likelihood.fitted_amplitudes(*args)
    variance = likelihood.residual_energy(*args) / scene.y.size
    best = likelihood.conditional_log_likelihood(*args, x, variance)
    expected = -scene.y.size * (np.log(np.pi * variance) + 1.0)
    assert best == pytest.approx(expected, rel=1e-12)
    for _ in range(20):
        moved = x + 0.05 * simulator.complex_normal(rng, *x.shape)
        scale = np.exp(0.1 * rng.standard_normal())
        assert likelihood.conditional_log_likelihood(*args, moved, variance * scale) < best


def hessian(function: Callable[[np.ndarray], float], point: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """Second central differences, second order: (f++ - f+- - f-+ + f--)/(4 h_i h_j)."""
    H, E = np.zeros((point.size, point.size)), np.diag(steps)
    signs = list(itertools.product((1, -1), repeat=2))
    for i, j in itertools.product(range(point.size), repeat=2):
        signed = [s * t * function(point + s * E[i] + t * E[j]) for s, t in signs]
        H[i, j] = sum(signed) / (4.0 * steps[i] * steps[j])
    return H


def assert_same_fisher(measured: np.ndarray, fisher: np.ndarray) -> None:
    scale = np.sqrt(np.diag(fisher))
    np.testing.assert_allclose(measured / np.outer(scale, scale), fisher / np.outer(scale, scale), atol=2e-4)


def gaussian_expectation_points(scene: simulator.Scene) -> list[np.ndarray]:
    """M data sets whose average y_l y_l^H is S_l: sqrt(M) times the columns of its Cholesky factor.

    The log-likelihood is quadratic in y, so its average over them is its exact expectation.
    """
    A = geometry.steering_matrix(SMALL, scene.positions)
    S = [likelihood.snapshot_covariance(P, A, scene.powers, scene.noise_var) for P in scene.Phi]
    factors = np.sqrt(len(S[0])) * np.linalg.cholesky(np.stack(S))
    return [factors[:, :, i] for i in range(len(S[0]))]


def test_unconditional_fisher_is_minus_the_expected_hessian(scene: simulator.Scene):
    data = gaussian_expectation_points(scene)

    def expected(v: np.ndarray) -> float:
        q, p, s2 = v[:6].reshape(2, 3), v[6:8], v[8]
        return np.mean([likelihood.gaussian_log_likelihood(SMALL, scene.Phi, y, q, p, s2) for y in data])

    point = np.concatenate([scene.positions.ravel(), scene.powers, [scene.noise_var]])
    fisher = bounds.unconditional_fisher(SMALL, scene.Phi, scene.positions, scene.powers, scene.noise_var)
    assert_same_fisher(-hessian(expected, point, 5e-4 * np.abs(point)), fisher)


def test_conditional_fisher_is_minus_the_expected_hessian(scene: simulator.Scene, rng: np.random.Generator):
    """Two data sets mu +- w with ||w||^2 = L M sigma^2 give the exact expectation."""
    few = slice(0, 2)
    Phi, x = scene.Phi[few], scene.amplitudes[:, few]
    mu = signals.noise_free(Phi, geometry.steering_matrix(SMALL, scene.positions), x)
    w = simulator.complex_normal(rng, *mu.shape)
    w *= np.sqrt(mu.size * scene.noise_var) / np.linalg.norm(w)

    def expected(v: np.ndarray) -> float:
        args = *bounds.unpack_conditional(v[:-1], 2), v[-1]
        data = (mu + w, mu - w)
        return np.mean([likelihood.conditional_log_likelihood(SMALL, Phi, y, *args) for y in data])

    point = np.append(bounds.pack_conditional(scene.positions, x), scene.noise_var)
    fisher = bounds.conditional_fisher(SMALL, Phi, scene.positions, x, scene.noise_var)
    assert_same_fisher(-hessian(expected, point, 5e-4 * np.abs(point)), fisher)


def test_nuisance_parameters_never_help(scene: simulator.Scene):
    fisher = bounds.conditional_fisher(SMALL, scene.Phi, scene.positions, scene.amplitudes, scene.noise_var)
    known = np.sqrt(np.diag(np.linalg.inv(fisher[:6, :6]))).reshape(2, 3)
    bound = bounds.bound_from_fisher(fisher, scene.positions)
    assert np.all(bound.azimuth > known[:, 0])
    assert np.all(bound.range > known[:, 2])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("num_sources", "azimuth_deg", "range_m"), [(1, 0.17, 0.28), (3, 0.44, 0.50), (5, 0.69, 0.88)]
)
def test_median_bounds_match_the_reference_figures(num_sources: int, azimuth_deg: float, range_m: float):
    """Medians at 10 dB over sixty default scenes, whichever the bound.

    Sixty scenes leave the azimuth median a spread of about 8 %, and the range median, whose distribution
    spans decades, one of about 25 %; the two bounds differ by less than 5 %.
    """
    rng = np.random.default_rng(100 + num_sources)
    conditional, unconditional = [], []
    for _ in range(60):
        s = simulator.draw_scene(rng, num_sources, 10.0)
        args = (s.array, s.Phi, s.positions)
        conditional.append(bounds.conditional_bound(*args, s.amplitudes, s.noise_var))
        unconditional.append(bounds.unconditional_bound(*args, s.powers, s.noise_var))
    for kind in (conditional, unconditional):
        azimuth, distance = np.median([b.azimuth for b in kind]), np.median([b.range for b in kind])
        assert np.degrees(azimuth) == pytest.approx(azimuth_deg, rel=0.2)
        assert 0.4 < distance / range_m < 2.5


def test_music_is_exact_on_the_exact_covariance(rng: np.random.Generator):
    s = simulator.draw_scene(rng, 3, 10.0)
    R = signals.true_covariance(geometry.steering_matrix(s.array, s.positions), s.powers)
    elsewhere = simulator.draw_positions(rng, s.array, 5)
    null = music.music_null_spectrum(s.array, R, 3, np.vstack([s.positions, elsewhere]))
    assert np.trace(R) == pytest.approx(144.0)
    assert np.all(null[:3] < 1e-12)
    assert np.all(null[3:] > 1e-3)
    spectrum = music.music_spectrum(s.array, R + 1e-3 * np.eye(144), 3, elsewhere)
    np.testing.assert_allclose(spectrum, 1.0 / null[3:], rtol=1e-6)
