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


class WriterProcess:
    """Starts writers in processes of their own, and waits for them."""

    def __init__(self, directory: Path) -> None:
        command = [sys.executable, "-m", "tests.data.writer_process", str(directory)]
        path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
        environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self.process = subprocess.Popen(command, cwd=ROOT, env=environment, text=True, **pipes)

    def ask(self, **request: Any) -> int:
        stdin, stdout = self.process.stdin, self.process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(json.dumps(request) + "\n")
        stdin.flush()
        return int(stdout.readline())

    def start(self, directory: Path, crash_at: int = 0, **settings: Any) -> int:
        defaults = {"seed": 5, "split": "test", "num_scenes": 600, "shard_scenes": 280}
        return self.ask(start={"directory": str(directory)} | defaults | settings, crash_at=crash_at)

    def wait(self, pid: int) -> int:
        return self.ask(wait=pid)


@pytest.fixture(scope="module")
def writer_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WriterProcess]:
    writer = WriterProcess(tmp_path_factory.mktemp("warm") / "dataset")
    with writer.process:
        yield writer
        assert writer.process.stdin is not None
        writer.process.stdin.close()
