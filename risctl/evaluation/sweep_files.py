"""A sweep on disk: each value's figures as soon as they are there, then the whole as JSON and CSV.

A finished value is a file of its own, named by its place and marked with what it was made from, so that an
interrupted sweep goes on with the next one.
"""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import ValidationError

from risctl.data.atomic import storage_errors, write_atomically
from risctl.errors import DamagedFileError
from risctl.evaluation.files import records_csv
from risctl.evaluation.results import Cell, Record, Results
from risctl.evaluation.sweep import Sweep, value_text


class StoredPoint(Record):
    """The figures of one value, and the hash of the settings and the model behind them."""

    fingerprint: str
    results: Results


def write_point(path: Path, point: StoredPoint) -> None:
    """Write a value's figures, whole or not at all.

    Raises:
        StorageError: disk full, permission denied, and the like.
    """
    write_atomically(path, _json(point).encode())


def read_point(path: Path) -> StoredPoint | None:
    """Read what `write_point` wrote; None if nothing was.

    Raises:
        DamagedFileError: a file that is not what was written. StorageError: one that cannot be read.
    """
    if not path.exists():
        return None
    with storage_errors(path):
        content = path.read_bytes()
    try:
        return StoredPoint.model_validate_json(content)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "document"
        raise DamagedFileError(path, "figures of one value of a sweep", f"{place}: {first['msg']}") from None


def write_sweep(directory: Path, sweep: Sweep) -> list[Path]:
    """Write `sweep_<key>.json` and `.csv` into an existing directory; return their paths.

    Raises:
        StorageError: disk full, permission denied, and the like.
    """
    paths = [directory / f"{sweep_stem(sweep.key)}{suffix}" for suffix in (".json", ".csv")]
    for path, text in zip(paths, (_json(sweep), sweep_csv(sweep)), strict=True):
        write_atomically(path, text.encode())
    return paths


def sweep_csv(sweep: Sweep) -> str:
    """Return one line a value, estimator and margin; empty `snr_db` or `num_sources` means all."""
    leading: list[dict[str, object]] = []
    cells: list[Cell] = []
    for point in sweep.points:
        for cell in point.cells:
            kind = "reference" if cell.estimator in sweep.references else "estimator"
            first = {"key": sweep.key, "value": value_text(point.value), "kind": kind}
            leading.append({**first, "cpu_seconds_per_scene": point.cpu_seconds(cell.estimator)})
            cells.append(cell)
    return records_csv(cells, leading)


def sweep_stem(key: str) -> str:
    """Return the file name of a sweep without its suffix: `sweep_num_snapshots`."""
    return "sweep_" + key.partition(".")[2].replace(".", "_")


def _json(record: Record) -> str:
    return json.dumps(record.model_dump(mode="json"), allow_nan=False, indent=1) + "\n"
