"""One machine's part of a search: claims trials and has its workers train them."""

import math
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from optuna.trial import TrialState

from risctl.data.atomic import storage_errors, write_atomically
from risctl.errors import InputError
from risctl.hpo.plan import (
    ELSEWHERE,
    SearchEvent,
    SearchListener,
    SearchPlan,
    TrialEnded,
    TrialEpoch,
    TrialRecord,
    TrialRetried,
    TrialStarted,
)
from risctl.hpo.pool import Worker, wait
from risctl.hpo.study import Claim, LostTrialError, Study
from risctl.hpo.trial import trial_config
from risctl.hpo.worker import TrialJob
from risctl.model.checkpoint import BEST, CHECKPOINTS, LAST
from risctl.training import StopFlag

TRIALS = "trials"
TICK = 0.2  # seconds between looks at the stop flag
LOOK_SECONDS = 2.0  # at most, between looks at a shared study for trials that others left


class Supervisor:
    """Runs a study's trials on this machine until there are none left; arguments as of `run_search`."""

    def __init__(
        self,
        plan: SearchPlan,
        directory: Path,
        study: Study,
        listeners: Sequence[SearchListener],
        stop: StopFlag,
    ) -> None:
        self._plan, self._trials, self._study = plan, directory / TRIALS, study
        self._listeners, self._stop = listeners, stop
        self._workers: dict[int, Worker] = {}  # by trial
        self._emitted: dict[int, str] = {}  # the state of every trial that the listeners know
        self._shared = plan.storage_url is not None
        self._look_at = self._heartbeat_at = 0.0  # when to look at the study and to send heartbeats again
        self._left = True  # whether there are trials to wait for

    def run(self) -> None:
        """Run trials until the study has as many as it is to have, or the flag is set."""
        self._emit_foreign_trials(("complete", "pruned", "failed"))
        try:
            while not self._over():
                self._fill()
                wait(self._workers.values(), TICK)
                for worker in list(self._workers.values()):
                    try:
                        self._listen(worker)
                    except LostTrialError:
                        self._drop(worker)
                self._heartbeat()
        finally:
            for worker in self._workers.values():
                worker.close()

    def _over(self) -> bool:
        if self._stop.requested is None:
            return not self._workers and not self._left
        for worker in self._workers.values():
            if not worker.stopping:
                worker.answer("stop")
        return not self._workers

    def _fill(self) -> None:
        """Claim trials for the free places; in a shared study, look now and then for trials given back."""
        free = sorted(set(range(self._plan.workers)) - {worker.slot for worker in self._workers.values()})
        if not free or self._stop.requested is not None or time.monotonic() < self._look_at:
            return
        claim = None
        for slot in free:
            claim = self._study.claim(self._workers.keys(), self._directory)
            if claim is None:
                pause = min(self._plan.heartbeat_seconds, LOOK_SECONDS)
                self._look_at = time.monotonic() + pause if self._shared else math.inf
                break
            with suppress(LostTrialError):
                self._begin(claim, slot)
        self._left = bool(claim or self._workers) or any(r.state == "running" for r in self._study.records())
        if self._shared:
            self._emit_foreign_trials()

    def _begin(self, claim: Claim, slot: int) -> None:
        """Start a worker for a trial."""
        number, device = claim.number, self._plan.devices[slot % len(self._plan.devices)]
        directory = self._directory(number)
        self._emit(TrialStarted(number, claim.params, slot, device, claim.before is not None))
        try:
            config = trial_config(self._plan.config, claim.params)
        except InputError as error:
            self._end(self._study.fail(number, str(error), claim.seconds))
            return
        bring_checkpoints(claim.before, directory)
        job = TrialJob(config, directory, device, self._plan.threads)
        self._workers[number] = Worker(claim, slot, job)

    def _listen(self, worker: Worker) -> None:
        """Answer the next line of a worker, if there is one; the last one ends its trial."""
        try:
            line = worker.line()
        except EOFError:
            self._gone(worker, worker.ending())
            return
        if line is None:
            return
        number, kind = worker.number, line["kind"]
        seconds = worker.claim.seconds + line["seconds"]
        if kind == "epoch":
            epoch, value, metrics = line["epoch"], line["value"], line["metrics"]
            prune = self._study.report(number, epoch, value, metrics if line["best"] else None, seconds)
            worker.answer("prune" if prune else "go")
            self._emit(TrialEpoch(number, epoch, value, metrics))
            return
        self._drop(worker)
        if kind == "done":
            self._end(self._study.finish(number, TrialState.COMPLETE, line["value"], seconds))
        elif kind == "pruned":
            self._end(self._study.finish(number, TrialState.PRUNED, None, seconds))
        elif kind == "stopped":
            self._study.release(number)
        elif line["again"]:
            self._gone(worker, line["reason"])
        else:
            self._end(self._study.fail(number, line["reason"], seconds))

    def _gone(self, worker: Worker, reason: str) -> None:
        """Have another process go on with the trial of a worker that has ended, if it may."""
        number = worker.number
        self._drop(worker)
        if worker.stopping:
            self._study.release(number)
            return
        record = self._study.died(number, reason)
        if record.state == "failed":
            self._end(record)
            return
        self._emit(TrialRetried(number, reason))
        again = replace(worker.claim, before=self._directory(number), seconds=record.seconds)
        self._begin(again, worker.slot)

    def _drop(self, worker: Worker) -> None:
        """End a worker and free its place."""
        if self._workers.pop(worker.number, None) is not None:
            worker.close()
            self._look_at = 0.0

    def _end(self, record: TrialRecord) -> None:
        assert record.state != "running"
        self._look_at = 0.0
        self._emitted[record.number] = record.state
        self._emit(TrialEnded(record.number, record.state, record.value, record.reason, record.seconds))

    def _heartbeat(self) -> None:
        """Record in a shared study which trials are alive, and drop those that others took over."""
        if not self._shared or not self._workers or time.monotonic() < self._heartbeat_at:
            return
        self._heartbeat_at = time.monotonic() + self._plan.heartbeat_seconds
        for number in self._study.heartbeat(self._workers.keys()):
            self._drop(self._workers[number])

    def _emit_foreign_trials(
        self, states: Sequence[str] = ("running", "complete", "pruned", "failed")
    ) -> None:
        """Emit events of trials, ended before or on other machines, that the listeners do not know."""
        for record in self._study.records():
            number, known = record.number, self._emitted.get(record.number)
            if number in self._workers or record.state not in states or record.state == known:
                continue
            self._emitted[number] = record.state
            if known is None:
                self._emit(TrialStarted(number, record.params, ELSEWHERE))
            if record.state != "running":
                self._end(record)

    def _emit(self, event: SearchEvent) -> None:
        if isinstance(event, TrialStarted):
            self._emitted.setdefault(event.number, "running")
        for listener in self._listeners:
            listener(event)

    def _directory(self, number: int) -> Path:
        return self._trials / f"{number:04d}"


def bring_checkpoints(source: Path | None, directory: Path) -> None:
    """Copy the checkpoints of a trial that was trained elsewhere, as far as they can be seen from here.

    A copy: should its first owner, silent for long, still be there after all, the two do not meet.
    """
    if source is None or source == directory.absolute() or (directory / CHECKPOINTS / LAST).exists():
        return
    with storage_errors(directory):
        (directory / CHECKPOINTS).mkdir(parents=True, exist_ok=True)
    for name in (LAST, BEST):  # a best one that is newer than the last is merely made again
        with suppress(OSError):
            write_atomically(directory / CHECKPOINTS / name, (source / CHECKPOINTS / name).read_bytes())
