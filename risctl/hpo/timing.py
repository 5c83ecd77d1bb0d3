"""Duration of a trial, from a few optimiser steps and a short validation on this machine."""

from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from risctl.training import EpochResult, Event, Started, StepResult, TrainingPlan, run_training

STEPS, WARM_UP = 9, 3  # taken, and of these the first ones, which do not count
VALIDATED = 256  # scenes, at most


@dataclass(frozen=True)
class TrialTime:
    """Time of a trial.

    Attributes:
        step: seconds of one optimiser step.
        validated_scene: seconds of one scene of a validation.
        steps: of a trial that runs to its end.
        validated: scenes that such a trial validates.
        parameters: of its network.
    """

    step: float
    validated_scene: float
    steps: int
    validated: int
    parameters: int

    @property
    def seconds(self) -> float:
        """Seconds of a trial that neither stops early nor is pruned."""
        return self.steps * self.step + self.validated * self.validated_scene


def time_trial(plan: TrainingPlan, processes: int = 1) -> TrialTime:
    """Train a few steps of `plan` in a directory that is removed again, and time them.

    With several `processes`, each on a core of its own, a step is that of one process's share of the batch.
    """
    taken = min(STEPS, plan.steps_per_epoch)
    validated = min(VALIDATED, plan.validation_scenes)
    batch = max(plan.training.batch // processes, 1)
    scenes = {"train_scenes": taken * plan.step_scenes // processes, "val_scenes": validated}
    training = plan.training.model_copy(update={"epochs": 1, "batch": batch})
    short = replace(plan, data=plan.data.model_copy(update=scenes), training=training)
    events: list[Event] = []
    with TemporaryDirectory() as directory:
        run_training(short, Path(directory), [events.append])
    steps = [event.seconds for event in events if isinstance(event, StepResult)]
    validation = next(event.seconds for event in events if isinstance(event, EpochResult))
    started = next(event for event in events if isinstance(event, Started))
    return TrialTime(
        step=median(steps[WARM_UP:] or steps),
        validated_scene=validation / short.validation_scenes / processes,
        steps=plan.total_steps,
        validated=plan.training.epochs * plan.validation_scenes,
        parameters=sum(started.parameters.values()),
    )
