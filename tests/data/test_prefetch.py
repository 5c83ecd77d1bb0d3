"""Scenes made ahead by other processes are those of the stream."""

from __future__ import annotations

import torch

from risctl.config import PhysicsConfig
from risctl.data import SceneStream
from risctl.data.prefetch import PrefetchStream

PHYSICS = PhysicsConfig(ris_columns=4, ris_rows=2, num_antennas=3, num_snapshots=4, max_sources=2)


def test_they_are_the_same_in_order_far_ahead_and_after_an_end() -> None:
    stream, ahead = (
        SceneStream(PHYSICS, 3, "train"),
        PrefetchStream(SceneStream(PHYSICS, 3, "train"), processes=1),
    )
    try:
        for start, stop in ((100, 700), (700, 720), (720, 1300), (5000, 5200)):
            found, expected = ahead.scenes(start, stop).tensors(), stream.scenes(start, stop).tensors()
            for name, x in expected.items():
                assert torch.equal(found[name], x), (name, start)
        assert ahead.fingerprint == stream.fingerprint
        ahead.close()
        assert torch.equal(ahead.scenes(10, 20).y, stream.scenes(10, 20).y)
    finally:
        ahead.close()
