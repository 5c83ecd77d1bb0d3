"""A worker: a process that trains one trial, and ends with it or with the process that started it.

Both ends of its pipe send lines of JSON. The worker sends `epoch` after every validation and waits for the
answer `go` or `prune`; `stop` may come at any time. Its last line is `done`, `stopped`, `pruned` or `failed`.
Without one it was killed, or met an unforeseen error, whose traceback is in `worker.log`.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

from risctl.config import Config
from risctl.data.atomic import exclusive_lock, storage_errors
from risctl.errors import DamagedFileError, RisctlError, StorageError
from risctl.model.checkpoint import CHECKPOINTS
from risctl.parallel import DEAF_TO, ignore_signals, keep_freed_memory
from risctl.training import EpochResult, Event, Outcome, StopFlag, TrainingPlan, run_training
from risctl.training.run import LOCK

LOG = "worker.log"
PREDECESSOR_SECONDS = 30.0
Line = Mapping[str, Any]


@dataclass(frozen=True)
class TrialJob:
    """A trial to train: its own configuration, and the directory of its checkpoints."""

    config: Config
    directory: Path
    device: str
    threads: int


class _PrunedError(Exception):
    """Leaves a training that is to be pruned."""


def work(job: TrialJob, pipe: Connection) -> None:
    """Train a trial, from its last checkpoint if there is one, and report to `pipe`."""
    ignore_signals(*DEAF_TO)
    job.directory.mkdir(parents=True, exist_ok=True)
    log = job.directory / LOG
    with storage_errors(log):
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
    for standard in (1, 2):  # whatever this process prints
        os.dup2(descriptor, standard)
    os.close(descriptor)
    torch.set_num_threads(job.threads)
    keep_freed_memory()
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    _send(pipe, _train(job, _WorkerChannel(pipe)))


def _train(job: TrialJob, channel: _WorkerChannel) -> Line:
    """Train the trial; return the last line to send."""
    line: Line
    try:
        outcome = _resumed(job, channel)
        stopped = outcome.stopped_by is not None and not outcome.finished
        line = {"kind": "stopped"} if stopped else {"kind": "done", "value": outcome.best_value}
    except _PrunedError:
        line = {"kind": "pruned"}
    except RisctlError as error:
        # What is wrong with the settings or the numbers stays wrong; the disk may have been full just now.
        line = {"kind": "failed", "reason": str(error), "again": isinstance(error, StorageError)}
    return {**line, **channel.clock}


def _resumed(job: TrialJob, channel: _WorkerChannel) -> Outcome:
    """Train to the end, from the beginning if the checkpoint cannot be read."""
    plan = TrainingPlan.from_config(job.config, device=job.device)
    with storage_errors(job.directory), exclusive_lock(job.directory / LOCK, PREDECESSOR_SECONDS):
        pass  # a worker of a search that was killed just now may need a moment to notice
    try:
        return run_training(plan, job.directory, [channel.report], channel.stop, resume=True)
    except DamagedFileError as error:
        print(f"{error}; the trial begins anew", file=sys.stderr)  # into its log
        for path in (job.directory / CHECKPOINTS).iterdir():
            path.unlink()
        return run_training(plan, job.directory, [channel.report], channel.stop)


class _WorkerChannel:
    """The worker's end of the pipe: sends lines, and reads answers in a thread of its own."""

    def __init__(self, pipe: Connection) -> None:
        self.stop = StopFlag()
        self._pipe, self._begin = pipe, time.monotonic()
        self._answers: queue.SimpleQueue[str] = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()

    @property
    def clock(self) -> dict[str, float]:
        """Seconds of this process."""
        return {"seconds": time.monotonic() - self._begin}

    def report(self, event: Event) -> None:
        """Report a validation, and leave the training if the answer is to prune it."""
        if not isinstance(event, EpochResult):
            return
        figures = {"epoch": event.epoch, "value": event.val["total"], "best": event.best}
        _send(self._pipe, {"kind": "epoch", "metrics": dict(event.metrics)} | figures | self.clock)
        if self._answers.get() == "prune":
            raise _PrunedError

    def _read(self) -> None:
        while True:
            try:
                word = json.loads(self._pipe.recv_bytes())
            except (EOFError, OSError):  # the parent is gone, and nobody would hear the end of this
                os._exit(1)
            if word == "stop":
                self.stop.request(signal.SIGTERM)
            else:
                self._answers.put(word)


def _send(pipe: Connection, line: Line) -> None:
    try:
        pipe.send_bytes(json.dumps(line).encode())
    except OSError:  # the parent is gone
        os._exit(1)
