"""Stored weights against those a network asks for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from risctl.errors import DamagedFileError


def check_weights(path: Path, found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    """Raise `DamagedFileError` unless names, shapes and types agree and every value is finite."""
    for name in sorted(found.keys() ^ wanted.keys()):
        state = "missing" if name in wanted else "one too many"
        raise DamagedFileError(path, "the weights of its network", f"{name} {state}")
    for name, tensor in found.items():
        want = wanted[name]
        if (tensor.shape, tensor.dtype) != (want.shape, want.dtype):
            got = f"{tuple(tensor.shape)} {tensor.dtype}"
            raise DamagedFileError(path, f"{name} of {tuple(want.shape)} {want.dtype}", got)
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise DamagedFileError(path, f"finite weights in {name}", "others")
