"""Hardware faults: each against its own theory, and what none of them may touch."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from scipy import stats

from risctl.config import ImpairmentConfig, PhysicsConfig
from risctl.physics import ArrayGeometry, Scenes
from risctl.physics.impairments import ImpairedSurface, draw_impairments
from tests import oracle
from tests.physics.reference import Array, assert_mean, oracle_clean, relative_error, simulate

SCENES = 96
NEPER = math.log(10.0) / 20.0
WAVENUMBER = 2.0 * math.pi / 0.3


@dataclass(frozen=True)
class Fault:
    """One impairment, with the mean of the element gain it amounts to and of its squared modulus."""

    config: ImpairmentConfig
    mean_gain: float
    mean_power: float


FAULTS = {
    "position": Fault(ImpairmentConfig(position_error=0.01), math.exp(-((WAVENUMBER * 0.01) ** 2) / 2), 1.0),
    "phase": Fault(ImpairmentConfig(phase_error_deg=20.0), math.exp(-(math.radians(20.0) ** 2) / 2), 1.0),
    "jitter": Fault(
        ImpairmentConfig(amplitude_jitter_db=2.0),
        math.exp((2.0 * NEPER) ** 2 / 2),
        math.exp(2.0 * (2.0 * NEPER) ** 2),
    ),
    "dead": Fault(ImpairmentConfig(dead_elements=0.2), 0.8, 0.8),
}
EVERY = FAULTS | {"wavelength": Fault(ImpairmentConfig(wavelength_mismatch=0.02), math.nan, 1.0)}
each_fault = pytest.mark.parametrize("name", EVERY)


def physics_of(impairments: ImpairmentConfig, snr_db: float = 10.0) -> PhysicsConfig:
    return PhysicsConfig(impairments=impairments, snr_values_db=(snr_db,))


def split(impairments: ImpairmentConfig) -> tuple[Array, Array]:
    """Noise-free snapshots and unit noise of the same scenes, solved from two SNRs."""
    low, high = (simulate(physics_of(impairments, snr_db), SCENES) for snr_db in (0.0, 20.0))
    a, b = (x.noise_var.double().sqrt().numpy()[:, None, None] for x in (low, high))
    first, second = (x.y.numpy().astype(np.complex128) for x in (low, high))
    return (a * second - b * first) / (a - b), (first - second) / (a - b)


def surface(impairments: ImpairmentConfig, count: int = 400) -> tuple[ImpairedSurface, ArrayGeometry]:
    physics = physics_of(impairments)
    nominal = ArrayGeometry.from_config(physics)
    return draw_impairments(np.random.default_rng(3), physics, count, nominal), nominal


# Off, and on


def test_off_is_bit_identical() -> None:
    off = simulate(physics_of(ImpairmentConfig()), SCENES).tensors()
    plain = simulate(PhysicsConfig(snr_values_db=(10.0,)), SCENES).tensors()
    assert all(torch.equal(off[name], plain[name]) for name in plain)
    drawn, nominal = surface(ImpairmentConfig())
    assert drawn.gain is None
    assert drawn.geometry is nominal


@each_fault
def test_only_the_data_change(name: str) -> None:
    with_fault: Scenes = simulate(physics_of(EVERY[name].config), SCENES)
    without = simulate(physics_of(ImpairmentConfig()), SCENES).tensors()
    changed = {key for key, value in with_fault.tensors().items() if not torch.equal(value, without[key])}
    assert changed == {"y", "noise_var"}


@each_fault
def test_the_noise_is_the_same_realisation(name: str) -> None:
    noise, plain = split(EVERY[name].config)[1], split(ImpairmentConfig())[1]
    np.testing.assert_allclose(noise, plain, atol=2e-4)


@each_fault
def test_the_snr_is_of_the_impaired_data(name: str) -> None:
    scenes = simulate(physics_of(EVERY[name].config, 0.0), SCENES)
    power = np.mean(np.abs(split(EVERY[name].config)[0]) ** 2, axis=(1, 2))
    np.testing.assert_allclose(power, scenes.noise_var.double().numpy(), rtol=1e-4)


# What each does to the data


@pytest.mark.parametrize("name", FAULTS)
def test_the_part_of_the_data_in_common_is_the_mean_gain(name: str) -> None:
    """``E <mu, mu'> = E[g] |mu|^2``, since the data are linear in the element gains."""
    fault = FAULTS[name]
    nominal, real = split(ImpairmentConfig())[0], split(fault.config)[0]
    common = np.sum(nominal.conj() * real, axis=(1, 2)) / np.sum(np.abs(nominal) ** 2, axis=(1, 2))
    assert_mean(common, fault.mean_gain)


@pytest.mark.parametrize("name", FAULTS)
def test_the_received_power_scales_with_the_gain(name: str) -> None:
    """Random codes add the elements' powers, up to their share of the line of sight."""
    fault = FAULTS[name]
    nominal, real = (
        np.sum(np.abs(split(c)[0]) ** 2, axis=(1, 2)) for c in (ImpairmentConfig(), fault.config)
    )
    assert_mean(real / nominal, fault.mean_power)


def test_a_wavelength_mismatch_is_another_wave_on_the_same_surface() -> None:
    physics = physics_of(EVERY["wavelength"].config)
    scenes = simulate(physics, SCENES)[:8]
    real = oracle.Array(wavelength=0.3 * 1.02, spacing=0.5 / 1.02)
    np.testing.assert_allclose(oracle.element_positions(real), oracle.element_positions(oracle.Array()))
    assert relative_error(split(physics.impairments)[0][:8], oracle_clean_of(scenes, real)) < 5e-5


def oracle_clean_of(scenes: Scenes, array: oracle.Array) -> Array:
    """The mismatched wave on the nominal channel, codes and positions."""
    return oracle_clean(scenes, PhysicsConfig(), array)


# The draws themselves


Gain = Callable[[Array], Array]


@pytest.mark.parametrize(
    ("name", "standard"),
    [
        ("phase", lambda g: np.angle(g) / math.radians(20.0)),
        ("jitter", lambda g: 20.0 * np.log10(np.abs(g)) / 2.0),
    ],
)
def test_gains_are_normal_in_phase_and_in_decibels(name: str, standard: Gain) -> None:
    gain = surface(FAULTS[name].config)[0].gain
    assert gain is not None
    assert gain.shape == (400, 1, 144)
    x = standard(gain.numpy().astype(np.complex128))
    assert stats.kstest(x.ravel(), "norm").pvalue > 1e-3
    assert_mean(x[..., 1:] * x[..., :-1], 0.0)
    assert_mean(x[1:] * x[:-1], 0.0)


def test_dead_elements_reflect_nothing_and_the_rest_everything() -> None:
    gain = surface(FAULTS["dead"].config)[0].gain
    assert gain is not None
    assert set(gain.real.unique().tolist()) == {0.0, 1.0}
    assert_mean(gain.real.numpy(), 0.8)


def test_position_errors_are_normal_in_each_coordinate() -> None:
    drawn, nominal = surface(FAULTS["position"].config)
    assert drawn.gain is None
    x = (drawn.geometry.positions - nominal.positions).double().numpy() / 0.01
    assert x.shape == (400, 144, 3)
    for coordinate in range(3):
        assert stats.kstest(x[..., coordinate].ravel(), "norm").pvalue > 1e-3
        assert_mean(x[..., coordinate] * x[..., coordinate - 1], 0.0)


def test_faults_combine() -> None:
    config = ImpairmentConfig(
        position_error=0.005,
        phase_error_deg=10.0,
        amplitude_jitter_db=1.0,
        dead_elements=0.1,
        wavelength_mismatch=-0.01,
    )
    drawn, nominal = surface(config)
    assert drawn.gain is not None
    assert drawn.geometry.wavelength == pytest.approx(0.297)
    assert drawn.geometry.positions.shape == (400, 144, 3)
    assert nominal.wavelength == 0.3
    expected = 0.9 * math.exp(NEPER**2 / 2) * math.exp(-(math.radians(10.0) ** 2) / 2)
    assert_mean(drawn.gain.numpy(), expected)
