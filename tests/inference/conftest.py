"""Scenes and geometry that the tests of inference share."""

import numpy as np
import torch

from risctl.config import PhysicsConfig
from risctl.inference.observation import Observation
from risctl.physics import Scenes, simulate_scenes
from risctl.physics.polar import to_polar


def make_scenes(num_scenes: int, seed: int = 0, **changes: object) -> tuple[PhysicsConfig, Scenes]:
    """Scenes of the default surface with some fields changed."""
    physics = PhysicsConfig(**changes)
    rng = np.random.Generator(np.random.SFC64(np.random.SeedSequence(seed, spawn_key=(7,))))
    return physics, simulate_scenes(physics, rng, num_scenes)


def observe(scenes: Scenes, rows: torch.Tensor, dtype: torch.dtype = torch.complex64) -> Observation:
    """The measurements of some scenes in `dtype`."""
    part = scenes[rows]
    return Observation.build(part.y.to(dtype), part.H.to(dtype), part.codes.to(dtype))


def true_points(scenes: Scenes, rows: torch.Tensor, K: int) -> torch.Tensor:
    """Polar coordinates [B, K, 3] of the true sources, float64."""
    part = scenes[rows]
    angles = (part.azimuth[:, :K].double(), part.elevation[:, :K].double(), part.range[:, :K].double())
    return to_polar(*angles)


def with_count(scenes: Scenes, K: int) -> torch.Tensor:
    """Indices of the scenes with K sources."""
    return (scenes.num_sources == K).nonzero().squeeze(-1)
