"""Hardware faults: each against its own theory, and what none of them may touch."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy import stats

from risctl.config import ImpairmentConfig, PhysicsConfig
from risctl.physics import ArrayGeometry
from risctl.physics.impairments import Impairments, draw_impairments, state_amplitudes
from tests import oracle
from tests.physics.reference import Array, assert_mean, oracle_clean, relative_error, same_scenes, simulate

SCENES = 96
NEPER = math.log(10.0) / 20.0
WAVENUMBER = 2.0 * math.pi / 0.3


OFF = ImpairmentConfig()
EVERY = {
    "position": ImpairmentConfig(position_error=0.01),
    "phase": ImpairmentConfig(phase_error_deg=20.0),
    "jitter": ImpairmentConfig(amplitude_jitter_db=2.0),
    "dead": ImpairmentConfig(dead_elements=0.2),
    "wavelength": ImpairmentConfig(wavelength_mismatch=0.02),
    "states": ImpairmentConfig(state_amplitude_min=0.5, state_phase_error_deg=10.0),
}
each_fault = pytest.mark.parametrize("name", EVERY)
GAINS = [  # mean of the element gain that the fault amounts to, and of its squared modulus
    ("position", math.exp(-((WAVENUMBER * 0.01) ** 2) / 2), 1.0),
    ("phase", math.exp(-(math.radians(20.0) ** 2) / 2), 1.0),
    ("jitter", math.exp((2.0 * NEPER) ** 2 / 2), math.exp(2.0 * (2.0 * NEPER) ** 2)),
    ("dead", 0.8, 0.8),
]


def physics_of(impairments: ImpairmentConfig, snr_db: float = 10.0) -> PhysicsConfig:
    return PhysicsConfig(impairments=impairments, snr_values_db=(snr_db,))


def split(impairments: ImpairmentConfig) -> tuple[Array, Array]:
    """Noise-free snapshots and unit noise of the same scenes, solved from two SNRs."""
    low, high = (simulate(physics_of(impairments, snr_db), SCENES) for snr_db in (0.0, 20.0))
    a, b = (x.noise_var.double().sqrt().numpy()[:, None, None] for x in (low, high))
    first, second = (x.y.numpy().astype(np.complex128) for x in (low, high))
    return (a * second - b * first) / (a - b), (first - second) / (a - b)


def surface(impairments: ImpairmentConfig, count: int = 400) -> tuple[Impairments, ArrayGeometry]:
    physics = physics_of(impairments)
    nominal = ArrayGeometry.from_config(physics)
    return draw_impairments(np.random.default_rng(3), physics, count, nominal), nominal


def test_off_is_bit_identical() -> None:
    assert same_scenes(
        simulate(physics_of(OFF), SCENES), simulate(PhysicsConfig(snr_values_db=(10.0,)), SCENES)
    )
    drawn, nominal = surface(OFF)
    assert drawn.gain is None
    assert drawn.geometry is nominal


@each_fault
def test_only_the_data_change(name: str) -> None:
    with_fault, without = (simulate(physics_of(c), SCENES).tensors() for c in (EVERY[name], OFF))
    changed = {key for key, value in with_fault.items() if not torch.equal(value, without[key])}
    assert changed == {"y", "noise_var"}


@each_fault
def test_the_noise_is_the_same_realisation(name: str) -> None:
    np.testing.assert_allclose(split(EVERY[name])[1], split(OFF)[1], atol=2e-4)


@each_fault
def test_the_snr_is_of_the_impaired_data(name: str) -> None:
    scenes = simulate(physics_of(EVERY[name], 0.0), SCENES)
    power = np.mean(np.abs(split(EVERY[name])[0]) ** 2, axis=(1, 2))
    np.testing.assert_allclose(power, scenes.noise_var.double().numpy(), rtol=1e-4)


@pytest.mark.parametrize(("name", "mean_gain", "mean_power"), GAINS)
def test_the_data_have_the_mean_gain_in_common_and_scale_with_its_power(
    name: str, mean_gain: float, mean_power: float
) -> None:
    """``E <mu, mu'> = E[g] |mu|^2``, since the data are linear in the element gains.

    Random codes add the elements' powers, up to their share of the line of sight.
    """
    nominal, real = split(OFF)[0], split(EVERY[name])[0]
    before, after = (np.sum(np.abs(mu) ** 2, axis=(1, 2)) for mu in (nominal, real))
    assert_mean(np.sum(nominal.conj() * real, axis=(1, 2)) / before, mean_gain)
    assert_mean(after / before, mean_power)


def test_a_wavelength_mismatch_is_another_wave_on_the_same_surface() -> None:
    """On the nominal channel, codes and positions."""
    scenes = simulate(physics_of(EVERY["wavelength"]), SCENES)[:8]
    real = oracle.Array(wavelength=0.3 * 1.02, spacing=0.5 / 1.02)
    np.testing.assert_allclose(oracle.element_positions(real), oracle.element_positions(oracle.Array()))
    expected = oracle_clean(scenes, PhysicsConfig(), real)
    assert relative_error(split(EVERY["wavelength"])[0][:8], expected) < 5e-5


@pytest.mark.parametrize(
    ("name", "standard"),
    [
        ("phase", lambda g: np.angle(g) / math.radians(20.0)),
        ("jitter", lambda g: 20.0 * np.log10(np.abs(g)) / 2.0),
    ],
)
def test_gains_are_normal_in_phase_and_in_decibels(name: str, standard: Callable[[Array], Array]) -> None:
    gain = surface(EVERY[name])[0].gain
    assert gain is not None
    assert gain.shape == (400, 1, 144)
    x = standard(gain.numpy().astype(np.complex128))
    assert stats.kstest(x.ravel(), "norm").pvalue > 1e-3
    assert_mean(x[..., 1:] * x[..., :-1], 0.0)
    assert_mean(x[1:] * x[:-1], 0.0)


def test_dead_elements_reflect_nothing_and_the_rest_everything() -> None:
    gain = surface(EVERY["dead"])[0].gain
    assert gain is not None
    assert set(gain.real.unique().tolist()) == {0.0, 1.0}
    assert_mean(gain.real.numpy(), 0.8)


def test_position_errors_are_normal_in_each_coordinate() -> None:
    drawn, nominal = surface(EVERY["position"])
    assert drawn.gain is None
    x = (drawn.geometry.positions - nominal.positions).double().numpy() / 0.01
    assert x.shape == (400, 144, 3)
    for coordinate in range(3):
        assert stats.kstest(x[..., coordinate].ravel(), "norm").pvalue > 1e-3
        assert_mean(x[..., coordinate] * x[..., coordinate - 1], 0.0)


def test_faults_combine() -> None:
    gains = {"phase_error_deg": 10.0, "amplitude_jitter_db": 1.0, "dead_elements": 0.1}
    places = {"position_error": 0.005, "wavelength_mismatch": -0.01}
    drawn, nominal = surface(ImpairmentConfig(**gains, **places))
    assert drawn.gain is not None
    assert drawn.geometry.wavelength == pytest.approx(0.297)
    assert drawn.geometry.positions.shape == (400, 144, 3)
    assert nominal.wavelength == 0.3
    expected = 0.9 * math.exp(NEPER**2 / 2) * math.exp(-(math.radians(10.0) ** 2) / 2)
    assert_mean(drawn.gain.numpy(), expected)


def test_states_dip_in_amplitude_and_err_in_phase() -> None:
    """The varactor model: full amplitude opposite to the dip, whose bottom is the least amplitude."""
    amplitude = state_amplitudes(8, 0.2)
    assert float(amplitude.min()) == pytest.approx(0.2, abs=1e-3)
    assert float(amplitude.max()) == pytest.approx(1.0, abs=1e-3)
    assert int(amplitude.argmin()) / 256 == pytest.approx((0.43 - 0.5) % 1.0 / 2 + 0.5, abs=0.01)
    drawn, _ = surface(ImpairmentConfig(state_amplitude_min=0.2, state_phase_error_deg=10.0))
    assert drawn.states is not None
    assert drawn.states.shape == (400, 8)
    torch.testing.assert_close(drawn.states.abs().double()[7], state_amplitudes(3, 0.2))
    phase = drawn.states.angle().double().numpy() / math.radians(10.0)
    assert stats.kstest(phase.ravel(), "norm").pvalue > 1e-3


def test_states_are_factors_of_the_codes() -> None:
    """All values of one amplitude: the data are those of the nominal surface times it."""
    least = ImpairmentConfig(state_amplitude_min=0.0)
    physics = physics_of(least)
    index = torch.zeros(1, 2, 144, dtype=torch.uint8)
    drawn = surface(least)[0]
    assert drawn.states is not None
    codes = torch.ones(1, 2, 144, dtype=torch.complex64)
    expected = state_amplitudes(physics.phase_bits, 0.0)[0].to(torch.complex64)
    torch.testing.assert_close(drawn.applied(index, codes, slice(0, 1)), codes * expected)


@each_fault
def test_a_shared_surface_is_the_same_in_all_scenes(name: str) -> None:
    shared = EVERY[name].model_copy(update={"shared": True})
    drawn, alone = surface(shared, 3)[0], surface(EVERY[name], 1)[0]
    for got, one in ((drawn.gain, alone.gain), (drawn.states, alone.states)):
        assert (got is None) == (one is None)
        if got is not None and one is not None:
            torch.testing.assert_close(got, one.expand_as(got), rtol=0, atol=0)
    wanted = alone.geometry.positions.expand_as(drawn.geometry.positions)
    torch.testing.assert_close(drawn.geometry.positions, wanted, rtol=0, atol=0)
    assert drawn.geometry.wavelength == alone.geometry.wavelength
