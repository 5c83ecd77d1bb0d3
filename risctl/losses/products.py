"""``F^H F`` and ``F^H a`` of a factor and some vectors: all that the losses use of a covariance.

One function for all of them, because F is the only large operand: forward and backward pass over it once per
product, without the conjugated copies that a chain of elementary products makes.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


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
