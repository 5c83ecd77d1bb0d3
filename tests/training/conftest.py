from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


class TrainerProcess:
    """Starts trainings in processes of their own, and waits for them."""

    def __init__(self, directory: Path) -> None:
        command = [sys.executable, "-m", "tests.training.trainer_process", str(directory)]
        path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
        environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self.process = subprocess.Popen(command, cwd=ROOT, env=environment, text=True, **pipes)

    def ask(self, **request: Any) -> Any:
        stdin, stdout = self.process.stdin, self.process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(json.dumps(request) + "\n")
        stdin.flush()
        return json.loads(stdout.readline())

    def start(self, directory: Path, **settings: Any) -> list[int]:
        """Start a training and return the ids of its processes."""
        return list(self.ask(start={"directory": str(directory)} | settings))

    def wait(self, pids: list[int]) -> list[int]:
        return [self.ask(wait=pid) for pid in pids]

    def run(self, directory: Path, **settings: Any) -> list[int]:
        """Train to the end and return the exit statuses."""
        return self.wait(self.start(directory, **settings))


@pytest.fixture(scope="module")
def trainer_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TrainerProcess]:
    trainer = TrainerProcess(tmp_path_factory.mktemp("warm") / "run")
    with trainer.process:
        yield trainer
        assert trainer.process.stdin is not None
        trainer.process.stdin.close()


@pytest.fixture(autouse=True)
def _several_batches_a_validation() -> Iterator[None]:
    """Validations of a few scenes are to have several batches, as those of many scenes do."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("risctl.training.validation.VALIDATION_BATCH", 8)
        yield
