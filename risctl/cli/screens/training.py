"""The display of a training: losses, rates and figures as tables on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from risctl import runs
from risctl.cli.screens.live import bar, screen, table
from risctl.text import number, readable_seconds

if TYPE_CHECKING:
    from risctl.training import EpochResult, Event, FirstBatch, Started, StepResult, StopFlag

REFRESH_PER_SECOND = 4.0
SMOOTHING = 0.05  # of the speed: about the last twenty steps
LARGEST_TERMS = 3  # named on a plain line


@contextmanager
def training_screen(state: TrainingState, stop: StopFlag | None = None) -> Iterator[Callable[[Event], None]]:
    """Show a training on stderr, and that it stops once `stop` is set; the listener takes its events."""
    with screen(state, REFRESH_PER_SECOND, by_clock=False, stop=stop) as listener:
        yield listener


@dataclass
class TrainingState:
    """Running totals of one training, updated from its events.

    Attributes:
        start_value: the first validation loss, if an earlier process found it.
        clock: seconds, monotonic.
        verbose: show every loss term, rate, gradient and figure.
    """

    start_value: float | None = None
    clock: Callable[[], float] = time.monotonic
    verbose: bool = False
    started: Started | None = None
    first_batch: FirstBatch | None = None
    step: StepResult | None = None
    epoch: EpochResult | None = None
    skipped: int = 0
    sanitised: int = 0
    speed: float = 0.0
    _began: float = field(default=0.0, repr=False)

    def update(self, event: Event) -> None:
        """Update from one event."""
        if isinstance(event, runs.Started):
            self.started, self._began = event, self.clock()
        elif isinstance(event, runs.FirstBatch):
            self.first_batch = event
        elif isinstance(event, runs.StepResult):
            self._update_from_step(event)
        elif isinstance(event, runs.EpochResult):
            self.epoch = event
            self.skipped, self.sanitised = event.skipped, event.sanitised
            self.start_value = event.val["total"] if self.start_value is None else self.start_value

    def _update_from_step(self, event: StepResult) -> None:
        self.step = event
        self.skipped += event.skipped
        self.sanitised += event.sanitised > 0
        speed = event.scenes / max(event.seconds, 1e-9)
        self.speed = speed if self.speed == 0 else (1 - SMOOTHING) * self.speed + SMOOTHING * speed

    @property
    def total_steps(self) -> int:
        """Steps of the whole run, if it does not stop early."""
        return 0 if self.started is None else self.started.epochs * self.started.steps_per_epoch

    def seconds_left(self) -> float | None:
        """Time left, estimated from the steps since this process began, validation included."""
        if self.started is None or self.step is None:
            return None
        done = max(self.step.step - self.started.step, 1)
        return (self.total_steps - self.step.step) * (self.clock() - self._began) / done

    def line(self, event: Event) -> str | None:
        """The line of a validation, or, if `verbose`, of the first batch."""
        if isinstance(event, runs.FirstBatch) and self.verbose:
            return f"first batch: {', '.join(self.first_batch_words())}"
        return self.epoch_line() if isinstance(event, runs.EpochResult) else None

    def periodic_line(self, event: Event) -> str | None:
        """The line of a step."""
        return self.step_line() if isinstance(event, runs.StepResult) else None

    def position(self) -> str:
        """Epoch and step."""
        if self.started is None or self.step is None:
            return "the first batch"
        epochs = self.started.epochs
        return f"epoch {self.step.epoch + 1}/{epochs}, step {self.step.step}/{self.total_steps}"

    def step_line(self) -> str:
        """Loss, speed and time left on one line; if `verbose`, terms, rate, gradient and movement, too."""
        if self.step is None:
            return self.position()
        total = "not finite" if self.step.total is None else f"{self.step.total:.4g}"
        parts = [f"{self.position()}: loss {total}"]
        if self.verbose:
            rate = max(self.step.lr.values(), default=0.0)
            norms = " ".join(f"{name} {norm:.2g}" for name, norm in self.step.grad_norm.items())
            parts = [f"{parts[0]} ({self._largest(self.step)})", f"rate {rate:.1e}"]
            parts += [f"gradient {norms}", f"moved {self.step.moved:.2g}"]
        left = f"{readable_seconds(self.seconds_left())} left{self.trouble()}"
        return ", ".join([*parts, f"{self.speed:.0f} scenes/s", left])

    def _largest(self, step: StepResult) -> str:
        """The largest loss terms, weighted."""
        names = sorted(step.weighted, key=lambda name: -step.weighted[name])[:LARGEST_TERMS]
        return ", ".join(f"{name} {step.weighted[name]:.3g}" for name in names)

    def epoch_line(self) -> str:
        """The last validation on one line."""
        if self.started is None or self.epoch is None:
            return "not validated yet"
        best = " (best so far)" if self.epoch.best else f" (best {self.epoch.best_value:.4g})"
        figures = [
            f"validation {self.epoch.val['total']:.4g}{best}",
            *runs.figure_sentences(self.epoch.metrics, brief=not self.verbose),
        ]
        return f"epoch {self.epoch.epoch + 1}/{self.started.epochs}: {', '.join(figures)}{self.trouble()}"

    def trouble(self) -> str:
        """Numbers of steps that were skipped or sanitised, if any."""
        if not (self.skipped or self.sanitised):
            return ""
        return f"; steps skipped {self.skipped}, sanitised {self.sanitised}"

    def first_batch_words(self) -> list[str]:
        """Rank and norm of each covariance of the first batch."""
        first = self.first_batch
        if first is None:
            return []
        ranks = first.ranks.items()
        return [f"R_{name} rank {rank:.3g}, norm {first.norms[name]:.3g}" for name, rank in ranks]

    def render(self, height: int = 0) -> RenderableType:
        """Headline, bar and the figures of most interest; if `verbose`, everything."""
        done = 0 if self.step is None else self.step.step
        tables = self._brief()
        if self.verbose:
            tables = Table.grid(padding=(0, 2))
            tables.add_row(self._losses(), Group(self._groups(), Text(), self._figures()))
        trouble = Text(self.trouble().removeprefix("; "), style="red")
        return Group(Text(self._headline(), style="bold"), bar(done, self.total_steps), tables, trouble)

    def _brief(self) -> Table:
        step, epoch = self.step, self.epoch
        metrics = {} if epoch is None else epoch.metrics
        figures = {
            "loss": None if step is None else step.total,
            "validation": None if epoch is None else epoch.val["total"],
            "best": None if epoch is None else epoch.best_value,
            "first": self.start_value,
        } | {figure.row: metrics.get(figure.name) for figure in runs.FIGURES if figure.brief}
        made = table(*figures)
        made.add_row(*(number(value, 3) for value in figures.values()))
        return made

    def _headline(self) -> str:
        left = readable_seconds(self.seconds_left())
        return "  ".join([self.position(), f"{self.speed:.0f} scenes/s", f"{left} left"])

    def _losses(self) -> Table:
        made = table("losses", "raw", "weighted", "valid.")
        if self.step is None:
            return made
        validated = {} if self.epoch is None else self.epoch.val
        for name, raw in self.step.terms.items():
            weighted = self.step.weighted.get(name)
            made.add_row(name, number(raw, 3), number(weighted, 3), number(validated.get(name), 3))
        total = number(self.step.total, 3), number(validated.get("total"), 3)
        made.add_row("total", "", *total, style="bold")
        for name, value in self.step.detection.items():
            made.add_row(f"+ {name}", number(value, 3), "", "", style="dim")
        return made

    def _groups(self) -> Table:
        made = table("parameters", "rate", "gradient")
        if self.step is not None:
            for group, rate in self.step.lr.items():
                made.add_row(group, f"{rate:.1e}", number(self.step.grad_norm.get(group), 3))
            made.add_row("moved by", "", number(self.step.moved, 3))
            made.add_row("skipped steps", "", str(self.skipped), style="red" if self.skipped else "")
            made.add_row("sanitised", "", str(self.sanitised), style="red" if self.sanitised else "")
        return made

    def _figures(self) -> Table:
        made = table("validation", "")
        metrics = {} if self.epoch is None else self.epoch.metrics
        for figure in runs.FIGURES:
            if figure.name in metrics:
                made.add_row(figure.row, number(metrics[figure.name], 3))
        first = self.first_batch
        if first is not None:
            for name, rank in first.ranks.items():
                made.add_row(f"first R_{name}", f"rank {rank:.3g}, norm {first.norms[name]:.3g}", style="dim")
        return made
