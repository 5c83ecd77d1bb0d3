from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from risctl.search import SearchPlan
from tests.search.clerk import Clerk

ROOT = Path(__file__).resolve().parents[2]


class SearchProcess:
    """Starts searches in processes of their own, and waits for them."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "tests.search.search_process"]
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

    def start(self, directory: Path, **settings: Any) -> int:
        return int(self.ask(start={"directory": str(directory)} | settings))

    def wait(self, pid: int) -> int:
        return int(self.ask(wait=pid))

    def run(self, directory: Path, **settings: Any) -> int:
        """Search to the end and return the exit status."""
        return self.wait(self.start(directory, **settings))

    def kill(self, pid: int) -> int:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        return self.wait(pid)

    def kill_worker(self, pid: int) -> bool:
        """Return whether it was still there."""
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            return True
        return False

    def workers(self) -> list[int]:
        """The workers of all searches."""
        server = self.ask(server=None)
        return [int(pid) for pid in Path(f"/proc/{server}/task/{server}/children").read_text().split()]


def events(directory: Path, kind: str | None = None) -> list[dict[str, Any]]:
    """What the searches in `directory` reported."""
    path = directory / "events.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    found = [json.loads(line) for line in lines if line.endswith("}")]
    return [event for event in found if kind in (None, event["kind"])]


def count(directory: Path, kind: str) -> int:
    """How many events of a kind there are."""
    path = directory / "events.jsonl"
    return path.read_text().count(f'"kind": "{kind}"') if path.exists() else 0


OpenClerk = Callable[[SearchPlan, Path], Clerk]


@pytest.fixture
def open_clerk() -> Iterator[OpenClerk]:
    """Open studies, which are closed after the test."""
    opened: list[Clerk] = []

    def open_one(plan: SearchPlan, directory: Path) -> Clerk:
        opened.append(Clerk(plan, directory))
        return opened[-1]

    yield open_one
    for clerk in opened:
        clerk.storage.close()


@pytest.fixture(scope="session")
def search_process() -> Iterator[SearchProcess]:
    searches = SearchProcess()
    with searches.process:
        yield searches
        assert searches.process.stdin is not None
        searches.process.stdin.close()
