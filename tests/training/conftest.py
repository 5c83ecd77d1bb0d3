from collections.abc import Iterator

import pytest

from tests.processes import Server


@pytest.fixture(scope="module")
def trainers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Starts trainings, each with a list of processes, and waits for them."""
    with Server("tests.training.trainer_process", tmp_path_factory.mktemp("warm") / "run") as server:
        yield server


@pytest.fixture(autouse=True)
def _several_batches_a_validation() -> Iterator[None]:
    """Validations of a few scenes are to have several batches, as those of many scenes do."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("risctl.training.validation.VALIDATION_BATCH", 8)
        yield
