"""Peaks of a power map on the polar lattice: nearby power is one source.

A learnt map spreads a source that lies between lattice points over those around it, so a peak is ranked by
the power of its whole neighbourhood and placed at that power's centroid.
"""

from __future__ import annotations

import torch
from torch import Tensor


def merged_peaks(gamma: Tensor, points: Tensor, count: int, merge: Tensor, suppress: Tensor) -> Tensor:
    """The `count` strongest peaks, strongest first.

    Args:
        gamma: powers [B, J], not negative. points: polar points [B, J, 3].
        merge: half sides [3] of the box about a point whose power counts as its own.
        suppress: half sides [3] of the box about a peak that holds no other peak.

    Returns:
        Centroids [B, count, 3].
    """
    near = _within(points.unsqueeze(2) - points.unsqueeze(1), merge).to(gamma.dtype)
    rows = torch.arange(gamma.shape[0], device=gamma.device)
    found = []
    for _ in range(count):
        top = (near @ gamma.unsqueeze(-1)).squeeze(-1).argmax(dim=1)
        weight = near[rows, top] * gamma
        total = weight.sum(1, keepdim=True)
        centroid = (weight.unsqueeze(1) @ points).squeeze(1) / total.clamp_min(torch.finfo(gamma.dtype).tiny)
        found.append(torch.where(total > 0, centroid, points[rows, top]))
        gamma = gamma * ~_within(points - found[-1].unsqueeze(1), suppress)
    return torch.stack(found, dim=1)


def _within(difference: Tensor, box: Tensor) -> Tensor:
    return (difference.abs() < box).all(dim=-1)
