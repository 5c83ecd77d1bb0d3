"""Events of a training run: one small frozen record per thing that happened.

The loop yields them; listeners write the lines, draw the table and keep the curves. A listener receives an
event before the state behind it is saved: after a crash, records past the saved state can be dropped, and
none before it can be missing. :meth:`Started.keeps` says which those are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias


@dataclass(frozen=True)
class Started:
    """The run begins, or continues from a saved state.

    Attributes:
        epoch: epochs finished before, validation included.
        step: steps done before.
        epochs, steps_per_epoch: the whole run is ``epochs * steps_per_epoch`` steps, unless it stops early.
        step_scenes: scenes per step.
        validation_scenes: scenes per validation.
        parameters: number of trainable parameters by group.
        resumed: whether a saved state was read.
        processes: number of processes that share every batch.
    """

    epoch: int
    step: int
    epochs: int
    steps_per_epoch: int
    step_scenes: int
    validation_scenes: int
    parameters: Mapping[str, int]
    resumed: bool
    processes: int

    def keeps(self, event: Event) -> bool:
        """Whether an earlier record of `event` still holds; the others will be made again."""
        if isinstance(event, EpochResult):
            return event.epoch < self.epoch
        return isinstance(event, StepResult | FirstBatch) and event.step <= self.step


@dataclass(frozen=True)
class FirstBatch:
    """Ranks and norms of the three covariances in the first batch of a run, means over its scenes.

    Attributes:
        step: 1.
        ranks: of ``pred``, ``samp`` and ``blend``: eigenvalues of the factor part above 1e-6 of the largest.
        norms: Frobenius norms, likewise.
    """

    step: int
    ranks: Mapping[str, float]
    norms: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class StepResult:
    """One optimiser step, taken or skipped.

    Attributes:
        epoch: its epoch, from 0.
        step: its number in the run, from 1, skipped ones counted.
        terms: raw loss terms, means over the step's scenes; empty where there was no finite loss.
        weighted: the same terms times their weights in this epoch.
        detection: raw detection losses, likewise.
        total: loss that was differentiated; None where it was not finite.
        lr: learning rate by group.
        grad_norm: gradient norm by group, sanitised, before clipping.
        sanitised: number of gradient values that were not finite.
        skipped: whether the step was not taken; `message` says why.
        moved: Euclidean length of the change of all parameters.
        scenes: scenes of the step.
        seconds: wall time of drawing them and taking the step.
    """

    epoch: int
    step: int
    terms: Mapping[str, float] = field(default_factory=dict)
    weighted: Mapping[str, float] = field(default_factory=dict)
    detection: Mapping[str, float] = field(default_factory=dict)
    total: float | None = None
    lr: Mapping[str, float]
    grad_norm: Mapping[str, float] = field(default_factory=dict)
    sanitised: int = 0
    skipped: bool = False
    moved: float = 0.0
    scenes: int
    seconds: float = 0.0
    message: str = ""


@dataclass(frozen=True)
class EpochResult:
    """One epoch with its validation.

    Attributes:
        epoch: from 0.
        step: steps done so far.
        train: raw terms and `total`, means over the steps of the epoch that had a finite loss.
        val: raw terms and their `total` under the main phase's weights, means over the scenes.
        metrics: figures by the names of :data:`risctl.training.metrics.FIGURES` (medians only where there are
            sources at high SNR), and `norm_pred`, `norm_samp`, `norm_blend`.
        weights: which weights were validated: "raw", "ema" or "swa".
        best: whether this is the best epoch so far.
        best_value, best_epoch: the lowest validation total and its epoch.
        stale_epochs: epochs since then that count towards early stopping.
        skipped, sanitised: steps of the whole run so far that were skipped, or whose gradient had a value
            that was not finite.
        phase: curriculum phase, 0 to 2 (2: every scene).
        seconds: wall time of the validation.
    """

    epoch: int
    step: int
    train: Mapping[str, float]
    val: Mapping[str, float]
    metrics: Mapping[str, float]
    weights: str
    best: bool
    best_value: float
    best_epoch: int
    stale_epochs: int
    skipped: int
    sanitised: int
    phase: int
    seconds: float


@dataclass(frozen=True)
class Saved:
    """The state after `step` steps was written to `path`."""

    path: Path
    epoch: int
    step: int


Event = Started | FirstBatch | StepResult | EpochResult | Saved
Listener: TypeAlias = Callable[[Event], None]
"""Receiver of events (in the main process only)."""


@dataclass
class StopFlag:
    """Request to stop: set by a signal handler, read after every step and between validation batches."""

    requested: int | None = None

    def request(self, signal_number: int) -> None:
        """Ask the run to save and stop; the first request counts."""
        if self.requested is None:
            self.requested = signal_number


@dataclass(frozen=True)
class Outcome:
    """Result of a run.

    Attributes:
        best_value, best_epoch: lowest validation total and its epoch; None before the first validation.
        first_value: first validation total.
        epochs, steps: done in all, resumed ones included.
        skipped, sanitised: number of such steps in all.
        stopped_by: signal that ended the run early, None if none did.
        early_stopped: whether the patience ran out.
        finished: whether nothing is left to do.
        best_path, last_path: checkpoints (`best_path` None before the first validation).
        last: terms and total of the last validation.
        metrics: its metrics.
    """

    best_value: float | None
    best_epoch: int | None
    first_value: float | None
    epochs: int
    steps: int
    skipped: int
    sanitised: int
    stopped_by: int | None
    early_stopped: bool
    finished: bool
    best_path: Path | None
    last_path: Path
    last: Mapping[str, float] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
