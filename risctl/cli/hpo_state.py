"""What is known of a search so far, gathered from its events, and what a person is told of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from risctl.cli.training_state import readable_seconds

if TYPE_CHECKING:
    from risctl.search import SearchEvent, TrialEnded, TrialEpoch, TrialRetried, TrialStarted

RUNNING, COMPLETE, PRUNED, FAILED = "running", "complete", "pruned", "failed"
ELSEWHERE = -1  # worker of a trial that another machine or an earlier process runs or ran


@dataclass
class Row:
    """A trial: how far it is, its latest and its lowest loss, and how often it was begun again."""

    number: int
    params: Mapping[str, Any]
    worker: int = ELSEWHERE
    state: str = RUNNING
    epoch: int = 0
    value: float | None = None
    lowest: float | None = None
    seconds: float = 0.0
    began: float = 0.0
    retries: int = 0
    reason: str | None = None
    head_start: float = 0.0


@dataclass
class SearchState:
    """The latest of everything.

    Attributes:
        trials: how many are to end, complete or pruned. epochs: of a trial. preset: the preset's own values.
        clock: seconds, monotonic.
    """

    trials: int
    epochs: int
    preset: Mapping[str, Any] | None = None
    clock: Callable[[], float] = time.monotonic
    rows: dict[int, Row] = field(default_factory=dict)
    _began: float | None = None

    def update(self, event: SearchEvent) -> None:
        """Take an event in."""
        from risctl.search import TrialEnded, TrialEpoch, TrialRetried, TrialStarted

        if isinstance(event, TrialStarted):
            self._start(event)
        elif isinstance(event, TrialEpoch):
            self._take_epoch(event)
        elif isinstance(event, TrialRetried):
            self._retry(event)
        elif isinstance(event, TrialEnded):
            self._end(event)

    def _start(self, event: TrialStarted) -> None:
        now = self.clock()
        self._began = now if self._began is None else self._began
        row = self.rows.setdefault(event.number, Row(event.number, event.params))
        row.worker, row.state, row.began = event.worker, RUNNING, now

    def _take_epoch(self, event: TrialEpoch) -> None:
        row = self._row(event.number)
        if row.value is None and event.epoch > 0:
            row.head_start = event.epoch / max(self.epochs, 1)  # done by an earlier process
        row.epoch, row.value = event.epoch + 1, event.value
        row.lowest = event.value if row.lowest is None else min(row.lowest, event.value)

    def _retry(self, event: TrialRetried) -> None:
        row = self._row(event.number)
        row.retries += 1
        row.reason = event.reason

    def _end(self, event: TrialEnded) -> None:
        row = self._row(event.number)
        row.state, row.lowest, row.seconds, row.reason = event.state, event.value, event.seconds, event.reason

    def _row(self, number: int) -> Row:
        return self.rows.setdefault(number, Row(number, {}))

    @property
    def listed(self) -> list[Row]:
        """The trials at this moment: a screen that refreshes by the clock reads them from another thread."""
        return list(self.rows.values())

    @property
    def finished(self) -> int:
        """Trials that are complete or pruned."""
        return sum(row.state in (COMPLETE, PRUNED) for row in self.listed)

    def count(self, state: str) -> int:
        """Return the number of trials in this state."""
        return sum(row.state == state for row in self.listed)

    @property
    def best(self) -> Row | None:
        """The complete trial of the lowest loss."""
        complete = [row for row in self.listed if row.state == COMPLETE and row.lowest is not None]
        return min(complete, key=lambda row: (row.lowest or 0.0, row.number), default=None)

    def is_preset(self, row: Row) -> bool:
        """Whether the trial has the preset's own values."""
        return self.preset is not None and dict(row.params) == dict(self.preset)

    def seconds_left(self) -> float | None:
        """Estimate the time left from what was trained since this process began, in trials."""
        if self._began is None:
            return None
        own = [row for row in self.listed if row.worker != ELSEWHERE]
        running = sum(self._share(row) for row in own if row.state == RUNNING)
        ended = sum(row.state != RUNNING for row in own)
        done = ended + running - sum(row.head_start for row in own)
        if done <= 0:
            return None
        left = max(self.trials - self.finished - running, 0.0)
        return left * (self.clock() - self._began) / done

    def _share(self, row: Row) -> float:
        return min(row.epoch / max(self.epochs, 1), 1.0)

    def seconds_of(self, row: Row) -> float:
        """Return how long a trial took, or has been running."""
        return self.clock() - row.began if row.state == RUNNING else row.seconds

    def summary(self) -> str:
        """Say in a line how far the search is."""
        parts = [f"{self.finished} of {self.trials} trials done"]
        parts += [f"{self.count(state)} {state}" for state in (PRUNED, FAILED) if self.count(state)]
        best = self.best
        if best is not None:
            parts.append(f"best {number(best.lowest)} (trial {best.number})")
        return f"{', '.join(parts)}; {readable_seconds(self.seconds_left())} left"

    def epoch_line(self, event: TrialEpoch) -> str:
        """Say in a line what a validation of a trial found."""
        where = f"trial {event.number}, epoch {event.epoch + 1}/{self.epochs}"
        return f"{where}: loss {number(event.value)}; {self.summary()}"

    def start_line(self, event: TrialStarted) -> str:
        """Say in a line that a trial began."""
        row = self._row(event.number)
        own = " (the preset's own values)" if self.is_preset(row) else ""
        again = " goes on" if event.resumed else ""
        return f"trial {event.number}{again}{own}: {words(event.params)}"

    def end_line(self, event: TrialEnded) -> str:
        """Say in a line how a trial ended."""
        why = f", {event.reason}" if event.reason else ""
        loss = "" if event.value is None else f", loss {number(event.value)}"
        took = readable_seconds(event.seconds)
        return f"trial {event.number}: {event.state}{loss}{why}, {took}; {self.summary()}"

    def retry_line(self, event: TrialRetried) -> str:
        """Say in a line that a trial is begun again."""
        return f"trial {event.number}: {event.reason}; it goes on from its last checkpoint"


def number(value: Any) -> str:
    """Return four significant digits; a dash for what is absent or not a number."""
    if value is None or value != value:
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def words(params: Mapping[str, Any]) -> str:
    """Return parameters in a line, without their sections."""
    return ", ".join(f"{key.rpartition('.')[2]} {number(value)}" for key, value in sorted(params.items()))
