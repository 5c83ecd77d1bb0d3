"""What an estimator is given: snapshots, channel and codes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from risctl.errors import MeasurementError


@dataclass(frozen=True)
class Observation:
    """Snapshots, channel and codes of B scenes, with the measurement matrices ``Phi_l = H diag(c_l)``.

    Attributes:
        y: [B, L, M]. H: [B, M, N]. codes: [B, L, N]. Phi: [B, L, M, N]; all complex of one precision.
    """

    y: Tensor
    H: Tensor
    codes: Tensor
    Phi: Tensor

    @classmethod
    def of(cls, y: Tensor, H: Tensor, codes: Tensor) -> Observation:
        """Check the shapes and finiteness, and form ``Phi``.

        Raises:
            MeasurementError: naming the axis or the first scene at fault.
        """
        if y.dim() != 3 or H.dim() != 3 or codes.dim() != 3:
            raise MeasurementError(
                f"expected y [B,L,M], H [B,M,N], codes [B,L,N], got {y.shape}, {H.shape}, {codes.shape}"
            )
        B, L, M = y.shape
        if H.shape[:2] != (B, M) or codes.shape != (B, L, H.shape[2]):
            raise MeasurementError(
                f"shapes disagree: y {tuple(y.shape)}, H {tuple(H.shape)}, codes {tuple(codes.shape)}"
            )
        for name, x in (("y", y), ("H", H), ("codes", codes)):
            finite = torch.isfinite(x.abs()).flatten(1).all(dim=1)
            if not bool(finite.all()):
                raise MeasurementError(
                    f"{name} of scene {int((~finite).nonzero()[0])} has a value that is not finite"
                )
        silent = (y.abs().amax((1, 2)) == 0) | (H.abs().amax((1, 2)) == 0) | (codes.abs().amax((1, 2)) == 0)
        if bool(silent.any()):
            raise MeasurementError(f"scene {int(silent.nonzero()[0])} has no energy in y, H or codes")
        return cls(y, H, codes, H.unsqueeze(1) * codes.unsqueeze(2))

    def __len__(self) -> int:
        return int(self.y.shape[0])

    def __getitem__(self, rows: Tensor) -> Observation:
        return Observation(self.y[rows], self.H[rows], self.codes[rows], self.Phi[rows])

    def double(self) -> Observation:
        """The same scenes in complex128."""
        return Observation(*(x.to(torch.complex128) for x in (self.y, self.H, self.codes, self.Phi)))

    def back_project(self, r: Tensor) -> Tensor:
        """``Phi_l^H r_l`` [B, L, N] of snapshot residuals r [B, L, M]."""
        return (r @ self.H.conj()) * self.codes.conj()

    def observe(self, columns: Tensor) -> Tensor:
        """``Phi_l x_j`` [B, L, M, J] of RIS-domain vectors [B, J, N]."""
        B, L, M, N = self.Phi.shape
        return (self.Phi.view(B, L * M, N) @ columns.mT).view(B, L, M, columns.shape[1])
