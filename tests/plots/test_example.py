"""The example scene of an evaluation, and the spectrum that is drawn of it."""

import numpy as np
import pytest

from risctl.config import load_config
from risctl.data import SceneStream
from risctl.evaluation import Positions
from risctl.plots import example as pictures


def test_the_spectrum_of_one_source_peaks_where_it_is() -> None:
    high_snr = ["physics.snr_min_db=30", "physics.snr_max_db=30"]
    config = load_config("quick", None, ["physics.max_sources=1", "physics.range_max=3.0", *high_snr])
    scene = SceneStream(config.physics, 2, "test", 1).scenes(0, 1)
    truth = Positions(*(x[0].double().numpy() for x in (scene.azimuth, scene.elevation, scene.range)))
    spectrum, azimuth, range_ = pictures.music_spectrum(scene, truth, config)
    assert spectrum.shape == (len(range_), len(azimuth)) == (pictures.GRID[2], pictures.GRID[1])
    row, column = np.unravel_index(spectrum.argmax(), spectrum.shape)
    assert azimuth[column] == pytest.approx(truth.azimuth[0], abs=np.radians(2.5))
    assert range_[row] == pytest.approx(truth.range[0], abs=0.5)
    assert (np.diff(azimuth) > 0).all()
    assert (np.diff(range_) > 0).all()


def test_a_scene_without_estimates_still_has_a_spectrum() -> None:
    config = load_config("quick", None, ["physics.num_snapshots=4"])
    scene = SceneStream(config.physics, 0, "test", 1).scenes(0, 1)
    nothing = Positions(np.empty(0), np.empty(0), np.empty(0))
    spectrum, *_ = pictures.music_spectrum(scene, nothing, config)
    assert np.isfinite(spectrum).all()


@pytest.mark.parametrize(("lowest", "floor"), [(1e-9, -30.0), (0.1, -10.0), (1.0, -0.5)])
def test_the_floor_shows_all_of_a_spectrum(lowest: float, floor: float) -> None:
    assert pictures.floor_of(np.array([[1.0, lowest]])) == pytest.approx(floor)
