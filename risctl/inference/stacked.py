"""Scenes with constant symbols as scenes of one coherent snapshot (:mod:`risctl.physics.stacking`)."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from risctl.config import PhysicsConfig
from risctl.errors import MeasurementError
from risctl.inference.observation import Observation
from risctl.physics.stacking import stack


def stack_snapshots(obs: Observation, static_path: bool = False) -> Observation:
    """One snapshot of L M values, or of (L - 1) M with an unknown static path projected out.

    Args:
        obs: B scenes with L snapshots of M antennas. static_path: whether a vector in C^M, the same in all
            snapshots, was added to them.

    Returns:
        y [B, 1, n], Phi [B, 1, n, N].

    Raises:
        MeasurementError: a static path with one snapshot, or with the same Phi in all of them.
    """
    return SymbolModel(True, static_path).seen(obs)


@dataclass(frozen=True)
class SymbolModel:
    """How the symbols of a scene go from snapshot to snapshot.

    Attributes:
        constant: one amplitude a source; else independent draws.
        static_path: whether an unknown vector, the same in all snapshots, is taken out; of constant symbols.
    """

    constant: bool = False
    static_path: bool = False

    @classmethod
    def from_config(cls, physics: PhysicsConfig) -> SymbolModel:
        """The model of a configuration."""
        return cls(physics.symbols == "constant", physics.static_path)

    def coherent(self, x: Tensor, snapshots: int) -> Tensor:
        """y [B, L, M] or matrices [B, 1 or L, M, N] as the likelihood takes them: stacked where constant."""
        if not self.constant:
            return x
        return stack(x.expand(-1, snapshots, *x.shape[2:]), self.static_path)

    def seen(self, obs: Observation) -> Observation:
        """The scenes as the likelihood takes them.

        Raises:
            MeasurementError: a static path with one snapshot, or with the same Phi in all of them.
        """
        if not self.constant:
            return obs
        L = obs.y.shape[1]
        if self.static_path and obs.Phi.shape[1] == 1:
            got = "one snapshot" if L == 1 else "snapshots with one and the same Phi"
            raise MeasurementError(f"a static path needs snapshots with different codes, got {got}")
        y, Phi = self.coherent(obs.y, L), self.coherent(obs.Phi, L)
        return replace(obs, y=y, H=None, codes=None, Phi=Phi)


VARYING = SymbolModel()
