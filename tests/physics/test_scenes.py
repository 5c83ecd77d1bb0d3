import pytest
import torch

from risctl.physics import Scenes
from tests.physics.reference import same_scenes, simulate
from tests.small import PHYSICS

STORED = {
    "y": (torch.complex64, (10, 8, 6)),
    "H": (torch.complex64, (10, 6, 12)),
    "code_index": (torch.uint8, (10, 8, 12)),
    "azimuth": (torch.float32, (10, 3)),
    "elevation": (torch.float32, (10, 3)),
    "range": (torch.float32, (10, 3)),
    "power": (torch.float32, (10, 3)),
    "symbols": (torch.complex64, (10, 3, 8)),
    "num_sources": (torch.uint8, (10,)),
    "snr_db": (torch.float32, (10,)),
    "noise_var": (torch.float32, (10,)),
}


@pytest.fixture(scope="module")
def scenes() -> Scenes:
    return simulate(PHYSICS, 10)


def test_stored_tensors_have_their_types_and_shapes(scenes: Scenes) -> None:
    found = {name: (x.dtype, tuple(x.shape)) for name, x in scenes.tensors().items()}
    assert list(found.items()) == list(STORED.items())


def test_rows_and_concatenation_return_the_scenes(scenes: Scenes) -> None:
    assert len(scenes) == 10
    parts = [scenes[:3], scenes[3:4], scenes[torch.arange(4, 10)]]
    assert [len(part) for part in parts] == [3, 1, 6]
    assert same_scenes(Scenes.concatenate(parts), scenes)
    assert same_scenes(scenes[torch.tensor([7, 2])], Scenes.concatenate([scenes[7:8], scenes[2:3]]))


def test_moving_keeps_everything(scenes: Scenes) -> None:
    assert same_scenes(scenes.to(torch.device("cpu")), scenes)


def test_source_mask_counts_the_sources(scenes: Scenes) -> None:
    assert torch.equal(scenes.source_mask.sum(1), scenes.num_sources.long())
    assert torch.equal(scenes.source_mask, scenes.power > 0)


def test_codes_are_the_stored_phases(scenes: Scenes) -> None:
    angle = 2 * torch.pi * scenes.code_index.double() / 2**scenes.phase_bits
    assert (scenes.codes - torch.polar(torch.ones_like(angle), angle)).abs().max() < 1e-6
