"""A directory of its own for every test, and a run that several tests begin with."""

from pathlib import Path

import pytest

from tests.runs.conftest import run, trained

__all__ = ["own_directory", "run", "trained"]


@pytest.fixture(autouse=True)
def own_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
