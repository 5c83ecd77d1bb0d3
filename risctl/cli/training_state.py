"""What is known of a training so far, gathered from its events, and what a person is told of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from risctl.training import EpochResult, Event, FirstBatch, Started, StepResult

SMOOTHING = 0.05  # of the speed: about the last twenty steps
LARGEST_TERMS = 3  # named on a plain line
# Names of the validation figures, and how each is said; a figure that is absent is not mentioned.
FIGURES: dict[str, Callable[[float], str]] = {
    "nmse_blend": lambda value: f"NMSE of R_blend {value:.3f}",
    "nmse_pred": lambda value: f"NMSE of R_pred {value:.3f}",
    "count_accuracy": lambda value: f"source count right {value:.3f}",
    "median_angle_deg_high_snr": lambda value: f"median angle error {value:.2f} deg at >= 10 dB",
}


@dataclass
class TrainingState:
    """The latest of everything.

    Attributes:
        weights: of the terms, as a function of the epoch.
        start_value: the first validation's total, if an earlier process made it.
        clock: seconds, monotonic.
    """

    weights: Callable[[int], Mapping[str, float]]
    start_value: float | None = None
    clock: Callable[[], float] = time.monotonic
    started: Started | None = None
    first_batch: FirstBatch | None = None
    step: StepResult | None = None
    epoch: EpochResult | None = None
    skipped: int = 0
    sanitised: int = 0
    speed: float = 0.0
    _began: float = field(default=0.0, repr=False)

    def update(self, event: Event) -> None:
        """Take an event in."""
        from risctl.training import EpochResult, FirstBatch, Started, StepResult

        if isinstance(event, Started):
            self.started, self._began = event, self.clock()
        elif isinstance(event, FirstBatch):
            self.first_batch = event
        elif isinstance(event, StepResult):
            self._take_step(event)
        elif isinstance(event, EpochResult):
            self.epoch = event
            self.skipped, self.sanitised = event.skipped, event.sanitised
            self.start_value = event.val["total"] if self.start_value is None else self.start_value

    def _take_step(self, event: StepResult) -> None:
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
        """Estimate the time left from the steps since this process began, validation included."""
        if self.started is None or self.step is None:
            return None
        done = max(self.step.step - self.started.step, 1)
        return (self.total_steps - self.step.step) * (self.clock() - self._began) / done

    def position(self) -> str:
        """Say where the training is."""
        if self.started is None or self.step is None:
            return "the first batch"
        epochs = self.started.epochs
        return f"epoch {self.step.epoch + 1}/{epochs}, step {self.step.step}/{self.total_steps}"

    def step_line(self) -> str:
        """Say in a line how the training is going."""
        if self.step is None:
            return self.position()
        rate = max(self.step.lr.values(), default=0.0)
        total = (
            "not finite" if self.step.total is None else f"{self.step.total:.4g} ({self._largest(self.step)})"
        )
        return (
            f"{self.position()}: loss {total}, rate {rate:.1e}, {self.speed:.0f} scenes/s, "
            f"{readable_seconds(self.seconds_left())} left{self.trouble()}"
        )

    def _largest(self, step: StepResult) -> str:
        """Name the terms that weigh most, with their weights in them."""
        weights = self.weights(step.epoch)
        weighted = {name: weights.get(name, 0.0) * value for name, value in step.terms.items()}
        names = sorted(weighted, key=lambda name: -weighted[name])[:LARGEST_TERMS]
        return ", ".join(f"{name} {weighted[name]:.3g}" for name in names)

    def epoch_line(self) -> str:
        """Say in a line what the last validation found."""
        if self.started is None or self.epoch is None:
            return "not validated yet"
        best = " (best so far)" if self.epoch.best else f" (best {self.epoch.best_value:.4g})"
        found = self.epoch.metrics
        figures = [f"validation {self.epoch.val['total']:.4g}{best}"]
        figures += [words(found[name]) for name, words in FIGURES.items() if name in found]
        return f"epoch {self.epoch.epoch + 1}/{self.started.epochs}: {', '.join(figures)}{self.trouble()}"

    def trouble(self) -> str:
        """Mention steps that were skipped or sanitised, if any."""
        if not (self.skipped or self.sanitised):
            return ""
        return f"; steps skipped {self.skipped}, sanitised {self.sanitised}"


def readable_seconds(seconds: float | None) -> str:
    """Return `h:mm:ss` or `m:ss`."""
    if seconds is None:
        return "–"
    whole = round(seconds)
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"
