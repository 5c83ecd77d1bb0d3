"""Ridge back-projections at several strengths from one eigendecomposition.

With ``Phi_l = H diag(c_l)`` and ``Phi_l Phi_l^H = U diag(lambda) U^H`` the solution at any strength is
``a_l = V_l^H (lambda + alpha)^-1 U^H y_l``, ``V_l = U^H Phi_l``. Codes of the same moduli share U and lambda.
The eigenvalues differ by orders of magnitude, and what counts comes from small ones: all that has M rows is
in double precision, or answers would depend on units by 1e-5.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from risctl.covariance.ridge import TRACE_FLOOR, code_power

TINY = 1e-20


@dataclass(frozen=True)
class RidgeSolutions:
    """Ridge back-projections of B scenes at A strengths.

    Attributes:
        a: back-projections, complex [B, A, L, N].
        strongest: ``u_1^H Phi_l`` conjugated, u_1 the receive direction of the largest eigenvalue; complex
            [B, L, N].
        level: contribution of the other directions to ``b^H W b``, mean over directions a, relative to the
            weight of ``|u_1^H Phi_l a|^2`` in it, ``W = (Phi_l Phi_l^H + alpha I)^-1`` and ``b = Phi_l a``;
            real [B, A].
        shares: real [B, 3 A], in 0..1: share of the energy of y that the ridge leaves unexplained, and the
            same share for white noise and for waves from all directions.
    """

    a: Tensor
    strongest: Tensor
    level: Tensor
    shares: Tensor


def ridge_solutions(y: Tensor, H: Tensor, codes: Tensor, alphas: Tensor) -> RidgeSolutions:
    """Solve at every strength; the result does not depend on the scale of y, H or codes.

    Args:
        y: snapshots, complex [B, L, M].
        H: channel, complex [B, M, N].
        codes: RIS codes, complex [B, L, N].
        alphas: strengths over the mean eigenvalue of ``Phi_l^H Phi_l``, real [A].
    """
    B, L, M = y.shape
    N = H.shape[-1]
    y, H, codes = (_unit_size(x) for x in (y, H, codes))
    power = code_power(codes)
    S = power.shape[1]
    like, (y, H) = y, (x.to(torch.complex128) for x in (y, H))
    gram = (H.unsqueeze(1) * power.double().unsqueeze(2)) @ H.mH.unsqueeze(1)
    eigenvalues, U = torch.linalg.eigh(gram)  # [B, S, M] and [B, S, M, M]
    V = (U.mH @ H.unsqueeze(1)).to(like)
    C = codes.view(B, S, L // S, N)
    seen = y.view(B, S, L // S, M) @ U.conj()  # U^H y
    mean = eigenvalues.sum(-1, keepdim=True) / N + TRACE_FLOOR  # a snapshot with the surface off has none
    load = alphas.view(1, -1, 1, 1) * mean.unsqueeze(1)
    weight = 1.0 / (eigenvalues.unsqueeze(1) + load)  # [B, A, S, M]
    rows = (seen.unsqueeze(1) * weight.unsqueeze(3)).to(like)
    a = (rows @ V.conj().unsqueeze(1)) * C.conj().unsqueeze(1)
    rest = (weight * eigenvalues.unsqueeze(1))[..., :-1].sum(-1) / N
    return RidgeSolutions(
        a=a.flatten(2, 3),
        strongest=(V[:, :, -1:] * C).conj().flatten(1, 2),
        level=(rest.mean(2) / weight[..., -1].mean(2)).to(like.real),
        shares=_shares(seen, eigenvalues, weight * load).to(like.real),
    )


def _unit_size(x: Tensor) -> Tensor:
    """Scale every scene so that its largest entry is about 1: squares then neither overflow nor vanish."""
    size = torch.view_as_real(x).abs().amax(dim=(1, 2, 3)).clamp_min(TINY)
    return x / size.view(-1, 1, 1)


def _shares(seen: Tensor, eigenvalues: Tensor, left: Tensor) -> Tensor:
    """Mean of ``left = alpha / (lambda + alpha)`` [B, A, S, M] under the spectra of y, noise and waves."""
    energy = torch.view_as_real(seen).square().sum(-1).sum(2)  # [B, S, M]
    spectra = (energy, torch.ones_like(energy), eigenvalues)
    means = [
        (s.unsqueeze(1) * left).sum((2, 3)) / s.sum((1, 2)).clamp_min(TINY).unsqueeze(1) for s in spectra
    ]
    return torch.cat(means, dim=1)
