"""`cov`, `cov_pred`, `subspace_align`: squared error of a covariance, and its part off the sources.

    NMSE = (lam_diag ||D||^2 / ||D_true||^2 + lam_off ||O||^2 / ||O_true||^2) / (lam_diag + lam_off),

D and O the diagonal and the off-diagonal part of ``R - R_true``, D_true and O_true those of ``R_true``
(trace N, no load). R is taken as the pipeline hands it on, the blend with its load ``eps_cov I`` on, so that
what is scored is the matrix that inference uses. At ``R = R_true + eps_cov I`` the term is of the order
eps_cov^2, 1e-6.

    subspace_align = ||P_perp R P_perp||_F^2 / ||R||_F^2,     P_perp = I - A (A^H A + delta I)^-1 A^H,

A the true steering vectors, delta = `subspace_load`, lies in [0, 1] and is zero at the truth, but for the
loads: about ``(N - K) (eps_cov / ||R||)^2`` there, 1e-7.
"""

import torch
from torch import Tensor

from risctl.config import LossConfig
from risctl.losses.moments import GUARD, Moments, Reference, energy, trace


def covariance_nmse(moments: Moments, reference: Reference, loss: LossConfig) -> Tensor:
    """NMSE [B] of the covariance behind `moments`; 0 at the truth, 1 for ``R = 0``, unbounded above."""
    error = moments.squared_norm() - 2.0 * moments.inner(reference) + reference.squared_norm
    diagonal = (moments.diagonal() - reference.diagonal).square().sum(-1)
    diagonal_true = reference.diagonal.square().sum(-1)
    # Differences of sums: rounding may leave them a little below zero.
    off = (error - diagonal).clamp_min(0.0)
    off_true = (reference.squared_norm - diagonal_true).clamp_min(0.0)
    weighted = loss.lam_diag * diagonal / (diagonal_true + GUARD) + loss.lam_off * off / (off_true + GUARD)
    return weighted / (loss.lam_diag + loss.lam_off + GUARD)


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
    # A (M + delta I)^-1 A^H has the non-zero eigenvalues of S, so that ||P_perp^2||^2 is about N - K.
    S, N = inverse @ M, moments.R.shape[-1]
    E = 2.0 * S - S @ S
    load = N - 2.0 * trace(E) + trace(E @ E)
    outside = energy(gram, 2) + 2.0 * eps * again + eps * eps * load
    return outside / (moments.squared_norm() + GUARD)
