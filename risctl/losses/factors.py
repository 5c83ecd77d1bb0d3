"""`ortho`, `cross`: mutual coherence of the columns of the predicted factors.

    ortho = sum_{i != j} |a_i^H a_j|^2 / (|a_i|^2 |a_j|^2)         a_i columns of A_angle
    cross = sum_{i != j} |a_i^H b_j|^2 / (|a_i|^2 |b_j|^2)         b_j columns of A_range

Neither knows the truth: the floor of `ortho` is the coherence of the true steering vectors, that of `cross`
zero for ``A_range = 0``. A column without energy is orthogonal to all others; so that the gradient stays
bounded on the way there, a small share of the factor's mean column energy is added to every energy.
"""

import torch
from torch import Tensor

from risctl.losses.moments import GUARD, energy, inner_products

EMPTY_COLUMN = 1e-6


def slot_coherence(A_angle: Tensor, A_range: Tensor) -> tuple[Tensor, Tensor]:
    """`ortho` [B] and `cross` [B] of the predicted factors [B, N, K_max]."""
    K = A_angle.shape[-1]
    (gram,) = inner_products(torch.cat([A_angle, A_range], dim=-1))
    columns = gram.diagonal(dim1=-2, dim2=-1).real
    factors = columns[:, :K], columns[:, K:]
    guarded = torch.cat([x + EMPTY_COLUMN * x.mean(-1, keepdim=True) + GUARD for x in factors], dim=-1)
    coherence = energy(gram[:, :K], 0) / (guarded[:, :K].unsqueeze(-1) * guarded.unsqueeze(-2))
    different = 1.0 - torch.eye(K, dtype=coherence.dtype, device=coherence.device)
    ortho, cross = coherence[..., :K] * different, coherence[..., K:] * different
    return ortho.sum((-2, -1)), cross.sum((-2, -1))
