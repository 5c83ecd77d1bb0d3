"""`metrics.jsonl`: one line an event of a training, and the same file read back."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from risctl.cli.documents import finite

if TYPE_CHECKING:
    from risctl.training import Event, Started, StepResult

METRICS = "metrics.jsonl"
STEPS_KEPT_PER_EPOCH = 200
STARTED, STEP, EPOCH, FIRST = "started", "step", "epoch", "first_batch"

Record = dict[str, Any]


class MetricsFile:
    """Writes the events of a training to `metrics.jsonl`, line by line.

    Of long epochs every k-th step is kept; steps that were skipped or sanitised are kept all. A training that
    goes on makes again what was lost after its last saved state: lines that this state does not cover are
    dropped, so that the file reads as if nothing had happened.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._every = 1
        self._stream: TextIOWrapper | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._stream is not None:
            self._stream.close()

    def __call__(self, event: Event) -> None:
        """Write an event."""
        from risctl.training import EpochResult, FirstBatch, Started, StepResult

        if isinstance(event, Started):
            self._every = math.ceil(event.steps_per_epoch / STEPS_KEPT_PER_EPOCH)
            self._stream = self._open(event)
            self._write(STARTED, event)
        elif isinstance(event, EpochResult):
            self._write(EPOCH, event)
        elif isinstance(event, FirstBatch):
            self._write(FIRST, event)
        elif isinstance(event, StepResult) and self._is_kept(event):
            self._write(STEP, event)

    def _is_kept(self, event: StepResult) -> bool:
        return event.skipped or event.sanitised > 0 or event.step % self._every == 0

    def _write(self, kind: str, event: Event) -> None:
        assert self._stream is not None, "an event before the start"
        self._stream.write(_line({"event": kind, **asdict(event)}))
        self._stream.flush()

    def _open(self, started: Started) -> TextIOWrapper:
        from risctl.data.atomic import storage_errors, write_atomically

        if self._path.exists():
            kept = [record for record in read_metrics(self._path) if _still_holds(record, started)]
            write_atomically(self._path, "".join(map(_line, kept)).encode())
        with storage_errors(self._path):
            return self._path.open("a", encoding="utf-8")


def _still_holds(record: Record, started: Started) -> bool:
    """Whether the saved state that a training goes on from covers a line: `Started.keeps`, for records."""
    if record["event"] == EPOCH:
        return bool(record["epoch"] < started.epoch)
    return bool(record["step"] < started.step + (record["event"] != STARTED))


def _line(record: Mapping[str, Any]) -> str:
    return json.dumps(finite(record), allow_nan=False, separators=(",", ":")) + "\n"


def read_metrics(path: Path) -> list[Record]:
    """Return the lines of a `metrics.jsonl`, without one at the end that a power failure cut short."""
    from risctl.data.atomic import storage_errors

    with storage_errors(path):
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    records = []
    for line in lines:
        try:
            record = json.loads(line)
        except ValueError:
            break
        if not isinstance(record, dict) or not isinstance(record.get("step"), int) or "event" not in record:
            break
        records.append(record)
    return records


def of_kind(records: list[Record], kind: str) -> list[Record]:
    """Return the records of one kind of event."""
    return [record for record in records if record.get("event") == kind]
