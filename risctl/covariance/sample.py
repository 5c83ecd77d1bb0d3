"""Sample covariance of back-projected snapshots, as a factor.

``R_samp = sum_l a_l a_l^H / divisor`` scaled to trace N. It has rank about L - 1, so it is kept as F [N, L]
with ``R_samp = F F^H``; the divisor (L - 1 centred, L otherwise) cancels in the scaling.
"""

from __future__ import annotations

import torch
from torch import Tensor

from risctl.covariance.precision import full_precision, require_finite, widened
from risctl.errors import MeasurementError


def sample_factor(a: Tensor, center: bool) -> Tensor:
    """Factor F of the sample covariance.

    Args:
        a: back-projected snapshots, complex [B, L, N].
        center: whether the mean over the snapshots is taken out first.

    Returns:
        F complex [B, N, L] with ``||F||_F^2 = N``.

    Raises:
        MeasurementError: naming the first scene with a value that is not finite or without energy (all zero
            or, if centred, the same in every snapshot to within rounding).
    """
    with full_precision(a):
        (a,) = widened(a)
        require_finite(a, "back-projection")
        size = a.abs().amax(dim=(1, 2), keepdim=True)
        x = a / size.clamp_min(torch.finfo(size.dtype).tiny)  # squares of small data would underflow
        before = x.abs().square().sum((1, 2))
        if center:
            x = x - x.mean(dim=1, keepdim=True)
        energy = x.abs().square().sum((1, 2))
        _require_energy(energy, before, a.shape[1])
        return (x * (a.shape[2] / energy).sqrt()[:, None, None]).mT


def _require_energy(energy: Tensor, before: Tensor, num_snapshots: int) -> None:
    rounding = (num_snapshots * torch.finfo(energy.dtype).eps) ** 2
    empty = energy <= before * rounding
    if bool(empty.any()):
        raise MeasurementError(
            f"scene {int(empty.nonzero()[0])} has no energy to build a sample covariance from"
        )
