"""SIGINT, SIGTERM and SIGHUP: a training saves and stops; everything else leaves in one line.

Imports nothing that takes time: the signals are answered from the first module on.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from risctl.training import StopFlag

STOPPING = "stopping: this step is finished and saved first (again: leave at once)"
SIGNAL_STATUS = 128
SIGNALS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated", signal.SIGHUP: "terminal closed"}
SAID = {SIGNAL_STATUS + number: word for number, word in SIGNALS.items()}  # by exit status
IMPORTS = "<frozen importlib"  # the file of the frames that load modules
PAUSE = 0.02  # seconds until a signal that met a half loaded module is tried again


@contextmanager
def leave_on_signals() -> Iterator[None]:
    """Leave the block by an exception on a signal, so that every `finally` on the way tidies up.

    SIGINT raises KeyboardInterrupt, the others SystemExit of 128 and the signal's number. A signal that was
    ignored when the process began (`nohup`, a shell's background) stays ignored. Outside the main thread,
    where signals do not arrive, nothing is changed.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    answered = [number for number in SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, _leave) for number in answered}
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before.items():
            signal.signal(number, handler)


def ignore_signals() -> None:
    """Ignore further signals: what the process had to do is done."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def stop_on_signals(quiet: bool = False) -> Iterator[StopFlag]:
    """Yield a flag that the first signal inside the block sets.

    A second signal leaves by an exception, without saving: what was saved before is whole, because files are
    committed by renaming. When the terminal is closed, what would be shown there goes nowhere, and the run
    is saved. Outside the main thread, where signals do not arrive, nothing is changed.
    """
    from risctl import runs

    stop = runs.StopFlag()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    terminals = [stream.fileno() for stream in (sys.__stdout__, sys.__stderr__) if stream and stream.isatty()]

    def handle(number: int, frame: FrameType | None) -> None:
        if number == signal.SIGHUP:
            _discard(terminals)
        if stop.requested is not None:
            _leave(number, frame)
            return
        stop.request(number)
        if not quiet and not sys.stderr.isatty():  # there the screen says it
            with suppress(OSError):  # nobody reads it any more
                os.write(2, f"risctl: {STOPPING}\n".encode())

    answered = [n for n in SIGNALS if n != signal.SIGHUP or signal.getsignal(n) != signal.SIG_IGN]
    before = {number: signal.signal(number, handle) for number in answered}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _leave(number: int, frame: FrameType | None) -> None:
    """Leave by an exception; further signals are too late.

    A module that is being loaded may swallow the exception, or end in another. Before the work has begun
    there is nothing to tidy, and the process ends here; later the module is loaded to its end first.
    """
    if _loads_a_module(frame):
        status = SIGNAL_STATUS + number
        if not _works(frame):
            with suppress(OSError):
                os.write(2, f"risctl: {SAID[status]}\n".encode())
            os._exit(status)
        signal.signal(signal.SIGALRM, lambda _number, later: _leave(number, later))
        signal.setitimer(signal.ITIMER_REAL, PAUSE)
        return
    ignore_signals()
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    raise SystemExit(SIGNAL_STATUS + number)


def _frames(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back


def _loads_a_module(frame: FrameType | None) -> bool:
    return any(f.f_code.co_filename.startswith(IMPORTS) for f in _frames(frame))


def _works(frame: FrameType | None) -> bool:
    """Whether a function below the command line has been called."""
    return any(
        f.f_code.co_name != "<module>" and _is_below(str(f.f_globals.get("__name__"))) for f in _frames(frame)
    )


def _is_below(module: str) -> bool:
    return module.startswith("risctl.") and not module.startswith(("risctl.cli", "risctl.__main__"))


def _discard(descriptors: list[int]) -> None:
    """Send to nowhere what is written to the descriptors."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for descriptor in descriptors:
        os.dup2(nowhere, descriptor)
    os.close(nowhere)
