"""A directory of its own for every test, and a run that several tests begin with."""

import shutil
from pathlib import Path

import pytest

from tests.runs.tiny import tiny, train, without_curves


@pytest.fixture(autouse=True)
def own_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_curves(monkeypatch)  # drawn in tests/plots and tests/cli
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run directory of a tiny training."""
    with pytest.MonkeyPatch.context() as patch:
        without_curves(patch)
        patch.chdir(tmp_path_factory.mktemp("trained"))
        return train(tiny()).run.absolute()


@pytest.fixture
def run(trained: Path) -> Path:
    """A copy of that directory, which a test may change."""
    return Path(shutil.copytree(trained, Path("runs/train") / trained.name))
