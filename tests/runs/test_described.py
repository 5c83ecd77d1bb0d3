"""Measurements that describe themselves: what they say is stronger than the settings, and is said."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import risctl
from risctl.errors import InputError
from tests.oracle import Array, element_positions, steering_matrix
from tests.physics.layouts import LAYOUTS

WAVELENGTH = 0.3


def _array_scene(name: str, sources: np.ndarray, snapshots: int = 100, seed: int = 0) -> np.ndarray:
    """Snapshots [1, L, N] of sources [K, 3] (azimuth, elevation, range) at the elements, 20 dB."""
    rng, layout = np.random.default_rng(seed), LAYOUTS[name]
    A = steering_matrix(Array(layout=layout, wavelength=WAVELENGTH), sources)

    def gaussian(*shape: int) -> np.ndarray:
        return (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)) / np.sqrt(2)

    clean = gaussian(snapshots, len(sources)) @ A.T
    noise = 0.1 * np.sqrt(np.mean(np.abs(clean) ** 2)) * gaussian(*clean.shape)
    return (clean + noise)[None]


@pytest.mark.parametrize("name", ["spiral", "helix"])
def test_an_ordinary_array_of_any_layout_is_located(name: str) -> None:
    sources = np.array([[0.5, 0.2, 3.0], [-0.6, -0.1, 5.0]])
    y = _array_scene(name, sources)
    located = risctl.locate(y, elements=LAYOUTS[name], wavelength=WAVELENGTH)
    assert located.estimator == "nomp"
    assert "which the network" in str(located.reason) or "trained with" in str(located.reason)
    assert located.num_sources[0] == 2
    order = located.azimuth[0, :2].argsort()[::-1]
    np.testing.assert_allclose(located.azimuth[0, order], sources[:, 0], atol=5e-3)
    np.testing.assert_allclose(located.elevation[0, order], sources[:, 1], atol=5e-3)
    np.testing.assert_allclose(located.range[0, order], sources[:, 2], rtol=0.1)
    assert located.misfit_p[0] > 0.001


def test_what_a_line_cannot_observe_is_known_and_has_no_error() -> None:
    sources = np.array([[0.4, 0.0, 2.0]])
    y = np.concatenate([_array_scene("line", sources, seed=seed) for seed in range(8)])
    located = risctl.locate(y, elements=LAYOUTS["line"], known_elevation_deg=0.0, num_sources=1)
    assert located.elevation[0, 0] == 0.0
    assert np.isfinite(located.std_azimuth[:, 0]).all()
    assert located.std_elevation[:, 0].max() < 1e-9
    assert located.std_elevation[0, 0] < 1e-9
    assert abs(located.azimuth[0, 0] - 0.4) < 5 * located.std_azimuth[0, 0] < 0.1
    assert abs(located.range[0, 0] - 2.0) < 5 * located.std_range[0, 0]


def test_a_far_field_has_an_infinite_range_without_an_error() -> None:
    sources = np.array([[0.4, 0.1, 1e6]])
    y = _array_scene("spiral", sources)
    found = risctl.locate(y, elements=LAYOUTS["spiral"], known_range_m=np.inf, num_sources=1)
    assert found.range[0, 0] == np.inf
    assert found.std_range[0, 0] < 1e-9
    assert abs(found.azimuth[0, 0] - 0.4) < 5 * found.std_azimuth[0, 0]
    plain = risctl.locate(y, elements=LAYOUTS["spiral"], num_sources=1)
    assert found.std_azimuth[0, 0] <= plain.std_azimuth[0, 0] * (1 + 1e-6)


def test_a_file_and_its_arrays_have_one_answer(tmp_path: Path) -> None:
    y = _array_scene("spiral", np.array([[0.1, 0.1, 3.0]]))
    said: dict[str, Any] = {"elements": LAYOUTS["spiral"], "wavelength": WAVELENGTH}
    risctl.write_measurements(tmp_path / "f.mat", y, **said)
    a = risctl.locate(risctl.read_measurements(tmp_path / "f.mat", None), num_sources=1)
    b = risctl.locate(y, num_sources=1, **said)
    np.testing.assert_array_equal(a.azimuth, b.azimuth)


def test_phi_of_a_surface_gives_what_h_and_codes_give() -> None:
    scenes = risctl.simulate("quick", 2, seed=3)
    y, H, codes = scenes.y.numpy(), scenes.H.numpy(), scenes.codes.numpy()
    plain = risctl.locate(y, H, codes, estimator="nomp", num_sources=2)
    found = risctl.locate(y, Phi=H[:, None] * codes[:, :, None], num_sources=2)
    assert "H and codes, which the network reads, got Phi" in str(found.reason)
    np.testing.assert_allclose(found.azimuth, plain.azimuth, atol=1e-3)


def test_a_description_of_the_default_panel_leaves_the_network_in_place() -> None:
    scenes = risctl.simulate("quick", 1, seed=3)
    elements = element_positions(Array())
    located = risctl.locate(scenes.y, scenes.H, scenes.codes, elements=elements, wavelength=0.3)
    assert located.estimator == "learned"
    same = risctl.locate(scenes.y, scenes.H, scenes.codes)
    np.testing.assert_array_equal(located.azimuth, same.azimuth)


def test_another_wavelength_is_said_and_the_network_is_not_used() -> None:
    scenes = risctl.simulate("quick", 1, seed=3)
    located = risctl.locate(scenes.y, scenes.H, scenes.codes, wavelength=0.0837)
    assert located.estimator == "nomp"
    with pytest.raises(
        InputError, match=r"wavelength: expected 0\.3, which the model was trained with, got 0\.0837"
    ):
        risctl.locate(scenes.y, scenes.H, scenes.codes, wavelength=0.0837, estimator="learned")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"elements": LAYOUTS["line"]}, "N=9"),
        ({"ris_rows": 3, "ris_columns": 3}, "N=9"),
        ({"elements": np.add(LAYOUTS["spiral"], [0.0, 5.0, 0.0])}, "a point within"),
    ],
)
def test_a_description_that_does_not_fit_is_refused(change: dict[str, Any], message: str) -> None:
    y = _array_scene("spiral", np.array([[0.1, 0.1, 3.0]]))
    with pytest.raises(InputError, match=message) as caught:
        risctl.locate(y, **change)
    assert "\n" not in str(caught.value)
