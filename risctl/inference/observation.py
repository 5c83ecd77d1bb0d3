"""The input of an estimator, its division into batches, and indexing of nested dataclasses of tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, is_dataclass
from typing import TypeVar, cast

import torch
from torch import Tensor

from risctl.covariance.precision import require_finite
from risctl.errors import MeasurementError

Tree = TypeVar("Tree")  # a dataclass of tensors and such dataclasses; the batch axis comes first everywhere


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
            require_finite(x, name)
        silent = (y.abs().amax((1, 2)) == 0) | (H.abs().amax((1, 2)) == 0) | (codes.abs().amax((1, 2)) == 0)
        if bool(silent.any()):
            raise MeasurementError(f"scene {int(silent.nonzero()[0])} has no energy in y, H or codes")
        return cls(y, H, codes, H.unsqueeze(1) * codes.unsqueeze(2))

    def __len__(self) -> int:
        return int(self.y.shape[0])

    def __getitem__(self, rows: Tensor) -> Observation:
        return tree_index(self, rows)

    def double(self) -> Observation:
        """The same scenes in complex128."""
        return tree_map(lambda x: x.to(torch.complex128), self)

    def back_project(self, r: Tensor) -> Tensor:
        """``Phi_l^H r_l`` [B, L, N] of snapshot residuals r [B, L, M]."""
        return (r @ self.H.conj()) * self.codes.conj()

    def observe(self, columns: Tensor) -> Tensor:
        """``Phi_l x_j`` [B, L, M, J] of RIS-domain vectors [B, J, N]."""
        B, L, M, N = self.Phi.shape
        return (self.Phi.view(B, L * M, N) @ columns.mT).view(B, L, M, columns.shape[1])


def batches(
    y: Tensor, H: Tensor, codes: Tensor, num_sources: Tensor | None, max_sources: int, size: int
) -> Iterator[tuple[Observation, Tensor, Tensor | None]]:
    """Split B scenes into batches of `size`, sorted by the given source counts.

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
        yield Observation.build(y[rows], H[rows], codes[rows]), rows, counts


def tree_map(function: Callable[..., Tensor], *trees: Tree) -> Tree:
    """`function` of every tensor of a tree, or of the corresponding tensors of several."""
    kind = type(trees[0])
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
