"""Writing shards in this process or in several spawned ones, which have one thread each and end with it."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Generator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import connection, get_context, parent_process

import torch

from risctl.data.shards import ShardJob, ShardOutcome, ensure_shard
from risctl.errors import StorageError


def run_jobs(
    jobs: list[ShardJob], workers: int, on_scenes: Callable[[int], None]
) -> Generator[ShardOutcome, None, None]:
    """Yield the outcome of every job, in the order in which they finish.

    Args:
        jobs: the shards.
        workers: processes; with 1 (or one job) all is done in this one and `on_scenes` is called after every
            block, otherwise after every shard.
        on_scenes: called with numbers of finished scenes.
    """
    processes = min(workers, len(jobs))
    if processes <= 1:
        for job in jobs:
            yield ensure_shard(job, on_scenes)
        return
    yield from _run_in_pool(jobs, processes, on_scenes)


def _run_in_pool(
    jobs: list[ShardJob], processes: int, on_scenes: Callable[[int], None]
) -> Generator[ShardOutcome, None, None]:
    # Spawned, not forked: a fork of a process with running torch threads can hang.
    pool = ProcessPoolExecutor(processes, mp_context=get_context("spawn"), initializer=_start_worker)
    with pool:
        futures: list[Future[ShardOutcome]] = []
        try:
            futures += [pool.submit(ensure_shard, job) for job in jobs]
            for future in as_completed(futures):
                outcome = future.result()
                on_scenes(outcome.entry.scenes)
                yield outcome
        except BrokenProcessPool:
            where = jobs[0].directory
            text = "a worker process was killed (out of memory?); the same call again goes on"
            raise StorageError(f"{where}: {text}") from None
        finally:
            # On an error or an interrupt: what runs may finish (a shard is short), what waits must not start.
            for future in futures:
                future.cancel()


def _start_worker() -> None:
    torch.set_num_threads(1)
    # Ctrl-C reaches the whole process group; only the parent answers it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_die_with_parent, daemon=True).start()


def _die_with_parent() -> None:
    """Wait for the parent to end. A worker of a killed parent would otherwise wait for work for ever."""
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)
