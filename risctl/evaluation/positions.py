"""Positions as NumPy arrays, and the two distances between them: the angle seen from the RIS, and metres."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

FloatArray: TypeAlias = npt.NDArray[np.float64]
IntArray: TypeAlias = npt.NDArray[np.int64]
BoolArray: TypeAlias = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Positions:
    """Sources of one scene, shape (K,), or of several, shape (B, K); NaN in unused slots. Radians, metres."""

    azimuth: FloatArray
    elevation: FloatArray
    range: FloatArray

    def __getitem__(self, index: Any) -> Positions:
        return self.map(lambda values: values[index])

    def map(self, function: Callable[[FloatArray], FloatArray]) -> Positions:
        """Apply `function` to the three coordinates."""
        return Positions(function(self.azimuth), function(self.elevation), function(self.range))

    @property
    def present(self) -> BoolArray:
        """True where a slot holds a source."""
        return np.asarray(~np.isnan(self.azimuth))

    def cartesian(self) -> FloatArray:
        """The positions as r (cos θ cos φ, cos θ sin φ, sin θ), shape (..., 3), metres."""
        across = np.cos(self.elevation)
        direction = (across * np.cos(self.azimuth), across * np.sin(self.azimuth), np.sin(self.elevation))
        return np.stack([self.range * axis for axis in direction], axis=-1)

    @classmethod
    def of_table(cls, table: FloatArray) -> Positions:
        """Positions of the columns of a report, (..., 3)."""
        return cls(np.radians(table[..., 0]), np.radians(table[..., 1]), table[..., 2])

    def table(self) -> FloatArray:
        """The columns of a report: azimuth and elevation in degrees, range in metres; (..., 3)."""
        return np.stack([np.degrees(self.azimuth), np.degrees(self.elevation), self.range], axis=-1)


def wrap(angle: FloatArray) -> FloatArray:
    """Fold an angle onto [-π, π)."""
    return (angle + np.pi) % (2 * np.pi) - np.pi


def great_circle(a: Positions, b: Positions) -> FloatArray:
    """Angle between two directions in radians, by the haversine: accurate at small angles too."""
    across = np.cos(a.elevation) * np.cos(b.elevation) * np.sin((a.azimuth - b.azimuth) / 2) ** 2
    haversine = np.sin((a.elevation - b.elevation) / 2) ** 2 + across
    return np.asarray(2 * np.arcsin(np.sqrt(np.clip(haversine, 0.0, 1.0))))
