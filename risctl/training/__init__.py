"""Training step, loop, optimiser, schedules, averaging, and the runs they make."""

from risctl.training.events import (
    EpochResult,
    Event,
    FirstBatch,
    Listener,
    Outcome,
    Saved,
    Started,
    StepResult,
    StopFlag,
)
from risctl.training.forward import Measured, forward_pass
from risctl.training.plan import TrainableNetwork, TrainingPlan
from risctl.training.resume import changed_keys
from risctl.training.run import run_training
from risctl.training.world import launched_rank

__all__ = [
    "EpochResult",
    "Event",
    "FirstBatch",
    "Listener",
    "Measured",
    "Outcome",
    "Saved",
    "Started",
    "StepResult",
    "StopFlag",
    "TrainableNetwork",
    "TrainingPlan",
    "changed_keys",
    "forward_pass",
    "launched_rank",
    "run_training",
]
