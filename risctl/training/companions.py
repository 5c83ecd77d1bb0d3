"""Processes of this machine that share every batch of a training with the one that starts them.

A process for each core is faster than one with a thread for each: a step is thousands of small operations,
of which threads share only the few large ones.
"""

import os
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from multiprocessing import get_context

import torch

from risctl.errors import RisctlError
from risctl.parallel import (
    DEAF_TO,
    WorkerDiedError,
    end_with_parent,
    ignore_signals,
    keep_freed_memory,
    signals_blocked,
)

ADDRESS = "127.0.0.1"


@contextmanager
def companions(size: int, follow: Callable[[], object]) -> Iterator[None]:
    """Context in which this process is the first of `size`; the others, started here, call `follow`.

    Args:
        size: number of processes, this one included; with 1 nothing is started.
        follow: joins the process group (:func:`risctl.training.process_group.join_group`); picklable.

    Raises:
        WorkerDiedError: a process ended before this one was done.
    """
    if size == 1:
        yield
        return
    group = {"MASTER_ADDR": ADDRESS, "MASTER_PORT": str(_free_port()), "WORLD_SIZE": str(size)}
    ranks = [group | {"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(size)]
    context, threads = get_context("spawn"), torch.get_num_threads()
    started = [context.Process(target=_accompany, args=(rank, threads, follow)) for rank in ranks[1:]]
    try:
        with signals_blocked(*DEAF_TO):
            for process in started:
                process.start()
        with _environment(ranks[0]):
            yield
        for process in started:
            process.join()
    except RuntimeError as error:  # of the connection to a process that is gone
        if any(process.exitcode for process in started):
            raise WorkerDiedError from error
        raise
    finally:
        for process in started:
            if process.is_alive():
                process.kill()


def _accompany(environment: Mapping[str, str], threads: int, follow: Callable[[], object]) -> None:
    ignore_signals(*DEAF_TO)
    threading.Thread(target=end_with_parent, daemon=True).start()
    torch.set_num_threads(threads)
    keep_freed_memory()
    os.environ.update(environment)
    try:
        follow()
    except RisctlError:
        sys.exit(1)  # the first process has the same error, and says so
    except RuntimeError as error:
        if "gloo" not in str(error):
            raise
        sys.exit(1)  # the first process is gone, or will say who is


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables for a while."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def _free_port() -> int:
    with socket.socket() as s:
        s.bind((ADDRESS, 0))
        return int(s.getsockname()[1])
