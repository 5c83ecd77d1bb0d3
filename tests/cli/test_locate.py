"""`locate`: the answer's form, on the screen, as JSON, in a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from risctl.cli.app import main
from risctl.config import PhysicsConfig
from risctl.data import SceneStream, write_measurements

SOURCE_KEYS = {
    "azimuth_deg",
    "elevation_deg",
    "range_m",
    "power_db",
    "std_azimuth_deg",
    "std_elevation_deg",
    "std_range_m",
}
Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def scenes() -> Any:
    physics = PhysicsConfig(min_sources=2, max_sources=2, snr_min_db=30, snr_max_db=30, range_max=4.0)
    return SceneStream(physics, 1, "test", 3).scenes(0, 3)


@pytest.fixture(scope="module")
def file(scenes: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("locate") / "m.npz"
    write_measurements(path, scenes.y, scenes.H, scenes.codes)
    return path


def _locate(arguments: list[str], capsys: Capture) -> dict[str, Any]:
    assert main(["locate", *arguments, "--device", "cpu", "--json"]) == 0
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    return document


@pytest.mark.parametrize("estimator", ["nomp", "music", "sbl"])
def test_the_document_has_the_form_of_the_contract(estimator: str, file: Path, capsys: Capture) -> None:
    document = _locate([str(file), "--estimator", estimator, "--num-sources", "2"], capsys)
    assert set(document) == {"schema_version", "estimator", "scenes"}
    assert (document["schema_version"], document["estimator"]) == (1, estimator)
    assert [scene["index"] for scene in document["scenes"]] == [0, 1, 2]
    for scene in document["scenes"]:
        assert set(scene) == {"index", "num_sources", "sources"}
        assert scene["num_sources"] == len(scene["sources"]) == 2
        assert all(set(source) == SOURCE_KEYS for source in scene["sources"])


def test_positions_are_right_at_high_snr(file: Path, scenes: Any, capsys: Capture) -> None:
    document = _locate([str(file), "--num-sources", "2"], capsys)
    for index, scene in enumerate(document["scenes"]):
        found = np.sort([source["azimuth_deg"] for source in scene["sources"]])
        true = np.sort(torch.rad2deg(scenes.azimuth[index, :2]).numpy())
        np.testing.assert_allclose(found, true, atol=0.5)


def test_the_file_holds_the_same_document_whatever_the_batch(
    file: Path, tmp_path: Path, capsys: Capture
) -> None:
    out = tmp_path / "positions.json"
    document = _locate([str(file), "--estimator", "music", "--batch", "2", "--out", str(out)], capsys)
    assert json.loads(out.read_text()) == document
    assert [path.name for path in tmp_path.iterdir()] == ["positions.json"]


def test_on_the_screen_it_is_a_table(file: Path, capsys: Capture) -> None:
    assert main(["locate", str(file), "--estimator", "music", "--device", "cpu"]) == 0
    shown = capsys.readouterr().out
    for part in ("azimuth deg", "headline:", "standard deviation", "next:"):
        assert part in shown


def test_more_sources_than_the_antennas_can_part(tmp_path: Path, scenes: Any, capsys: Capture) -> None:
    path = tmp_path / "m.npz"
    write_measurements(path, scenes.y[:, :, :2], scenes.H[:, :2], scenes.codes)
    assert main(["locate", str(path), "--num-sources", "2"]) == 2
    assert "antennas" in capsys.readouterr().err


def test_snapshots_without_an_answer_are_the_files_fault(
    tmp_path: Path, scenes: Any, capsys: Capture
) -> None:
    path = tmp_path / "m.npz"
    y, codes = scenes.y[:, :1].expand_as(scenes.y), scenes.codes[:, :1].expand_as(scenes.codes)
    write_measurements(path, y, scenes.H, codes)  # nothing changes: centring leaves no energy
    assert main(["locate", str(path), "--estimator", "music", "--batch", "2"]) == 2
    shown = capsys.readouterr().err
    assert shown.count("\n") == 1
    assert f"{path}: scenes 0 to 1: " in shown
    assert "no energy" in shown


def test_dry_run_writes_nothing(file: Path, tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "positions.json"
    assert _locate([str(file), "--out", str(out), "--dry-run"], capsys)["dry_run"]
    assert not out.exists()
