"""Which settings a run may change when it goes on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from risctl.config import Config, flatten, parse_section
from risctl.errors import InputError
from risctl.model.checkpoint import Checkpoint
from risctl.training.plan import TrainingPlan
from risctl.training.state import Progress, TrainState

SECTIONS = ("physics", "covariance", "model", "loss", "training", "data")
FREE = frozenset(
    {
        "training.checkpoint_seconds",
        "training.compile",
        "training.max_skipped_fraction",
        "training.max_sanitised_fraction",
        "data.prefetch_workers",
        "data.shard_scenes",
        "data.source",
        "data.test_scenes",
    }
)


def changed_keys(stored: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Return `{"section.key": (stored, wanted)}` for the settings a run's results follow from."""
    old = flatten({name: stored.get(name, {}) for name in SECTIONS})
    new = flatten({name: wanted.get(name, {}) for name in SECTIONS})
    keys = sorted((old.keys() | new.keys()) - FREE)
    return {key: (old.get(key), new.get(key)) for key in keys if old.get(key) != new.get(key)}


def check_resumable(checkpoint: Checkpoint, plan: TrainingPlan) -> None:
    """Raise `InputError` if the plan would make of the run something else than it began as."""
    stored = parse_section(Config, checkpoint.state.config, checkpoint.path).model_dump(mode="json")
    changed = changed_keys(stored, plan.config)
    for key, (old, wanted) in changed.items():
        raise InputError(checkpoint.path, key, f"{old!r}, as the run began (a fork may change it)", wanted)


def begin_anew(state: TrainState, plan: TrainingPlan) -> None:
    """Let a restored state go on under other settings: from the start of its epoch, the best still to come.

    The schedule is entered where the finished epochs end under the new settings; what the epoch had done is
    kept in the weights.
    """
    progress = state.progress
    state.progress = Progress(
        epoch=progress.epoch,
        step=progress.step,
        cursor=progress.cursor,
        skipped=progress.skipped,
        sanitised=progress.sanitised,
    )
    state.scheduler.move_to(progress.epoch * plan.steps_per_epoch)
    if not state.scheduler.averaging:
        state.swa = None
