from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.processes import Server


class WriterProcess(Server):
    """Starts writers in processes of their own, and waits for them."""

    def start(self, directory: Path, crash_at: int = 0, **settings: Any) -> int:
        defaults = {"seed": 5, "split": "test", "num_scenes": 600, "shard_scenes": 280}
        request = {"directory": str(directory)} | defaults | settings
        return int(self.ask(start=request, crash_at=crash_at))


@pytest.fixture(scope="module")
def writer_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WriterProcess]:
    with WriterProcess("tests.data.writer_process", tmp_path_factory.mktemp("warm") / "dataset") as writer:
        yield writer
