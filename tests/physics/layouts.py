"""Arrays that are no panels: planar at random, a ring, a spiral of 128 points, a line of nine, a helix."""

import math

import numpy as np

from risctl.config import ElementsConfig, PhysicsConfig

Layout = tuple[tuple[float, float, float], ...]


def _planar(y: np.ndarray, z: np.ndarray, x: np.ndarray | float = 0.0) -> Layout:
    return tuple(zip(*(np.broadcast_to(c, y.shape).tolist() for c in (x, y, z)), strict=True))


def _layouts() -> dict[str, Layout]:
    rng = np.random.default_rng(3)
    turn, k = 2 * math.pi * np.arange(64) / 64, np.arange(128)
    radius, angle = 1.2 * np.sqrt((k + 0.5) / 128), k * math.pi * (3 - math.sqrt(5))
    y, z = rng.uniform(-0.9, 0.9, (2, 100))
    return {
        "random": _planar(y, z),
        "ring": _planar(0.9 * np.cos(turn), 0.9 * np.sin(turn)),
        "spiral": _planar(radius * np.cos(angle), radius * np.sin(angle)),
        "line": _planar((np.arange(9) - 4) * 0.15, np.zeros(9)),
        "helix": _planar(0.9 * np.cos(5 * turn), 0.9 * np.sin(5 * turn), 0.2 * turn / math.pi - 0.2),
    }


LAYOUTS = _layouts()


def layout_physics(name: str, **changes: object) -> PhysicsConfig:
    """The default scenes before the array `name`; the line cannot observe the elevation, which is known."""
    if name == "line":
        changes = {"known_elevation_deg": 5.0} | changes
    return PhysicsConfig(elements=ElementsConfig(positions=LAYOUTS[name]), **changes)
