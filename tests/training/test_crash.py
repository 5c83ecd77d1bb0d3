"""Trainings that die at any instant, and signals in every phase."""

import json
import os
import random
import signal
import time
from pathlib import Path

import pytest

from risctl.model.checkpoint import read_checkpoint
from tests.processes import Server, wait_until
from tests.training.small import state_hash

KILLS = 60
SHORT = {"train_scenes": 24, "val_scenes": 8}  # three epochs of three steps


def _end(directory: Path) -> tuple[str, str]:
    """What a run left: hash of its state, and its records."""
    return state_hash(directory), (directory / "records.jsonl").read_text()


@pytest.mark.slow
def test_kill_9_at_random_instants(tmp_path: Path, trainers: Server) -> None:
    """Killed once at a random instant each, resumed, all end as the undisturbed run does."""
    assert trainers.run(tmp_path / "reference", **SHORT) == [0]
    expected, rng = _end(tmp_path / "reference"), random.Random(3)
    records = len(expected[1].splitlines())
    killed, saved = 0, set()
    for trial in range(KILLS):
        directory = tmp_path / str(trial)
        pids = trainers.start(directory, **SHORT)
        place, due = directory / "records.jsonl", rng.randrange(records)
        wait_until(lambda place=place, due=due: _text(place).count("\n") >= due, pause=0.001)
        time.sleep(rng.uniform(0.0, 0.02))  # a step takes about 10 ms, with its saving
        os.kill(pids[0], signal.SIGKILL)
        killed += trainers.wait(pids) == [-signal.SIGKILL]
        last = directory / "checkpoints/last.safetensors"
        saved.add(read_checkpoint(last).state.step if last.exists() else -1)
        assert trainers.run(directory, **SHORT) == [0]
        assert _end(directory) == expected, f"killed at {sorted(saved)}"
    assert killed >= KILLS // 2
    assert len(saved) >= 6  # they died in different places


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("phase", ["start", "step", "saving", "validation"])
def test_a_signal_in_every_phase_saves(tmp_path: Path, trainers: Server, phase: str, number: int) -> None:
    """Nothing that was done before the signal is lost, and the resumed run ends as the undisturbed one."""
    trainers.run(tmp_path / "reference", checkpoint_seconds=1e6)
    directory = tmp_path / "run"
    pids = trainers.start(directory, checkpoint_seconds=1e6, phases=True)
    wait_until(lambda: _text(directory / "phase") == phase, pause=0.001)
    os.kill(pids[0], number)
    assert trainers.wait(pids) == [128 + number]
    outcome = json.loads((directory / "outcome.json").read_text())
    assert not outcome["finished"] or phase == "saving"
    records = (directory / "records.jsonl").read_text().splitlines()
    steps = [json.loads(line)["step"] for line in records]
    saved = read_checkpoint(directory / "checkpoints/last.safetensors").state.step
    assert saved == outcome["steps"] == max(steps, default=0)
    assert trainers.run(directory, checkpoint_seconds=1e6) == [0]
    assert _end(directory) == _end(tmp_path / "reference")


def _text(path: Path) -> str:
    return path.read_text() if path.exists() else ""
