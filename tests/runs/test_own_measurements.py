"""Measurements in any unit, with any number of snapshots and antennas and any channel, are answered."""

import numpy as np
import pytest

import risctl
from risctl.physics.bounds import scene_bounds
from risctl.physics.geometry import ArrayGeometry
from risctl.registry import estimator_names

COORDINATES = ("azimuth", "elevation", "range")
UNITS = ((1e-15, 1.0), (1.0, 1e15), (1e-10, 1e-5))  # of y and H
MORE_UNITS = ((1e15, 1.0), (1.0, 1e-15), (3e-9, 1e7))


@pytest.mark.parametrize("estimator", estimator_names("learned", "classical"))
@pytest.mark.parametrize("units", [UNITS, pytest.param(MORE_UNITS, marks=pytest.mark.slow)])
def test_units_of_snapshots_and_channel_cancel(
    units: tuple[tuple[float, float], ...], estimator: str
) -> None:
    """In single precision another unit rounds y and H otherwise: less than what a maximum can show.

    Where an estimator states no deviation, the bound's of the best source of the scene is taken.
    """
    config = risctl.load_config("quick", overrides=["physics.snr_min_db=-5"])
    scenes = risctl.simulate(config, 8, seed=11)
    y, H, codes = scenes.y.numpy(), scenes.H.numpy(), scenes.codes.numpy()
    plain = risctl.locate(y, H, codes, estimator=estimator)
    there = np.isfinite(plain.azimuth)
    bound = scene_bounds(scenes, ArrayGeometry.from_config(config.physics), "unconditional")
    for of_y, of_H in units:
        found = risctl.locate(
            (of_y * y).astype(np.complex64), (of_H * H).astype(np.complex64), codes, estimator=estimator
        )
        np.testing.assert_array_equal(found.num_sources, plain.num_sources)
        for name in COORDINATES:
            std = getattr(plain, f"std_{name}")
            least = np.nanmin(getattr(bound, name).numpy(), axis=1, keepdims=True)
            std = np.where(np.isinf(std), least, std)
            shift = np.abs(getattr(found, name) - getattr(plain, name)) / std
            assert shift[there].max() < 1e-4
        np.testing.assert_allclose(found.power[there] / (of_y / of_H) ** 2, plain.power[there], rtol=1e-3)
        np.testing.assert_allclose(found.noise_var / of_y**2, plain.noise_var, rtol=1e-3)


@pytest.mark.parametrize("snapshots", [2, 4, 8, 64])
@pytest.mark.parametrize("antennas", [6, 64])
@pytest.mark.parametrize("k_factor", ["0.001", "1e6"])
def test_no_size_and_no_channel_is_refused(snapshots: int, antennas: int, k_factor: str) -> None:
    words = [f"physics.num_snapshots={snapshots}", f"physics.num_antennas={antennas}"]
    words += [f"physics.rician_k_min={k_factor}", f"physics.rician_k_max={k_factor}"]
    config = risctl.load_config("quick", overrides=words)
    scenes = risctl.simulate(config, 2, seed=snapshots)
    assert risctl.locate(scenes.y, scenes.H, scenes.codes).estimator == "learned"


def test_one_strong_source_alone_in_a_file_is_answered() -> None:
    """The norm of its sample covariance lies outside the band of mixed scenes."""
    words = ["physics.max_sources=5", "physics.snr_min_db=15", "physics.snr_max_db=25"]
    scenes = risctl.simulate(risctl.load_config("quick", overrides=words), 60, seed=123)
    for i in (scenes.num_sources == 1).nonzero().flatten().tolist():
        assert risctl.locate(scenes.y[i], scenes.H[i], scenes.codes[i]).num_sources[0] >= 1
