"""`metrics.jsonl`: every event a line, and after a resumption no line that was made twice."""

import json
import os
from pathlib import Path

import pytest

from risctl.errors import DamagedFileError
from risctl.hpo import TrialRetried
from risctl.runs.records import EPOCH, STEP, EventsFile, MetricsFile, of_kind, read_metrics, recorded_outcome
from risctl.training import Event
from tests.runs.events import STEPS, epoch, first_batch, started, step, training


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "metrics.jsonl"


def _write(path: Path, *events: Event) -> None:
    with MetricsFile(path) as listen:
        for event in events:
            listen(event)


def test_every_event_is_a_line(path: Path) -> None:
    _write(path, *training())
    records = read_metrics(path)
    assert [record["event"] for record in records[:3]] == ["started", "first_batch", "step"]
    assert [record["step"] for record in of_kind(records, STEP)] == list(range(1, 13))
    assert [record["val"]["total"] for record in of_kind(records, EPOCH)] == [2.0, 1.0, 2.0 / 3]
    assert of_kind(records, STEP)[0]["terms"]["cov"] == 0.1
    assert len(path.read_text().splitlines()) == len(records)


def test_lines_past_the_resumed_state_are_dropped(path: Path) -> None:
    _write(path, *training())
    _write(path, started(epoch=1), *(step(n) for n in range(STEPS + 1, 2 * STEPS + 1)), epoch(1, 0.9))
    records = read_metrics(path)
    assert [record["step"] for record in of_kind(records, STEP)] == list(range(1, 2 * STEPS + 1))
    assert [record["val"]["total"] for record in of_kind(records, EPOCH)] == [2.0, 0.9]
    assert [record["step"] for record in of_kind(records, "started")] == [0, STEPS]


def test_a_run_that_begins_anew_forgets_everything(path: Path) -> None:
    _write(path, *training())
    _write(path, started(), first_batch(), step(1))
    assert [record["event"] for record in read_metrics(path)] == ["started", "first_batch", "step"]


def test_a_line_cut_short_is_left_out(path: Path) -> None:
    _write(path, *training())
    whole = read_metrics(path)
    path.write_bytes(path.read_bytes()[:-20])
    assert read_metrics(path) == whole[:-1]
    _write(path, started(epoch=2), step(2 * STEPS + 1))
    assert [record["step"] for record in of_kind(read_metrics(path), STEP)] == list(range(1, 2 * STEPS + 2))


def test_a_search_goes_on_after_a_line_cut_short(path: Path) -> None:
    whole = TrialRetried(number=1, reason="killed")
    with EventsFile(path) as listen:
        listen(whole)
    path.write_bytes(path.read_bytes() * 2 + b'{"event": "tri')
    with EventsFile(path) as listen:
        listen(whole)
    assert [record["event"] for record in read_metrics(path)] == ["trial_retried"] * 3


def test_a_broken_line_among_whole_ones_is_named(path: Path) -> None:
    _write(path, *training())
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([lines[0], b"{torn\n", *lines[2:]]))
    with pytest.raises(DamagedFileError, match="line 2: damaged: expected a line of JSON"):
        read_metrics(path)


def test_of_long_epochs_some_steps_are_kept_and_trouble_always(path: Path) -> None:
    _write(path, started(steps_per_epoch=600), *(step(n, sanitised=int(n == 4)) for n in range(1, 10)))
    assert [record["step"] for record in of_kind(read_metrics(path), STEP)] == [3, 4, 6, 9]


def test_what_is_not_finite_is_null(path: Path) -> None:
    _write(path, started(), step(1, skipped=True, total=None), epoch(0, float("nan")))
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert lines[1]["total"] is None
    assert lines[2]["val"]["total"] is None


def test_every_line_is_on_the_disk_before_the_state_that_covers_it(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed = [0]
    original = os.fsync

    def fsync(descriptor: int) -> None:
        original(descriptor)
        if path.exists() and os.path.samestat(os.fstat(descriptor), path.stat()):
            flushed.append(os.fstat(descriptor).st_size)

    monkeypatch.setattr(os, "fsync", fsync)
    with MetricsFile(path) as listen:
        for event in training():
            listen(event)
            assert flushed[-1] == path.stat().st_size > 0


def test_what_was_recorded_says_how_far_a_training_came(path: Path) -> None:
    _write(path, *training(epochs=2), step(9, skipped=True, total=None), step(10, sanitised=3))
    found = recorded_outcome(path.parent, read_metrics(path))
    assert (found.epochs, found.steps, found.skipped, found.sanitised) == (2, 10, 1, 1)
    assert (found.first_value, found.best_value, found.best_epoch) == (2.0, 1.0, 1)
    assert found.best_path is None
    assert not found.finished
    nothing = recorded_outcome(path.parent, [])
    assert (nothing.epochs, nothing.steps, nothing.best_value) == (0, 0, None)
