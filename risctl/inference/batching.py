"""How every estimator walks through its scenes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from risctl.inference.observation import Observation


@dataclass(frozen=True)
class Batch:
    """Some scenes: what was measured, which rows of the whole they are, and their counts [B] if given."""

    obs: Observation
    rows: Tensor
    num_sources: Tensor | None


def batches(
    y: Tensor, H: Tensor, codes: Tensor, num_sources: Tensor | None, max_sources: int, size: int
) -> Iterator[Batch]:
    """Split B scenes into batches of `size`, those with one given count side by side.

    Raises:
        ValueError: if the shapes disagree, a value is not finite, a scene has no energy, or a given count
            is not within 0..`max_sources`.
    """
    order = torch.arange(y.shape[0], device=y.device)
    if num_sources is not None:
        num_sources = num_sources.to(y.device).long()
        wrong = (num_sources < 0) | (num_sources > max_sources)
        if num_sources.shape != order.shape or bool(wrong.any()):
            got = f"{num_sources[wrong].tolist()[:3]} in shape {tuple(num_sources.shape)}"
            raise ValueError(f"expected {len(order)} source counts within 0..{max_sources}, got {got}")
        order = num_sources.argsort(stable=True)
    for rows in torch.split(order, size) if len(order) else ():
        counts = None if num_sources is None else num_sources[rows]
        yield Batch(Observation.of(y[rows], H[rows], codes[rows]), rows, counts)
