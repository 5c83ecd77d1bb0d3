"""The display of a search: a table of its trials on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from risctl import runs
from risctl.cli.screens.live import bar, screen
from risctl.text import ABSENT, number, parameter_list, readable_seconds

if TYPE_CHECKING:
    from risctl.hpo import SearchEvent, SearchListener, TrialEnded, TrialEpoch, TrialRetried, TrialStarted
    from risctl.training import StopFlag

REFRESH_PER_SECOND = 2.0
COLUMNS = {"trial": 8, "state": 8, "epoch": 5, "loss": 6, "lowest": 6, "time": 7}  # and their least widths
RUNNING, COMPLETE, PRUNED, FAILED = "running", "complete", "pruned", "failed"
STYLES = {RUNNING: "bold", COMPLETE: "", PRUNED: "dim", FAILED: "red"}


@contextmanager
def search_screen(state: SearchState, stop: StopFlag | None = None) -> Iterator[SearchListener]:
    """Show a search on stderr, and that it stops once `stop` is set; the yielded listener takes its events.

    The display is refreshed by the clock: trials may be silent for minutes, and their times go on.
    """
    with screen(state, REFRESH_PER_SECOND, by_clock=True, stop=stop) as listener:
        yield listener


@dataclass
class Row:
    """A trial: how far it is, its latest and its lowest loss, and how often it was begun again."""

    number: int
    params: Mapping[str, Any]
    here: bool = False
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
    """Running totals of one search, updated from its events.

    Attributes:
        trials: how many are to end, complete or pruned.
        epochs: of a trial.
        preset: the preset's own values.
        clock: seconds, monotonic.
    """

    trials: int
    epochs: int
    preset: Mapping[str, Any] | None = None
    clock: Callable[[], float] = time.monotonic
    rows: dict[int, Row] = field(default_factory=dict)
    _began: float | None = None

    def update(self, event: SearchEvent) -> None:
        """Update from one event."""
        row = self._row(event.number)
        if isinstance(event, runs.TrialStarted):
            now = self.clock()
            self._began = now if self._began is None else self._began
            row.params = row.params or event.params
            row.here, row.state, row.began = event.worker != runs.ELSEWHERE, RUNNING, now
        elif isinstance(event, runs.TrialEpoch):
            if row.value is None and event.epoch > 0:
                row.head_start = event.epoch / max(self.epochs, 1)  # done by an earlier process
            row.epoch, row.value = event.epoch + 1, event.value
            row.lowest = event.value if row.lowest is None else min(row.lowest, event.value)
        elif isinstance(event, runs.TrialRetried):
            row.retries += 1
            row.reason = event.reason
        else:
            row.state, row.lowest = event.state, event.value
            row.seconds, row.reason = event.seconds, event.reason

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
        """Number of trials in this state."""
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
        """Time left, estimated in trials from what was trained since this process began."""
        if self._began is None:
            return None
        own = [row for row in self.listed if row.here]
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
        """How long a trial took, or has been running."""
        return self.clock() - row.began if row.state == RUNNING else row.seconds

    def summary(self) -> str:
        """Progress of the whole search on one line."""
        parts = [f"{self.finished} of {self.trials} trials done"]
        parts += [f"{self.count(state)} {state}" for state in (PRUNED, FAILED) if self.count(state)]
        best = self.best
        if best is not None:
            parts.append(f"best {number(best.lowest)} (trial {best.number})")
        return f"{', '.join(parts)}; {readable_seconds(self.seconds_left())} left"

    def line(self, event: SearchEvent) -> str | None:
        """The line of a trial that started here, ended, or is begun again."""
        if isinstance(event, runs.TrialStarted):
            return None if event.worker == runs.ELSEWHERE else self.start_line(event)
        if isinstance(event, runs.TrialEnded):
            return self.end_line(event)
        return self.retry_line(event) if isinstance(event, runs.TrialRetried) else None

    def periodic_line(self, event: SearchEvent) -> str | None:
        """The line of a trial's validation."""
        return self.epoch_line(event) if isinstance(event, runs.TrialEpoch) else None

    def epoch_line(self, event: TrialEpoch) -> str:
        """A validation of a trial on one line."""
        where = f"trial {event.number}, epoch {event.epoch + 1}/{self.epochs}"
        return f"{where}: loss {number(event.value)}; {self.summary()}"

    def start_line(self, event: TrialStarted) -> str:
        """The start of a trial on one line."""
        own = " (the preset's own values)" if self.is_preset(self._row(event.number)) else ""
        again = " goes on" if event.resumed else ""
        return f"trial {event.number}{again}{own}: {parameter_list(event.params)}"

    def end_line(self, event: TrialEnded) -> str:
        """The end of a trial on one line."""
        why = f", {event.reason}" if event.reason else ""
        loss = "" if event.value is None else f", loss {number(event.value)}"
        took = readable_seconds(event.seconds)
        return f"trial {event.number}: {event.state}{loss}{why}, {took}; {self.summary()}"

    def retry_line(self, event: TrialRetried) -> str:
        """The retry of a trial on one line."""
        return f"trial {event.number}: {event.reason}; it goes on from its last checkpoint"

    def render(self, height: int) -> RenderableType:
        """Summary, bar and at most `height` trials."""
        made = Table(header_style="bold", box=None, padding=(0, 1, 0, 0))
        for column, width in COLUMNS.items():
            side: Literal["left", "right"] = "left" if column == "state" else "right"
            made.add_column(column, justify=side, no_wrap=True, min_width=width)
        made.add_column("parameters")  # the only one that is cut where the screen is narrow
        best = self.best
        for row in self.shown_rows(height):
            style = "bold green" if row is best else STYLES.get(row.state, "")
            made.add_row(*self._cells(row), style=style)
        return Group(Text(self.summary(), style="bold"), bar(self.finished, self.trials), made)

    def shown_rows(self, height: int) -> list[Row]:
        """The trials that fit: those running, the best, the preset's own, then the latest ones."""
        rows = sorted(self.listed, key=lambda row: row.number)
        best = self.best
        first = [row for row in rows if row.state == RUNNING or row is best or self.is_preset(row)]
        others = [row for row in reversed(rows) if row not in first]
        return sorted((first + others)[:height], key=lambda row: row.number)

    def _cells(self, row: Row) -> tuple[str | Text, ...]:
        return (
            f"{row.number} preset" if self.is_preset(row) else str(row.number),
            row.state + (", again" if row.retries else ""),
            f"{row.epoch}/{self.epochs}" if row.epoch else ABSENT,
            number(row.value),
            number(row.lowest),
            readable_seconds(self.seconds_of(row)),
            Text(parameter_list(row.params), no_wrap=True, overflow="ellipsis"),
        )
