"""The scenes of a calibration: two thirds of the configuration's own kind, the others of many kinds."""

from dataclasses import fields
from weakref import WeakSet

import pytest
import torch

from risctl.config.layers import Layers
from risctl.data import SceneStream
from risctl.evaluation import calibration
from risctl.evaluation.calibration import CountData
from risctl.runs.calibration import OTHER_SCENES, calibration_scenes

CONFIG = Layers().resolve()


def test_they_are_as_many_as_asked_for_and_none_twice() -> None:
    usual, *others = calibration_scenes(CONFIG, "val", 400)
    assert usual.count + sum(batch.count for batch in others) == 400
    assert len(others) == 400 // 3 // OTHER_SCENES
    assert [batch.usual for batch in (usual, *others)] == [True, *[False] * len(others)]
    starts = [batch.start for batch in others]
    assert starts == list(range(usual.count, 400, OTHER_SCENES))


def test_those_of_one_kind_are_in_memory_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """240,000 scenes took 24 GB when the streams of all 5,000 kinds kept their latest blocks."""
    alive: WeakSet[SceneStream] = WeakSet()
    most = 0

    class Counted(SceneStream):
        def scenes(self, start: int, stop: int) -> object:  # type: ignore[override]
            nonlocal most
            alive.add(self)
            most = max(most, len(alive))
            return super().scenes(start, stop)

    blank = CountData(*(torch.zeros(1) for _ in fields(CountData)))
    monkeypatch.setattr("risctl.runs.calibration.SceneStream", Counted)
    monkeypatch.setattr(calibration, "count_data", lambda finder, task: blank)
    batches = calibration_scenes(CONFIG, "val", 400)
    assert len(calibration.collect_counts(None, batches)) > 9  # type: ignore[arg-type]
    assert most <= 2
