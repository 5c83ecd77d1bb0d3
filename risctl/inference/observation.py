"""The input of an estimator, snapshots, channel and codes, and its division into batches."""

from __future__ import annotations

from collections.abc import Iterator
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
    def build(cls, y: Tensor, H: Tensor, codes: Tensor) -> Observation:
        """Form ``Phi`` after checking shapes and finiteness.

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


@dataclass(frozen=True)
class Batch:
    """Measurements of some scenes, their row indices, and their source counts [B] if given."""

    obs: Observation
    rows: Tensor
    num_sources: Tensor | None


def batches(
    y: Tensor, H: Tensor, codes: Tensor, num_sources: Tensor | None, max_sources: int, size: int
) -> Iterator[Batch]:
    """Split B scenes into batches of `size`, sorted by the given source counts.

    Raises:
        ValueError: if the shapes disagree, a value is not finite, a scene has no energy, or a given count
            is not within 0..`max_sources`.
    """
    order = torch.arange(y.shape[0], device=y.device)
    if num_sources is not None:
        num_sources = num_sources.to(y.device).long()
        wrong = (num_sources < 0) | (num_sources > max_sources)
        if num_sources.shape != order.shape or bool(wrong.any()):
            got = f"{num_sources[wrong].tolist()[:3]} in shape {tuple(num_sources.shape)}"
            raise ValueError(f"expected {len(order)} source counts within 0..{max_sources}, got {got}")
        order = num_sources.argsort(stable=True)
    for rows in torch.split(order, size) if len(order) else ():
        counts = None if num_sources is None else num_sources[rows]
        yield Batch(Observation.build(y[rows], H[rows], codes[rows]), rows, counts)
