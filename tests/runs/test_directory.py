"""Run directories say what ran, where it came from, and how it ended."""

import fcntl
import json
import os
import re
import threading
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


def test_nobody_else_s_files_are_touched_where_a_run_was_placed() -> None:
    """Below a folder of the user's own, what another program left there stays; what this run left goes."""
    old = time.time() - 3600
    theirs, ours = Path("mine/.editor.tmp"), Path("mine/.best.0a1b2c.tmp")
    for path in (theirs, ours):
        path.mkdir(parents=True)
        os.utime(path, (old, old))
    RunDirectory.create("eval", "quick", load_config("quick"), {}, place=Path("mine/best"))
    assert (theirs.exists(), ours.exists()) == (True, False)


def test_two_runs_of_one_name_are_one_and_a_refusal(run: RunDirectory) -> None:
    place = Path("runs/eval/mine")
    first = RunDirectory.create("eval", "quick", load_config("quick"), {}, place=place)
    with pytest.raises(StorageError, match="cannot make the run directory"):
        RunDirectory.create("eval", "full", load_config("full"), {}, place=place)
    assert load_config(None, first.path / "config.json") == load_config("quick")
    assert [path for path in Path("runs/eval").iterdir() if path.name[0] == "."] == []


def test_a_password_in_a_url_is_not_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    urls = ("postgresql://me:p:w@host/db", "--storage=postgresql://me@host/db?sslmode=on&password=pw&a=b")
    monkeypatch.setattr("sys.argv", ["risctl", "hpo", *urls, "data:x@y"])
    assert provenance("cpu", 1, {}, None)["argv"][2:] == [
        "postgresql://me:***@host/db",
        "--storage=postgresql://me@host/db?sslmode=on&password=***&a=b",
        "data:x@y",
    ]


def test_a_look_at_a_run_that_begins_leaves_it_its_mark(run: RunDirectory) -> None:
    """`is_held` takes the lock for a moment: the run waits for it."""
    with run:
        pass
    descriptor = os.open(run.path, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    let_go = threading.Timer(0.2, os.close, (descriptor,))
    let_go.start()
    with held(run.path):
        let_go.join()
        assert is_held(run.path)


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
