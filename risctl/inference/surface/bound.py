"""The hybrid Cramer-Rao bound: what an estimated response adds to the errors of fresh sources.

Through a response that is off by d psi the maximum of the likelihood moves by ``-J^-1 F^T d psi`` (J the
information of a scene's own parameters, F its cross with the response's), so the covariance is at least

    ``J^-1 + J^-1 F^T Sigma F J^-1``,

Sigma the covariance of the response: the inverse Schur complement of its calibration scenes, with its prior
(Rockah and Schultheiss, IEEE Trans. ASSP 35(3), 1987).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from risctl.inference.surface.likelihood import SurfaceModel
from risctl.physics.bounds import invert_information, with_known
from risctl.physics.geometry import FieldOfView


@dataclass(frozen=True)
class HybridBound:
    """Bounds of the variances of positions ``(u_y, u_z, 1/r)`` of K sources in B scenes, [B, K, 3].

    Attributes:
        known: with the response known. estimated: with the one that was estimated. Infinite where the
            measurements say nothing; zero of a coordinate that is known.
    """

    known: Tensor
    estimated: Tensor


def hybrid_bound(model: SurfaceModel, covariance: Tensor, view: FieldOfView) -> HybridBound:
    """Bounds of fresh scenes.

    Args:
        model: theirs, at the true parameters and the true response.
        covariance: of the response's parameters [P, P].
        view: which coordinates are known.
    """
    J = model.local.information
    K = J.shape[-1] // 4
    own, lost = invert_information(with_known(J, K, view))
    slope = own @ model.cross.mT  # [B, 4K + 1, P]
    moved = slope @ covariance @ slope.mT
    known, added = (x.diagonal(dim1=-2, dim2=-1)[:, : 3 * K].view(-1, K, 3) for x in (own, moved))
    known = known.masked_fill(lost[:, : 3 * K].view(-1, K, 3), torch.inf)
    return HybridBound(known, known + added)
