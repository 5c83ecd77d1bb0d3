"""Scenes made ahead by other processes are those of the stream."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from risctl.config import PhysicsConfig
from risctl.data import SceneStream
from risctl.data.ahead import AheadStream

PHYSICS = PhysicsConfig(ris_columns=4, ris_rows=2, num_antennas=3, num_snapshots=4, max_sources=2)


@pytest.fixture(name="ahead")
def _ahead() -> Iterator[AheadStream]:
    stream = AheadStream(SceneStream(PHYSICS, 3, "train"), processes=2)
    yield stream
    stream.close()


def test_they_are_the_same_in_order_back_and_far_ahead(ahead: AheadStream) -> None:
    stream = SceneStream(PHYSICS, 3, "train")
    for start, stop in ((100, 700), (700, 720), (720, 1300), (10, 20), (5000, 5200)):
        found, expected = ahead.scenes(start, stop).tensors(), stream.scenes(start, stop).tensors()
        for name, x in expected.items():
            assert torch.equal(found[name], x), (name, start)
    assert ahead.fingerprint == stream.fingerprint


def test_a_closed_stream_starts_again(ahead: AheadStream) -> None:
    before = ahead.scenes(0, 8)
    ahead.close()
    assert torch.equal(ahead.scenes(0, 8).y, before.y)
    assert torch.equal(ahead.scenes(300, 308).y, SceneStream(PHYSICS, 3, "train").scenes(300, 308).y)
