"""Run directories say what ran, where it came from, and how it ended."""

import json
import os
import re
import time
from pathlib import Path

import pytest

from risctl.config import load_config
from risctl.data.atomic import held, is_held
from risctl.errors import CheckFailedError, InputError, StorageError
from risctl.runs import RunDirectory, read_document, resolve_device, write_json
from risctl.runs.directory import outcome
from risctl.runs.provenance import provenance
from tests.runs.tiny import status_of


@pytest.fixture
def run() -> RunDirectory:
    record = provenance("cpu", 1, {"data.seed": 0}, None)
    return RunDirectory.create("eval", "quick", load_config("quick"), record)


def test_a_new_run_is_complete_and_running(run: RunDirectory) -> None:
    assert re.fullmatch(r"runs/eval/\d{8}T\d{6}Z_quick_[0-9a-f]{6}", run.path.as_posix())
    assert load_config(None, run.path / "config.json") == load_config("quick")
    record = json.loads((run.path / "provenance.json").read_text())
    assert record["schema_version"] == 1
    assert set(record) >= {"argv", "git", "versions", "seeds", "threads", "hardware", "dataset"}
    assert record["versions"]["torch"]
    assert status_of(run.path)["state"] == "running"


def test_a_run_says_how_it_ended(run: RunDirectory) -> None:
    with run:
        pass
    assert status_of(run.path).items() >= {"state": "done", "exit_status": 0}.items()
    with pytest.raises(CheckFailedError), run:
        raise CheckFailedError("the gate")
    failed = {"state": "failed", "exit_status": 3, "message": "the gate"}
    assert status_of(run.path).items() >= failed.items()


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (KeyboardInterrupt(), ("interrupted", 130)),
        (SystemExit(143), ("interrupted", 143)),
        (SystemExit(129), ("interrupted", 129)),
        (InputError("f", "k", "a", "b"), ("failed", 2)),
        (OSError(28, "No space left on device"), ("failed", 5)),
        (ZeroDivisionError(), ("failed", 1)),
    ],
)
def test_outcomes(error: BaseException, expected: tuple[str, int]) -> None:
    assert outcome(error)[:2] == expected


def test_a_place_without_room_is_a_storage_error() -> None:
    Path("runs").write_text("a file in the way")
    with pytest.raises(StorageError, match="runs"):
        RunDirectory.create("eval", "quick", load_config("quick"), {})


def test_devices() -> None:
    assert resolve_device("cpu") == "cpu"
    with pytest.raises(InputError, match="cuda:999"):
        resolve_device("cuda:999")


@pytest.mark.parametrize("file", ["config.json", "provenance.json", "status.json"])
def test_a_run_has_its_name_only_once_it_is_complete(file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[str]] = []

    def write(path: Path, document: object) -> None:
        seen.append([found.name for found in Path("runs/eval").glob("[!.]*")])
        if path.name == file:
            raise StorageError("disk full")
        write_json(path, document)

    monkeypatch.setattr("risctl.runs.directory.write_json", write)
    with pytest.raises(StorageError, match="disk full"):
        RunDirectory.create("eval", "quick", load_config("quick"), {})
    assert all(not names for names in seen)
    assert not list(Path("runs/eval").iterdir())


def test_a_new_run_has_the_files_it_was_given() -> None:
    made = RunDirectory.create("eval", "quick", load_config("quick"), {}, {Path("a/b.bin"): b"xyz"})
    assert (made.path / "a" / "b.bin").read_bytes() == b"xyz"
    assert (made.path / "status.json").is_file()


def test_what_killed_processes_left_is_removed_and_what_lives_is_not(run: RunDirectory) -> None:
    old = time.time() - 3600
    dead, live = (Path(f"runs/eval/.20260101T000000Z_{name}.tmp") for name in ("dead", "live"))
    young = Path("runs/eval/.20260101T000000Z_young.tmp")
    for path in (dead, live, young):
        (path / "eval").mkdir(parents=True)
    for path in (dead, live):
        os.utime(path, (old, old))
    with held(live):
        RunDirectory.create("eval", "quick", load_config("quick"), {})
    assert (dead.exists(), live.exists(), young.exists()) == (False, True, True)
    torn = run.path / ".status.json.0123456789ab.tmp"
    torn.write_text("{")
    RunDirectory(run.path, "eval").resume({})
    assert not torn.exists()


def test_a_run_is_held_by_its_process_until_it_ends(run: RunDirectory) -> None:
    assert is_held(run.path)
    with run:
        pass
    assert not is_held(run.path)


def test_a_document_that_cannot_be_read_is_no_damaged_one(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(StorageError, match=r"status\.json: Permission denied"):
        read_document(run.path / "status.json")
