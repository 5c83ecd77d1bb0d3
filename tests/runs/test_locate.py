"""Answers from a measurement file: their form and their worth, and what has no answer."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from risctl import runs
from risctl.config import PhysicsConfig
from risctl.config.layers import Layers
from risctl.data import SceneStream, write_measurements
from risctl.errors import InputError

COORDINATES = ("azimuth_deg", "elevation_deg", "range_m")
DEVIATIONS = tuple(f"std_{name}" for name in COORDINATES)
SOURCE_KEYS = {*COORDINATES, *DEVIATIONS, "power_db", "x_m", "y_m", "z_m", "probability", "flags"}
SCENE_KEYS = {"index", "num_sources", "count_probability", "misfit_p", "noise_var", "flags", "sources"}


@pytest.fixture(scope="module")
def scenes() -> Any:
    physics = PhysicsConfig(min_sources=2, max_sources=2, snr_min_db=30, snr_max_db=30, range_max=4.0)
    return SceneStream(physics, 1, "test", 3).scenes(0, 3)


@pytest.fixture
def file(scenes: Any) -> Path:
    write_measurements("m.npz", scenes.y, scenes.H, scenes.codes)
    return Path("m.npz")


def _locate(
    file: Path, estimator: str | None = "music", num_sources: int | None = None, batch: int = 64
) -> Any:
    chosen = runs.choose_estimator(Layers(), estimator)
    return runs.Located.from_found(chosen, runs.locate_file(chosen, file, num_sources, batch)).scenes()


@pytest.mark.parametrize("estimator", ["nomp", "music", "sbl"])
def test_the_answer_has_the_form_of_the_contract(estimator: str, file: Path) -> None:
    found = _locate(file, estimator, 2)
    assert [scene["index"] for scene in found] == [0, 1, 2]
    for scene in found:
        assert set(scene) == SCENE_KEYS
        assert scene["num_sources"] == len(scene["sources"]) == 2
        assert all(set(source) == SOURCE_KEYS for source in scene["sources"])


def test_positions_are_right_at_high_snr(file: Path, scenes: Any) -> None:
    for index, scene in enumerate(_locate(file, None, 2)):
        found = np.sort([source["azimuth_deg"] for source in scene["sources"]])
        true = np.sort(torch.rad2deg(scenes.azimuth[index, :2]).numpy())
        np.testing.assert_allclose(found, true, atol=0.5)


def test_the_batch_changes_nothing(file: Path) -> None:
    pairs = zip(_locate(file, batch=2), _locate(file), strict=True)
    for one, other in ((a["sources"], b["sources"]) for a, b in pairs):
        assert [s["azimuth_deg"] for s in one] == pytest.approx([s["azimuth_deg"] for s in other], abs=1e-4)


def test_more_sources_than_the_surface_or_the_antennas_can_part(file: Path, scenes: Any) -> None:
    for count in (0, 6):
        with pytest.raises(InputError, match=r"^num_sources: expected 1 to 5"):
            _locate(file, num_sources=count)
    write_measurements(file, scenes.y[:, :1, :2], scenes.H[:, :2], scenes.codes[:, :1])
    expected = r"^num_sources: expected fewer than the 2 antennas x 1 snapshots of m\.npz"
    with pytest.raises(InputError, match=expected):
        _locate(file, num_sources=2)


def test_snapshots_without_an_answer_are_the_files_fault(scenes: Any, file: Path) -> None:
    y, codes = scenes.y[:, :1].expand_as(scenes.y), scenes.codes[:, :1].expand_as(scenes.codes)
    write_measurements(file, y, scenes.H, codes)  # nothing changes: centring leaves no energy
    with pytest.raises(InputError, match=r"^m\.npz: scenes 0 to 1: .*no energy"):
        _locate(file, batch=2)
