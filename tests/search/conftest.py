import json
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from risctl.search import SearchPlan
from tests.processes import Server
from tests.search.clerk import Clerk


class Searches(Server):
    """Starts searches in processes of their own, and waits for them."""

    def kill(self, pid: int) -> int:
        self.kill_worker(pid)
        return int(self.wait(pid))

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
    return len(events(directory, kind))


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
def searches() -> Iterator[Searches]:
    with Searches("tests.search.search_process") as server:
        yield server
