"""Run directories say what ran, where it came from, and how it ended."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from risctl.cli.documents import write_json
from risctl.cli.machine import resolve_device
from risctl.cli.provenance import provenance
from risctl.cli.runs import RunDirectory, outcome

from risctl.cli import runs
from risctl.config import load_config
from risctl.errors import CheckFailedError, InputError, StorageError


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunDirectory:
    monkeypatch.chdir(tmp_path)
    record = provenance("cpu", 1, {"data.seed": 0}, None)
    return RunDirectory.create("eval", "quick", load_config("quick"), record)


def _status(run: RunDirectory) -> dict[str, object]:
    status: dict[str, object] = json.loads((run.path / "status.json").read_text())
    return status


def test_a_new_run_is_complete_and_running(run: RunDirectory) -> None:
    assert re.fullmatch(r"runs/eval/\d{8}T\d{6}Z_quick_[0-9a-f]{6}", run.path.as_posix())
    assert load_config(None, run.path / "config.json") == load_config("quick")
    record = json.loads((run.path / "provenance.json").read_text())
    assert record["schema_version"] == 1
    assert set(record) >= {"argv", "git", "versions", "seeds", "threads", "hardware", "dataset"}
    assert record["versions"]["torch"]
    assert _status(run)["state"] == "running"


def test_a_run_that_ends_well(run: RunDirectory) -> None:
    with run:
        pass
    assert (_status(run)["state"], _status(run)["exit_status"]) == ("done", 0)


def test_a_run_that_fails(run: RunDirectory) -> None:
    with pytest.raises(CheckFailedError), run:
        raise CheckFailedError("the gate")
    assert _status(run) | {"state": "failed", "exit_status": 3, "message": "the gate"} == _status(run)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (KeyboardInterrupt(), ("interrupted", 130)),
        (SystemExit(143), ("interrupted", 143)),
        (InputError("f", "k", "a", "b"), ("failed", 2)),
        (OSError(28, "No space left on device"), ("failed", 5)),
        (ZeroDivisionError(), ("failed", 1)),
    ],
)
def test_outcomes(error: BaseException, expected: tuple[str, int]) -> None:
    assert outcome(error)[:2] == expected


def test_a_place_without_room_is_a_storage_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").write_text("a file in the way")
    with pytest.raises(StorageError, match="runs"):
        RunDirectory.create("eval", "quick", load_config("quick"), {})


def test_devices() -> None:
    assert resolve_device("cpu") == "cpu"
    with pytest.raises(InputError, match="cuda:999"):
        resolve_device("cuda:999")


@pytest.mark.parametrize("file", ["config.json", "provenance.json", "status.json"])
def test_a_run_has_its_name_only_once_it_is_complete(
    file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    seen: list[list[str]] = []

    def write(path: Path, document: object) -> None:
        seen.append([found.name for found in Path("runs/eval").glob("[!.]*")])
        if path.name == file:
            raise StorageError("disk full")
        write_json(path, document)

    monkeypatch.setattr(runs, "write_json", write)
    with pytest.raises(StorageError, match="disk full"):
        RunDirectory.create("eval", "quick", load_config("quick"), {})
    assert all(not names for names in seen)
    assert not list(Path("runs/eval").iterdir())


def test_a_new_run_has_the_files_it_was_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    made = RunDirectory.create("eval", "quick", load_config("quick"), {}, {Path("a/b.bin"): b"xyz"})
    assert (made.path / "a" / "b.bin").read_bytes() == b"xyz"
    assert (made.path / "status.json").is_file()
