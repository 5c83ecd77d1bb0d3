"""Cramer-Rao bounds against the oracle's whole Fisher matrices, and against what bounds must do."""

from dataclasses import fields, replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from risctl.config import PhysicsConfig
from risctl.physics import ArrayGeometry, Scenes
from risctl.physics.bounds import (
    Bounds,
    SourceModel,
    bounds_from_information,
    conditional_information,
    invert_information,
    scene_bounds,
    unconditional_information,
)
from tests import oracle
from tests.physics.reference import WAVE_MODELS, Array, double_geometry, oracle_scene, simulate

POLAR = ("azimuth", "elevation", "range")
INFORMATION = {"conditional": conditional_information, "unconditional": unconditional_information}
each_kind = pytest.mark.parametrize("kind", INFORMATION)


def physics_of(K: int, **changes: Any) -> PhysicsConfig:
    return PhysicsConfig(**{"min_sources": K, "max_sources": K, "snr_values_db": (10.0,)} | changes)


def bounds_of(scenes: Scenes, physics: PhysicsConfig, kind: str = "conditional") -> Bounds:
    return scene_bounds(scenes, ArrayGeometry.from_config(physics), kind)


def model_of(scenes: Scenes) -> SourceModel:
    """Scenes of one and the same K as a bound reads them."""
    amplitudes = (scenes.symbols * scenes.power.sqrt().unsqueeze(-1)).to(torch.complex128)
    read = {name: getattr(scenes, name).double() for name in (*POLAR, "power", "noise_var")}
    return SourceModel(amplitudes=amplitudes, **read)


def measured(scenes: Scenes) -> tuple[Tensor, Tensor]:
    return scenes.H.to(torch.complex128), scenes.codes.to(torch.complex128)


def by_definition(s: oracle.Scene, kind: str, of: str) -> Any:
    """The oracle's "fisher" or "bound"."""
    sources = s.amplitudes if kind == "conditional" else s.powers
    return getattr(oracle, f"{kind}_{of}")(s.array, s.Phi, s.positions, sources, s.noise_var)


def scaled(matrix: Array, to: Array) -> Array:
    """`matrix` in units of the roots of the diagonal of `to`."""
    scale = np.sqrt(np.diag(to))
    return matrix / np.outer(scale, scale)


def eliminate(F: Array, keep: int) -> Array:
    """The Schur complement of all but the first `keep` parameters, scaled to unit diagonal before."""
    G, scale = scaled(F, F), np.sqrt(np.diag(F))[:keep]
    J = G[:keep, :keep] - G[:keep, keep:] @ np.linalg.solve(G[keep:, keep:], G[keep:, :keep])
    return J * np.outer(scale, scale)


@each_kind
@pytest.mark.parametrize(
    ("K", "snr_db"), [(1, 10.0), (2, 10.0), (3, 10.0), (5, 10.0), (1, -15.0), (3, -15.0)]
)
def test_information_is_the_fisher_matrix_by_definition(kind: str, K: int, snr_db: float) -> None:
    """In noise the unknown noise variance starts to matter."""
    physics = physics_of(K, snr_values_db=(snr_db,))
    scenes = simulate(physics, 2)
    H, codes = measured(scenes)
    J = INFORMATION[kind](H, codes, model_of(scenes), double_geometry(physics)).numpy()
    for i in range(2):
        scene = replace(oracle_scene(scenes, i, physics), codes=codes[i].numpy())
        expected = eliminate(by_definition(scene, kind, "fisher"), 3 * K)
        np.testing.assert_allclose(scaled(J[i], expected), scaled(expected, expected), atol=1e-5)
        np.testing.assert_allclose(np.diag(J[i]), np.diag(expected), rtol=1e-5)


@each_kind
@pytest.mark.parametrize(
    "changes",
    [
        *({"wavefront": w, "amplitude_taper": t} for w, t in WAVE_MODELS if w != "planar"),
        {"symbols": "constant"},
        {"codebook": "dft", "phase_bits": 2},
        {"power_control": "path_loss", "snr_values_db": (-5.0,)},
        {"num_snapshots": 3, "num_antennas": 7, "ris_columns": 9},
    ],
)
def test_scene_bounds_match_the_oracle(kind: str, changes: dict[str, Any]) -> None:
    """Every number of the bound, from the scenes as they are stored."""
    physics = physics_of(2, **changes)
    scenes = simulate(physics, 2)
    found = bounds_of(scenes, physics, kind)
    for i in range(2):
        expected = by_definition(oracle_scene(scenes, i, physics), kind, "bound")
        for field in (*POLAR, "position"):
            np.testing.assert_allclose(getattr(found, field)[i].numpy(), getattr(expected, field), rtol=1e-5)
        deviation = scaled(found.covariance[i].numpy() - expected.covariance, expected.covariance)
        assert np.max(np.abs(deviation)) < 1e-5


def constant_fisher(s: oracle.Scene, static_path: bool) -> Array:
    """Fisher matrix of positions, amplitudes and static path, by differences of the mean."""
    K = len(s.positions)

    def mean(v: Array) -> Array:
        amplitudes = (v[3 * K : 4 * K] + 1j * v[4 * K : 5 * K])[:, None].repeat(len(s.codes), axis=1)
        clean = oracle.noise_free(
            s.Phi, oracle.steering_matrix(s.array, v[: 3 * K].reshape(-1, 3)), amplitudes
        )
        M = clean.shape[1]
        return np.asarray(
            clean + v[5 * K : 5 * K + M] + 1j * v[5 * K + M :] if static_path else clean
        ).ravel()

    x, M = s.amplitudes[:, 0], s.H.shape[0]
    point = np.concatenate([s.positions.ravel(), x.real, x.imag, *[np.zeros(M)] * (2 * static_path)])
    steps = np.concatenate([oracle.bounds.position_steps(s.positions), np.ones(point.size - 3 * K)])
    columns = [oracle.bounds.central_difference(mean, point, i, steps[i]) for i in range(point.size)]
    J = np.stack(columns, axis=1)
    return np.asarray(2.0 / s.noise_var * (J.conj().T @ J).real)


@pytest.mark.parametrize("static_path", [False, True])
@pytest.mark.parametrize(("K", "M", "L"), [(1, 4, 6), (3, 4, 8), (2, 1, 24)])
def test_constant_symbols_have_one_amplitude_in_all_snapshots(
    K: int, M: int, L: int, static_path: bool
) -> None:
    changes = {"num_antennas": M, "num_snapshots": L, "symbols": "constant", "static_path": static_path}
    physics = physics_of(K, **changes)
    scenes, geometry = simulate(physics, 2), ArrayGeometry.from_config(physics)
    found = scene_bounds(scenes, geometry, symbols="constant", static_path=static_path)
    for i in range(2):
        F = constant_fisher(oracle_scene(scenes, i, physics), static_path)
        expected = np.linalg.inv(eliminate(F, 3 * K))
        np.testing.assert_allclose(scaled(found.covariance[i].numpy() - expected, expected), 0.0, atol=1e-5)


@pytest.mark.parametrize("static_path", [False, True])
def test_an_amplitude_drawn_once_is_one_snapshot_of_all_values(static_path: bool) -> None:
    """Slepian-Bangs by differences, for the stacked and differenced measurement matrix."""
    physics = physics_of(2, num_antennas=3, num_snapshots=8, symbols="constant")
    scenes, geometry = simulate(physics, 2), ArrayGeometry.from_config(physics)
    found = scene_bounds(scenes, geometry, "unconditional", symbols="constant", static_path=static_path)
    for i in range(2):
        s = oracle_scene(scenes, i, physics)
        mean = np.full((8, 8), 1.0 / 8.0) if static_path else np.zeros((8, 8))
        D = np.linalg.svd(np.eye(8) - mean)[2][: 8 - static_path]
        Phi = np.einsum("kl,lmn->kmn", D, s.Phi).reshape(1, -1, s.Phi.shape[2])
        expected = oracle.unconditional_bound(s.array, Phi, s.positions, s.powers, s.noise_var)
        np.testing.assert_allclose(found.azimuth[i].numpy(), expected.azimuth, rtol=1e-5)
        np.testing.assert_allclose(found.range[i].numpy(), expected.range, rtol=1e-5)


@pytest.mark.parametrize(("K", "snr_db", "share"), [(1, -5.0, 0.64), (3, 0.0, 0.47), (5, 5.0, 0.47)])
def test_what_constant_symbols_are_worth(K: int, snr_db: float, share: float) -> None:
    """Median standard deviation of the azimuth against that of random symbols, over 120 scenes."""
    changes = {"snr_values_db": (snr_db,)}
    random, constant = (physics_of(K, symbols=kind, **changes) for kind in ("gaussian", "constant"))
    geometry = ArrayGeometry.from_config(random)
    before = scene_bounds(simulate(random, 120), geometry, "unconditional").azimuth
    after = scene_bounds(simulate(constant, 120), geometry, symbols="constant").azimuth
    assert float((after / before).median()) == pytest.approx(share, abs=0.06)


@pytest.fixture(scope="module")
def mixture() -> Scenes:
    return simulate(PhysicsConfig(), 40)


@pytest.fixture(scope="module", params=INFORMATION)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def found(kind: str, mixture: Scenes) -> Bounds:
    return bounds_of(mixture, PhysicsConfig(), kind)


def test_a_batch_is_its_scenes_one_by_one(kind: str, mixture: Scenes, found: Bounds) -> None:
    for i in range(12):
        alone = bounds_of(mixture[i : i + 1], PhysicsConfig(), kind)
        for field in fields(Bounds):
            expected, together = getattr(alone, field.name)[0].numpy(), getattr(found, field.name)[i].numpy()
            np.testing.assert_allclose(together, expected, rtol=1e-7, equal_nan=True)


def test_bounds_are_numbers_of_sources_and_nan_elsewhere(mixture: Scenes, found: Bounds) -> None:
    mask = mixture.source_mask
    for name in (*POLAR, "position"):
        value = getattr(found, name)
        assert value.dtype == torch.float64
        assert torch.equal(~value.isnan(), mask), name
        assert bool((value[mask] > 0).all()), name
    wide = mask.repeat_interleave(3, dim=1)
    assert torch.equal(~found.covariance.isnan(), wide.unsqueeze(-1) & wide.unsqueeze(-2))
    variances = found.covariance.diagonal(dim1=-2, dim2=-1).reshape(40, 5, 3)
    for i, name in enumerate(POLAR):
        np.testing.assert_allclose(variances[..., i].sqrt().numpy(), getattr(found, name).numpy(), rtol=1e-12)


def test_covariances_are_symmetric_and_positive(mixture: Scenes, found: Bounds) -> None:
    for C, K in zip(found.covariance.numpy(), mixture.num_sources.tolist(), strict=True):
        block = C[: 3 * K, : 3 * K]
        correlation = scaled(block, block)
        np.testing.assert_allclose(correlation, correlation.T, atol=1e-9)
        assert np.linalg.eigvalsh(correlation)[0] > 0


def test_the_position_bound_is_the_trace_in_cartesian_coordinates(mixture: Scenes, found: Bounds) -> None:
    """Polar axes are orthogonal: ``r^2 (cos^2 t var p + var t) + var r``."""
    r, c = mixture.range.double(), mixture.elevation.double().cos()
    squared = (r * c * found.azimuth).square() + (r * found.elevation).square() + found.range.square()
    np.testing.assert_allclose(found.position.numpy(), squared.sqrt().numpy(), rtol=1e-9, equal_nan=True)


def test_scenes_without_sources_have_no_bound(mixture: Scenes) -> None:
    silent = replace(mixture, num_sources=torch.zeros_like(mixture.num_sources))[:2]
    empty = scene_bounds(silent, ArrayGeometry.from_config(PhysicsConfig()))
    assert empty.covariance.shape == (2, 15, 15)
    assert bool(empty.covariance.isnan().all())
    assert bool(empty.position.isnan().all())


def at_noise(scenes: Scenes, factor: float, physics: PhysicsConfig, kind: str) -> Bounds:
    return bounds_of(replace(scenes, noise_var=scenes.noise_var * factor), physics, kind)


def test_the_conditional_variance_falls_with_the_snr(mixture: Scenes) -> None:
    faint, loud = (
        at_noise(mixture, f, PhysicsConfig(), "conditional").covariance.numpy() for f in (1.0, 1 / 64)
    )
    np.testing.assert_allclose(loud * 64, faint, rtol=1e-9, equal_nan=True)


def test_the_unconditional_variance_falls_with_the_snr_and_in_the_end_as_it() -> None:
    """Below, it may fall slower than the noise: powers common to differing codes inform by themselves."""
    physics = physics_of(2)
    scenes = simulate(physics, 8)
    steps = [at_noise(scenes, f, physics, "unconditional") for f in (10.0, 1.0, 1e-4, 1e-5)]
    gains = [(a.azimuth / b.azimuth).square() for a, b in pairwise(steps)]
    assert all(bool((gain > 1.0).all()) for gain in gains)
    assert (gains[-1] / 10.0 - 1.0).abs().max() < 1e-4


@each_kind
def test_information_adds_over_repeated_snapshots(kind: str) -> None:
    physics = physics_of(3)
    scenes = simulate(physics, 4)
    thrice = replace(
        scenes,
        code_index=scenes.code_index.repeat(1, 3, 1),
        symbols=scenes.symbols.repeat(1, 1, 3),
        y=scenes.y.repeat(1, 3, 1),
    )
    once, more = (bounds_of(s, physics, kind).covariance.numpy() for s in (scenes, thrice))
    np.testing.assert_allclose(3 * more, once, rtol=1e-7)


@each_kind
def test_the_variance_falls_as_the_snapshots(kind: str) -> None:
    """With fresh codes and symbols, asymptotically: 128 against 512 snapshots, on the average of scenes."""
    variances = []
    for L in (128, 512):
        physics = physics_of(2, num_snapshots=L)
        scenes = replace(simulate(physics, 6), noise_var=torch.full((6,), 2.0))
        variances.append(bounds_of(scenes, physics, kind).azimuth.square())
    assert torch.exp((variances[0] / variances[1]).log().mean()) == pytest.approx(4.0, rel=0.08)


def paired(K: int, snr_db: float, codes: int = 8) -> tuple[Bounds, Bounds]:
    """(conditional, unconditional) with amplitudes of ``x x^H = 2 diag(p)`` over each pair of equal codes."""
    physics = physics_of(K)
    scenes = simulate(physics, 3)
    signs = torch.tensor([[1.0, 1.0], [1.0, -1.0]], dtype=torch.complex64)[:K]
    scenes = replace(
        scenes,
        code_index=scenes.code_index[:, :codes].repeat_interleave(16 // codes, dim=1),
        symbols=signs.repeat(1, 8).expand(3, -1, -1),
        noise_var=scenes.noise_var * 10.0 ** ((10.0 - snr_db) / 10.0),
    )
    return bounds_of(scenes, physics, "conditional"), bounds_of(scenes, physics, "unconditional")


@pytest.mark.parametrize("K", [1, 2])
def test_both_bounds_meet_at_high_snr(K: int) -> None:
    gaps = []
    for snr_db in (0.0, 20.0, 60.0):
        given, blind = paired(K, snr_db)
        ratio = blind.covariance.diagonal(dim1=1, dim2=2) / given.covariance.diagonal(dim1=1, dim2=2)
        gaps.append(float(ratio.sub(1.0).abs().max()))
    assert gaps[0] > gaps[1] > gaps[2]
    assert gaps[2] < 1e-4


def test_unknown_symbols_at_random_cost_more_for_one_source_and_code() -> None:
    """Stoica and Nehorai, IEEE Trans. ASSP 38(10), 1990: one array, unknown symbol covariance.

    Neither holds in general, and then the unconditional bound may be the smaller: a power common to
    snapshots of different codes makes the received energy informative, and so does knowing that the
    symbols of different sources are uncorrelated.
    """
    excess = []
    for snr_db in (-10.0, 0.0, 20.0):
        given, blind = paired(1, snr_db, codes=1)
        excess.append((blind.azimuth / given.azimuth).square().sub(1.0))
        for C, U in zip(given.covariance.numpy(), blind.covariance.numpy(), strict=True):
            assert np.linalg.eigvalsh(scaled(U - C, C))[0] > -1e-6
    assert bool((torch.stack([*excess, torch.zeros(3, 1)]).diff(dim=0) < 0).all())


@each_kind
@pytest.mark.parametrize("K", [2, 3, 5])
def test_another_source_never_lowers_the_bound_of_the_others(kind: str, K: int) -> None:
    """More unknowns, and under the Gaussian model more noise: the others' covariance can only grow."""
    physics = physics_of(K)
    scenes, geometry = simulate(physics, 12), double_geometry(physics)
    (H, codes), everyone = measured(scenes), model_of(scenes)
    fewer = SourceModel(
        *(getattr(everyone, f.name)[:, : K - 1] for f in fields(SourceModel) if f.name != "noise_var"),
        noise_var=everyone.noise_var,
    )
    kept = 3 * (K - 1)
    more, fewer_bound = (
        bounds_from_information(INFORMATION[kind](H, codes, sources, geometry), sources).covariance.numpy()
        for sources in (everyone, fewer)
    )
    for C, less in zip(more[:, :kept, :kept], fewer_bound, strict=True):
        assert np.linalg.eigvalsh(scaled(C - less, less))[0] > -1e-7


@each_kind
def test_the_order_of_the_sources_does_not_matter(kind: str) -> None:
    physics, order = physics_of(3), torch.tensor([2, 0, 1])
    scenes = simulate(physics, 4)
    swapped = replace(scenes, **{n: getattr(scenes, n)[:, order] for n in (*POLAR, "power", "symbols")})
    plain, other = bounds_of(scenes, physics, kind), bounds_of(swapped, physics, kind)
    np.testing.assert_allclose(other.position.numpy(), plain.position[:, order].numpy(), rtol=1e-8)


def merged(separation: float, kind: str) -> Bounds:
    """Three scenes whose second source is `separation` rad of azimuth from the first, then three as drawn."""
    physics = physics_of(2, max_coherence=1.0)
    scenes = simulate(physics, 6)
    where = {name: getattr(scenes, name).double() for name in POLAR}
    for value in where.values():
        value[:3, 1] = value[:3, 0]
    where["azimuth"][:3, 1] += separation
    return bounds_of(replace(scenes, **where), physics, kind)


@each_kind
def test_coincident_sources_have_an_infinite_bound(kind: str) -> None:
    found = merged(0.0, kind)
    for name in (*POLAR, "position"):
        value = getattr(found, name)
        assert bool(torch.isposinf(value[:3]).all()), name
        assert bool(torch.isfinite(value[3:]).all()), name
    assert not bool(found.covariance.isnan().any())


def test_the_bound_of_near_sources_grows_as_they_approach() -> None:
    """As the inverse of their distance."""
    wide, near = merged(1e-3, "conditional").azimuth[:3], merged(1e-4, "conditional").azimuth[:3]
    np.testing.assert_allclose((near / wide).numpy(), 10.0, rtol=0.01)


@each_kind
@pytest.mark.parametrize("separation", [1e-4, 1e-5, 1e-6, 1e-7, 1e-9])
def test_merging_sources_are_never_promised_more(kind: str, separation: float) -> None:
    """Rounding may turn a large bound infinite; it must not turn it small."""
    near, nearer = merged(1e-3, kind), merged(separation, kind)
    for name in ("azimuth", "position"):
        value = getattr(nearer, name)
        assert not bool(value.isnan().any()), name
        assert bool((value[:3] >= 0.99 * getattr(near, name)[:3]).all()), name
        np.testing.assert_allclose(value[3:].numpy(), getattr(near, name)[3:].numpy(), rtol=1e-9)


@each_kind
@pytest.mark.parametrize("K", [1, 2])
def test_plane_waves_bound_the_angles_and_leave_the_range_open(kind: str, K: int) -> None:
    """The information of the range is exactly zero; the angles have the bound of the problem without it."""
    physics = physics_of(K, wavefront="planar")
    scenes = simulate(physics, 3)
    found = bounds_of(scenes, physics, kind)
    assert bool(torch.isposinf(found.range).all())
    assert bool(torch.isposinf(found.position).all())
    for i in range(3):
        F = by_definition(oracle_scene(scenes, i, physics), kind, "fisher")
        seen = np.array([p >= 3 * K or p % 3 != 2 for p in range(len(F))])
        angles = np.linalg.inv(eliminate(F[np.ix_(seen, seen)], 2 * K))
        expected = np.sqrt(np.diag(angles)).reshape(K, 2)
        np.testing.assert_allclose(found.azimuth[i].numpy(), expected[:, 0], rtol=1e-5)
        np.testing.assert_allclose(found.elevation[i].numpy(), expected[:, 1], rtol=1e-5)


def test_the_range_bound_grows_as_the_square_of_the_range() -> None:
    """Once the wavefront is nearly plane the curvature 1/r is what is measured."""
    physics = physics_of(1)
    scenes = simulate(physics, 3)
    near, far = (bounds_of(replace(scenes, range=torch.full((3, 1), r)), physics) for r in (20.0, 40.0))
    np.testing.assert_allclose((far.range / near.range).numpy(), 4.0, rtol=0.05)


def test_information_that_is_not_finite_identifies_nothing() -> None:
    J = torch.diag(torch.tensor([4.0, 1.0, 1e-300], dtype=torch.float64)).repeat(4, 1, 1)
    J[1, 0, 1] = torch.nan
    J[2, 0, 0] = torch.inf
    J[3, 2, 2] = -1e-17  # zero, rounded
    covariance, unidentifiable = invert_information(J)
    assert unidentifiable.tolist() == [[False] * 3, [True] * 3, [True] * 3, [False, False, True]]
    assert covariance[[0, 3], 0, 0].tolist() == [0.25, 0.25]
