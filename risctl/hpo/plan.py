"""A search before it starts, its trials, its events and its outcome."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

from risctl.config import Config

Value: TypeAlias = bool | int | float | str
Params: TypeAlias = Mapping[str, Value]
"""The parameters of a trial: `{"section.key": value}`."""
Ended: TypeAlias = Literal["complete", "pruned", "failed"]
State: TypeAlias = Ended | Literal["running"]
ELSEWHERE = -1  # worker of a trial that another machine, or an earlier process, runs or ran


@dataclass(frozen=True)
class SearchPlan:
    """A search before it starts.

    Attributes:
        config: every setting; `config.search` has the space, and how long trials are.
        trials: how many are to end, complete or pruned; one that failed is replaced by another.
        workers: trials at a time on this machine, a process each.
        devices: worker w computes on ``devices[w % len(devices)]``.
        threads: threads of every worker.
        storage_url: None for a study of this machine alone, in a SQLite file beside its trials; or a
            PostgreSQL database that any number of machines share.
        study_name: machines that name the same study in the same database share it.
        seed: of the parameters drawn; the trainings have that of `config.training`.
        heartbeat_seconds: a machine that shares a study says so often that its trials are alive.
        grace_seconds: silence after which others take over a trial.
    """

    config: Config
    trials: int
    workers: int = 1
    devices: tuple[str, ...] = ("cpu",)
    threads: int = 1
    storage_url: str | None = None
    study_name: str = "risctl"
    seed: int = 0
    heartbeat_seconds: float = 10.0
    grace_seconds: float = 60.0


@dataclass(frozen=True)
class TrialRecord:
    """A trial as stored in the study.

    Attributes:
        number: from 0.
        state: complete, pruned, failed or running.
        params: its parameters.
        value: the lowest validation total; None before there was one.
        secondary: metrics of that epoch.
        epochs: validation total of every epoch.
        seconds: of training, on all machines that trained it.
        reason: of its failure.
        directory: of its checkpoints, on the machine that trained it last.
        deaths: how each of its processes ended that was killed or crashed.
    """

    number: int
    state: State
    value: float | None
    params: Params
    secondary: Mapping[str, float] = field(default_factory=dict)
    epochs: tuple[float, ...] = ()
    seconds: float = 0.0
    reason: str | None = None
    directory: Path | None = None
    deaths: tuple[str, ...] = ()


@dataclass(frozen=True)
class SearchOutcome:
    """Outcome of a search.

    Attributes:
        trials: all of the study, by number, those of other machines included.
        best: the complete trial of the lowest value.
        stopped_by: the signal that ended the search early, None if none did.
        study_name: of the study.
        storage_url: of its database, without the password.
        baseline: the trial of the preset's own values, None where the space does not hold them.
        gave_up: reason for an end before the last trial (too many failed); None if there is none.
    """

    trials: tuple[TrialRecord, ...]
    best: TrialRecord | None
    stopped_by: int | None
    study_name: str
    storage_url: str
    baseline: TrialRecord | None = None
    gave_up: str | None = None

    @property
    def finished(self) -> int:
        """Number of trials that are complete or pruned."""
        return sum(trial.state in ("complete", "pruned") for trial in self.trials)


@dataclass(frozen=True)
class TrialStarted:
    """A trial begins, or goes on if `resumed`, on one of this machine's workers or `ELSEWHERE`."""

    number: int
    params: Params
    worker: int
    device: str = "cpu"
    resumed: bool = False


@dataclass(frozen=True)
class TrialEpoch:
    """An epoch of a trial, counted from 0, with its validation total and metrics."""

    number: int
    epoch: int
    value: float
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class TrialRetried:
    """A trial's process ended before the trial; another one goes on from its last checkpoint."""

    number: int
    reason: str


@dataclass(frozen=True)
class TrialEnded:
    """A trial is over; `value` is the lowest validation total, `reason` why it failed."""

    number: int
    state: Ended
    value: float | None
    reason: str | None
    seconds: float


SearchEvent: TypeAlias = TrialStarted | TrialEpoch | TrialRetried | TrialEnded
SearchListener: TypeAlias = Callable[[SearchEvent], None]
