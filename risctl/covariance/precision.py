"""Everything that touches a covariance is computed in single precision or wider, whatever surrounds it."""

from __future__ import annotations

import torch
from torch import Tensor

from risctl.errors import MeasurementError


def full_precision(x: Tensor) -> torch.autocast:
    """Context in which autocast is off on the device of `x`."""
    return torch.autocast(device_type=x.device.type, enabled=False)


def widened(*tensors: Tensor) -> tuple[Tensor, ...]:
    """The tensors as complex of one precision: complex128 if any has it, else complex64."""
    dtype = torch.complex64
    for x in tensors:
        dtype = torch.promote_types(dtype, x.dtype)
    return tuple(x.to(dtype) for x in tensors)


def require_finite(x: Tensor, name: str) -> None:
    """Refuse values that are not finite.

    Raises:
        MeasurementError: naming the first scene (first axis) at fault.
    """
    finite = torch.isfinite(torch.view_as_real(x) if x.is_complex() else x).flatten(1).all(dim=1)
    if not bool(finite.all()):
        raise MeasurementError(
            f"{name} of scene {int((~finite).nonzero()[0])} has a value that is not finite"
        )
