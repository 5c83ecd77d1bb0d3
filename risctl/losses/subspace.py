"""`align`, `subspace_align`: energy of steering vectors outside the signal subspace, and the reverse.

    align          = sum_k w_k (1 - a_k^H P_R a_k),
    subspace_align = ||P_perp R P_perp||_F^2 / ||R||_F^2,     P_perp = I - A (A^H A + delta I)^-1 A^H,

a_k the predicted steering vectors, w_k their power shares, P_R the projector on the K leading eigenvectors
of R, A the true steering vectors, delta = `subspace_load`, K the true source count. Both lie in [0, 1] and
are zero at the truth, but for the loads: `subspace_align` is there about ``(N - K) (eps_cov / ||R||)^2``,
1e-7.
"""

from __future__ import annotations

import torch
from torch import Tensor

from risctl.config import LossConfig
from risctl.losses.energy import GUARD, energy, power_share, trace
from risctl.losses.moments import Moments, Reference


def predicted_outside(inside: Tensor, power: Tensor) -> Tensor:
    """`align` [B] from ``a_k^H P_R a_k`` of predicted steering vectors and the slots' power [B, K_max]."""
    return (power_share(power) * (1.0 - inside)).sum(-1)


def covariance_outside(moments: Moments, reference: Reference, loss: LossConfig) -> Tensor:
    """`subspace_align` [B], from K x K and r x r matrices.

    With ``W = P_perp F`` and ``R = F F^H + eps I``:
    ``||P_perp R P_perp||^2 = ||W^H W||^2 + 2 eps ||P_perp W||^2 + eps^2 ||P_perp^2||^2``.
    """
    M, delta, eps = reference.steering, loss.subspace_load, moments.R.load
    identity = torch.eye(M.shape[-1], dtype=M.dtype, device=M.device)
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(M + delta * identity))
    C_H = moments.cross.mH
    X = inverse @ C_H
    # W = F - A X and A^H W = delta X, therefore W^H W = F^H W - X^H A^H W.
    gram = moments.gram - moments.cross @ X - delta * (X.mH @ X)
    # P_perp W = W - delta A Y with Y = (M + delta I)^-1 X.
    Y = inverse @ X
    again = trace(gram) + delta * delta * ((Y.conj() * (M @ Y - 2.0 * X)).real.sum((-2, -1)))
    outside = (
        energy(gram, 2) + 2.0 * eps * again + eps * eps * _load_outside(inverse @ M, moments.R.shape[-1])
    )
    return outside / (moments.squared_norm() + GUARD)


def _load_outside(S: Tensor, num_elements: int) -> Tensor:
    """``||P_perp^2||_F^2`` [B]: about N - K. ``A (M + delta I)^-1 A^H`` has the non-zero eigenvalues of S."""
    E = 2.0 * S - S @ S
    return num_elements - 2.0 * trace(E) + trace(E @ E)
