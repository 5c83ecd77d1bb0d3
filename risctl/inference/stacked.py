"""Scenes with constant symbols as scenes of one coherent snapshot (:mod:`risctl.physics.stacking`)."""

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
    if static_path and obs.Phi.shape[1] == 1:
        got = "one snapshot" if obs.y.shape[1] == 1 else "snapshots with one and the same Phi"
        raise MeasurementError(f"a static path needs snapshots with different codes, got {got}")
    Phi = obs.Phi.expand(-1, obs.y.shape[1], -1, -1)
    return Observation.of_matrices(stack(obs.y, static_path), stack(Phi, static_path))
