"""How a command line ends: statuses, one line on stderr, one document on stdout, signals."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NoReturn

import pytest
import typer

from risctl.cli import app as application
from risctl.cli.app import main
from risctl.errors import CheckFailedError, DamagedFileError, RisctlError, StorageError

COMMANDS = ("gen-data", "train", "overfit", "eval", "locate", "check-alignment", "config", "doctor", "hpo")


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    for name in COMMANDS:
        assert name in shown


def test_nothing_typed_is_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    assert "gen-data" in capsys.readouterr().out


@pytest.mark.parametrize("name", [n for n in COMMANDS if n != "config"])
def test_every_command_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, "--help"]) == 0
    assert capsys.readouterr().out


@pytest.mark.parametrize("name", ["gen-data", "train", "overfit", "hpo", "eval", "locate", "doctor"])
def test_shared_options_are_everywhere(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    main([name, "--help"])
    shown = capsys.readouterr().out
    for option in ("--preset", "--config", "--json", "--device", "--seed", "--dry-run", "--threads"):
        assert option in shown


def test_with_json_an_error_is_the_one_document(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "show", "--json", "physics.nope=1"]) == 2
    captured = capsys.readouterr()
    document = json.loads(captured.out)
    assert document["schema_version"] == 1
    assert document["error"]["exit_status"] == 2
    assert document["error"]["message"] in captured.err


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (RisctlError("x"), 1),
        (CheckFailedError("x"), 3),
        (DamagedFileError("f", "a", "b"), 4),
        (StorageError("x"), 5),
        (OSError(28, "No space left on device"), 5),
        (KeyboardInterrupt(), 130),
    ],
)
def test_exit_statuses(
    error: BaseException, status: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fake = typer.Typer()

    @fake.callback()
    def root() -> None: ...

    @fake.command("fail")
    def fail() -> NoReturn:
        raise error

    monkeypatch.setattr(application, "app", fake)
    assert main(["fail"]) == status
    assert capsys.readouterr().err.count("\n") == 1


def test_an_internal_error_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = typer.Typer()

    @fake.callback()
    def root() -> None: ...

    @fake.command("fail")
    def fail() -> NoReturn:
        raise ZeroDivisionError

    monkeypatch.setattr(application, "app", fake)
    with pytest.raises(ZeroDivisionError):
        main(["fail"])


def test_a_closed_pipe_is_quiet() -> None:
    command = f"{sys.executable} -m risctl config show | head -1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert done.stdout.startswith("[physics]")
    assert done.stderr == ""


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_signals_leave_nothing_half_written(number: int, status: int, tmp_path: Path) -> None:
    arguments = ["gen-data", "--out", str(tmp_path / "d"), "--scenes", "1000000", "data.shard_scenes=64"]
    process = subprocess.Popen(
        [sys.executable, "-m", "risctl", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
    )
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("d/shard-*")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(number)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == status
    lines = [line for line in stderr.splitlines() if not line.startswith("scenes: ")]
    assert lines == ["risctl: terminated" if number == signal.SIGTERM else "risctl: interrupted"]
    assert not (tmp_path / "d" / "dataset.json").exists()
    assert not list(tmp_path.glob("d/*.tmp"))
    assert not list(tmp_path.glob("d/.*.tmp"))
