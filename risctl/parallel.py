"""Worker processes: spawned, one thread each, untouched by Ctrl-C, gone when their parent is.

One thread everywhere, so that the arithmetic, and with it every figure, is the same whatever the number of
workers. Spawned, not forked: a fork of a process with running threads can hang.
"""

from __future__ import annotations

import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context, resource_tracker
from multiprocessing.connection import Connection
from typing import Any, TypeVar

import torch

from risctl.errors import RisctlError

Task = TypeVar("Task")
Outcome = TypeVar("Outcome")

THREADS = 1
QUEUED_PER_WORKER = 2


class WorkerDiedError(RisctlError):
    """A worker process ended before its task did."""

    def __init__(self) -> None:
        super().__init__(
            "a worker process died (out of memory, or killed); fewer workers or a smaller batch may help"
        )


def map_in_order(
    function: Callable[[Task], Outcome], tasks: Iterable[Task], workers: int, *, finish_running: bool = False
) -> Generator[Outcome, None, None]:
    """Yield function(task) for every task, in order.

    Args:
        function: sent once to each worker; picklable, as the tasks are, if there are several workers.
        tasks: taken from the iterable as the workers need them.
        workers: processes; with 1, everything happens in this one.
        finish_running: on an early stop (an error, an interrupt, a closed generator) wait for the tasks that
            are running instead of killing the workers.

    Raises:
        WorkerDiedError: a worker process died.
    """
    if workers <= 1:
        with single_thread():
            for task in tasks:
                yield function(task)
        return
    context = get_context("spawn")
    watched, lifeline = context.Pipe(duplex=False)
    executor = ProcessPoolExecutor(workers, context, initializer=_start_worker, initargs=(function, watched))
    waiting: deque[Future[Outcome]] = deque()
    finished = False
    try:
        for task in tasks:
            with signals_blocked(signal.SIGINT):  # the first tasks start the processes
                waiting.append(executor.submit(_work, task))
            if len(waiting) >= QUEUED_PER_WORKER * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
        finished = True
    except BrokenProcessPool:
        raise WorkerDiedError from None
    finally:
        if not finished and not finish_running:
            lifeline.close()
        executor.shutdown(wait=True, cancel_futures=True)
        lifeline.close()
        watched.close()


@contextmanager
def single_thread() -> Iterator[None]:
    """Run the block with one torch thread: another count may add numbers up in another order."""
    threads = torch.get_num_threads()
    torch.set_num_threads(THREADS)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@contextmanager
def signals_blocked(*numbers: signal.Signals) -> Iterator[None]:
    """Block signals, so that a process started inside the block is deaf to them from its first line on.

    Ctrl-C and a batch system's SIGTERM reach the whole process group, but only the parent answers them.
    """
    resource_tracker.ensure_running()  # started later, with the first worker, it would unblock them
    before = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def ignore_signals(*numbers: signal.Signals) -> None:
    """Ignore signals in a worker that was started with them blocked, and unblock them for its children."""
    for number in numbers:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, numbers)


# The function of this worker process, set once when it starts: it may hold grids, too large for every task.
_function: Callable[..., object] | None = None


def _start_worker(function: Callable[..., object], lifeline: Connection) -> None:
    global _function
    ignore_signals(signal.SIGINT)
    threading.Thread(target=_end_with, args=(lifeline,), daemon=True).start()
    torch.set_num_threads(THREADS)
    _function = function


def _end_with(lifeline: Connection) -> None:
    """Wait until the parent closes its end of the pipe, or dies, and end this process."""
    lifeline.poll(None)
    os._exit(1)


def _work(task: object) -> Any:
    assert _function is not None
    return _function(task)
