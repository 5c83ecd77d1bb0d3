"""Inner products that several terms share, computed once per batch.

All that the covariance terms use of ``R = F F^H + load I`` (rank r << N) and of the true steering vectors A
is in three small matrices, ``F^H F`` [r, r], ``F^H A`` [r, K] and ``A^H A`` [K, K], and in two diagonals.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from risctl.covariance import LowRank
from risctl.losses.energy import energy, trace
from risctl.losses.truth import Truth


@dataclass(frozen=True)
class Reference:
    """Quantities of ``R_true = A diag(p) A^H`` that the terms use.

    Attributes:
        power: p [B, K_max].
        steering: ``A^H A`` [B, K_max, K_max], rows and columns past K zero.
        diagonal: of R_true, real [B, N].
        squared_norm: ``||R_true||_F^2 = sum_kl p_k p_l |a_k^H a_l|^2`` [B].
    """

    power: Tensor
    steering: Tensor
    diagonal: Tensor
    squared_norm: Tensor

    @classmethod
    def of(cls, truth: Truth) -> Reference:
        """Reference of the scenes of `truth`."""
        p, M = truth.power, truth.A.mH @ truth.A
        diagonal = (energy(truth.A, 0) @ p.unsqueeze(-1)).squeeze(-1)
        return cls(p, M, diagonal, (p.unsqueeze(-1) * energy(M, 0) * p.unsqueeze(-2)).sum((-2, -1)))


@dataclass(frozen=True)
class Moments:
    """Inner products of a covariance's factor with itself and with the true steering vectors.

    Attributes:
        R: the covariance, factor F [B, N, r].
        gram: ``F^H F`` [B, r, r].
        cross: ``F^H A`` [B, r, K_max], columns past K zero.
    """

    R: LowRank
    gram: Tensor
    cross: Tensor

    def diagonal(self) -> Tensor:
        """Diagonal of R [B, N]."""
        return energy(self.R.F) + self.R.load

    def squared_norm(self) -> Tensor:
        """``||R||_F^2`` [B]."""
        load, N = self.R.load, self.R.shape[-1]
        return energy(self.gram, 2) + 2.0 * load * trace(self.gram) + load * load * N

    def inner(self, reference: Reference) -> Tensor:
        """``tr(R R_true) = sum_k p_k (||F^H a_k||^2 + load ||a_k||^2)`` [B]."""
        along = (
            energy(self.cross, 0).sum(-2) + self.R.load * reference.steering.diagonal(dim1=-2, dim2=-1).real
        )
        return (reference.power * along).sum(-1)
