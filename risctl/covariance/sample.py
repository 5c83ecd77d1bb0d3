"""Sample covariance of back-projected snapshots, as a factor.

``R_samp = sum_l a_l a_l^H / divisor`` scaled to trace N. It has rank about L - 1, so it is kept as F [N, L]
with ``R_samp = F F^H``; the divisor (L - 1 centred, L otherwise) cancels in the scaling.
"""

import torch
from torch import Tensor

from risctl.covariance.precision import energy, first_scene, full_precision, require_finite, widened
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
        largest = torch.view_as_real(a).flatten(1).abs().amax(dim=1)
        size = largest.clamp_min(torch.finfo(a.real.dtype).tiny)
        x = a / size[:, None, None]  # squares of small data would underflow
        before = energy(x)
        if center:
            x = x - x.mean(dim=1, keepdim=True)
        after = energy(x)
        rounding = (a.shape[1] * torch.finfo(after.dtype).eps) ** 2
        empty = first_scene(after <= before * rounding)
        if empty is not None:
            raise MeasurementError(f"scene {empty} has no energy to build a sample covariance from")
        return (x * (a.shape[2] / after).sqrt()[:, None, None]).mT
