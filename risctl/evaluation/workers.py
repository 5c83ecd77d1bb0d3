"""Run chunks of work in order, here or in spawned processes, each on one thread.

One thread everywhere, so that the arithmetic, and with it every figure, is the same whatever the number of
workers.
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
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any, Generic, TypeVar

import torch

from risctl.errors import RisctlError

Task = TypeVar("Task")
Outcome = TypeVar("Outcome")

THREADS = 1
_QUEUED_PER_WORKER = 2


def map_in_order(
    function: Callable[[Task], Outcome], tasks: Iterable[Task], workers: int
) -> Generator[Outcome, None, None]:
    """Yield function(task) for every task, in order.

    With `workers` > 1 the function and the tasks are sent to spawned processes and must be picklable; tasks
    are taken from the iterable as the workers need them. Stopping early (an error, an interrupt, a closed
    iterator) ends the workers at once.

    Raises:
        RisctlError: if a worker process dies.
    """
    if workers <= 1:
        with one_thread():
            for task in tasks:
                yield function(task)
        return
    with _Pool(function, workers) as pool:
        yield from pool.map(tasks)


@contextmanager
def one_thread() -> Iterator[None]:
    """Hold torch to one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(THREADS)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class _Pool(Generic[Task, Outcome]):
    """Worker processes that hold the function and watch a lifeline: a pipe whose closing ends them."""

    def __init__(self, function: Callable[[Task], Outcome], workers: int) -> None:
        context = get_context("spawn")
        self._watched, self._lifeline = context.Pipe(duplex=False)
        self._queued = _QUEUED_PER_WORKER * workers
        self._executor = ProcessPoolExecutor(
            workers, context, initializer=_start_worker, initargs=(function, self._watched)
        )

    def __enter__(self) -> _Pool[Task, Outcome]:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self._lifeline.close()
        self._executor.shutdown(wait=True, cancel_futures=True)
        self._lifeline.close()
        self._watched.close()

    def map(self, tasks: Iterable[Task]) -> Iterator[Outcome]:
        waiting: deque[Future[Outcome]] = deque()
        for task in tasks:
            waiting.append(self._submit(task))
            if len(waiting) >= self._queued:
                yield _outcome(waiting.popleft())
        while waiting:
            yield _outcome(waiting.popleft())

    def _submit(self, task: Task) -> Future[Outcome]:
        try:
            return self._executor.submit(_work, task)
        except BrokenProcessPool:
            raise RisctlError(_DIED) from None


_DIED = "a worker process died (out of memory, or killed); fewer workers or a smaller batch may help"

# The function of this worker process, set once when it starts: it may hold large grids, too large for every
# task.
_function: Callable[..., object] | None = None


def _outcome(future: Future[Outcome]) -> Outcome:
    try:
        return future.result()
    except BrokenProcessPool:
        raise RisctlError(_DIED) from None


def _start_worker(function: Callable[..., object], lifeline: Connection) -> None:
    global _function
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent answers it, and lets go of the lifeline
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
