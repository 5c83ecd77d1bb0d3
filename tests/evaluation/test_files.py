"""Results are read back exactly, and what isn't what was written is refused."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from risctl.errors import DamagedFileError, InputError, RisctlError, StorageError
from risctl.evaluation import Evaluation, read_results, write_evaluation


@pytest.fixture
def written(evaluated: Evaluation, tmp_path: Path) -> Path:
    write_evaluation(tmp_path, evaluated)
    return tmp_path


def test_results_are_written_and_read_back(written: Path, evaluated: Evaluation) -> None:
    tables = {
        f"{name}.csv"
        for name in ("cells", "closeness", "confusion", "detection", "reliability", "scenes", "sources")
    }
    assert {path.name for path in written.iterdir()} == {"results.json"} | tables
    assert read_results(written / "results.json") == evaluated.results


def test_json_is_strict(written: Path) -> None:
    def no_constants(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

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
    ("damage", "error"),
    [
        (lambda text: text[:-40], DamagedFileError),
        (lambda text: "[]", DamagedFileError),
        (lambda text: b"\xff\xfe\x00\xd8", DamagedFileError),
        (lambda text: text.replace('"scenes": 60', '"scenes": "60"', 1), DamagedFileError),
        (lambda text: text.replace('"seed"', '"sead"'), DamagedFileError),
        (lambda text: text.replace('"gate_deg": 5.0', '"gate_deg": NaN'), DamagedFileError),
        (lambda text: text.replace('_version": 1', '_version": 2'), InputError),
    ],
)
def test_damage_is_one_line_that_names_the_file(
    written: Path, damage: Callable[[str], str | bytes], error: type[RisctlError]
) -> None:
    path = written / "results.json"
    text = path.read_text()
    damaged = damage(text)
    assert damaged != text
    path.write_bytes(damaged if isinstance(damaged, bytes) else damaged.encode())
    with pytest.raises(error) as caught:
        read_results(path)
    assert "results.json" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_files_and_directories(written: Path, evaluated: Evaluation) -> None:
    with pytest.raises(StorageError, match=r"elsewhere/results\.json"):
        read_results(written / "elsewhere" / "results.json")
    with pytest.raises(StorageError, match="elsewhere"):
        write_evaluation(written / "elsewhere", evaluated)
