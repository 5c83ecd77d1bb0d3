"""Training step, loop, optimiser, schedules, weight averages, and training runs."""

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
from risctl.training.metrics import FIGURES, Figure, inactive_terms, moved_share
from risctl.training.plan import TrainingPlan, scene_streams
from risctl.training.process_group import launched_rank
from risctl.training.resume import changed_keys
from risctl.training.run import run_training

__all__ = [
    "FIGURES",
    "EpochResult",
    "Event",
    "Figure",
    "FirstBatch",
    "Listener",
    "Measured",
    "Outcome",
    "Saved",
    "Started",
    "StepResult",
    "StopFlag",
    "TrainingPlan",
    "changed_keys",
    "forward_pass",
    "inactive_terms",
    "launched_rank",
    "moved_share",
    "run_training",
    "scene_streams",
]
