"""SIGINT and SIGTERM while a training runs: the first asks it to save and stop, the second leaves at once."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

WORDS = b"risctl: stopping: this step is finished and saved first (the same signal again leaves at once)\n"
SIGNAL_STATUS = 128


@contextmanager
def stop_on_signals(request: Callable[[int], None], quiet: bool = False) -> Iterator[None]:
    """Call `request(number)` on the first SIGINT or SIGTERM inside the block.

    A second signal leaves by an exception, without saving: what was saved before is whole, because files are
    committed by renaming. Outside the main thread, where signals do not arrive, nothing is changed.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    asked = False

    def handle(number: int, _frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            _leave(number)
        asked = True
        request(number)
        if not quiet:
            os.write(2, WORDS)

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _leave(number: int) -> None:
    """Leave by the exception that the application answers with 130 or 143; further signals are too late."""
    signal.signal(number, signal.SIG_IGN)
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    raise SystemExit(SIGNAL_STATUS + number)
