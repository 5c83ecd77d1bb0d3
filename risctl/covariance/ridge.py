"""Ridge back-projection of the snapshots onto the surface.

``a_l = (Phi_l^H Phi_l + alpha_l I_N)^-1 Phi_l^H y_l`` with ``Phi_l = H diag(c_l)`` and
``alpha_l = tikhonov_alpha (tr(Phi_l^H Phi_l) / N + 1e-12)``, through the push-through identity
``Phi^H (Phi Phi^H + alpha I_M)^-1 y``: an M x M system in place of an N x N one, solved in double precision.
"""

import torch
from torch import Tensor

from risctl.covariance.precision import first_scene, full_precision, require_finite, widened
from risctl.errors import MeasurementError

TRACE_FLOOR = 1e-12
MODULUS_ROUNDING = 8.0  # units of rounding by which |c|^2 of unit-modulus codes may differ


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
        power, fine = code_power(codes).double(), H.to(torch.complex128)
        gram = (fine.unsqueeze(1) * power.unsqueeze(2)) @ fine.mH.unsqueeze(1)  # Phi_l Phi_l^H [B, L', M, M]
        rows = _solve_rows(gram, y.to(gram), H.shape[-1], tikhonov_alpha)
        a = (rows @ fine.conj()).to(y.dtype) * codes.conj()
        require_finite(a, "back-projection")
        return a


def ridge_through(y: Tensor, Phi: Tensor, tikhonov_alpha: float) -> Tensor:
    """The same through any matrices Phi, complex [B, L, M, N], or [B, 1, M, N] for all snapshots."""
    with full_precision(y):
        y, Phi = widened(y, Phi)
        fine = Phi.to(torch.complex128)
        rows = _solve_rows(fine @ fine.mH, y.to(fine), Phi.shape[-1], tikhonov_alpha)
        one = Phi.shape[1] == 1
        a = rows @ fine[:, 0].conj() if one else (rows.unsqueeze(-2) @ fine.conj()).squeeze(-2)
        a = a.to(y.dtype)
        require_finite(a, "back-projection")
        return a


def _solve_rows(gram: Tensor, y: Tensor, num_elements: int, tikhonov_alpha: float) -> Tensor:
    """``(Phi_l Phi_l^H + alpha_l I)^-1 y_l`` [B, L, M]; `gram` [B, L or 1, M, M] is overwritten."""
    trace = gram.diagonal(dim1=-2, dim2=-1).real.sum(-1)
    alpha = tikhonov_alpha * (trace / num_elements + TRACE_FLOOR)
    gram.diagonal(dim1=-2, dim2=-1).add_(alpha.unsqueeze(-1))
    factor, info = torch.linalg.cholesky_ex(gram)
    bad = first_scene((info != 0).any(dim=1))
    if bad is not None:
        raise MeasurementError(f"the ridge system of scene {bad} is not positive definite")
    right = y.mT.unsqueeze(1) if gram.shape[1] == 1 else y.unsqueeze(-1)  # [B, 1, M, L] or [B, L, M, 1]
    return torch.cholesky_solve(right, factor).mT.reshape(y.shape)


def code_power(codes: Tensor) -> Tensor:
    """``|c_l|^2`` [B, L, N]; [B, 1, N] if it is the same, to rounding, in every snapshot of every scene.

    Codes of constant modulus, which phase shifters make, have one ``Phi_l Phi_l^H`` per scene, not L of them.
    """
    power = (codes * codes.conj()).real  # without the square root that `abs` takes
    first = power[:, :1]
    rounding = MODULUS_ROUNDING * torch.finfo(power.dtype).eps
    return first if bool(((power - first).abs() <= rounding * first).all()) else power
