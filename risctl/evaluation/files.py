"""An evaluation on disk: `results.json`, CSV files of figures and raw rows; written and read back."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from risctl.data.atomic import storage_errors, write_atomically
from risctl.errors import DamagedFileError, InputError
from risctl.evaluation.results import SCHEMA_VERSION, Confusion, Record, Results
from risctl.evaluation.rows import EstimatorRows, Rows, SceneRows, SourceRows
from risctl.evaluation.run import Evaluation

RESULTS, CELLS, CONFUSION, CLOSENESS = "results.json", "cells.csv", "confusion.csv", "closeness.csv"
SCENES, SOURCES = "scenes.csv", "sources.csv"

AnyRows = TypeVar("AnyRows", bound=Rows)


def write_evaluation(directory: Path, evaluation: Evaluation) -> list[Path]:
    """Write every file of an evaluation into an existing directory; return their paths, `results.json` first.

    Raises:
        StorageError: disk full, permission denied, and the like.
    """
    results, rows = evaluation.results, evaluation.rows
    contents = {
        CELLS: records_csv(results.cells),
        CLOSENESS: records_csv(results.closeness),
        CONFUSION: confusion_csv(results.confusion),
        SCENES: rows_csv({name: part.scenes for name, part in rows.items()}, SceneRows),
        SOURCES: rows_csv({name: part.sources for name, part in rows.items()}, SourceRows),
        RESULTS: results_json(results),
    }
    for name, text in contents.items():
        write_atomically(directory / name, text.encode())
    return [directory / name for name in (RESULTS, CELLS, CLOSENESS, CONFUSION, SCENES, SOURCES)]


def read_evaluation(directory: Path) -> Evaluation:
    """Read back what `write_evaluation` wrote.

    Raises:
        InputError: another schema version.
        DamagedFileError: a file that is not what was written.
        StorageError: a file that cannot be read.
    """
    results = read_results(directory / RESULTS)
    scenes = read_rows(directory / SCENES, SceneRows, results.names)
    sources = read_rows(directory / SOURCES, SourceRows, results.names)
    return Evaluation(results, {n: EstimatorRows(scenes[n], sources[n]) for n in results.names})


def results_json(results: Results) -> str:
    """Return the figures as strict JSON (nulls, never NaN)."""
    return json.dumps(results.model_dump(mode="json"), allow_nan=False, indent=1) + "\n"


def read_results(path: Path) -> Results:
    """Read `results.json`; the errors are those of `read_evaluation`."""
    with storage_errors(path):
        content = path.read_bytes()
    try:
        document = json.loads(content)
    except ValueError as error:
        raise DamagedFileError(path, "a JSON document", error) from None
    version = document.get("schema_version") if isinstance(document, dict) else None
    if version is not None and version != SCHEMA_VERSION:
        raise InputError(path, "schema_version", str(SCHEMA_VERSION), version)
    try:
        return Results.model_validate_json(content)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "document"
        raise DamagedFileError(path, "evaluation results", f"{place}: {first['msg']}") from None


def records_csv(records: Sequence[Record], leading: Sequence[Mapping[str, object]] = ()) -> str:
    """Return one line a record, nested names joined; in cells, empty `snr_db` or `num_sources` means all.

    `leading` columns, if there are any, come one mapping a record.
    """
    before = leading or [{}] * len(records)
    lines = zip(before, records, strict=True)
    flat = [{**first, **dict(_flatten(record.model_dump()))} for first, record in lines]
    return csv_text(list(flat[0]) if flat else [], (line.values() for line in flat))


def confusion_csv(matrices: Iterable[Confusion]) -> str:
    """Return one line an estimator, SNR bin, true and estimated count: the number of scenes."""
    header = ["estimator", "snr_db", "true_count", "estimated_count", "scenes"]
    lines = (
        (matrix.estimator, matrix.snr_db, true, estimated, number)
        for matrix in matrices
        for true, row in zip(matrix.true_counts, matrix.scenes, strict=True)
        for estimated, number in zip(matrix.estimated_counts, row, strict=True)
    )
    return csv_text(header, lines)


def rows_csv(tables: Mapping[str, AnyRows], kind: type[AnyRows]) -> str:
    """Return raw rows, the estimator in the first column; absent values empty, floats exact."""
    lines = (
        (name, *line)
        for name, rows in tables.items()
        for line in zip(*(_texts(column) for column in _columns(rows)), strict=True)
    )
    return csv_text(["estimator", *kind.header()], lines)


def read_rows(path: Path, kind: type[AnyRows], estimators: Sequence[str]) -> dict[str, AnyRows]:
    """Read what `rows_csv` wrote, by estimator; the errors are those of `read_evaluation`."""
    with storage_errors(path), path.open(newline="", encoding="utf-8") as file:
        try:
            header, *lines = csv.reader(file)
        except (ValueError, csv.Error) as error:
            raise DamagedFileError(path, "CSV with a header", error) from None
    expected = ["estimator", *kind.header()]
    if header != expected:
        raise DamagedFileError(path, f"the columns {','.join(expected)}", ",".join(header))
    by_name: dict[str, list[list[str]]] = {name: [] for name in estimators}
    for number, line in enumerate(lines, start=2):
        if len(line) != len(expected) or line[0] not in by_name:
            raise DamagedFileError(path, f"line {number}: {len(expected)} fields", ",".join(line)[:80])
        by_name[line[0]].append(line[1:])
    try:
        return {name: _parse(kind, part) for name, part in by_name.items()}
    except ValueError as error:
        raise DamagedFileError(path, "numbers", error) from None


def _parse(kind: type[AnyRows], lines: list[list[str]]) -> AnyRows:
    columns = iter(zip(*lines, strict=True) if lines else [()] * len(kind.header()))
    arrays: list[npt.NDArray[Any]] = []
    for item in fields(kind):
        parsed = [_numbers(next(columns), item.metadata["dtype"]) for _ in item.metadata["names"]]
        arrays.append(parsed[0] if len(parsed) == 1 else np.stack(parsed, axis=1))
    return kind(*arrays)


def _numbers(texts: Sequence[str], dtype: type) -> npt.NDArray[Any]:
    if dtype is float:
        return np.array([float(text) if text else np.nan for text in texts], dtype=np.float64)
    return np.array([int(text) for text in texts], dtype=np.int64).astype(dtype)


def _columns(rows: Rows) -> Iterator[npt.NDArray[Any]]:
    for array in rows.arrays():
        yield from array.T if array.ndim == 2 else [array]


def _texts(column: npt.NDArray[Any]) -> list[str]:
    if column.dtype.kind == "f":
        return ["" if value != value else repr(value) for value in column.tolist()]
    return [str(int(value)) for value in column.tolist()]


def _flatten(record: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, object]]:
    for key, value in record.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{key}_")
        else:
            yield prefix + key, value


def csv_text(header: Sequence[str], lines: Iterable[Iterable[object]]) -> str:
    """Return a CSV table: the header and a line each of `lines`."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(lines)
    return out.getvalue()
