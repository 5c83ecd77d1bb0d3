"""The MUSIC pseudo-spectrum over range and azimuth, for pictures."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from risctl.covariance import leading_subspace
from risctl.inference.deflation import DeflatedSubspace
from risctl.physics.geometry import ArrayGeometry
from risctl.physics.steering import steering_vector

NULL_FLOOR = 1e-12


@torch.no_grad()
def music_pseudospectrum(
    F: Tensor, K: int, elevation: Tensor, azimuth: Tensor, range_: Tensor, geometry: ArrayGeometry
) -> npt.NDArray[np.float64]:
    """``1 / (1 - |U^H a|^2)`` with exact steering vectors, float64 [R, A], the largest over the elevations.

    Args:
        F: one scene's covariance factor [N, r], or its covariance [N, N], which has the same eigenvectors.
        K: dimension of the signal subspace.
        elevation: radians, one or several. azimuth: radians [A]. range_: metres [R].
        geometry: nominal geometry.
    """
    U, _ = leading_subspace(F.to(torch.complex128).unsqueeze(0), K)
    space = DeflatedSubspace(U.unsqueeze(1), U[:, None, :, :0])
    surface = geometry.to(U.device, torch.float64)
    phi, r = azimuth.to(surface.positions), range_.to(surface.positions)
    best = phi.new_zeros(len(r), len(phi))
    for theta in elevation.to(phi).reshape(-1):
        a = steering_vector(phi, theta.expand_as(phi), r.unsqueeze(-1), surface)
        share = space.along(a.unsqueeze(0))[0]
        best = torch.maximum(best, share)
    return (1.0 / (1.0 - best).clamp_min(NULL_FLOOR)).cpu().numpy()


def range_azimuth_spectrum(
    F: Tensor, K: int, elevation: Tensor, azimuth: Tensor, range_: Tensor, geometry: ArrayGeometry
) -> npt.NDArray[np.float64]:
    """The same in dB: 0 where nothing lies in the signal subspace, high at a source."""
    return 10.0 * np.log10(music_pseudospectrum(F, K, elevation, azimuth, range_, geometry))
