"""Energy of vectors inside the signal subspace of a covariance, with a gradient that needs no eigenvector's.

    s_m = a_m^H P a_m,     P the projector on the K leading eigenvectors of R = F F^H (a load changes none).

With the Gram matrix ``G = F^H F = V diag(lambda) V^H`` and ``b_m = F^H a_m``, r numbers a vector,

    s_m = b_m^H T b_m,     T = f(G) = V diag(f) V^H,     f_i = 1 / lambda_i for i <= K, else 0,

and the gradient is that of a function of a Hermitian matrix (Daleckii & Krein 1965; Higham, Functions of
Matrices, 2008, theorem 3.11):

    dT = V (Gamma o (V^H dG V)) V^H,     Gamma_ij = (f_i - f_j) / (lambda_i - lambda_j).

For two signal eigenvalues that is ``-1 / (lambda_i lambda_j)``, for two noise eigenvalues 0, for a signal i
and a noise j ``1 / (lambda_i (lambda_i - lambda_j))``: only gaps between signal and noise are divided by,
never those inside either subspace, and P's gradient in R comes out whole, the complement of the range of F
(lambda_j = 0) included, as ``G`` and ``b`` are differentiated in F.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from risctl.covariance.lowrank import RANK_ROUNDING
from risctl.losses.moments import energy
from risctl.losses.spectrum import Spectrum

# Relative to the largest eigenvalue. A smaller gap counts as this one in the gradient, which stays finite
# where signal and noise eigenvalue meet and the subspace itself jumps.
GAP_FLOOR = 1e-3


def energy_inside(gram: Tensor, b: Tensor, spectrum: Spectrum, num_sources: Tensor, most: int) -> Tensor:
    """``a_m^H P a_m`` [B, m], P the projector on the K leading eigenvectors of ``F F^H``.

    Differentiable in both inner products.

    Args:
        gram: ``F^H F`` [B, r, r].
        b: ``F^H a_m`` in columns [B, r, m].
        spectrum: eigenpairs of `gram`.
        num_sources: K of every scene, int64 [B]. Beyond the rank of F the subspace is the range of F.
        most: the largest K there can be.
    """
    inside: Tensor = _EnergyInside.apply(  # type: ignore[no-untyped-call]
        gram, b, spectrum.values, spectrum.V, num_sources, most
    )
    return inside


class _EnergyInside(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, gram: Tensor, b: Tensor, values: Tensor, V: Tensor, num_sources: Tensor, most: int
    ) -> Tensor:
        kept = min(most, gram.shape[-1])
        f = _inverse_signal(values, num_sources, kept)
        W = V[..., :kept] * f.sqrt().unsqueeze(-2)  # T = W W^H, and U = F W is the orthonormal basis
        inner = W.mH @ b
        ctx.save_for_backward(b, values, V, f, W, inner)
        return energy(inner.unsqueeze(-1)).sum(-2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        b, values, V, f, W, inner = ctx.saved_tensors
        grad_gram = grad_b = None
        if ctx.needs_input_grad[0]:
            rotated = V.mH @ b
            Q = (rotated * g.unsqueeze(-2)) @ rotated.mH
            grad_gram = V @ (_divided_differences(values, f) * Q) @ V.mH
        if ctx.needs_input_grad[1]:
            grad_b = W @ (2.0 * g.unsqueeze(-2) * inner)
        return grad_gram, grad_b, None, None, None, None


def _inverse_signal(values: Tensor, num_sources: Tensor, kept: int) -> Tensor:
    """``1 / lambda_i`` of the signal eigenvalues [B, kept]; zero past K and past the rank."""
    floor = values[:, :1] * (RANK_ROUNDING * values.shape[-1] * torch.finfo(values.dtype).eps)
    signal = torch.arange(kept, device=values.device) < num_sources.unsqueeze(-1)
    signal = signal & (values[:, :kept] > floor)
    return torch.where(signal, values[:, :kept], torch.ones_like(floor)).reciprocal() * signal


def _divided_differences(values: Tensor, f: Tensor) -> Tensor:
    """Gamma [B, r, r], symmetric, for f [B, kept]."""
    f = torch.nn.functional.pad(f, (0, values.shape[-1] - f.shape[-1]))
    signal = f > 0
    floor = GAP_FLOOR * values[:, :1, None].clamp_min(torch.finfo(values.dtype).tiny)
    gaps = torch.maximum(values[:, :, None] - values[:, None, :], floor)
    across = f[:, :, None] * ~signal[:, None, :] / gaps  # signal i, noise j
    return across + across.mT - f[:, :, None] * f[:, None, :]
