"""`metrics.jsonl`: one line per event of a training or a search, and the same file read back."""

import json
import math
import os
from collections.abc import Mapping
from dataclasses import asdict
from io import TextIOWrapper
from pathlib import Path
from typing import Any, Self

from risctl.config.parse import parse_json
from risctl.data.atomic import flush_directory, storage_errors, write_atomically
from risctl.errors import DamagedFileError
from risctl.hpo.plan import ELSEWHERE, SearchEvent, TrialEnded, TrialEpoch, TrialRetried, TrialStarted
from risctl.model.checkpoint import BEST, CHECKPOINTS, LAST
from risctl.runs.schemas import Stored, stored
from risctl.text import finite
from risctl.training import EpochResult, Event, FirstBatch, Outcome, Started, StepResult

METRICS = "metrics.jsonl"
STEPS_KEPT_PER_EPOCH = 200
STARTED, STEP, EPOCH, FIRST = "started", "step", "epoch", "first_batch"
KINDS: dict[str, type[Event] | type[SearchEvent]] = {
    STARTED: Started,
    FIRST: FirstBatch,
    STEP: StepResult,
    EPOCH: EpochResult,
    "trial_started": TrialStarted,
    "trial_epoch": TrialEpoch,
    "trial_retried": TrialRetried,
    "trial_ended": TrialEnded,
}
NAMES = {kind: name for name, kind in KINDS.items()}
SCHEMAS = {name: stored(kind) for name, kind in KINDS.items()}

Record = dict[str, Any]


class _JsonLines:
    """A listener that writes events as lines of JSON."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stream: TextIOWrapper | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._stream is not None:
            self._stream.close()

    def _write(self, kind: str, event: Event | SearchEvent) -> TextIOWrapper:
        with storage_errors(self._path):
            if self._stream is None:
                _cut_unfinished_line(self._path)
                self._stream = self._path.open("a", encoding="utf-8")
            self._stream.write(json_line({"event": kind, **asdict(event)}))
            self._stream.flush()
        return self._stream


class MetricsFile(_JsonLines):
    """Writes the events of a training to `metrics.jsonl`, line by line.

    Of long epochs every k-th step is kept; steps that were skipped or sanitised are kept all. A resumed
    training repeats what was lost after its last saved state: lines that this state does not cover are
    dropped, so that the file reads as if nothing had happened. A line is on the disk before the next event,
    and so before the state that covers it: none is missing after a power failure either.
    """

    _every = 1

    def __call__(self, event: Event) -> None:
        """Write an event."""
        if isinstance(event, Started):
            self._every = math.ceil(event.steps_per_epoch / STEPS_KEPT_PER_EPOCH)
            self._drop_uncovered(event)
            self._write(STARTED, event)
            flush_directory(self._path.parent)
        elif isinstance(event, EpochResult):
            self._write(EPOCH, event)
        elif isinstance(event, FirstBatch):
            self._write(FIRST, event)
        elif isinstance(event, StepResult) and self._is_kept(event):
            self._write(STEP, event)

    def _is_kept(self, event: StepResult) -> bool:
        return event.skipped or event.sanitised > 0 or event.step % self._every == 0

    def _write(self, kind: str, event: Event | SearchEvent) -> TextIOWrapper:
        stream = super()._write(kind, event)
        with storage_errors(self._path):
            os.fsync(stream.fileno())
        return stream

    def _drop_uncovered(self, started: Started) -> None:
        if self._path.exists():
            kept = [record for record in read_metrics(self._path) if _still_holds(record, started)]
            write_atomically(self._path, "".join(map(json_line, kept)).encode())


class EventsFile(_JsonLines):
    """Appends the events of this machine's trials to `metrics.jsonl`; the study is authoritative.

    Events of other machines and of earlier processes reach every listener, and are left out here.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._others: set[int] = set()

    def __call__(self, event: SearchEvent) -> None:
        """Write an event of a trial that runs here."""
        if isinstance(event, TrialStarted):
            (self._others.add if event.worker == ELSEWHERE else self._others.discard)(event.number)
        if event.number not in self._others:
            self._write(NAMES[type(event)], event)


def _cut_unfinished_line(path: Path) -> None:
    """Cut off a last line that a full disk or a power failure left without its end."""
    if path.exists():
        content = path.read_bytes()
        os.truncate(path, content.rfind(b"\n") + 1)


def _still_holds(record: Record, started: Started) -> bool:
    """Whether the saved state that a training goes on from covers a line: `Started.keeps`, for records."""
    if record["event"] == EPOCH:
        return bool(record["epoch"] < started.epoch)
    return bool(record["step"] < started.step + (record["event"] != STARTED))


def json_line(record: Mapping[str, Any]) -> str:
    """A record as a line of a `metrics.jsonl`."""
    return json.dumps(finite(record), allow_nan=False, separators=(",", ":")) + "\n"


class _Line(Stored):
    event: str


def read_metrics(path: Path) -> list[Record]:
    """The lines of a `metrics.jsonl`, without one at the end that a power failure cut short.

    Raises:
        DamagedFileError: a line that is no event of a training or a search; naming it and the key.
        StorageError: the file cannot be read.
    """
    with storage_errors(path):
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    records = []
    for i, line in enumerate(lines):
        where = f"{path}: line {i + 1}"
        try:
            record = json.loads(line)
        except ValueError as error:
            if i + 1 == len(lines):
                break
            raise DamagedFileError(where, "a line of JSON", error) from None
        schema = SCHEMAS.get(parse_json(_Line, line, where).event)
        if schema is None:
            raise DamagedFileError(f"{where}: event", f"one of {', '.join(SCHEMAS)}", record["event"])
        parse_json(schema, line, where)
        records.append(record)
    return records


def of_kind(records: list[Record], kind: str) -> list[Record]:
    """The records of one kind of event."""
    return [record for record in records if record.get("event") == kind]


def recorded_outcome(run: Path, records: list[Record]) -> Outcome:
    """How far a training came that an error ended, from its records (skipped steps are kept all)."""
    steps, epochs = of_kind(records, STEP), of_kind(records, EPOCH)
    latest = epochs[-1] if epochs else {}
    best = run / CHECKPOINTS / BEST
    return Outcome(
        best_value=latest.get("best_value"),
        best_epoch=latest.get("best_epoch"),
        first_value=epochs[0]["val"]["total"] if epochs else None,
        epochs=len(epochs),
        steps=max((record["step"] for record in steps), default=0),
        skipped=sum(record["skipped"] for record in steps),
        sanitised=sum(record["sanitised"] > 0 for record in steps),
        stopped_by=None,
        early_stopped=False,
        finished=False,
        best_path=best if best.exists() else None,
        last_path=run / CHECKPOINTS / LAST,
        last=latest.get("val", {}),
        metrics=latest.get("metrics", {}),
    )
