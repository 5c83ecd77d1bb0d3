"""Worker processes: spawned, one thread each, untouched by Ctrl-C, gone when their parent is.

One thread everywhere, so that the arithmetic, and with it every figure, is the same whatever the number of
workers. Spawned, not forked: a fork of a process with running threads can hang.
"""

import ctypes
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import active_children, connection, get_context, parent_process, resource_tracker
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar

import torch

from risctl.errors import RisctlError

Task = TypeVar("Task")
Outcome = TypeVar("Outcome")

THREADS = 1
DEAF_TO = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # workers that only their parent ends
ANSWERED_BY_THE_PARENT = (signal.SIGINT, signal.SIGHUP)  # by SIGTERM it ends its workers itself
QUEUED_PER_WORKER = 2
SCENES_PER_WORKER = 200  # it takes seconds to start one
# parameters of glibc's mallopt, in bytes
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3
KEPT = {M_MMAP_THRESHOLD: 2**28, M_TRIM_THRESHOLD: 2**30, M_TOP_PAD: 2**26}


def cores() -> int:
    """Processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def workers_for(scenes: int) -> int:
    """Worker processes that pay for so many scenes: all cores, fewer where they would soon be idle."""
    return max(1, min(cores(), scenes // SCENES_PER_WORKER))


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
    executor = ProcessPoolExecutor(workers, context, initializer=_start_worker, initargs=(function,))
    waiting: deque[Future[Outcome]] = deque()
    started: set[BaseProcess] = set()
    finished = finish_running
    try:
        for task in tasks:
            others = set(active_children()) - started
            with signals_blocked(*ANSWERED_BY_THE_PARENT):  # the first tasks start the processes
                waiting.append(executor.submit(_work, task))
            started = set(active_children()) - others
            if len(waiting) >= QUEUED_PER_WORKER * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
        finished = True
    except BrokenProcessPool:
        raise WorkerDiedError from None
    finally:
        if not finished:
            for process in started:
                process.terminate()
        executor.shutdown(wait=True, cancel_futures=True)


def keep_freed_memory() -> None:
    """Have this process keep what it frees for its next tensors, where its C library can (glibc).

    A training step asks for the same hundreds of megabytes each time. Given back to the system and taken
    again, every page of them costs a fault: 8 % of a step, 17 % where two processes share one machine.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        for parameter, value in KEPT.items():
            mallopt(parameter, value)


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


def _start_worker(function: Callable[..., object]) -> None:
    global _function
    ignore_signals(*ANSWERED_BY_THE_PARENT)
    threading.Thread(target=end_with_parent, daemon=True).start()
    torch.set_num_threads(THREADS)
    keep_freed_memory()
    _function = function


def end_with_parent() -> None:
    """Wait for the parent to end: a worker of a killed parent would wait for tasks for ever."""
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)


def _work(task: object) -> Any:
    assert _function is not None
    return _function(task)
