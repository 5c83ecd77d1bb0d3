"""Small networks and scenes that the tests of the model share."""

import numpy as np
import torch

from risctl.config import ModelConfig, PhysicsConfig
from risctl.model import RisNetwork, build_network
from risctl.physics import Scenes, simulate_scenes


def make_scenes(num_scenes: int = 4, seed: int = 0, **changes: object) -> tuple[PhysicsConfig, Scenes]:
    """Scenes of the default surface with some fields of the section changed."""
    physics = PhysicsConfig(**changes)
    rng = np.random.Generator(np.random.SFC64(seed))
    return physics, simulate_scenes(physics, rng, num_scenes)


def make_network(physics: PhysicsConfig | None = None, seed: int = 0, **changes: object) -> RisNetwork:
    """A small network without dropout, evaluation mode."""
    size = {"width": 8, "depth": 2, "dropout": 0.0}
    return build_network(physics or PhysicsConfig(), ModelConfig(**(size | changes)), seed).eval()


def outputs(network: RisNetwork, scenes: Scenes, **replaced: torch.Tensor) -> dict[str, torch.Tensor]:
    """Everything the network says about the scenes, some of the measurements replaced."""
    given = {"y": scenes.y, "H": scenes.H, "codes": scenes.codes} | replaced
    with torch.no_grad():
        return dict(vars(network(**given)))
