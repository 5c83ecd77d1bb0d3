"""Constant symbols: the snapshots of a scene as one coherent vector.

With one unknown amplitude ``x_k`` a source in all snapshots, ``y_l = Phi_l A x + w_l`` for l = 1, ..., L is
the single snapshot ``y = Phi A x + w`` of L M "antennas", ``Phi = [Phi_1; ...; Phi_L]``. A static path adds
the same unknown vector d in C^M to every snapshot. Orthonormal differences over the snapshots (rows of D, ``D
1 = 0``) take it out of y and Phi alike; the noise stays white and L - 1 values an antenna remain. Only the
means over l are lost, and with d unknown they tell nothing.
"""

import torch
from torch import Tensor


def stack(x: Tensor, static_path: bool = False) -> Tensor:
    """Snapshots ``y_l`` [B, L, M, ...] or matrices ``Phi_l`` [B, L, M, N] as one [B, 1, L M, ...].

    With `static_path` what is constant over l is projected out, and (L - 1) M rows remain.
    """
    if static_path:
        D = difference_matrix(x.shape[1]).to(x.device, x.dtype)
        x = torch.einsum("kl,bl...->bk...", D, x)
    return x.flatten(1, 2).unsqueeze(1)


def difference_matrix(count: int) -> Tensor:
    """Orthonormal rows [count - 1, count] orthogonal to the constant vector (Helmert's matrix), float64."""
    rows = torch.arange(1, count, dtype=torch.float64).unsqueeze(-1)
    columns = torch.arange(count, dtype=torch.float64)
    D = torch.where(columns < rows, 1.0, torch.where(columns == rows, -rows, 0.0))
    return D / (rows * (rows + 1.0)).sqrt()
