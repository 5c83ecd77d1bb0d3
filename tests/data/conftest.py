from collections.abc import Iterator

import pytest

from tests.processes import Server


@pytest.fixture(scope="module")
def writers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server("tests.data.writer_process", tmp_path_factory.mktemp("warm") / "dataset") as server:
        yield server
