"""What a search is made from, and what it leaves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

from risctl.config import Config

Value: TypeAlias = bool | int | float | str
Params: TypeAlias = Mapping[str, Value]
"""The parameters of a trial: `{"section.key": value}`."""
Ended: TypeAlias = Literal["complete", "pruned", "failed"]
State: TypeAlias = Ended | Literal["running"]


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
    """A trial as the study has it.

    Attributes:
        number: from 0. state: what became of it. params: what was tried.
        value: the lowest validation total; None before there was one.
        secondary: metrics of the epoch that had it. epochs: validation total of every epoch.
        seconds: of training, on all machines that had a part in it.
        reason: why it failed. directory: where its checkpoints are, on the machine that trained it last.
        deaths: how its processes ended that did not end by themselves.
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
    """How a search ended.

    Attributes:
        trials: all of the study, by number; of other machines, too.
        best: the complete trial of the lowest value. baseline: the trial of the preset's own values, None
            where the space does not hold them.
        stopped_by: the signal that ended the search early, None if none did.
        study_name, storage_url: where the study is; the URL without its password.
        gave_up: why the search ended before its last trial: too many failed; None if it did not.
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
        """How many trials are complete or pruned."""
        return sum(trial.state in ("complete", "pruned") for trial in self.trials)
