"""Ridge back-projection of the snapshots onto the surface.

``a_l = (Phi_l^H Phi_l + alpha_l I_N)^-1 Phi_l^H y_l`` with ``Phi_l = H diag(c_l)`` and
``alpha_l = tikhonov_alpha (tr(Phi_l^H Phi_l) / N + 1e-12)``, through the push-through identity
``Phi^H (Phi Phi^H + alpha I_M)^-1 y``: an M x M system in place of an N x N one.
"""

from __future__ import annotations

import torch
from torch import Tensor

from risctl.covariance.precision import full_precision, require_finite, widened
from risctl.errors import MeasurementError

TRACE_FLOOR = 1e-12


def ridge_back_projection(y: Tensor, H: Tensor, codes: Tensor, tikhonov_alpha: float) -> Tensor:
    """Ridge estimates of the wave on the surface, snapshot by snapshot.

    Args:
        y: snapshots, complex [B, L, M].
        H: channel, complex [B, M, N].
        codes: RIS codes, complex [B, L, N], of any modulus.
        tikhonov_alpha: ridge strength relative to the mean eigenvalue of ``Phi^H Phi``.

    Returns:
        ``a`` complex [B, L, N], at least complex64.

    Raises:
        MeasurementError: if a system cannot be solved, as when the channel overflows; names the scene.
    """
    with full_precision(y):
        y, H, codes = widened(y, H, codes)
        N = H.shape[-1]
        gram = (H.unsqueeze(1) * codes.abs().square().unsqueeze(2)) @ H.mH.unsqueeze(1)
        diagonal = gram.diagonal(dim1=-2, dim2=-1)
        alpha = tikhonov_alpha * (diagonal.real.sum(-1) / N + TRACE_FLOOR)
        diagonal += alpha.unsqueeze(-1)
        factor, info = torch.linalg.cholesky_ex(gram)
        _require_solved(info)
        z = torch.cholesky_solve(y.unsqueeze(-1), factor).squeeze(-1)
        a = (z @ H.conj()) * codes.conj()
        require_finite(a, "back-projection")
        return a


def _require_solved(info: Tensor) -> None:
    failed = (info != 0).any(dim=1)
    if bool(failed.any()):
        raise MeasurementError(
            f"the ridge system of scene {int(failed.nonzero()[0])} is not positive definite"
        )
