"""The input of an estimator, its division into batches, and indexing of nested dataclasses of tensors."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import TypeVar, cast

import torch
from torch import Tensor

from risctl.covariance.precision import require_finite
from risctl.errors import MeasurementError

Tree = TypeVar("Tree")  # a dataclass of tensors and such dataclasses; the batch axis comes first everywhere


@dataclass(frozen=True)
class Observation:
    """Snapshots of B scenes, ``y_l = Phi_l A s_l + w_l``, with their measurement matrices.

    Attributes:
        y: [B, L, M].
        H: [B, M, N] and `codes` [B, L, N] where ``Phi_l = H diag(c_l)``, which products with ``Phi_l^H`` are
            faster by; else both None.
        Phi: [B, L, M, N], or [B, 1, M, N] where it is the same in all snapshots. All have one precision.
        weight: number of measured snapshots that each snapshot stands for, real [B]; see `compressed`.
    """

    y: Tensor
    H: Tensor | None
    codes: Tensor | None
    Phi: Tensor
    weight: Tensor

    @classmethod
    def build(cls, y: Tensor, H: Tensor, codes: Tensor) -> Observation:
        """Form ``Phi_l = H diag(c_l)`` after checking shapes and finiteness.

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
        _check_values({"y": y, "H": H, "codes": codes})
        held = L > 1 and bool((codes == codes[:, :1]).all())  # one code throughout
        Phi = H.unsqueeze(1) * (codes[:, :1] if held else codes).unsqueeze(2)
        return cls(y, H, codes, Phi, torch.ones_like(y[:, 0, 0].real))

    @classmethod
    def of_matrices(cls, y: Tensor, Phi: Tensor) -> Observation:
        """Snapshots y [B, L, M] through any matrices Phi [B, L, M, N], or [B, 1, M, N] for all of them.

        Raises:
            MeasurementError: naming the axis or the first scene at fault.
        """
        if y.dim() != 3 or Phi.dim() != 4:
            raise MeasurementError(f"expected y [B,L,M], Phi [B,L,M,N], got {y.shape}, {Phi.shape}")
        B, L, M = y.shape
        if Phi.shape[0] != B or Phi.shape[1] not in (1, L) or Phi.shape[2] != M:
            raise MeasurementError(f"shapes disagree: y {tuple(y.shape)}, Phi {tuple(Phi.shape)}")
        _check_values({"y": y, "Phi": Phi})
        if Phi.shape[1] > 1 and bool((Phi == Phi[:, :1]).all()):
            Phi = Phi[:, :1]
        return cls(y, None, None, Phi, torch.ones_like(y[:, 0, 0].real))

    def __len__(self) -> int:
        return int(self.y.shape[0])

    def __getitem__(self, rows: Tensor) -> Observation:
        return tree_index(self, rows)

    def double(self) -> Observation:
        """The same scenes in complex128."""
        return tree_map(lambda x: x.to(torch.complex128 if x.is_complex() else torch.float64), self)

    def compressed(self) -> Observation:
        """The same likelihood of symbols that vary, from at most M snapshots, where Phi is constant.

        The Gaussian-symbol and the conditional likelihood depend on the snapshots only through
        ``sum_l y_l y_l^H``. The M rows of the triangular factor of Y = QR have the same sum. They are scaled
        to the same mean over snapshots, and each counts L / M times.
        """
        L, M = self.y.shape[1:]
        if self.Phi.shape[1] > 1 or L <= M:
            return self
        y = torch.linalg.qr(self.y, mode="r")[1] * math.sqrt(M / L)
        return Observation(y, None, None, self.Phi, self.weight * (L / M))

    def adjoint(self, rows: Tensor) -> Tensor:
        """``(Phi_l^H x_j)^T`` [B, L, J, N] of vectors x_j in the rows of [B, L, J, M]."""
        if self.H is None or self.codes is None:
            return rows @ self.Phi.conj()
        return (rows @ self.H.conj().unsqueeze(1)) * self.codes[:, : rows.shape[1]].conj().unsqueeze(2)

    def back_project(self, r: Tensor) -> Tensor:
        """``Phi_l^H r_l`` [B, L, N] of snapshot residuals r [B, L, M]."""
        if self.H is not None and self.codes is not None:
            return (r @ self.H.conj()) * self.codes.conj()
        if self.Phi.shape[1] == 1:
            return r @ self.Phi[:, 0].conj()
        return self.adjoint(r.unsqueeze(-2)).squeeze(-2)

    def observe(self, columns: Tensor) -> Tensor:
        """``Phi_l x_j`` [B, L, M, J] of surface vectors [B, J, N]."""
        B, L, M, N = self.Phi.shape
        # With the few columns of a scene on its left the product is up to twice as fast.
        seen = (columns @ self.Phi.reshape(B, L * M, N).mT).mT.contiguous().view(B, L, M, columns.shape[1])
        return seen.expand(-1, self.y.shape[1], -1, -1)

    def gather(self, V: Tensor) -> Tensor:
        """``sum_l Phi_l^H V_lj`` [B, J, N] of V [B, L, M, J]."""
        V = V.sum(1, keepdim=True) if self.Phi.shape[1] == 1 else V
        return (V.flatten(1, 2).mH @ self.Phi.flatten(1, 2)).conj()


def _check_values(arrays: Mapping[str, Tensor]) -> None:
    """Refuse scenes with a value that is not finite, or with an array of zeros."""
    for name, x in arrays.items():
        require_finite(x, name)
    silent = torch.stack([x.abs().flatten(1).amax(1) == 0 for x in arrays.values()]).any(dim=0)
    if bool(silent.any()):
        *names, last = arrays
        listed = f"{', '.join(names)} or {last}"
        raise MeasurementError(f"scene {int(silent.nonzero()[0])} has no energy in {listed}")


def batches(
    y: Tensor,
    H: Tensor | None,
    codes: Tensor | None,
    num_sources: Tensor | None,
    max_sources: int,
    size: int,
    Phi: Tensor | None = None,
) -> Iterator[tuple[Observation, Tensor, Tensor | None]]:
    """Split B scenes into batches of `size`, sorted by the given source counts.

    Args:
        y: [B, L, M].
        H, codes: [B, M, N] and [B, L, N], or None and `Phi`.
        num_sources: source count of each scene [B], or None.
        max_sources: the largest that is allowed.
        size: scenes of a batch.
        Phi: measurement matrices [B, L, M, N] or [B, 1, M, N] in place of `H` and `codes`.

    Yields:
        The measurements of a batch, its row indices, and its source counts if they are given.

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
        if Phi is not None:
            yield Observation.of_matrices(y[rows], Phi[rows]), rows, counts
        elif H is not None and codes is not None:
            yield Observation.build(y[rows], H[rows], codes[rows]), rows, counts
        else:
            raise MeasurementError("expected H and codes, or Phi, got neither")


def tree_map(function: Callable[..., Tensor], *trees: Tree) -> Tree:
    """`function` of every tensor of a tree, or of the corresponding tensors of several."""
    kind = type(trees[0])
    if trees[0] is None:
        return trees[0]
    if not is_dataclass(kind):
        return cast(Tree, function(*trees))
    names = [f.name for f in fields(kind)]
    return cast(Tree, kind(**{n: tree_map(function, *(getattr(t, n) for t in trees)) for n in names}))


def tree_index(tree: Tree, rows: Tensor) -> Tree:
    """``x[rows]`` (indices or a mask) of every tensor x of `tree`."""
    return tree_map(lambda x: x[rows], tree)


def tree_where(mask: Tensor, a: Tree, b: Tree) -> Tree:
    """The rows of `a` where `mask` [B], else those of `b`."""
    return tree_map(lambda x, y: torch.where(mask.view(-1, *[1] * (x.dim() - 1)), x, y), a, b)


def tree_scatter(tree: Tree, rows: Tensor, part: Tree) -> Tree:
    """A copy of `tree` with `rows` replaced by the rows of `part`."""
    return tree_map(lambda x, y: x.index_copy(0, rows, y), tree, part)
