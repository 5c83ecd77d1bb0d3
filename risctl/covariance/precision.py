"""Precision and validity checks: covariances are computed in single precision or wider, autocast off."""

from __future__ import annotations

import torch
from torch import Tensor

from risctl.errors import DivergedError, MeasurementError


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
    bad = first_scene(~_finite(x))
    if bad is not None:
        raise MeasurementError(f"{name} of scene {bad} has a value that is not finite")


def require_predicted(F: Tensor) -> None:
    """Refuse predicted factors [B, N, r] that are not finite or all zero.

    Raises:
        DivergedError: naming the first scene at fault.
    """
    bad = first_scene(~_finite(F))
    if bad is not None:
        raise DivergedError(f"the network's covariance factors of scene {bad} are not finite")
    size = energy(F.detach())
    bad = first_scene(~((size > 0) & torch.isfinite(size)))
    if bad is not None:
        raise DivergedError(f"the network predicts no covariance of finite energy for scene {bad}")


def require_same_shape(predicted: tuple[int, int, int], sampled: tuple[int, int, int]) -> None:
    """Check right before the blend, whatever the interpreter's flags, that both operands are [B, N, N]."""
    if predicted != sampled:
        raise AssertionError(f"R_pred is {predicted}, R_samp is {sampled}")


def first_scene(at_fault: Tensor) -> int | None:
    """Index of the first True of a vector [B], None if there is none."""
    return int(at_fault.nonzero()[0]) if bool(at_fault.any()) else None


def squared_modulus(x: Tensor) -> Tensor:
    """``|x|^2`` without the square root that `abs` takes, real, same shape."""
    return (x * x.conj()).real if x.is_complex() else x.square()


def energy(x: Tensor) -> Tensor:
    """Sum of ``|x|^2`` over all axes but the first, real [B]."""
    return _real(x).square().flatten(1).sum(1)


def _finite(x: Tensor) -> Tensor:
    """Which scenes are finite, bool [B]."""
    parts = _real(x).flatten(1)
    finite = torch.isfinite(parts.sum(1))  # one quick pass; finite values can overflow it, hence the second
    return finite if bool(finite.all()) else torch.isfinite(parts).all(dim=1)


def _real(x: Tensor) -> Tensor:
    return torch.view_as_real(x.resolve_conj()) if x.is_complex() else x
