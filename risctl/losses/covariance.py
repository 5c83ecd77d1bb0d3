"""`cov`, `cov_pred`: normalised squared error of a covariance.

    NMSE = (lam_diag ||D||^2 / ||D_true||^2 + lam_off ||O||^2 / ||O_true||^2) / (lam_diag + lam_off),

D and O the diagonal and the off-diagonal part of ``R - R_true``, D_true and O_true those of ``R_true``
(trace N, no load). R is taken as the pipeline hands it on, the blend with its load ``eps_cov I`` on, so that
what is scored is the matrix that inference uses. At ``R = R_true + eps_cov I`` the term is of the order
eps_cov^2, 1e-6.
"""

from __future__ import annotations

from torch import Tensor

from risctl.config import LossConfig
from risctl.losses.energy import GUARD
from risctl.losses.moments import Moments, Reference


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
