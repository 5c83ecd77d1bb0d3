"""Two sources brought together: at the coherence asked for, on their way, everything else as it was."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from risctl.config import PhysicsConfig
from risctl.physics import Scenes, simulate_scenes, steering_vector
from tests.physics.reference import double_geometry

NUM = 40
PANEL = {"ris_columns": 8, "ris_rows": 8}


def draw(coherence: float) -> Scenes:
    physics = PhysicsConfig(pair_coherence=coherence, min_sources=2, max_sources=3, **PANEL)
    return simulate_scenes(physics, np.random.Generator(np.random.SFC64(5)), NUM)


def coherence_of_the_pair(scenes: Scenes) -> torch.Tensor:
    at = (x[:, :2].double() for x in (scenes.azimuth, scenes.elevation, scenes.range))
    A = steering_vector(*at, double_geometry(PhysicsConfig(**PANEL)))
    return (A[:, 0].conj() * A[:, 1]).sum(-1).abs()


@pytest.fixture(scope="module")
def drawn() -> Scenes:
    return draw(0.0)


@pytest.mark.parametrize("coherence", [0.5, 0.8, 0.97])
def test_the_pair_has_the_coherence_asked_for(coherence: float) -> None:
    expected = torch.full((NUM,), coherence).double()
    torch.testing.assert_close(coherence_of_the_pair(draw(coherence)), expected, rtol=0.0, atol=2e-4)


def test_nothing_else_changes(drawn: Scenes) -> None:
    moved = draw(0.8)
    for name in ("H", "code_index", "symbols", "power", "num_sources", "snr_db"):
        assert torch.equal(getattr(moved, name), getattr(drawn, name)), name
    for name in ("azimuth", "elevation", "range"):
        assert torch.equal(getattr(moved, name)[:, [0, 2]], getattr(drawn, name)[:, [0, 2]]), name
    assert not torch.equal(moved.azimuth[:, 1], drawn.azimuth[:, 1])
    assert not torch.equal(moved.y, drawn.y)


def test_it_moves_on_the_straight_line_and_nearer_with_more_coherence(drawn: Scenes) -> None:
    def share_of_the_way(scenes: Scenes) -> torch.Tensor:
        apart = [
            [x[:, 1].double() - x[:, 0].double() for x in (s.azimuth, s.elevation)] for s in (scenes, drawn)
        ]
        azimuth, elevation = (now / before for now, before in zip(*apart, strict=True))
        torch.testing.assert_close(azimuth, elevation, rtol=2e-2, atol=1e-4)
        return azimuth

    far, near = share_of_the_way(draw(0.5)), share_of_the_way(draw(0.9))
    assert bool((near < far).all())
    assert bool((near > 0).all())


def test_one_source_alone_stays() -> None:
    physics = PhysicsConfig(max_sources=1, ris_columns=4, ris_rows=4)
    close = physics.model_copy(update={"pair_coherence": 0.8})
    one, two = (simulate_scenes(p, np.random.Generator(np.random.SFC64(1)), 5) for p in (physics, close))
    assert torch.equal(one.y, two.y)


def test_only_coherence_past_the_cap_makes_sense() -> None:
    with pytest.raises(ValidationError, match="max_coherence"):
        PhysicsConfig(pair_coherence=0.3)
    assert PhysicsConfig(pair_coherence=0.3, max_coherence=0.2).pair_coherence == 0.3
