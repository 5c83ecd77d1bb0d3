"""The study: ownership, progress and ends of its trials.

A claimed trial carries the token of its owner. A process that lost a trial, because it sent no heartbeat for
longer than the grace, finds another token there and lets go of it. A running trial without an owner was given
back; it is taken up before any new one begins.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

import optuna
from optuna.pruners import MedianPruner
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState

from risctl.hpo.plan import Params, SearchPlan, TrialRecord
from risctl.hpo.records import DEATHS, DIRECTORY, FINISHED, OWNER, REASON, SECONDARY, SECONDS, record_of
from risctl.hpo.settings import check_settings, settings_of
from risctl.hpo.space import distributions, draw
from risctl.hpo.storage import PAUSES, Storage, with_retries

T = TypeVar("T")
P = ParamSpec("P")
RETRIES = 1
# A search gives up when more trials than this failed in excess of those that finished.
MAX_EXCESS_FAILURES = 5
SETTINGS = "settings"
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
    """A study in its storage, on behalf of one process that trains its trials."""

    def __init__(self, plan: SearchPlan, storage: Storage) -> None:
        self._plan, self._storage = plan, storage
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

    @property
    def url(self) -> str:
        """URL of the study, without a password."""
        return self._storage.url

    @_with_lock
    def claim(self, mine: Collection[int], directory: Callable[[int], Path]) -> Claim | None:
        """Take up a running trial without a process, or else begin another; None if there is neither.

        Args:
            mine: trials that this process trains. directory: where it trains a trial.
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
        return self._begin(trials, directory) if self._wanted(trials) else None

    def _wanted(self, trials: list[FrozenTrial]) -> bool:
        """Whether another trial is to begin."""
        begun = sum(trial.state in FINISHED or trial.state == TrialState.RUNNING for trial in trials)
        return begun < self._plan.trials and not _too_many_failed(trials)

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
        trial_id, before = self._trial_id(trial.number), trial.user_attrs.get(DIRECTORY)
        self._storage.heartbeat(trial_id)
        self._rdb.set_trial_user_attr(trial_id, OWNER, self._owner)
        self._rdb.set_trial_user_attr(trial_id, DIRECTORY, str(directory(trial.number).absolute()))
        seconds = trial.user_attrs.get(SECONDS, 0.0)
        return Claim(trial.number, trial.params, before and Path(before), seconds)

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

        Raises:
            LostTrialError: the trial is another process's by now.
        """
        trial, trial_id = self._own(number), self._trial_id(number)
        if secondary is not None:
            self._rdb.set_trial_user_attr(trial_id, SECONDARY, secondary)
        self._rdb.set_trial_user_attr(trial_id, SECONDS, seconds)
        self._rdb.set_trial_intermediate_value(trial_id, epoch, value)
        return self._is_bad(trial, epoch, value)

    def _is_bad(self, trial: FrozenTrial, epoch: int, value: float) -> bool:
        """Ask the pruner; epochs after this one, of a process that died since, are not to be known yet."""
        if epoch < self._plan.config.search.pruner_warmup_epochs:
            return False
        before = {step: known for step, known in trial.intermediate_values.items() if step < epoch}
        trial.intermediate_values = before | {epoch: value}
        return self._pruner.prune(self._study, trial)

    @_with_lock
    def finish(self, number: int, state: TrialState, value: float | None, seconds: float) -> TrialRecord:
        """End a trial as complete or pruned; `value` None stands for the lowest of its epochs.

        Raises:
            LostTrialError: the trial is another process's by now.
        """
        trial, trial_id = self._own(number), self._trial_id(number)
        own = min(trial.intermediate_values.values()) if value is None else value
        self._rdb.set_trial_user_attr(trial_id, SECONDS, seconds)
        self._rdb.set_trial_state_values(trial_id, state, [own])
        return self._record(trial_id)

    @_with_lock
    def fail(self, number: int, reason: str, seconds: float | None = None) -> TrialRecord:
        """End a trial as failed.

        Raises:
            LostTrialError: the trial is another process's by now.
        """
        trial_id = self._trial_id(self._own(number).number)
        if seconds is not None:
            self._rdb.set_trial_user_attr(trial_id, SECONDS, seconds)
        self._fail(trial_id, reason)
        return self._record(trial_id)

    @_with_lock
    def died(self, number: int, reason: str) -> TrialRecord:
        """Record that a trial's process ended before the trial, which has failed if that was once too often.

        Raises:
            LostTrialError: the trial is another process's by now.
        """
        self._note_death(self._own(number), reason)
        return self._record(self._trial_id(number))

    @_with_lock
    def release(self, number: int) -> None:
        """Give a trial back, for anyone to take up.

        Raises:
            LostTrialError: the trial is another process's by now.
        """
        self._rdb.set_trial_user_attr(self._trial_id(self._own(number).number), OWNER, "")

    @_with_lock
    def heartbeat(self, numbers: Collection[int]) -> list[int]:
        """Record that trials are alive; return those that are lost."""
        lost = []
        for number in numbers:
            try:
                self._storage.heartbeat(self._trial_id(self._own(number).number))
            except LostTrialError:
                lost.append(number)
        return lost

    def records(self) -> tuple[TrialRecord, ...]:
        """Return the trials that have begun, by number."""
        trials = with_retries(self._storage.where, self._pauses, self._trials)
        return tuple(record_of(trial) for trial in trials if trial.state != TrialState.WAITING)

    @property
    def unfinished(self) -> bool:
        """Whether a trial is running, here or elsewhere."""
        return any(record.state == "running" for record in self.records())

    @property
    def gave_up(self) -> str | None:
        """Reason why no other trial begins although some are missing; None if none are, or others will."""
        trials = with_retries(self._storage.where, self._pauses, self._trials)
        if sum(trial.state in FINISHED for trial in trials) >= self._plan.trials or not _too_many_failed(
            trials
        ):
            return None
        failed = [record_of(trial) for trial in trials if trial.state == TrialState.FAIL]
        return f"{len(failed)} of {len(trials)} trials failed, the last one: {failed[-1].reason}"

    def _note_death(self, trial: FrozenTrial, reason: str) -> bool:
        """Return whether the trial may be tried again; it has failed if not."""
        deaths = [*trial.user_attrs.get(DEATHS, ()), reason]
        trial_id = self._trial_id(trial.number)
        self._rdb.set_trial_user_attr(trial_id, DEATHS, deaths)
        if len(deaths) <= RETRIES:
            return True
        self._fail(trial_id, reason)
        return False

    def _fail(self, trial_id: int, reason: str) -> None:
        self._rdb.set_trial_user_attr(trial_id, REASON, reason)
        self._rdb.set_trial_state_values(trial_id, TrialState.FAIL)

    def _own(self, number: int) -> FrozenTrial:
        """Return a trial of this process as it is now."""
        trial = self._rdb.get_trial(self._trial_id(number))
        if trial.state != TrialState.RUNNING or trial.user_attrs.get(OWNER) != self._owner:
            raise LostTrialError(number)
        return trial

    def _record(self, trial_id: int) -> TrialRecord:
        return record_of(self._rdb.get_trial(trial_id))

    def _trial_id(self, number: int) -> int:
        if number not in self._ids:
            self._ids[number] = self._rdb.get_trial_id_from_study_id_trial_number(self._id, number)
        return self._ids[number]

    def _trials(self) -> list[FrozenTrial]:
        trials = self._rdb.get_all_trials(self._id, deepcopy=False)
        return sorted(trials, key=lambda trial: trial.number)


def _too_many_failed(trials: list[FrozenTrial]) -> bool:
    failed = sum(trial.state == TrialState.FAIL for trial in trials)
    return failed > MAX_EXCESS_FAILURES + sum(trial.state in FINISHED for trial in trials)
