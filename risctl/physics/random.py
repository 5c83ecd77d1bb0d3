"""Random draws as tensors.

Every random number of the physics comes from a NumPy generator on the CPU, whatever device the physics then
runs on, so a scene is the same on every device. Bits are drawn by NumPy (whose ``SeedSequence`` seeds the
full state; a torch CPU generator keeps 32 bits of its seed) and shaped by torch's vectorised functions.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


def random_words(rng: np.random.Generator, count: int) -> Tensor:
    """`count` independent uniform 64-bit words, int64 [count]."""
    return torch.from_numpy(rng.integers(-(2**63), 2**63, size=count, dtype=np.int64))


def complex_normal(rng: np.random.Generator, shape: Sequence[int], scale: Tensor | None = None) -> Tensor:
    """Circular complex normals CN(0, scale^2), complex64 of `shape`; `scale` real, broadcast, 1 if absent.

    Box and Muller (1958) in its complex form: ``sqrt(-ln u) exp(j 2 pi v)`` has unit mean power. One 64-bit
    word per sample: 31 bits for u in (0, 1], 32 for v.
    """
    u, v = random_words(rng, math.prod(shape)).view(torch.int32).view(2, *shape)
    radius = u.bitwise_and_(0x7FFFFFFF).float().add_(0.5).mul_(2.0**-31).log_().neg_().sqrt_()
    if scale is not None:
        radius.mul_(scale)
    angle = v.float().mul_(2.0 * math.pi * 2.0**-32)
    return torch.complex(angle.cos().mul_(radius), angle.sin_().mul_(radius))


def uniform(rng: np.random.Generator, shape: Sequence[int], low: float = 0.0, high: float = 1.0) -> Tensor:
    """Uniform draws on [low, high), float32 of `shape` (rounded from float64)."""
    return torch.from_numpy(rng.uniform(low, high, size=tuple(shape))).float()


def normal(rng: np.random.Generator, shape: Sequence[int], scale: float = 1.0) -> Tensor:
    """Zero-mean normal draws of standard deviation `scale`, float32 of `shape`."""
    return torch.from_numpy(rng.normal(0.0, scale, size=tuple(shape))).float()


def random_bytes(rng: np.random.Generator, shape: Sequence[int], bits: int) -> Tensor:
    """Uniform integers on [0, 2^bits), bits <= 8, uint8 of `shape`."""
    count = math.prod(shape)
    words = random_words(rng, -(-count // 8)).view(torch.uint8)
    return words[:count].bitwise_and(2**bits - 1).view(*shape)
