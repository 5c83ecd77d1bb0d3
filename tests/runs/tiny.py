"""A surface and a network so small that a whole training takes a second, and ways to end it early."""

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from risctl import runs
from risctl.config import load_config
from risctl.config.layers import Layers
from risctl.data import write_dataset
from risctl.plots.style import new_figure
from risctl.runs.names import STATUS
from risctl.training import Event, Listener

SURFACE = (
    "physics.ris_columns=6",
    "physics.ris_rows=6",
    "physics.num_snapshots=4",
    "physics.num_antennas=4",
    "physics.max_sources=2",
)
NETWORK = (
    "model.width=8",
    "model.depth=1",
    "model.map_rows=4",
    "model.map_columns=8",
    "model.map_ranges=2",
)
LENGTH = (
    "data.train_scenes=32",
    "data.val_scenes=32",
    "training.batch=8",
    "training.epochs=2",
    "training.lr=0.0004",
    "model.dropout=0.05",
)
TINY = (*SURFACE, *NETWORK, *LENGTH)
WITHOUT_SCENES = tuple(word for word in TINY if not word.startswith(("physics.", "data.")))


def tiny(*words: str, **layers: Any) -> Layers:
    """The tiny settings with further override words."""
    return Layers(overrides=(*TINY, *words), **layers)


def write_datasets(directory: Path, **changes: int) -> None:
    """Write `train` with 40 scenes and `val` with 24 scenes of the tiny surface."""
    physics = load_config("quick", None, SURFACE).physics
    for split, count in (("train", 40), ("val", 24)):
        how = {"num_scenes": count, "shard_scenes": count} | changes
        write_dataset(directory / split, physics, seed=3, split=split, **how)


def train(layers: Layers, listen: Listener | None = None, **how: Any) -> runs.Trained:
    """Prepare a training and run it."""
    return runs.train(runs.prepare_training(layers, **how), [] if listen is None else [listen])


def after_step(step: int, act: Callable[[], object]) -> Listener:
    """A listener that acts after a step."""

    def listen(event: Event) -> None:
        if isinstance(event, runs.StepResult) and event.step == step:
            act()

    return listen


def train_until(step: int, layers: Layers, **how: Any) -> runs.Trained:
    """Prepare a training and stop it after a step, as SIGTERM does."""
    stop = runs.StopFlag()
    listen = after_step(step, lambda: stop.request(signal.SIGTERM))
    return runs.train(runs.prepare_training(layers, **how), [listen], stop)


def killed_at_once(layers: Layers, **how: Any) -> Path:
    """Prepare a training and kill it before it saved anything; return its run."""
    made: list[Path] = []

    def kill(run: Path) -> None:
        made.append(run)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        runs.train(runs.prepare_training(layers, **how), announce=kill)
    return made[0]


def status_of(run: str | Path) -> dict[str, Any]:
    """A run's `status.json`."""
    return runs.read_document(Path(run) / STATUS)


def without_curves(patch: pytest.MonkeyPatch) -> None:
    """Leave the curves empty and the report out: they take longer than a tiny training."""
    patch.setattr("risctl.runs.drawings.curves_figure", lambda *_: new_figure(1, 1))
    patch.setattr("risctl.runs.report.write_report", lambda run: run)
