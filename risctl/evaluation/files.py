"""Evaluations and sweeps on disk: JSON documents, CSV files of figures and of raw rows.

A finished value of a sweep is a file of its own, named by its place and marked with a hash of what it was
made from, so that an interrupted sweep goes on with the next one.
"""

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

from risctl.config.parse import parse_json
from risctl.data.atomic import storage_errors, write_atomically
from risctl.errors import DamagedFileError, InputError
from risctl.evaluation.results import SCHEMA_VERSION, Confusion, Record, Results
from risctl.evaluation.rows import Rows, SceneRows, SourceRows
from risctl.evaluation.run import Evaluation
from risctl.evaluation.sweep import Sweep, value_text

HASH = "content_hash"


class StoredPoint(Record):
    """The figures of one value of a sweep, with a hash of the settings and the model behind them.

    `content_hash` proves that the file is what was written; None in files that were written before it was.
    """

    fingerprint: str
    results: Results
    content_hash: str | None = None


def write_evaluation(directory: Path, evaluation: Evaluation) -> list[Path]:
    """Write every file of an evaluation into an existing directory; return their paths, `results.json` first.

    Raises:
        StorageError: disk full, permission denied, and the like.
    """
    results, rows = evaluation.results, evaluation.rows
    contents = {
        "results.json": record_json(results),
        "cells.csv": records_csv(results.cells),
        "closeness.csv": records_csv(results.closeness),
        "confusion.csv": confusion_csv(results.confusion),
        "reliability.csv": records_csv(results.reliability),
        "detection.csv": records_csv(results.detection),
        "scenes.csv": rows_csv({name: part.scenes for name, part in rows.items()}, SceneRows),
        "sources.csv": rows_csv({name: part.sources for name, part in rows.items()}, SourceRows),
    }
    for name, text in reversed(contents.items()):  # the results last: where they are, all of it is
        write_atomically(directory / name, text.encode())
    return [directory / name for name in contents]


def read_results(path: Path) -> Results:
    """Read `results.json`.

    Raises:
        InputError: another schema version.
        DamagedFileError: a file that is not what was written.
        StorageError: a file that cannot be read.
    """
    with storage_errors(path):
        content = path.read_bytes()
    try:
        document = json.loads(content)
    except ValueError as error:
        raise DamagedFileError(path, "a JSON document", error) from None
    version = document.get("schema_version") if isinstance(document, dict) else None
    if version is not None and version != SCHEMA_VERSION:
        raise InputError(path, "schema_version", str(SCHEMA_VERSION), version)
    return parse_json(Results, content, path)


def write_point(path: Path, point: StoredPoint) -> None:
    """Write the figures of one value of a sweep, whole or not at all.

    Raises:
        StorageError: disk full, permission denied, and the like.
    """
    digest = _document_hash(json.loads(record_json(point)))
    write_atomically(path, record_json(point.model_copy(update={HASH: digest})).encode())


def read_point(path: Path) -> StoredPoint | None:
    """Read what `write_point` wrote; None if there is no such file.

    Raises:
        DamagedFileError: a file that is not what was written. StorageError: one that cannot be read.
    """
    if not path.exists():
        return None
    with storage_errors(path):
        content = path.read_bytes()
    point = parse_json(StoredPoint, content, path)
    if point.content_hash not in (None, _document_hash(json.loads(content))):
        raise DamagedFileError(path, "the figures its hash was taken of", "an edited file")
    return point


def _document_hash(document: dict[str, Any]) -> str:
    """32 hexadecimal digits over all of a document but its hash, fields of other versions included."""
    body = {key: value for key, value in document.items() if key != HASH}
    return xxhash.xxh3_128_hexdigest(json.dumps(body, sort_keys=True).encode())


def write_sweep(directory: Path, sweep: Sweep) -> list[Path]:
    """Write `sweep_<key>.json` and `.csv` into an existing directory; return their paths.

    Raises:
        StorageError: disk full, permission denied, and the like.
    """
    paths = [directory / f"{sweep_stem(sweep.key)}{suffix}" for suffix in (".json", ".csv")]
    write_atomically(paths[0], record_json(sweep).encode())
    write_atomically(paths[1], sweep_csv(sweep).encode())
    return paths


def read_sweep(path: Path) -> Sweep:
    """Read the JSON of a sweep; `DamagedFileError` or `StorageError` as with `read_point`."""
    with storage_errors(path):
        content = path.read_bytes()
    return parse_json(Sweep, content, path)


def sweep_stem(key: str) -> str:
    """File name of a sweep without its suffix: `sweep_num_snapshots`."""
    return "sweep_" + key.partition(".")[2].replace(".", "_")


def record_json(record: Record) -> str:
    """A record as strict JSON (nulls, never NaN)."""
    return json.dumps(record.model_dump(mode="json"), allow_nan=False, indent=1) + "\n"


def records_csv(records: Sequence[Record], leading: Sequence[Mapping[str, object]] = ()) -> str:
    """One line per record, nested names joined; in cells, empty `snr_db` or `num_sources` means all.

    `leading` columns, if there are any, come one mapping per record.
    """
    flat = [
        dict(first) | dict(_flatten(record.model_dump()))
        for first, record in zip(leading or [{}] * len(records), records, strict=True)
    ]
    return csv_text(list(flat[0]) if flat else [], (line.values() for line in flat))


def sweep_csv(sweep: Sweep) -> str:
    """One line per value, estimator and margin; empty `snr_db` or `num_sources` means all."""
    cells = [(point, cell) for point in sweep.points for cell in point.cells]
    leading = [
        {
            "key": sweep.key,
            "value": value_text(point.value),
            "kind": "reference" if cell.estimator in sweep.references else "estimator",
            "cpu_seconds_per_scene": point.cpu_seconds(cell.estimator),
        }
        for point, cell in cells
    ]
    return records_csv([cell for _, cell in cells], leading)


def confusion_csv(matrices: Iterable[Confusion]) -> str:
    """Number of scenes, one line per estimator, SNR bin, true and estimated count."""
    lines = (
        (matrix.estimator, matrix.snr_db, true, estimated, number)
        for matrix in matrices
        for true, row in zip(matrix.true_counts, matrix.scenes, strict=True)
        for estimated, number in zip(matrix.estimated_counts, row, strict=True)
    )
    return csv_text(["estimator", "snr_db", "true_count", "estimated_count", "scenes"], lines)


def rows_csv(tables: Mapping[str, Rows], kind: type[Rows]) -> str:
    """Raw rows, the estimator in the first column; absent values empty, floats exact, truth values 0 or 1."""

    def text(value: float) -> str:
        return str(int(value)) if isinstance(value, int) else "" if value != value else repr(value)

    lines = (
        (name, *map(text, line))
        for name, rows in tables.items()
        for line in zip(*(c.tolist() for array in rows.arrays() for c in np.atleast_2d(array.T)), strict=True)
    )
    return csv_text(["estimator", *kind.header()], lines)


def csv_text(header: Sequence[str], lines: Iterable[Iterable[object]]) -> str:
    """A CSV table: the header and one line per item of `lines`."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(lines)
    return out.getvalue()


def _flatten(record: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, object]]:
    for key, value in record.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{key}_")
        else:
            yield prefix + key, value
