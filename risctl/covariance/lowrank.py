"""A covariance of low rank plus a loaded diagonal, in factor form.

``R = F F^H + load I`` with F [N, r] is never formed unless asked for: trace, norms, spectrum and subspaces
follow from the r x r Gram matrix ``F^H F``, which has the same non-zero eigenvalues as ``F F^H``.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from risctl.covariance.precision import full_precision

RANK_ROUNDING = 8.0  # eigenvalues below this many units of rounding (times r) of the largest count as zero


@dataclass(frozen=True)
class LowRank:
    """``R = F F^H + load I`` of a batch of scenes.

    Differentiable in F, except `music_denominator`, which uses single eigenvectors.

    Attributes:
        F: factor, complex [B, N, r].
        load: diagonal load.
    """

    F: Tensor
    load: float = 0.0

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape (B, N, N) of the matrices."""
        B, N, _ = self.F.shape
        return int(B), int(N), int(N)

    def detach(self) -> LowRank:
        """The same matrices, detached from the autograd graph."""
        return LowRank(self.F.detach(), self.load)

    def dense(self) -> Tensor:
        """The matrices [B, N, N], exactly Hermitian."""
        with full_precision(self.F):
            R = hermitian_part(self.F @ self.F.mH)
            if self.load:
                R = R + self.load * torch.eye(R.shape[-1], dtype=R.dtype, device=R.device)
            return R

    def gram(self) -> Tensor:
        """``F^H F`` [B, r, r], exactly Hermitian."""
        with full_precision(self.F):
            return hermitian_part(self.F.mH @ self.F)

    def trace(self) -> Tensor:
        """Trace of R, real [B]."""
        return _energy(self.F, (-2, -1)) + self.load * self.shape[-1]

    def norm(self) -> Tensor:
        """Frobenius norm of R [B]."""
        return self.inner(self).clamp_min(0.0).sqrt()

    def inner(self, other: LowRank) -> Tensor:
        """``tr(R S)`` [B], real, S the other covariance."""
        with full_precision(self.F):
            cross = _energy(self.F.mH @ other.F, (-2, -1))
        mixed = other.load * _energy(self.F, (-2, -1)) + self.load * _energy(other.F, (-2, -1))
        return cross + mixed + self.load * other.load * self.shape[-1]

    def eigenvalues(self, count: int) -> Tensor:
        """The `count` largest eigenvalues of R, descending [B, count]."""
        with full_precision(self.F):
            small = self.gram() if self.F.shape[-1] <= self.shape[-1] else hermitian_part(self.F @ self.F.mH)
            found = torch.linalg.eigvalsh(small).flip(-1)[..., :count]
            return torch.nn.functional.pad(found, (0, count - found.shape[-1])) + self.load

    @torch.no_grad()
    def music_denominator(self, A: Tensor, num_sources: int) -> Tensor:
        """``|a|^2 - |U^H a|^2`` [B, G] of steering vectors A [G, N], U the K leading eigenvectors.

        For values only: the gradient of single eigenvectors is not defined where eigenvalues meet.
        """
        with full_precision(self.F):
            A, U = A.to(self.F.dtype), leading_subspace(self.F, num_sources)[0]
            rows = U.mT.flatten(0, 1).conj() @ A.mT  # one product for the batch instead of B copies of A
            inside = _energy(rows.view(-1, num_sources, A.shape[0]), 1)
            return _energy(A, -1) - inside


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


def hermitian_part(R: Tensor) -> Tensor:
    """``(R + R^H) / 2``: products of floating-point numbers are not Hermitian to the last bit."""
    return (R + R.mH) / 2.0


def _energy(x: Tensor, dim: int | tuple[int, ...]) -> Tensor:
    return torch.view_as_real(x.resolve_conj()).square().sum(-1).sum(dim)
