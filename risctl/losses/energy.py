"""Squared moduli, traces and power shares."""

from __future__ import annotations

import torch
from torch import Tensor

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
