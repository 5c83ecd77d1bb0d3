"""Trainings that die at any instant, and signals in every phase."""

import json
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from risctl.model.checkpoint import read_checkpoint
from tests.training.small import state_hash

if TYPE_CHECKING:
    from tests.training.conftest import TrainerProcess

KILLS = 60
SHORT = {"train_scenes": 24, "val_scenes": 8}  # three epochs of three steps


def _end(directory: Path) -> tuple[str, str]:
    """What a run left: hash of its state, and its records."""
    return state_hash(directory), (directory / "records.jsonl").read_text()


def test_kill_9_at_random_instants(tmp_path: Path, trainer_process: TrainerProcess) -> None:
    """Killed once at a random instant each, resumed, all end as the undisturbed run does."""
    assert trainer_process.run(tmp_path / "reference", **SHORT) == [0]
    expected, rng = _end(tmp_path / "reference"), random.Random(3)
    records = len(expected[1].splitlines())
    killed, saved = 0, set()
    for trial in range(KILLS):
        directory = tmp_path / str(trial)
        pids = trainer_process.start(directory, **SHORT)
        _wait_for_records(directory, rng.randrange(records))
        time.sleep(rng.uniform(0.0, 0.02))  # a step takes about 10 ms, with its saving
        os.kill(pids[0], signal.SIGKILL)
        killed += trainer_process.wait(pids) == [-signal.SIGKILL]
        last = directory / "checkpoints/last.safetensors"
        saved.add(read_checkpoint(last).state.step if last.exists() else -1)
        assert trainer_process.run(directory, **SHORT) == [0]
        assert _end(directory) == expected, f"killed at {sorted(saved)}"
    assert killed >= KILLS // 2
    assert len(saved) >= 6  # they died in different places


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("phase", ["start", "step", "saving", "validation"])
def test_a_signal_in_every_phase_saves(
    tmp_path: Path, trainer_process: TrainerProcess, phase: str, number: signal.Signals
) -> None:
    """Nothing that was done before the signal is lost, and the resumed run ends as the undisturbed one."""
    trainer_process.run(tmp_path / "reference", checkpoint_seconds=1e6)
    directory = tmp_path / "run"
    pids = trainer_process.start(directory, checkpoint_seconds=1e6, phases=True)
    _wait(lambda: _in_phase(directory, phase))
    os.kill(pids[0], number)
    assert trainer_process.wait(pids) == [128 + number]
    outcome = json.loads((directory / "outcome.json").read_text())
    assert not outcome["finished"] or phase == "saving"
    records = (directory / "records.jsonl").read_text().splitlines()
    steps = [json.loads(line)["step"] for line in records]
    saved = read_checkpoint(directory / "checkpoints/last.safetensors").state.step
    assert saved == outcome["steps"] == max(steps, default=0)
    assert trainer_process.run(directory, checkpoint_seconds=1e6) == [0]
    assert _end(directory) == _end(tmp_path / "reference")


def _wait(until: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not until() and time.monotonic() < deadline:
        time.sleep(0.001)


def _wait_for_records(directory: Path, count: int) -> None:
    _wait(lambda: _records(directory) >= count)


def _records(directory: Path) -> int:
    place = directory / "records.jsonl"
    return len(place.read_text().splitlines()) if place.exists() else 0


def _in_phase(directory: Path, phase: str) -> bool:
    place = directory / "phase"
    return place.exists() and place.read_text() == phase
