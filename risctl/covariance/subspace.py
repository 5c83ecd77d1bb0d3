"""Eigenvectors of a low-rank covariance from the small Gram matrix of its factor."""

from __future__ import annotations

import torch
from torch import Tensor

from risctl.covariance.precision import full_precision

RANK_ROUNDING = 8.0  # eigenvalues below this many units of rounding (times L) of the largest count as zero


def leading_subspace(F: Tensor, num_vectors: int) -> tuple[Tensor, Tensor]:
    """Leading eigenpairs of ``F F^H`` through ``F^H F = V diag(lambda) V^H``, ``U = F V diag(lambda)^-1/2``.

    Args:
        F: factor, complex [B, N, L].
        num_vectors: K, how many.

    Returns:
        U [B, N, K] with orthonormal columns, largest eigenvalue first, and the eigenvalues [B, K]. Past the
        rank of F columns and eigenvalues are zero: ``U U^H`` is a projector always. The phase of a column
        is arbitrary.
    """
    with full_precision(F):
        gram = F.mH @ F
        values, V = torch.linalg.eigh((gram + gram.mH) / 2.0)
        kept = min(num_vectors, F.shape[-1])
        values, V = values.flip(-1)[..., :kept].clamp_min(0.0), V.flip(-1)[..., :kept]
        floor = values[..., :1] * (RANK_ROUNDING * F.shape[-1] * torch.finfo(values.dtype).eps)
        values = torch.where(values > floor, values, torch.zeros_like(values))
        scale = torch.where(values > 0, values, torch.ones_like(values)).rsqrt() * (values > 0)
        U = (F @ V) * scale.unsqueeze(-2)
        missing = num_vectors - kept
        return torch.nn.functional.pad(U, (0, missing)), torch.nn.functional.pad(values, (0, missing))
