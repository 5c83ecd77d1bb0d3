"""Goodness of fit: exact against an explicit oracle, uniform on the model, small off it."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats

from risctl.config import PhysicsConfig
from risctl.inference.estimates import Estimates
from risctl.inference.goodness import (
    Fit,
    combine,
    goodness_of_fit,
    lattice,
    outside,
    smallest,
    stated,
    together,
)
from risctl.inference.observation import Observation
from risctl.inference.score_tests import (
    GainTest,
    Moments,
    Residual,
    beta_tail,
    energy_test,
    gain_test,
    inside_test,
    limits_tail,
    outside_test,
    residual,
    static_test,
)
from risctl.inference.stacked import stack_snapshots
from risctl.inference.symbol_tests import coherent_test, symbols_test
from risctl.physics import Scenes
from risctl.physics.geometry import ArrayGeometry, FieldOfView
from risctl.physics.polar import polar_jet
from tests.inference.conftest import make_scenes, observe, true_points, with_count

GEOMETRY = ArrayGeometry.from_config(PhysicsConfig(), dtype=torch.float64)
VIEW = FieldOfView.from_config(PhysicsConfig())


def _oracle(obs: Observation, points: torch.Tensor, i: int) -> dict[str, tuple[float, np.ndarray]]:
    """Statistic and weights of the quadratic forms of scene i, by dense matrices over the reals."""
    y, Phi = obs.y[i].numpy(), obs.Phi[i].numpy()
    a, da = (x[i].numpy() for x in polar_jet(points, GEOMETRY))
    M, K, N = y.shape[1], len(a), Phi.shape[-1]
    rest, gains, tangents, same, energy = [], [], [], [], []
    for Phi_l, y_l in zip(Phi, y, strict=True):
        S = Phi_l @ a.T
        x = np.linalg.lstsq(S, y_l, rcond=None)[0]
        space = np.linalg.svd(S)[0][:, K:]  # orthonormal basis of what the sources leave
        r, Z = space.conj().T @ y_l, space.conj().T @ Phi_l * (a.T @ x)
        D = space.conj().T @ Phi_l @ (da * x[:, None, None]).reshape(3 * K, N).T
        rest.append(r)
        gains.append(np.hstack([Z, 1j * Z]))
        tangents.append(D)
        same.append(np.hstack([space.conj().T, 1j * space.conj().T]))
        energy.append(np.full(M - K, np.sum(np.abs(a.T @ x) ** 2)))

    def real(parts: list[np.ndarray]) -> np.ndarray:
        return np.concatenate([np.concatenate(parts).real, np.concatenate(parts).imag])

    null = np.linalg.svd(real(tangents))[0][:, 3 * K :]  # orthonormal basis off the tangents
    r = null.T @ real(rest)
    found = {}
    for name, Z in (("gain", real(gains)), ("static", real(same))):
        A = null.T @ Z @ Z.T @ null
        found[name] = (r @ A @ r / (r @ r), np.linalg.eigvalsh(A))
    A = null.T @ np.diag(np.tile(np.concatenate(energy), 2)) @ null
    found["energy"] = (r @ A @ r / (r @ r), np.linalg.eigvalsh(A))
    return found


def _simulated(T: float, weights: np.ndarray) -> float:
    """``P(sum w u / sum u > T)`` by simulation."""
    u = np.random.default_rng(0).chisquare(1, (20_000, len(weights)))
    return float(np.mean(u @ weights / u.sum(1) > T))


@pytest.mark.parametrize("K", [1, 3])
def test_p_values_are_those_of_dense_matrices(K: int) -> None:
    _, scenes = make_scenes(12, seed=2, min_sources=K, max_sources=K, snr_min_db=5, snr_max_db=15)
    rows = torch.tensor([0, 4, 8])
    obs, points = observe(scenes, rows, torch.complex128), true_points(scenes, rows, K)
    rest = residual(obs, points, GEOMETRY)
    assert rest is not None
    found = {"gain": gain_test(obs, rest).p, "static": static_test(rest), "energy": energy_test(rest)}
    for i in range(3):
        for name, (T, weights) in _oracle(obs, points, i).items():
            assert float(found[name][i]) == pytest.approx(_simulated(T, weights), abs=0.015)


def _gains(obs: Observation, points: torch.Tensor) -> GainTest:
    rest = residual(obs, points, GEOMETRY)
    assert rest is not None
    return gain_test(obs, rest)


def test_gains_are_tested_alike_whatever_the_form_of_the_front_end() -> None:
    _, scenes = make_scenes(8, seed=2, min_sources=2, max_sources=2)
    rows = torch.arange(8)
    obs, points = observe(scenes, rows, torch.complex128), true_points(scenes, rows, 2)
    held = Observation.of_matrices(obs.y, obs.Phi[:, :1])
    each = replace(held, Phi=held.Phi.expand_as(obs.Phi).contiguous())
    for one, other in ((obs, Observation.of_matrices(obs.y, obs.Phi)), (held, each)):
        for name, found in vars(_gains(one, points)).items():
            torch.testing.assert_close(getattr(_gains(other, points), name), found, rtol=1e-8, atol=1e-12)


def test_over_one_path_no_element_is_seen_beside_the_source() -> None:
    _, scenes = make_scenes(8, seed=2, min_sources=1, max_sources=1)
    rows = torch.arange(8)
    one_path = scenes.H[:, :, :1] * scenes.H[:, :1] / scenes.H[:, :1, :1]
    obs = Observation.build(scenes.y, one_path, scenes.codes)
    found = _gains(obs, true_points(scenes, rows, 1))
    assert found.p.isnan().all()
    assert not found.information.any()


def test_the_tail_is_exact_where_it_decides() -> None:
    weights = np.random.default_rng(1).uniform(size=300) ** 2
    u = np.random.default_rng(2).chisquare(1, (100_000, 300))
    T = u @ weights / u.sum(1)
    w = torch.from_numpy(weights)
    moments = Moments(torch.stack([(w**n).sum() for n in (1, 2, 3, 4)])[None])
    for level in (0.5, 0.1, 0.01, 0.001):
        at = torch.tensor([np.quantile(T, 1 - level)])
        error = 3 * math.sqrt(level / len(T))
        assert float(moments.tail(at, torch.tensor([300.0]))) == pytest.approx(level, abs=error, rel=0.2)


def _at_truth(scenes: Scenes, K: int, gain: torch.Tensor | None = None) -> torch.Tensor:
    """p-values [B] at the true positions."""
    rows = with_count(scenes, K)
    found = Estimates.empty(len(rows), 5)
    part = scenes[rows]
    for name in ("azimuth", "elevation", "range"):
        getattr(found, name)[:, :K] = getattr(part, name)[:, :K].double()
    found.num_sources.fill_(K)
    obs = observe(scenes, rows)
    if gain is not None:
        obs = Observation.build(obs.y, obs.H * gain, obs.codes)
    return goodness_of_fit(obs, found, GEOMETRY, VIEW).misfit_p


@pytest.mark.parametrize(("K", "snr"), [(1, 20.0), (2, 0.0), (5, 10.0)])
def test_p_values_are_uniform_on_the_model(K: int, snr: float) -> None:
    _, scenes = make_scenes(300, seed=K, min_sources=K, max_sources=5, snr_min_db=snr, snr_max_db=snr)
    p = _at_truth(scenes, K)
    assert stats.kstest(p.numpy(), "uniform").pvalue > 0.01


@pytest.mark.parametrize(("snr", "power"), [(0.0, 0.0), (10.0, 0.5), (20.0, 0.95)])
def test_one_source_more_than_can_be_found_shows_and_none_where_there_is_none(
    snr: float, power: float
) -> None:
    """Five of five sources at the truth leave a peak as rarely as the level says; those of six do."""
    _, scenes = make_scenes(200, seed=6, min_sources=5, max_sources=5, snr_min_db=snr, snr_max_db=snr)
    _, more = make_scenes(60, seed=7, min_sources=6, max_sources=6, snr_min_db=snr, snr_max_db=snr)
    grid = lattice(GEOMETRY, observe(scenes, torch.arange(2)), VIEW)
    p = []
    for some in (scenes, more):
        rows = torch.arange(len(some))
        obs, points = observe(some, rows), true_points(some, rows, 5)
        rest = residual(obs, points, GEOMETRY)
        assert rest is not None
        p.append(inside_test(obs, rest, GEOMETRY, VIEW, grid))
    assert float((p[0] < 0.1).double().mean()) < 0.15
    assert float((p[0] < 0.01).double().mean()) <= 0.02
    assert float((p[1] < 0.01).double().mean()) > power


def _of_pilots(gain: torch.Tensor | None, seed: int) -> Fit:
    """The fit of 40 scenes of one source with constant symbols, one antenna, 11 codes, a static path; by
    elements with gains, at the true positions."""
    fixed = {"symbols": "constant", "static_path": True, "num_antennas": 1, "num_snapshots": 11}
    _, scenes = make_scenes(40, seed, min_sources=1, max_sources=1, snr_min_db=10, snr_max_db=20, **fixed)
    found, obs = Estimates.empty(40, 1), observe(scenes, torch.arange(40))
    for name in ("azimuth", "elevation", "range"):
        getattr(found, name)[:] = getattr(scenes, name).double()
    found.num_sources.fill_(1)
    if gain is not None:
        obs = Observation.build(obs.y, obs.H * gain, obs.codes)
    return combine([goodness_of_fit(stack_snapshots(obs, True), found, GEOMETRY, VIEW)])


def test_pilots_at_one_antenna_are_tested_for_gains_alone() -> None:
    """One test is left, which counts as one: p is uniform, and the elements of a file are found out."""
    fits = [_of_pilots(None, seed) for seed in range(8)]
    assert stats.kstest(torch.cat([fit.misfit_p for fit in fits]).numpy(), "uniform").pvalue > 0.01
    assert sum(fit.file_misfit for fit in fits) <= 1
    gain = torch.polar(torch.ones(144), torch.randn(144, generator=torch.Generator().manual_seed(0)))
    assert _of_pilots(gain, 0).file_p < 1e-4


def test_noise_alone_fits_without_a_source() -> None:
    _, scenes = make_scenes(300, seed=5)
    noise = torch.randn(scenes.y.shape, dtype=scenes.y.dtype, generator=torch.Generator().manual_seed(0))
    obs = Observation.build(noise, scenes.H, scenes.codes)
    p = goodness_of_fit(obs, Estimates.empty(300, 5), GEOMETRY, VIEW).misfit_p
    assert stats.kstest(p.numpy(), "uniform").pvalue > 0.01


def _unlike_the_model(kind: str) -> tuple[Scenes, torch.Tensor | None]:
    _, scenes = make_scenes(60, seed=6, min_sources=2, max_sources=5, snr_min_db=20, snr_max_db=20)
    noise = torch.Generator().manual_seed(2)
    strength = scenes.noise_var.sqrt()[:, None, None]
    if kind == "static":
        path = torch.randn(60, 1, 16, dtype=torch.complex64, generator=noise)
        return replace(scenes, y=scenes.y + 0.6 * strength * path), None
    if kind == "interference":
        arrival = torch.polar(torch.ones(16), 1.5 * torch.arange(16.0))
        symbols = torch.randn(60, 16, 1, dtype=torch.complex64, generator=noise)
        return replace(scenes, y=scenes.y + strength * symbols * arrival), None
    if kind == "failed snapshots":
        return replace(scenes, y=torch.cat([scenes.y[:, :14], 0 * scenes.y[:, 14:]], dim=1)), None
    dead = (torch.arange(144) % 6 > 0).to(torch.complex64)
    return scenes, dead


@pytest.mark.parametrize("kind", ["static", "interference", "failed snapshots", "dead elements"])
def test_what_is_not_in_the_model_is_found(kind: str) -> None:
    scenes, gain = _unlike_the_model(kind)
    assert (_at_truth(scenes, 2, gain) < 0.01).double().mean() > 0.9


def test_deviations_of_what_does_not_fit_are_withheld() -> None:
    found = Estimates.empty(4, 5)
    found.num_sources.fill_(1)
    for name in ("std_azimuth", "std_elevation", "std_range"):
        getattr(found, name)[:, 0] = torch.tensor([0.25, 0.25, 0.25, 1e3])
    fit = Fit(
        torch.tensor([0.5, 0.001, torch.nan, 0.5]),
        0.5,
        torch.zeros(4).bool(),
        torch.zeros(4, 5).bool(),
        torch.zeros(4).bool(),
    )
    std = stated(found, fit, VIEW).std_azimuth
    assert std[:, 0].tolist() == [0.25, math.inf, 0.25, math.inf]
    assert std[:, 1:].isnan().all()
    assert stated(found, replace(fit, file_p=0.001), VIEW).std_range[:, 0].isinf().all()


def test_phase_errors_of_the_elements_are_found() -> None:
    _, scenes = make_scenes(60, seed=6, min_sources=2, max_sources=5, snr_min_db=20, snr_max_db=20)
    phases = 0.3 * torch.randn(144, generator=torch.Generator().manual_seed(1))
    p = _at_truth(scenes, 2, torch.polar(torch.ones(144), phases))
    assert (p < 0.01).double().mean() > 0.9


def test_without_a_degree_of_freedom_nothing_is_tested() -> None:
    _, scenes = make_scenes(20, seed=7, min_sources=2, max_sources=5)
    two = replace(scenes, y=scenes.y[..., :2], H=scenes.H[:, :2])
    assert _at_truth(two, 2).isnan().all()


def test_combinations_of_independent_p_values_are_exact() -> None:
    p = torch.rand(4000, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    assert stats.kstest(smallest(p).numpy(), "uniform").pvalue > 0.01
    p[:, 2:] = torch.nan
    assert stats.kstest(smallest(p).numpy(), "uniform").pvalue > 0.01
    files = [together(row) for row in torch.rand(2000, 10, dtype=torch.float64)]
    assert np.mean(np.array(files) < 0.05) < 0.065


def test_the_smallest_with_weights_is_exact() -> None:
    p = torch.rand(4000, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    assert stats.kstest(smallest(p, (0.5, 3.0, 1.0)).numpy(), "uniform").pvalue > 0.01
    assert smallest(torch.full((1, 3), torch.nan)).isnan().all()
    assert f"{float(smallest(torch.zeros(1, 3))):g}" == "0"


def test_the_tail_of_a_beta_variable_is_exact() -> None:
    x, b = torch.tensor([0.01, 0.1, 0.3, 0.9]).double(), torch.tensor([200.0, 180.5, 40.0, 3.0]).double()
    expected = stats.beta.sf(x.numpy(), 16, b.numpy())
    np.testing.assert_allclose(beta_tail(x, 16, b).numpy(), expected, rtol=1e-10)


def test_the_tail_of_moves_across_limits_is_that_of_deviates_that_are_positive() -> None:
    """Uniform, however many coordinates are on a limit: two of a source in a corner, say."""
    z = torch.randn(20_000, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(5)).clamp_min(0.0)
    for coordinates in (1, 2, 6):
        out = z[:, :coordinates]
        moves = (out > 0).sum(1)
        p = limits_tail(out.square().sum(1), moves)
        assert torch.equal(p.isnan(), moves == 0)
        assert stats.kstest(p[moves > 0].numpy(), "uniform").pvalue > 0.01


def _residual_at_truth(scenes: Scenes, K: int) -> tuple[Observation, Residual]:
    rows = with_count(scenes, K)
    obs = observe(scenes, rows)
    rest = residual(obs, true_points(scenes, rows, K), GEOMETRY)
    assert rest is not None
    return obs, rest


def test_moves_of_true_positions_are_normal_deviates() -> None:
    _, scenes = make_scenes(300, seed=9, min_sources=2, max_sources=2, snr_min_db=0, snr_max_db=20)
    _, rest = _residual_at_truth(scenes, 2)
    for k in range(2):
        for j in range(3):
            assert stats.kstest(rest.shift[:, k, j].numpy(), "norm").pvalue > 1e-3


def test_a_source_outside_the_field_of_view_is_found_and_none_where_there_is_none() -> None:
    how = {"min_sources": 2, "max_sources": 2, "snr_min_db": 10.0, "snr_max_db": 10.0}
    _, scenes = make_scenes(300, seed=10, **how)
    directions = outside(GEOMETRY, VIEW)
    p = outside_test(*_residual_at_truth(scenes, 2), directions)
    assert float((p < 0.05).double().mean()) == pytest.approx(0.05, abs=0.04)
    _, beyond = make_scenes(200, seed=11, **how | {"azimuth_limit_deg": 85.0})
    beyond = beyond[(beyond.azimuth[:, :2].abs().amax(1) > VIEW.azimuth + 0.15).nonzero().flatten()]
    inside = true_points(scenes, torch.arange(len(beyond)), 2)  # any points: those sources are not there
    obs = observe(beyond, torch.arange(len(beyond)))
    rest = residual(obs, inside, GEOMETRY)
    assert rest is not None
    assert float((outside_test(obs, rest, directions) < 0.01).double().mean()) > 0.9


@pytest.mark.parametrize(("K", "snr"), [(1, 20.0), (2, -5.0), (5, 0.0)])
def test_gaussian_symbols_are_too_strong_in_one_snapshot_as_often_as_said(K: int, snr: float) -> None:
    how = {"min_sources": K, "max_sources": K, "snr_min_db": snr, "snr_max_db": snr}
    _, scenes = make_scenes(1000, seed=20 + K, **how)
    p = symbols_test(_residual_at_truth(scenes, K)[1])
    for level in (0.1, 0.01):
        assert stats.binomtest(int((p < level).sum()), len(p), level).pvalue > 1e-3


def test_the_share_of_a_snapshot_is_that_of_its_energy_over_what_the_fitted_covariance_expects() -> None:
    """One source, by a search for its power: ``z^H (Q^H C Q)^-1 z``, z along the response."""
    how = {"min_sources": 1, "max_sources": 1, "snr_min_db": 10, "snr_max_db": 10, "num_snapshots": 4}
    _, scenes = make_scenes(3, seed=31, **how)
    obs, rest = _residual_at_truth(scenes, 1)
    points = true_points(scenes, torch.arange(3), 1)
    for i in range(3):
        a, _ = (x[0].numpy() for x in polar_jet(points[i], GEOMETRY))
        y = obs.y[i].numpy().astype(complex)
        y /= np.linalg.norm(y)
        s = obs.Phi[i].numpy() @ a
        q = s / np.linalg.norm(s, axis=1, keepdims=True)
        strength, z = np.linalg.norm(s, axis=1) ** 2, np.sum(q.conj() * y, axis=1)
        noise = float(2.0 * rest.energy[i] / rest.freedom[i])
        grid = np.logspace(-3, 3, 60_001) * np.mean(np.abs(z) ** 2 / strength)
        C = grid[:, None] * strength + noise
        power = grid[np.argmin(np.sum(np.log(C) + np.abs(z) ** 2 / C, axis=1))]
        w = np.abs(z) ** 2 / (power * strength + noise)
        g = np.max(w) / np.sum(w)
        assert float(symbols_test(rest)[i]) == pytest.approx(1.0 - (1.0 - (1.0 - g) ** 3) ** 4, rel=0.01)


def test_constant_symbols_are_too_strong_in_no_snapshot() -> None:
    how = {"min_sources": 1, "max_sources": 5, "snr_min_db": 0, "snr_max_db": 20, "symbols": "constant"}
    _, scenes = make_scenes(500, seed=32, **how)
    for K in range(1, 6):
        assert (symbols_test(_residual_at_truth(scenes, K)[1]) < 0.01).double().mean() < 0.02


def _two_in_one_place(B: int, noise: float, seed: int = 0) -> Residual:
    """What is left of two sources whose responses are alike, as far as their symbols [B, 16, 2] go; those are
    independent, of powers 1 and 4, with errors of variance `noise` and more that depend on each other."""
    how = {"min_sources": 2, "max_sources": 2, "snr_min_db": 20, "snr_max_db": 20}
    rest = _residual_at_truth(make_scenes(B, seed=33, **how)[1], 2)[1]
    draw = torch.Generator().manual_seed(seed)
    S = torch.randn(B, 16, 3, 1, dtype=torch.complex128, generator=draw) + 0.25 * torch.randn(
        B, 16, 3, 2, dtype=torch.complex128, generator=draw
    )
    inverse = torch.linalg.inv(S.mH @ S)
    root = torch.linalg.cholesky(torch.diag(torch.tensor([1.0, 4.0])).to(S) + noise * inverse)
    x = root @ torch.randn(B, 16, 2, 1, dtype=torch.complex128, generator=draw)
    gram = (S.mH @ S).sum(1)
    energy, freedom = torch.full((B,), 0.5 * noise, dtype=torch.float64), torch.ones(B, dtype=torch.float64)
    changed = {"symbols": x.squeeze(-1), "inverse": inverse, "gram": gram}
    return replace(rest, energy=energy, freedom=freedom, **changed)


def test_without_noise_sources_in_one_place_are_coherent_by_their_sample_correlation() -> None:
    rest = _two_in_one_place(20, 1e-12)
    x = rest.symbols.numpy()
    cross, own = np.sum(x[..., 0] * x[..., 1].conj(), axis=1), np.sum(np.abs(x) ** 2, axis=1)
    expected = (1.0 - np.abs(cross) ** 2 / own.prod(axis=1)) ** 15
    np.testing.assert_allclose(coherent_test(rest).numpy(), expected, rtol=1e-6)


@pytest.mark.parametrize(("noise", "sides"), [(0.01, "two-sided"), (0.3, "greater")])
def test_independent_symbols_of_sources_in_one_place_are_coherent_as_often_as_said(
    noise: float, sides: str
) -> None:
    """Less often where noise hides what they send: then the fitted powers take part of the correlation."""
    p = coherent_test(_two_in_one_place(2000, noise))
    for level in (0.1, 0.01):
        assert stats.binomtest(int((p < level).sum()), len(p), level, sides).pvalue > 1e-3


def test_sources_that_are_apart_may_send_the_same() -> None:
    how = {"min_sources": 2, "max_sources": 5, "snr_min_db": 20, "snr_max_db": 20, "symbols": "constant"}
    _, scenes = make_scenes(200, seed=34, **how)
    p = coherent_test(_residual_at_truth(scenes, 2)[1])
    assert bool(p.isnan().all())


def test_an_estimate_on_a_limit_is_at_the_edge() -> None:
    found = Estimates.empty(1, 5)
    found.num_sources.fill_(4)
    found.azimuth[0, :4] = torch.tensor([VIEW.azimuth, 0.1, 0.1, 0.1])
    found.elevation[0, :4] = torch.tensor([0.1, -VIEW.elevation, 0.1, 0.1])
    found.range[0, :4] = torch.tensor([3.0, 3.0, VIEW.range_max, 3.0])
    _, scenes = make_scenes(1)
    fit = combine([goodness_of_fit(observe(scenes, torch.arange(1)), found, GEOMETRY, VIEW)])
    assert fit.source_flags()[0] == [["at_edge"]] * 3 + [[], []]
    assert not fit.count_at_maximum.any()


def test_few_snapshots_over_nearly_one_path_do_not_look_like_a_misfit() -> None:
    """One eigenvalue of the gain test stands far above the others there."""
    high_snr, few = {"snr_min_db": 20, "snr_max_db": 20}, {"num_snapshots": 4, "rician_k_min": 5}
    _, scenes = make_scenes(300, seed=8, min_sources=2, max_sources=5, **high_snr, **few)
    p = _at_truth(scenes, 2)
    assert float(p.min()) > 1e-6
    assert float((p < 0.01).double().mean()) < 0.04
