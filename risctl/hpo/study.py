"""The study: ownership, progress and ends of its trials.

A claimed trial carries the token of its owner. A process that lost a trial, because it sent no heartbeat for
longer than the grace, finds another token there and lets go of it. A running trial without an owner was given
back; it is taken up before any new one begins.
"""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

import optuna
from optuna.pruners import MedianPruner
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState

from risctl.hpo.plan import Params, SearchPlan, State, TrialRecord
from risctl.hpo.space import distributions, draw
from risctl.hpo.storage import PAUSES, Storage, with_retries
from risctl.hpo.trial import check_settings, settings_of

T = TypeVar("T")
P = ParamSpec("P")
FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)
STATES: dict[TrialState, State] = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
}
# Attributes for which Optuna has no field: of a trial, and the last one of the study.
OWNER, DIRECTORY, SECONDARY, SECONDS = "owner", "directory", "secondary", "seconds"
DEATHS, REASON = "deaths", "reason"
SETTINGS = "settings"
RETRIES = 1
# A search gives up when more trials than this failed in excess of those that finished.
MAX_EXCESS_FAILURES = 5
SILENCE = "nothing was heard of its machine for {:g} s"


class LostTrialError(Exception):
    """The trial belongs to another process by now, or has ended."""


@dataclass(frozen=True)
class Claim:
    """A trial to train: its parameters, and the directory and seconds of an earlier training of it."""

    number: int
    params: Params
    before: Path | None
    seconds: float


def _with_lock(method: Callable[Concatenate[Study, P], T]) -> Callable[Concatenate[Study, P], T]:
    """Keep other processes out of the study while a method runs; run it again if the database fails."""

    @wraps(method)
    def locked(self: Study, /, *args: P.args, **kwargs: P.kwargs) -> T:
        def operation() -> T:
            with self._storage.exclusive():
                return method(self, *args, **kwargs)

        return with_retries(self._storage.where, self._pauses, operation)

    return locked


class Study:
    """A study in its storage, on behalf of one process that trains its trials.

    Methods that change a trial raise `LostTrialError` if it belongs to another process by now.
    """

    def __init__(self, plan: SearchPlan, storage: Storage) -> None:
        self._plan, self._storage = plan, storage
        self.url = storage.url
        self._rdb: RDBStorage = storage.rdb
        self._pauses = () if plan.storage_url is None else PAUSES
        self._owner = secrets.token_hex(8)
        self._space = distributions(plan.config)
        search = plan.config.search
        self._pruner = MedianPruner(0, search.pruner_warmup_epochs, n_min_trials=search.pruner_min_trials)
        self._study = self._open()
        self._id = self._rdb.get_study_id_from_name(plan.study_name)
        self._ids: dict[int, int] = {}

    @_with_lock
    def _open(self) -> optuna.Study:
        """Make the study, or join it.

        Raises:
            InputError: it was begun with other settings.
        """
        study = optuna.create_study(
            storage=self._rdb, study_name=self._plan.study_name, direction="minimize", load_if_exists=True
        )
        own, stored = settings_of(self._plan), study.user_attrs.get(SETTINGS)
        if stored is None:
            study.set_user_attr(SETTINGS, own)
        else:
            check_settings(stored, own, self._storage.where)
        return study

    @_with_lock
    def claim(self, mine: Collection[int], directory: Callable[[int], Path]) -> Claim | None:
        """Take up a running trial without a process, or else begin another; None if there is neither.

        Args:
            mine: trials that this process trains.
            directory: where it trains a trial.
        """
        stale = self._storage.stale_trials(self._id)
        for trial in self._trials():
            if trial.state != TrialState.RUNNING or trial.number in mine:
                continue
            # On one machine the search was killed as a whole, which says nothing about this trial.
            others = trial.user_attrs.get(OWNER) not in (None, "", self._owner)
            if stale is not None and others:
                if trial.number not in stale:
                    continue
                if not self._note_death(trial, SILENCE.format(self._plan.grace_seconds)):
                    continue
            return self._take_up(trial, directory)
        trials = self._trials()
        states = Counter(trial.state for trial in trials)
        finished = states[TrialState.COMPLETE] + states[TrialState.PRUNED]
        enough = finished + states[TrialState.RUNNING] >= self._plan.trials
        if enough or states[TrialState.FAIL] > MAX_EXCESS_FAILURES + finished:
            return None
        return self._begin(trials, directory)

    def _begin(self, trials: list[FrozenTrial], directory: Callable[[int], Path]) -> Claim:
        """Begin a trial: it is there with all its parameters and its owner, or not at all."""
        number = len(trials)
        params = draw(self._plan, self._space, trials)
        template = optuna.create_trial(
            state=TrialState.RUNNING,
            params=dict(params),
            distributions=self._space,
            user_attrs={OWNER: self._owner, DIRECTORY: str(directory(number).absolute())},
        )
        trial_id = self._rdb.create_new_trial(self._id, template)
        self._storage.heartbeat(trial_id)
        assert self._rdb.get_trial(trial_id).number == number
        return Claim(number, params, None, 0.0)

    def _take_up(self, trial: FrozenTrial, directory: Callable[[int], Path]) -> Claim:
        """Make a running trial this process's."""
        number, kept = trial.number, trial.user_attrs
        self._storage.heartbeat(self._trial_id(number))
        self._set(number, OWNER, self._owner)
        self._set(number, DIRECTORY, str(directory(number).absolute()))
        before = kept.get(DIRECTORY)
        return Claim(number, trial.params, before and Path(before), kept.get(SECONDS, 0.0))

    @_with_lock
    def report(
        self, number: int, epoch: int, value: float, secondary: dict[str, float] | None, seconds: float
    ) -> bool:
        """Record an epoch; return whether the trial is to be pruned after it.

        Args:
            number: of the trial.
            epoch: from 0.
            value: its validation total.
            secondary: metrics, if the epoch is the trial's best so far.
            seconds: trained so far.
        """
        trial = self._own(number)
        if secondary is not None:
            self._set(number, SECONDARY, secondary)
        self._set(number, SECONDS, seconds)
        self._rdb.set_trial_intermediate_value(self._trial_id(number), epoch, value)
        if epoch < self._plan.config.search.pruner_warmup_epochs:
            return False
        # Epochs after this one, of a process that died since, are not to be known yet.
        before = {step: known for step, known in trial.intermediate_values.items() if step < epoch}
        trial.intermediate_values = before | {epoch: value}
        return self._pruner.prune(self._study, trial)

    @_with_lock
    def finish(self, number: int, state: TrialState, value: float | None, seconds: float) -> TrialRecord:
        """End a trial as complete or pruned; `value` None stands for the lowest of its epochs."""
        trial = self._own(number)
        own = min(trial.intermediate_values.values()) if value is None else value
        self._set(number, SECONDS, seconds)
        self._rdb.set_trial_state_values(self._trial_id(number), state, [own])
        return self._record(number)

    @_with_lock
    def fail(self, number: int, reason: str, seconds: float | None = None) -> TrialRecord:
        """End a trial as failed."""
        self._own(number)
        if seconds is not None:
            self._set(number, SECONDS, seconds)
        self._fail(number, reason)
        return self._record(number)

    @_with_lock
    def died(self, number: int, reason: str) -> TrialRecord:
        """Record that a trial's process ended before the trial; once too often, and it has failed."""
        self._note_death(self._own(number), reason)
        return self._record(number)

    @_with_lock
    def release(self, number: int) -> None:
        """Give a trial back, for anyone to take up."""
        self._own(number)
        self._set(number, OWNER, "")

    @_with_lock
    def heartbeat(self, numbers: Collection[int]) -> list[int]:
        """Record that trials are alive; return those that are lost."""
        lost = []
        for number in numbers:
            try:
                self._own(number)
                self._storage.heartbeat(self._trial_id(number))
            except LostTrialError:
                lost.append(number)
        return lost

    def records(self) -> tuple[TrialRecord, ...]:
        """The trials that have begun, by number."""
        trials = with_retries(self._storage.where, self._pauses, self._trials)
        return tuple(_record_of(trial) for trial in trials if trial.state != TrialState.WAITING)

    @property
    def gave_up(self) -> str | None:
        """Reason why no other trial begins although some are missing; None if none are, or others will."""
        records = self.records()
        failed = [record for record in records if record.state == "failed"]
        finished = sum(record.state in ("complete", "pruned") for record in records)
        if finished >= self._plan.trials or len(failed) <= MAX_EXCESS_FAILURES + finished:
            return None
        return f"{len(failed)} of {len(records)} trials failed, the last one: {failed[-1].reason}"

    def _note_death(self, trial: FrozenTrial, reason: str) -> bool:
        """Record a death; return whether the trial may be tried again, else it has failed."""
        deaths = [*trial.user_attrs.get(DEATHS, ()), reason]
        self._set(trial.number, DEATHS, deaths)
        if len(deaths) > RETRIES:
            self._fail(trial.number, reason)
        return len(deaths) <= RETRIES

    def _fail(self, number: int, reason: str) -> None:
        self._set(number, REASON, reason)
        self._rdb.set_trial_state_values(self._trial_id(number), TrialState.FAIL)

    def _own(self, number: int) -> FrozenTrial:
        """A trial of this process as it is now."""
        trial = self._rdb.get_trial(self._trial_id(number))
        if trial.state != TrialState.RUNNING or trial.user_attrs.get(OWNER) != self._owner:
            raise LostTrialError(number)
        return trial

    def _record(self, number: int) -> TrialRecord:
        return _record_of(self._rdb.get_trial(self._trial_id(number)))

    def _set(self, number: int, name: str, value: Any) -> None:
        self._rdb.set_trial_user_attr(self._trial_id(number), name, value)

    def _trial_id(self, number: int) -> int:
        if number not in self._ids:
            self._ids[number] = self._rdb.get_trial_id_from_study_id_trial_number(self._id, number)
        return self._ids[number]

    def _trials(self) -> list[FrozenTrial]:
        trials = self._rdb.get_all_trials(self._id, deepcopy=False)
        return sorted(trials, key=lambda trial: trial.number)


def _record_of(trial: FrozenTrial) -> TrialRecord:
    kept, values = trial.user_attrs, trial.intermediate_values
    directory = kept.get(DIRECTORY)
    return TrialRecord(
        number=trial.number,
        state=STATES[trial.state],
        value=trial.value if trial.state in FINISHED else min(values.values(), default=None),
        params=dict(sorted(trial.params.items())),
        secondary=kept.get(SECONDARY, {}),
        epochs=tuple(values[epoch] for epoch in sorted(values)),
        seconds=kept.get(SECONDS, 0.0),
        reason=kept.get(REASON),
        directory=None if directory is None else Path(directory),
        deaths=tuple(kept.get(DEATHS, ())),
    )
