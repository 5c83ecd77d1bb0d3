"""What a worker does with the checkpoints that it finds."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from risctl.model.checkpoint import CHECKPOINTS, LAST
from risctl.search import trial_config
from risctl.search.worker import TrialJob, _resumed
from risctl.training import EpochResult, StopFlag
from tests.search.small import small_config
from tests.small import Recorder


def test_a_damaged_checkpoint_is_as_good_as_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    heard = Recorder()
    channel = SimpleNamespace(report=heard, stop=StopFlag())
    job = TrialJob(trial_config(small_config(epochs=1), {}), tmp_path, "cpu", 1)
    (tmp_path / CHECKPOINTS).mkdir()
    (tmp_path / CHECKPOINTS / LAST).write_bytes(b"half of a checkpoint")
    outcome = _resumed(job, channel)
    assert outcome.finished
    assert f"{LAST}: damaged" in capsys.readouterr().err
    again = _resumed(job, channel)  # whole now: nothing is left to do
    assert again.best_value == outcome.best_value
    assert len(heard.of(EpochResult)) == 1
    assert capsys.readouterr().err == ""
