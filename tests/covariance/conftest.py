"""Default scenes, and the same scenes with codes that are not unit modulus."""

import numpy as np
import pytest
import torch
from torch import Tensor

from risctl.config import PhysicsConfig
from risctl.physics import Scenes, simulate_scenes


@pytest.fixture(scope="session")
def scenes() -> Scenes:
    return simulate_scenes(PhysicsConfig(), np.random.Generator(np.random.SFC64(11)), 24)


@pytest.fixture
def jittered(scenes: Scenes) -> tuple[Tensor, Tensor, Tensor]:
    """Snapshots, channel and codes of general modulus, complex128."""
    gain = 1.0 + 0.3 * torch.rand(scenes.codes.shape, generator=torch.Generator().manual_seed(3))
    y, H, codes = (x.to(torch.complex128) for x in (scenes.y, scenes.H, scenes.codes * gain))
    return y, H, codes
