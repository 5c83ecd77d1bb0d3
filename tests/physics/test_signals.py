"""Simulated scenes against the oracle, and their random design against what the configuration says."""

import math
from itertools import combinations
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from risctl.config import PhysicsConfig
from risctl.errors import InputError
from risctl.physics import ArrayGeometry, Scenes, received_signal, simulate_scenes, steering_vector
from risctl.physics.signals import draw_num_sources, draw_powers, draw_snr, draw_symbols
from tests import oracle
from tests.physics.reference import (
    WAVE_MODELS,
    Array,
    assert_mean,
    oracle_array,
    oracle_clean,
    oracle_scene,
    relative_error,
    same_scenes,
    simulate,
)
from tests.small import PHYSICS

VARIANTS: dict[str, dict[str, Any]] = {
    **{
        f"{wave}-{'taper' if taper else 'flat'}": {"wavefront": wave, "amplitude_taper": taper}
        for wave, taper in WAVE_MODELS
    },
    "constant": {"symbols": "constant"},
    "rayleigh": {"symbols": "constant", "fading": "rayleigh"},
    "path-loss": {"power_control": "path_loss"},
    "five-bit-mixed": {"phase_bits": 5, "codebook": "mixed"},
    "odd-shape": {"ris_columns": 7, "ris_rows": 5, "num_antennas": 9, "num_snapshots": 11, "wavelength": 0.1},
}
each_variant = pytest.mark.parametrize("variant", VARIANTS)
MANY = 1500


def physics_of(variant: str, **changes: Any) -> PhysicsConfig:
    return PhysicsConfig(**VARIANTS[variant], **changes)


@pytest.fixture(scope="module")
def many() -> Scenes:
    return simulate(PhysicsConfig(), MANY)


def steering_of(scenes: Scenes, index: int, physics: PhysicsConfig) -> Array:
    return oracle.steering_matrix(oracle_array(physics), oracle_scene(scenes, index, physics).positions)


def all_steering(scenes: Scenes, physics: PhysicsConfig) -> torch.Tensor:
    """Steering vectors [n, K_max, N] of all slots, whatever those without a source hold."""
    at = (scenes.azimuth, scenes.elevation, scenes.range.clamp_min(0.1))
    return steering_vector(*at, ArrayGeometry.from_config(physics))


@each_variant
def test_snapshots_are_the_oracle_plus_white_noise(variant: str) -> None:
    physics = physics_of(variant)
    scenes = simulate(physics, 24)
    residual = scenes.y.numpy() - oracle_clean(scenes, physics)
    w = residual / np.sqrt(scenes.noise_var.double().numpy())[:, None, None]
    assert stats.kstest(w.real.ravel() * np.sqrt(2), "norm").pvalue > 1e-3
    assert stats.kstest(w.imag.ravel() * np.sqrt(2), "norm").pvalue > 1e-3
    assert_mean(np.abs(w) ** 2, 1.0)
    assert_mean(w**2, 0.0)
    assert_mean(w[:, 1:] * w[:, :-1].conj(), 0.0)
    assert_mean(w[:, :, 1:] * w[:, :, :-1].conj(), 0.0)


def test_the_noise_has_the_stated_variance() -> None:
    """At -100 dB the snapshots are noise to five digits: 256,000 samples of it."""
    scenes = simulate(PhysicsConfig(snr_values_db=(-100.0,)), 1000)
    w = scenes.y.numpy().astype(np.complex128) / scenes.noise_var.double().sqrt().numpy()[:, None, None]
    assert_mean(np.abs(w) ** 2, 1.0)
    assert_mean(np.abs(w) ** 4, 2.0)
    assert_mean(w, 0.0)


@each_variant
def test_without_noise_the_snapshots_are_the_oracles(variant: str) -> None:
    physics = physics_of(variant, snr_values_db=(100.0,))
    scenes = simulate(physics, 8)
    for y, expected in zip(scenes.y.numpy(), oracle_clean(scenes, physics), strict=True):
        assert relative_error(y, expected) < 3e-5  # the noise itself is 1e-5


@each_variant
def test_the_snr_is_its_definition(variant: str) -> None:
    physics = physics_of(variant)
    scenes = simulate(physics, 24)
    power = np.mean(np.abs(oracle_clean(scenes, physics)) ** 2, axis=(1, 2))
    snr = power / scenes.noise_var.double().numpy()
    np.testing.assert_allclose(snr, 10.0 ** (scenes.snr_db.double().numpy() / 10.0), rtol=1e-5)


@each_variant
def test_the_true_covariance_is_the_oracles(variant: str) -> None:
    """``A diag(p) A^H`` at trace N, in single precision from the stored truth."""
    physics = physics_of(variant)
    scenes, N = simulate(physics, 12), physics.num_elements
    A = all_steering(scenes, physics)
    R = A.mT @ (A.conj() * scenes.power.unsqueeze(-1))
    R = R * (N / R.diagonal(dim1=-2, dim2=-1).real.sum(-1))[:, None, None]
    for i in range(len(scenes)):
        powers = oracle_scene(scenes, i, physics).powers
        expected = oracle.true_covariance(steering_of(scenes, i, physics), powers)
        assert relative_error(R[i].numpy(), expected) < 1e-5


def test_received_signal_is_linear_and_batched() -> None:
    scenes = simulate(PHYSICS, 6)
    args = (scenes.H, scenes.codes, all_steering(scenes, PHYSICS), scenes.power, scenes.symbols)
    whole = received_signal(*args)
    for i in range(6):
        alone = received_signal(*(x[i : i + 1] for x in args))
        assert relative_error(alone[0].numpy(), whole[i].numpy()) < 1e-6
    parts = [received_signal(scenes.H, scenes.codes, *(x[:, k : k + 1] for x in args[2:])) for k in range(3)]
    assert relative_error(sum(parts).numpy(), whole.numpy()) < 1e-6


def test_sample_covariance_of_the_sources_tends_to_theirs() -> None:
    """Over snapshots ``x x^H / L -> diag(p)``, entry (i, j) with standard deviation ``sqrt(p_i p_j / L)``."""
    sizes = {"ris_columns": 2, "ris_rows": 2, "num_antennas": 4, "num_snapshots": 4000}
    scenes = simulate(PhysicsConfig(**sizes, min_sources=3, max_sources=3, max_coherence=1.0), 10)
    x = scenes.symbols * scenes.power.sqrt().unsqueeze(-1)
    P = torch.diag_embed(scenes.power)
    deviation = (x @ x.mH / 4000 - P) / (scenes.power.unsqueeze(-1) * scenes.power.unsqueeze(-2)).sqrt()
    assert deviation.abs().max() < 4.5 / math.sqrt(4000)


def test_k_is_uniform(many: Scenes) -> None:
    assert stats.chisquare(np.bincount(many.num_sources.numpy(), minlength=6)[1:]).pvalue > 1e-3
    drawn = draw_num_sources(np.random.default_rng(1), PhysicsConfig(min_sources=2, max_sources=4), 3000, 0)
    assert stats.chisquare(np.bincount(drawn.numpy())[2:]).pvalue > 1e-3


@pytest.mark.parametrize("first", [0, 3, 64])
def test_stratified_scenes_cycle_through_k_then_snr(first: int) -> None:
    physics = PhysicsConfig(stratified=True, snr_values_db=(0.0, 10.0, 20.0), min_sources=2)
    scenes = simulate(physics, 24, first_index=first)
    index = first + np.arange(24)
    assert np.array_equal(scenes.num_sources.numpy(), 2 + index % 4)
    assert np.array_equal(scenes.snr_db.numpy(), np.array([0.0, 10.0, 20.0])[(index // 4) % 3])
    cells = np.stack([scenes.num_sources.numpy(), scenes.snr_db.numpy()])
    assert np.unique(cells, axis=1, return_counts=True)[1].tolist() == [2] * 12


def test_positions_fill_the_field_of_view() -> None:
    view = {"azimuth_limit_deg": 40, "range_min": 2}
    scenes = simulate(PhysicsConfig(min_sources=2, max_sources=2, max_coherence=1.0, **view), MANY)
    azimuth, elevation = math.radians(40) * (1 + 1e-6), math.radians(30) * (1 + 1e-6)
    limits = {"azimuth": (-azimuth, azimuth), "elevation": (-elevation, elevation), "range": (2.0, 10.0)}
    for name, (low, high) in limits.items():
        value = getattr(scenes, name).double().numpy().ravel()
        assert low <= np.min(value) <= np.max(value) <= high, name
        assert stats.kstest(value, stats.uniform(low, high - low).cdf).pvalue > 1e-3, name


def largest_coherence(scenes: Scenes, index: int, physics: PhysicsConfig) -> float:
    A = steering_of(scenes, index, physics)
    pairs = combinations(range(A.shape[1]), 2)
    return max((abs(np.vdot(A[:, i], A[:, j])) for i, j in pairs), default=0.0)


@pytest.mark.parametrize("cap", [0.5, 0.3])
def test_the_coherence_cap_holds_and_touches_nothing_else(cap: float) -> None:
    """Scenes that meet the cap anyway keep their first draw; the others are drawn anew as a whole."""
    capped, free = PhysicsConfig(max_coherence=cap), PhysicsConfig(max_coherence=1.0)
    scenes, uncapped = simulate(capped, 250), simulate(free, 250)
    before = np.array([largest_coherence(uncapped, i, free) for i in range(250)])
    after = np.array([largest_coherence(scenes, i, capped) for i in range(250)])
    assert np.max(after) <= cap + 1e-5
    assert np.mean(before > cap) > 0.02
    same = (scenes.azimuth == uncapped.azimuth).all(1).numpy()
    assert np.array_equal(same, before <= cap)
    assert torch.equal(scenes.power, uncapped.power)
    assert torch.equal(scenes.H, uncapped.H)


def test_a_single_source_knows_no_cap() -> None:
    assert len(simulate(PhysicsConfig(max_sources=1, max_coherence=1e-6), 20)) == 20


def test_a_cap_that_no_positions_meet_is_refused() -> None:
    physics = PhysicsConfig(min_sources=2, max_sources=2, max_coherence=1e-6, ris_columns=3, ris_rows=1)
    with pytest.raises(InputError, match="max_coherence"):
        simulate(physics, 1)


@pytest.mark.parametrize("spread", [0.0, 3.0, 10.0])
def test_powers_are_uniform_in_decibels(spread: float) -> None:
    physics = PhysicsConfig(power_spread_db=spread)
    powers = draw_powers(np.random.default_rng(1), physics, torch.ones(2000, 5))
    decibels = 10 * powers.double().log10().numpy()
    assert np.max(np.abs(decibels)) <= spread + 1e-5
    if spread:
        assert stats.kstest(decibels.ravel(), stats.uniform(-spread, 2 * spread).cdf).pvalue > 1e-3


def test_path_loss_is_the_inverse_square() -> None:
    controlled, lossy = (simulate(PhysicsConfig(power_control=c), 50) for c in ("controlled", "path_loss"))
    mask = controlled.source_mask
    assert torch.equal(controlled.range, lossy.range)
    ratio = (lossy.power * lossy.range.square() / controlled.power)[mask]
    assert (ratio - 1).abs().max() < 1e-6
    decibels = 10 * (lossy.power * lossy.range.square())[mask].log10()
    assert decibels.abs().max() <= 3 + 1e-4


def test_gaussian_symbols_are_white() -> None:
    s = draw_symbols(np.random.default_rng(1), PhysicsConfig(), 400).numpy().astype(np.complex128)
    assert_mean(np.abs(s) ** 2, 1.0)
    assert_mean(np.abs(s) ** 4, 2.0)
    assert_mean(s[:, 1:] * s[:, :-1].conj(), 0.0)
    assert_mean(s[:, :, 1:] * s[:, :, :-1].conj(), 0.0)


@pytest.mark.parametrize(("fading", "fourth"), [("none", 1.0), ("rayleigh", 2.0)])
def test_constant_symbols_stay_constant(fading: str, fourth: float) -> None:
    scenes = simulate(PhysicsConfig(symbols="constant", fading=fading), 400)
    s = scenes.symbols
    assert torch.equal(s, s[:, :, :1].expand_as(s))
    held = s[:, :, 0][scenes.source_mask].numpy().astype(np.complex128)
    assert_mean(held, 0.0)
    for power, expected in ((2, 1.0), (4, fourth)):
        if fading == "none":
            np.testing.assert_allclose(np.abs(held), 1.0, rtol=1e-6)
        else:
            assert_mean(np.abs(held) ** power, expected)


def test_a_static_path_is_the_same_in_all_snapshots_and_has_the_power_asked_for() -> None:
    plain, there = (
        PhysicsConfig(symbols="constant", static_path=on, static_path_db=7.0) for on in (False, True)
    )
    a, b = simulate(plain, 300), simulate(there, 300)
    d = b.y - a.y
    assert torch.equal(a.noise_var, b.noise_var)
    torch.testing.assert_close(d, d[:, :1].expand_as(d), rtol=0, atol=1e-4)
    sources = a.noise_var * 10.0 ** (a.snr_db / 10.0)
    ratio = d[:, 0].abs().square() / sources.unsqueeze(1)
    assert_mean(ratio.numpy(), 10.0**0.7)


@each_variant
def test_everything_is_zero_past_the_sources(variant: str) -> None:
    scenes = simulate(physics_of(variant), 60)
    spare = ~scenes.source_mask
    assert bool(spare.any())
    for name in ("azimuth", "elevation", "range", "power", "symbols"):
        value = getattr(scenes, name)
        assert value[spare].abs().max() == 0, name
        assert value[~spare].abs().min() > 0, name


@pytest.mark.parametrize("values", [(), (-5.0, 0.0, 15.0)])
def test_the_snr_is_drawn_as_configured(values: tuple[float, ...]) -> None:
    snr = draw_snr(np.random.default_rng(1), PhysicsConfig(snr_values_db=values), 3000, 0).double().numpy()
    if values:
        found, counts = np.unique(snr, return_counts=True)
        assert tuple(found) == values
        assert stats.chisquare(counts).pvalue > 1e-3
    else:
        assert stats.kstest(snr, stats.uniform(-5, 25).cdf).pvalue > 1e-3


@each_variant
def test_the_generator_decides_every_bit(variant: str) -> None:
    physics = physics_of(variant)
    torch_state = torch.get_rng_state()
    first = simulate(physics, 5)
    assert same_scenes(first, simulate(physics, 5))
    assert torch.equal(torch.get_rng_state(), torch_state)
    other = simulate(physics, 5, seed=2).tensors()
    same = {name for name, x in first.tensors().items() if torch.equal(x, other[name])}
    assert same <= {"num_sources"}


def test_the_generator_is_only_spawned_from() -> None:
    rng = np.random.default_rng(1)
    before = rng.bit_generator.state
    first = simulate_scenes(PHYSICS, rng, 3)
    assert rng.bit_generator.state == before
    assert not torch.equal(simulate_scenes(PHYSICS, rng, 3).y, first.y)  # the next children


@pytest.mark.parametrize(
    ("change", "moved"),
    [
        ({"codebook": "dft"}, {"code_index", "y", "noise_var"}),
        ({"power_spread_db": 1.0}, {"power", "y", "noise_var"}),
        ({"symbols": "constant"}, {"symbols", "y", "noise_var"}),
        ({"snr_values_db": (10.0,)}, {"snr_db", "y", "noise_var"}),
        ({"rician_k_max": 3.0}, {"H", "y", "noise_var"}),
        ({"range_max": 8.0}, {"range", "y", "noise_var"}),
    ],
)
def test_changing_one_ingredient_leaves_the_others(change: dict[str, Any], moved: set[str]) -> None:
    plain, changed = (simulate(PhysicsConfig(max_coherence=1.0, **c), 8).tensors() for c in ({}, change))
    assert {name for name in plain if not torch.equal(plain[name], changed[name])} == moved


@pytest.mark.parametrize("device", ["cpu", *["cuda"][: torch.cuda.is_available()]])
def test_the_draws_are_the_same_on_every_device(device: str) -> None:
    here = simulate(PhysicsConfig(), 32)
    there = simulate_scenes(PhysicsConfig(), np.random.default_rng(1), 32, device=torch.device(device))
    assert all(x.device.type == device for x in there.tensors().values())
    for name, value in there.to("cpu").tensors().items():
        expected = getattr(here, name)
        if name in {"y", "noise_var", "H"}:
            assert relative_error(value.numpy(), expected.numpy()) < 1e-5, name
        else:
            assert torch.equal(value, expected), name
