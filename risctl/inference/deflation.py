"""A signal subspace with other sources projected out of what is looked for.

With Q an orthonormal basis of the steering vectors of the other sources and ``P = I - Q Q^H``, a source is
looked for where the part ``P a`` of a steering vector that the others cannot explain lies best in the signal
subspace: at the largest ``|U^H P a|^2 / |P a|^2`` (recursively applied and projected MUSIC; Mosher and Leahy,
IEEE Trans. Signal Process. 47(2), 1999). On an exact covariance this is one at the sources left and below one
elsewhere. The side lobes of a source, which crowd out weaker peaks of the plain spectrum, are gone with
it, and no two sources end in one peak.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from risctl.physics.geometry import ArrayGeometry
from risctl.physics.grid import PolarGrid
from risctl.physics.polar import polar_steering

REMAINDER_FLOOR = 0.05  # |P a|^2 below which what is left of a point beside another source tells nothing


@dataclass(frozen=True)
class DeflatedSubspace:
    """Signal subspaces of B scenes with other sources out of the way.

    Attributes:
        U: orthonormal basis [B, 1, N, K].
        Q: orthonormal basis of the other sources [B, C, N, k], for each of C points or, with C = 1, for all;
            k may be zero.
    """

    U: Tensor
    Q: Tensor

    @classmethod
    def compute(cls, U: Tensor, others: Tensor, geometry: ArrayGeometry) -> DeflatedSubspace:
        """Subspace U [B, N, K] with sources at polar points `others` [B, C, k, 3] projected out."""
        A = polar_steering(others, geometry).mT
        return cls(U.unsqueeze(1), torch.linalg.qr(A)[0] if others.shape[2] else A)

    def slot(self, c: int) -> DeflatedSubspace:
        """The subspace as point c sees it."""
        return DeflatedSubspace(self.U, self.Q[:, c : c + 1])

    def double(self) -> DeflatedSubspace:
        """The same in complex128."""
        return DeflatedSubspace(self.U.to(torch.complex128), self.Q.to(torch.complex128))

    def project(self, X: Tensor) -> Tensor:
        """``P x`` of vectors x in the rows of X [B, C, J, N]."""
        return X - (X @ self.Q.conj()) @ self.Q.mT

    def on_grid(self, grid: PolarGrid) -> Tensor:
        """The share of ``P a`` in the subspace at every grid point [B, G] (Q the same for all points)."""
        U = self.U.squeeze(1)
        signal = grid.energy(self.project(U.mT.unsqueeze(1)).squeeze(1))
        if not self.Q.shape[-1]:
            return signal
        return _share(signal, grid.energy(self.Q.squeeze(1).mT))

    def along(self, a: Tensor) -> Tensor:
        """The same for steering vectors a [B, C, J, N]: [B, C, J]."""
        signal = (self.project(self.U.mT) @ a.mH).abs().square().sum(-2)
        return _share(signal, (self.Q.mH @ a.mT).abs().square().sum(-2))


def _share(signal: Tensor, explained: Tensor) -> Tensor:
    return signal / (1.0 - explained).clamp_min(REMAINDER_FLOOR)
