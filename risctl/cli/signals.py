"""SIGINT and SIGTERM during a training: the first asks it to save and stop, the second leaves at once."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

from risctl import runs

if TYPE_CHECKING:
    from risctl.training import StopFlag

WORDS = b"risctl: stopping: this step is finished and saved first (the same signal again leaves at once)\n"
SIGNAL_STATUS = 128


@contextmanager
def stop_on_signals(quiet: bool = False) -> Iterator[StopFlag]:
    """Yield a flag that the first SIGINT or SIGTERM inside the block sets.

    A second signal leaves by an exception, without saving: what was saved before is whole, because files are
    committed by renaming. Outside the main thread, where signals do not arrive, nothing is changed.
    """
    stop = runs.StopFlag()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def handle(number: int, _frame: FrameType | None) -> None:
        if stop.requested is not None:
            _leave(number)
        stop.request(number)
        if not quiet:
            os.write(2, WORDS)

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _leave(number: int) -> None:
    """Leave by the exception that the application answers with 130 or 143; further signals are too late."""
    signal.signal(number, signal.SIG_IGN)
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    raise SystemExit(SIGNAL_STATUS + number)
