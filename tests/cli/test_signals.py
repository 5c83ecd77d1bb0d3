"""Signals and streams of a whole process: while modules load, when the terminal is closed, without stdout."""

import os
import pty
import signal
import subprocess
import sys
import termios
from collections.abc import Callable
from contextlib import suppress
from fcntl import ioctl
from pathlib import Path

import pytest

from risctl.cli.app import main
from risctl.cli.signals import leave_on_signals
from tests.cli.command import Capture
from tests.processes import ROOT, wait_until
from tests.runs.tiny import TINY, status_of

ENDINGS = [
    (signal.SIGTERM, 143, "risctl: terminated"),
    (signal.SIGINT, 130, "risctl: interrupted"),
    (signal.SIGHUP, 129, "risctl: terminal closed"),
]
# A module that a signal meets while it is loaded, and that turns any exception into another, as NumPy does.
SWALLOWS = """
import os, signal
try:
    os.kill(os.getpid(), {number})
    for _ in range(100_000): pass
except BaseException:
    raise ImportError("something else") from None
loaded = True
"""


def _risctl(*arguments: str, path: Path = ROOT) -> list[str]:
    code = (
        f"import sys; sys.path[:0] = [{str(path)!r}, {str(ROOT)!r}]; sys.argv[0] = 'risctl'; import runpy; "
    )
    return [sys.executable, "-c", code + "runpy.run_module('risctl', run_name='__main__')", *arguments]


def _allow_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.mark.parametrize(("number", "status", "line"), ENDINGS)
def test_a_signal_while_modules_load(number: int, status: int, line: str, tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text(SWALLOWS.format(number=int(number)))
    done = subprocess.run(
        _risctl("doctor", path=tmp_path),
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=_allow_interrupts,
    )
    assert (done.returncode, done.stdout, done.stderr.strip()) == (status, "", line)


def test_work_that_has_begun_ends_after_the_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then there may be something to tidy, which only an exception lets happen."""
    (tmp_path / "swallows.py").write_text(SWALLOWS.format(number=int(signal.SIGTERM)))
    monkeypatch.syspath_prepend(tmp_path)
    space: dict[str, Callable[[], None]] = {"__name__": "risctl.runs.anything"}
    exec("def work():\n    import swallows\n    while True: pass", space)
    with pytest.raises(SystemExit) as left, leave_on_signals():
        space["work"]()
    assert left.value.code == 143
    assert sys.modules["swallows"].loaded


def test_what_was_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with leave_on_signals():
            signal.raise_signal(signal.SIGHUP)
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.slow
def test_a_training_is_saved_when_its_terminal_is_closed(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()

    def take_terminal() -> None:
        os.setsid()
        ioctl(0, termios.TIOCSCTTY, 0)

    words = ("train", *TINY, "training.epochs=1000", "data.val_scenes=8")
    streams = dict.fromkeys(("stdin", "stdout", "stderr"), theirs)
    process = subprocess.Popen(_risctl(*words), cwd=tmp_path, preexec_fn=take_terminal, **streams)
    os.close(theirs)
    os.set_blocking(ours, False)

    def has_begun() -> bool:
        with suppress(OSError):
            os.read(ours, 1 << 16)  # somebody looks at it
        return process.poll() is not None or bool(list(tmp_path.glob("runs/train/[!.]*/checkpoints/last*")))

    wait_until(has_begun, 120)
    os.close(ours)
    assert process.wait(60) == 129
    (run,) = tmp_path.glob("runs/train/*")
    status = status_of(run)
    assert (status["state"], status["exit_status"]) == ("interrupted", 129)
    assert "stopped and saved after step" in status["message"]


@pytest.mark.parametrize(
    ("words", "status"),
    [
        ("config list >&-", 0),
        ("config list --json >/dev/full", 5),
        ("config show a.b=1 --json >/dev/full", 2),
    ],
)
def test_stdout_that_takes_nothing(words: str, status: int) -> None:
    command = f"{sys.executable} -m risctl {words}"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == status
    said = [line for line in done.stderr.splitlines() if line.startswith("risctl: ")]
    assert len(said) == (status > 0)
    assert said == done.stderr.splitlines()[-1:] or status == 0


def test_a_file_name_that_is_no_text_is_escaped(capsys: Capture) -> None:
    assert main(["gen-data", "--dry-run", "--scenes", "8", "--out", "bad\udcff"]) == 0
    assert "bad\\udcff" in capsys.readouterr().out
