"""Precision and validity checks: covariances are computed in single precision or wider, autocast off."""

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
    bad = first_scene(~finite_scenes(x))
    if bad is not None:
        raise MeasurementError(f"{name} of scene {bad} has a value that is not finite")


def first_scene(at_fault: Tensor) -> int | None:
    """Index of the first True of a vector [B], None if there is none."""
    return int(at_fault.nonzero()[0]) if bool(at_fault.any()) else None


def energy(x: Tensor) -> Tensor:
    """Sum of ``|x|^2`` over all axes but the first, real [B]."""
    return _real(x).square().flatten(1).sum(1)


def finite_scenes(x: Tensor) -> Tensor:
    """Which scenes are finite, bool [B]."""
    parts = _real(x).flatten(1)
    finite = torch.isfinite(parts.sum(1))  # one quick pass; finite values can overflow it, hence the second
    return finite if bool(finite.all()) else torch.isfinite(parts).all(dim=1)


def _real(x: Tensor) -> Tensor:
    return torch.view_as_real(x.resolve_conj()) if x.is_complex() else x
