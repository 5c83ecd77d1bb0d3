"""Squared moduli, traces and power shares; inner products that several terms share, computed once per batch.

All that the covariance terms use of ``R = F F^H + load I`` (rank r << N) and of the true steering vectors A
is in three small matrices, ``F^H F`` [r, r], ``F^H A`` [r, K] and ``A^H A`` [K, K], and in two diagonals.
One function makes all products with F, because F is the only large operand: forward and backward pass over it
once per product, without the conjugated copies that a chain of elementary products makes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from risctl.covariance import LowRank
from risctl.losses.truth import Truth

GUARD = 1e-12


def energy(x: Tensor, dims: int = 1) -> Tensor:
    """``sum |x|^2 = sum (real^2 + imag^2)`` of complex x over its last `dims` axes; 0: entry by entry."""
    if dims == 0:
        return x.real.square() + x.imag.square()
    parts = torch.view_as_real(x.resolve_conj())
    return parts.flatten(-1 - dims).square().sum(-1)


def trace(x: Tensor) -> Tensor:
    """Real part of the trace [...] of matrices [..., n, n]."""
    return x.diagonal(dim1=-2, dim2=-1).real.sum(-1)


def power_share(power: Tensor) -> Tensor:
    """Share [B, K_max] of every slot in the power; zero throughout where there is none."""
    return power / (power.sum(-1, keepdim=True) + GUARD)


def inner_products(F: Tensor, *vectors: Tensor) -> tuple[Tensor, ...]:
    """``F^H F`` [B, r, r] and, for each of `vectors` [B, m, N] (one vector per row), ``F^H a`` [B, r, m].

    Differentiable in F [B, N, r] and in the vectors.
    """
    products: tuple[Tensor, ...] = _InnerProducts.apply(F, *vectors)  # type: ignore[no-untyped-call]
    return products


class _InnerProducts(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, F: Tensor, *vectors: Tensor) -> tuple[Tensor, ...]:
        ctx.save_for_backward(F, *vectors)
        F_H = F.mH.resolve_conj()
        return F_H @ F, *(F_H @ a.mT for a in vectors)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_gram: Tensor, *grads: Tensor) -> tuple[Tensor | None, ...]:
        F, *vectors = ctx.saved_tensors
        grad_F = None
        if ctx.needs_input_grad[0]:
            grad_F = F @ (grad_gram + grad_gram.mH)
            for a, g in zip(vectors, grads, strict=True):
                grad_F.baddbmm_(a.mT, g.mH)
        wanted = zip(grads, ctx.needs_input_grad[1:], strict=True)
        return grad_F, *((F @ g).mT if needed else None for g, needed in wanted)


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
