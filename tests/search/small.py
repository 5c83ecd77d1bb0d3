"""A search whose trials take a fraction of a second: a tiny surface, a tiny network, few scenes."""

from typing import Any

from risctl.config import Config
from risctl.search import SearchOutcome, SearchPlan
from tests.small import PHYSICS
from tests.training.small import MODEL

SPACE = {
    "training": {"lr": {"low": 1e-3, "high": 1e-1, "log": True}, "batch": {"choices": [12, 16]}},
    "model": {"dropout": {"low": 0.0, "high": 0.5}},
    "inference": {"range_grid": {"choices": [121, 161]}},
}
SEARCH = {"trials": 4, "epochs": 2, "patience": 3, "space": "small", "spaces": {"small": SPACE}}
SEARCH |= {"startup_trials": 3, "pruner_warmup_epochs": 1, "pruner_min_trials": 3}


def small_config(**search: Any) -> Config:
    """Return a configuration of trials of two epochs of one step."""
    values: dict[str, Any] = {
        "physics": PHYSICS.model_dump(),
        "model": MODEL.model_dump() | {"width": 8, "depth": 1},
        "training": {"lr": 1e-2, "batch": 16, "warmup_fraction": 0.0, "checkpoint_seconds": 1e6},
        "data": {"train_scenes": 16, "val_scenes": 8, "repeat": True},
        "inference": {"range_grid": 121},
        "search": SEARCH | search,
    }
    return Config.model_validate(values)


def small_plan(trials: int = 4, workers: int = 1, config: Config | None = None, **changes: Any) -> SearchPlan:
    return SearchPlan(config=config or small_config(), trials=trials, workers=workers, **changes)


def essence(outcome: SearchOutcome) -> list[tuple[Any, ...]]:
    """What must be the same twice: everything but the clock and the place."""
    return [(t.number, t.state, t.value, dict(t.params), t.epochs, dict(t.secondary)) for t in outcome.trials]
