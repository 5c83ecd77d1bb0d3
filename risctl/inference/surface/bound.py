"""The hybrid Cramer-Rao bound: what an estimated response adds to the errors of fresh sources.

Through a response that is off by d psi the maximum of the likelihood moves by ``-J^-1 F^T d psi`` (J the
information of a scene's own parameters, F its cross with the response's), so the covariance is at least

    ``J^-1 + J^-1 F^T Sigma F J^-1``,

Sigma the covariance of the response: the inverse Schur complement of its calibration scenes, with its prior
(Rockah and Schultheiss, IEEE Trans. ASSP 35(3), 1987).
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from risctl.inference.surface.likelihood import SceneGroup, fisher_model
from risctl.inference.surface.response import SurfaceResponse
from risctl.physics.bounds import invert_information
from risctl.physics.geometry import ArrayGeometry


@dataclass(frozen=True)
class HybridBound:
    """Bounds of the variances of positions ``(u_y, u_z, 1/r)`` of K sources in B scenes, [B, K, 3].

    Attributes:
        known: with the response known. estimated: with the one that was estimated.
    """

    known: Tensor
    estimated: Tensor


def hybrid_bound(
    fresh: SceneGroup,
    response: SurfaceResponse,
    geometry: ArrayGeometry,
    kinds: tuple[str, ...],
    covariance: Tensor,
) -> HybridBound:
    """Bounds of fresh scenes.

    Args:
        fresh: at the true parameters.
        response: the true one.
        geometry: nominal, float64.
        kinds: that were estimated.
        covariance: of their parameters [P, P].
    """
    model = fisher_model(fresh, response, geometry, kinds)
    K = fresh.params.points.shape[1]
    own = invert_information(model.local.information)[0]
    slope = own @ model.cross.mT  # [B, 4K + 1, P]
    moved = slope @ covariance @ slope.mT
    known, added = (x.diagonal(dim1=-2, dim2=-1)[:, : 3 * K].view(-1, K, 3) for x in (own, moved))
    return HybridBound(known, known + added)
