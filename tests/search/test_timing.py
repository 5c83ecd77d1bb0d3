"""The time of a trial: counted as the trial counts, measured on a few of its steps."""

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from risctl.search import timing
from risctl.search.timing import TrialTime, time_trial
from tests.training.small import small_plan


def test_a_trial_is_its_steps_and_its_validations() -> None:
    found = TrialTime(step=0.5, validated_scene=0.01, steps=100, validated=400, parameters=1)
    assert found.seconds == pytest.approx(54.0)


@pytest.mark.parametrize("repeat", [True, False])
def test_a_few_steps_stand_for_all(repeat: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        timing, "TemporaryDirectory", lambda: TemporaryDirectory(dir=tmp_path, prefix="short")
    )
    found = time_trial(small_plan(epochs=50, train_scenes=64, val_scenes=16, repeat=repeat))
    assert (found.steps, found.validated) == (50 * 8, 50 * 16)
    assert min(found.step, found.validated_scene, found.parameters) > 0
    assert list(tmp_path.iterdir()) == []
