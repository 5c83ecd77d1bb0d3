"""How a command line ends: statuses, one line on stderr, one document on stdout, signals."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest
import typer

from risctl.cli import app as application
from risctl.cli.app import COMMANDS, load_command, main
from risctl.cli.signals import SIGNALS
from risctl.errors import CheckFailedError, DamagedFileError, RisctlError, StorageError
from tests.cli.command import Capture, ask
from tests.runs.tiny import NETWORK, SURFACE, TINY

SHARED = ("--preset", "--config", "--json", "--device", "--seed", "--dry-run", "--threads")


@pytest.mark.parametrize("arguments", [[], ["--help"]])
def test_help_lists_every_command(arguments: list[str], capsys: Capture) -> None:
    assert main(arguments) == 0
    shown = capsys.readouterr().out
    for name in COMMANDS:
        assert name in shown


def test_the_list_of_commands_says_what_they_say_themselves() -> None:
    for name, (_, summary) in COMMANDS.items():
        assert (load_command(name).help or "").splitlines()[0] == summary


@pytest.mark.parametrize("name", [name for name in COMMANDS if name not in ("runs", "config")])
def test_every_command_has_help_and_the_shared_options(name: str, capsys: Capture) -> None:
    assert main([name, "--help"]) == 0
    shown = capsys.readouterr().out
    for option in SHARED:
        assert option in shown


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "disk_bytes", "parameters"),
    [("bench", 1_000_000, 0), ("check-alignment", 0, 0), ("demo", 1_000_000, 1_000), ("doctor", 0, 0)],
)
def test_a_dry_run_shows_the_needs_and_writes_nothing(
    command: str, disk_bytes: int, parameters: int, capsys: Capture
) -> None:
    words = TINY if command == "demo" else ()
    document = ask(capsys, command, *words, "--dry-run")
    assert document["dry_run"]
    assert document["needs"]["disk_bytes"] >= disk_bytes
    assert document["needs"]["parameters"] >= parameters
    assert not list(Path().iterdir())


@pytest.mark.parametrize(
    "command", ["gen-data --out d", "train", "overfit", "eval", "check-alignment", "demo"]
)
def test_a_dry_run_is_ten_lines_with_the_time(command: str, capsys: Capture) -> None:
    words = (*command.split(), *TINY) if command != "overfit" else (command, *SURFACE, *NETWORK)
    assert main([*words, "--dry-run"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 10
    assert any(line.startswith("  time ") for line in lines) == (command != "check-alignment")
    learns = command in ("train", "overfit", "check-alignment", "demo")
    assert any(re.match(r"  parameters +[1-9]", line) for line in lines) == learns
    assert not list(Path().iterdir())


def test_with_json_an_error_is_the_one_document(capsys: Capture) -> None:
    document = ask(capsys, "config", "show", "physics.nope=1", status=2)
    assert document["schema_version"] == 1
    assert document["error"]["exit_status"] == 2
    assert "physics.nope" in document["error"]["message"]


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Callable[[BaseException], int]:
    """Run a command that ends with an error; return the exit status."""

    def run(error: BaseException) -> int:
        fake = typer.Typer()
        fake.callback()(lambda: None)

        @fake.command("fail")
        def fail() -> NoReturn:
            raise error

        monkeypatch.setattr(application, "app", fake)
        return main(["fail"])

    return run


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
    error: BaseException, status: int, failing: Callable[[BaseException], int], capsys: Capture
) -> None:
    assert failing(error) == status
    assert capsys.readouterr().err.count("\n") == 1


def test_an_internal_error_keeps_its_traceback(failing: Callable[[BaseException], int]) -> None:
    with pytest.raises(ZeroDivisionError):
        failing(ZeroDivisionError())


def test_a_closed_pipe_is_quiet() -> None:
    command = f"{sys.executable} -m risctl config show | sleep 0; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "")


@pytest.mark.parametrize(
    ("number", "status"),
    [
        (signal.SIGTERM, 143),
        pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow),
        pytest.param(signal.SIGHUP, 129, marks=pytest.mark.slow),
    ],
)
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
    assert lines == [f"risctl: {SIGNALS[number]}"]
    assert not (tmp_path / "d" / "dataset.json").exists()
    assert not list(tmp_path.glob("d/*.tmp"))
    assert not list(tmp_path.glob("d/.*.tmp"))
