"""What is written is read back exactly, and what isn't what was written is refused."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from risctl.errors import DamagedFileError, InputError, RisctlError, StorageError
from risctl.evaluation import Evaluation, read_evaluation, read_results, write_evaluation


@pytest.fixture
def written(evaluated: Evaluation, tmp_path: Path) -> Path:
    write_evaluation(tmp_path, evaluated)
    return tmp_path


def no_constants(name: str) -> None:
    raise AssertionError(f"{name} is no JSON")


def test_everything_reads_back(written: Path, evaluated: Evaluation) -> None:
    again = read_evaluation(written)
    assert again.results == evaluated.results
    for name, rows in evaluated.rows.items():
        for mine, theirs in (
            (rows.scenes, again.rows[name].scenes),
            (rows.sources, again.rows[name].sources),
        ):
            for a, b in zip(mine.arrays(), theirs.arrays(), strict=True):
                np.testing.assert_array_equal(a, b)
                assert a.dtype == b.dtype


def test_files_that_are_written(written: Path) -> None:
    names = {path.name for path in written.iterdir()}
    assert names == {
        "results.json",
        "cells.csv",
        "closeness.csv",
        "confusion.csv",
        "scenes.csv",
        "sources.csv",
    }


def test_json_is_strict(written: Path) -> None:
    document = json.loads((written / "results.json").read_text(), parse_constant=no_constants)
    assert document["schema_version"] == 1


def test_csv_has_a_line_a_cell_a_scene_a_source(written: Path, evaluated: Evaluation) -> None:
    def lines(name: str) -> list[dict[str, str]]:
        with (written / name).open(newline="") as file:
            return list(csv.DictReader(file))

    cells = lines("cells.csv")
    assert len(cells) == len(evaluated.results.cells)
    assert float(cells[0]["recall_value"]) == evaluated.results.cells[0].recall.value
    assert cells[0]["snr_db"] == ""
    assert len(lines("scenes.csv")) == sum(len(rows.scenes) for rows in evaluated.rows.values())
    sources = lines("sources.csv")
    assert len(sources) == sum(len(rows.sources) for rows in evaluated.rows.values())
    missed = next(line for line in sources if line["estimated_range_m"] == "")
    assert missed["estimator"] == "poor"
    assert missed["matched"] == "0"
    assert "nan" not in (written / "sources.csv").read_text().lower()
    confusion = lines("confusion.csv")
    assert sum(int(line["scenes"]) for line in confusion if line["snr_db"] == "") == 2 * 60


@pytest.mark.parametrize(
    ("name", "damage", "error"),
    [
        ("results.json", lambda text: text[:-40], DamagedFileError),
        ("results.json", lambda text: "[]", DamagedFileError),
        ("results.json", lambda text: text.replace('"scenes": 60', '"scenes": "60"', 1), DamagedFileError),
        ("results.json", lambda text: text.replace('"seed"', '"sead"'), DamagedFileError),
        ("results.json", lambda text: text.replace('"gate_deg": 5.0', '"gate_deg": NaN'), DamagedFileError),
        ("results.json", lambda text: text.replace('_version": 1', '_version": 2'), InputError),
        ("scenes.csv", lambda text: "", DamagedFileError),
        ("scenes.csv", lambda text: text.replace("snr_db", "snr", 1), DamagedFileError),
        ("scenes.csv", lambda text: text.replace("poor,", "rich,"), DamagedFileError),
        ("sources.csv", lambda text: text[: text.rindex(",")], DamagedFileError),
        ("sources.csv", lambda text: text.replace("good,0,", "good,x,"), DamagedFileError),
        ("sources.csv", lambda text: text.replace("good,0,", "good,,"), DamagedFileError),
    ],
)
def test_damage_is_one_line_that_names_the_file(
    written: Path, name: str, damage: object, error: type[RisctlError]
) -> None:
    path = written / name
    text = path.read_text()
    damaged = damage(text)  # type: ignore[operator]
    assert damaged != text
    path.write_text(damaged)
    with pytest.raises(error) as caught:
        read_evaluation(written)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_bytes_that_are_no_text(written: Path) -> None:
    (written / "scenes.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DamagedFileError, match=r"scenes\.csv"):
        read_evaluation(written)
    (written / "results.json").write_bytes(b"\xff\xfe\x00\xd8")
    with pytest.raises(DamagedFileError, match=r"results\.json"):
        read_results(written / "results.json")


def test_missing_files_and_directories(written: Path, evaluated: Evaluation) -> None:
    with pytest.raises(StorageError, match=r"elsewhere/results\.json"):
        read_results(written / "elsewhere" / "results.json")
    with pytest.raises(StorageError, match="elsewhere"):
        write_evaluation(written / "elsewhere", evaluated)
