"""Events of a search, each a frozen record."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from risctl.hpo.plan import Ended, Params

ELSEWHERE = -1  # worker of a trial that another machine, or an earlier process, runs or ran


@dataclass(frozen=True)
class TrialStarted:
    """A trial begins, or goes on.

    Attributes:
        number: of the trial.
        params: its parameters.
        worker: which of this machine's, or `ELSEWHERE`.
        device: where it computes.
        resumed: whether it had begun before.
    """

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
