"""Settings that may change when a run is resumed, and the state of a fork."""

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
    """Settings that change a run's results and differ, as `{"section.key": (stored, wanted)}`."""
    old = flatten({name: stored.get(name, {}) for name in SECTIONS})
    new = flatten({name: wanted.get(name, {}) for name in SECTIONS})
    keys = sorted((old.keys() | new.keys()) - FREE)
    return {key: (old.get(key), new.get(key)) for key in keys if old.get(key) != new.get(key)}


def check_resumable(checkpoint: Checkpoint, plan: TrainingPlan) -> None:
    """Raise `InputError` if the plan's settings would give other results than those the run began with."""
    stored = parse_section(Config, checkpoint.state.config, checkpoint.path).model_dump(mode="json")
    changed = changed_keys(stored, plan.document)
    if changed:
        key, (old, wanted) = next(iter(changed.items()))
        raise InputError(checkpoint.path, key, f"{old!r}, as the run began (a fork may change it)", wanted)


def start_fork(state: TrainState, plan: TrainingPlan) -> None:
    """Continue a restored state under other settings: from the start of its epoch, best value reset.

    The schedule is entered where the finished epochs end under the new settings; the steps that the epoch had
    done are kept in the weights.
    """
    progress = state.progress
    kept = {name: getattr(progress, name) for name in ("epoch", "step", "cursor", "skipped", "sanitised")}
    state.progress = Progress(**kept)
    state.scheduler.move_to(progress.epoch * plan.steps_per_epoch)
    if not state.scheduler.averaging:
        state.swa = None
