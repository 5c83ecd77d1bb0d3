"""Calibration with constant symbols, of a line and behind one antenna: look-alikes of real measurements."""

import numpy as np
import pytest
from numpy.typing import NDArray

import risctl
from risctl.runs import CalibratedSurface

Array = NDArray[np.complex128]


def steering(elements: NDArray[np.float64], place: NDArray[np.float64]) -> Array:
    """``exp(-j 2 pi (distance - range))`` of elements [N, 3] and places [..., 3], in wavelengths."""
    far = np.linalg.norm(place[..., None, :] - elements, axis=-1)
    result: Array = np.exp(-2j * np.pi * (far - np.linalg.norm(place, axis=-1)[..., None]))
    return result


def complex_normal(rng: np.random.Generator, *shape: int) -> Array:
    result: Array = (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)) / np.sqrt(2)
    return result


def worn(rng: np.random.Generator, number: int) -> Array:
    """Gains with phase errors of 0.5 rad and 1 dB of jitter."""
    result: Array = 10 ** (rng.standard_normal(number) / 20) * np.exp(0.5j * rng.standard_normal(number))
    return result


def relative_error(found: CalibratedSurface, true: Array) -> float:
    """``|z found - true|^2 / |true|^2`` at the best complex factor z."""
    g = found.gains.numpy()
    z = np.vdot(g, true) / np.vdot(g, g)
    return float((np.abs(z * g - true) ** 2).sum() / (np.abs(true) ** 2).sum())


def test_a_line_of_nine_sensors_from_twenty_known_positions() -> None:
    """One coherent snapshot a position (NFLOPnet); what was not used is located better."""
    rng, S, known = np.random.default_rng(2), 40, 20
    elements = np.zeros((9, 3))
    elements[:, 1] = (np.arange(9) - 4) / 2
    azimuth, range_ = rng.uniform(-0.5, 0.5, S), rng.uniform(3.0, 20.0, S)
    place = range_[:, None] * np.stack([np.cos(azimuth), np.sin(azimuth), np.zeros(S)], axis=-1)
    gain = worn(rng, 9)
    y = complex_normal(rng, S, 1) * gain * steering(elements, place) + 0.03 * complex_normal(rng, S, 9)
    says = {"wavelength": 1.0, "elements": elements, "known_elevation_deg": 0.0, "symbols": "constant"}
    config = risctl.load_config(
        "quick", overrides=["physics.range_min=2", "physics.range_max=30", "physics.max_sources=1"]
    )
    anchors = {i: [[azimuth[i], 0.0, range_[i]]] for i in range(known)}
    surface = risctl.calibrate_surface(
        y[:known, None], anchors=anchors, held_out=0.0, num_sources=1, config=config, **says
    )
    assert relative_error(surface, gain) < 2e-3
    before, after = (
        risctl.locate(y[known:, None], num_sources=1, config=config, surface=s, **says)
        for s in (None, surface)
    )
    errors = [np.abs(x.azimuth[:, 0] - azimuth[known:]) for x in (before, after)]
    assert np.median(errors[1]) < 0.2 * np.median(errors[0])
    assert np.median(errors[1]) < 0.01


def one_antenna(rng: np.random.Generator, values: int) -> tuple[dict[str, object], Array, NDArray[np.int64]]:
    """A front end of one antenna and sixteen elements, channel [N], and its codes' values [L, N]."""
    place = (np.arange(4) - 1.5) / 2
    z, y = np.meshgrid(place, place, indexing="ij")
    elements = np.stack([np.zeros(16), y.ravel(), z.ravel()], axis=1)
    H = steering(elements, np.array([12.0, -9.0, 0.0]))
    value = rng.integers(0, values, (24, 16))
    says = {"elements": elements, "wavelength": 1.0, "known_range_m": 20.0}
    return says | {"symbols": "constant", "static_path": True}, H, value


@pytest.mark.parametrize(("kinds", "values"), [("gains", 2), ("states", 4)])
def test_one_antenna_with_a_static_path(kinds: str, values: int) -> None:
    """One receive port and codes of one bit or two (OpenRIS), ranges known, and three scenes' directions.

    Of two states a static path leaves the difference alone, which is the common factor: four can be told.
    """
    rng, S = np.random.default_rng(4), 30
    says, H, value = one_antenna(rng, values)
    azimuth, elevation = rng.uniform(-0.8, 0.8, S), rng.uniform(-0.4, 0.4, S)
    c = np.cos(elevation)
    u = np.stack([c * np.cos(azimuth), c * np.sin(azimuth), np.sin(elevation)], axis=-1)
    a = steering(np.asarray(says["elements"]), 20.0 * u)
    codes = np.exp(2j * np.pi * value / values)
    gain = worn(rng, 16) if kinds == "gains" else np.ones(16)
    states = worn(rng, values) if kinds == "states" else np.ones(values)
    x = np.exp(2j * np.pi * rng.random(S))
    static = 20.0 * complex_normal(rng, S, 1)
    y = np.einsum("n,ln,sn,s->sl", H * gain, codes * states[value], a, x) + static
    y = y + 0.1 * complex_normal(rng, S, 24)
    config = risctl.load_config(
        "quick", overrides=[f"physics.phase_bits={values // 2}", "physics.max_sources=2"]
    )
    data = y[..., None], H[None], codes
    anchors = {i: [[azimuth[i], elevation[i], 20.0]] for i in range(3)}
    surface = risctl.calibrate_surface(
        *data, anchors=anchors, held_out=0.0, estimate=kinds, num_sources=1, config=config, **says
    )
    if kinds == "gains":
        assert relative_error(surface, gain) < 0.05 * relative_error(nominal_of(surface), gain)
    errors = []
    for used in (None, surface):
        located = risctl.locate(*data, num_sources=1, config=config, surface=used, **says)
        errors.append(np.abs(located.azimuth[3:, 0] - azimuth[3:]))
    assert np.median(errors[1]) < 0.15 * np.median(errors[0])


def nominal_of(surface: CalibratedSurface) -> CalibratedSurface:
    """The same surface without errors."""
    N = len(surface.gains)
    ones = {"gain_real": (1.0,) * N, "gain_imag": (0.0,) * N}
    return CalibratedSurface(surface.document.model_copy(update=ones))
