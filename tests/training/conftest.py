from collections.abc import Iterator

import pytest

from tests.processes import ROOT as ROOT
from tests.processes import Server


class TrainerProcess(Server):
    """Starts trainings, each with a list of processes, and waits for them."""


@pytest.fixture(scope="module")
def trainer_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TrainerProcess]:
    with TrainerProcess("tests.training.trainer_process", tmp_path_factory.mktemp("warm") / "run") as trainer:
        yield trainer


@pytest.fixture(autouse=True)
def _several_batches_a_validation() -> Iterator[None]:
    """Validations of a few scenes are to have several batches, as those of many scenes do."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("risctl.training.validation.VALIDATION_BATCH", 8)
        yield
