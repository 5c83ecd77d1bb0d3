"""Heads: cells, source count, free covariance factors."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d

from risctl.model.slots import NUM_CHANNELS, PRESENCE, peak_logits

PRIOR_PRESENCE = 0.01  # initial probability of a source in a cell (Lin et al., ICCV 2017)
EXTRA_PEAKS = 3  # peaks beyond the number of slots that the count head uses
POOL = (2, 4)


class CellHead(nn.Module):
    """Presence, offsets, range, power and range uncertainty of every cell."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.out = nn.Conv2d(channels, NUM_CHANNELS, 1)
        bias = torch.zeros(NUM_CHANNELS)
        bias[PRESENCE] = math.log(PRIOR_PRESENCE / (1.0 - PRIOR_PRESENCE))
        self.out.bias = nn.Parameter(bias)

    def forward(self, cells: Tensor) -> Tensor:
        """[B, C, rows, columns] -> [B, 6, rows, columns]."""
        x: Tensor = self.out(cells)
        return x


class CountHead(nn.Module):
    """Logits of K = 1..K_max from the scene's features, its scalars and the sorted peaks of the presence."""

    def __init__(self, channels: int, scalars: int, max_sources: int, hidden: int) -> None:
        super().__init__()
        self.peaks = max_sources + EXTRA_PEAKS
        self.net = nn.Sequential(
            nn.Linear(2 * channels + scalars + self.peaks, hidden), nn.SiLU(), nn.Linear(hidden, max_sources)
        )

    def forward(self, scene: Tensor, scalars: Tensor, presence: Tensor) -> Tensor:
        """Scene features [B, C, h, w], scalars and presence logits [B, rows, columns] -> [B, K_max]."""
        peaks = peak_logits(presence)
        strongest = peaks.topk(min(self.peaks, peaks.shape[1]), dim=1).values.clamp(-10.0, 10.0)
        strongest = nn.functional.pad(strongest, (0, self.peaks - strongest.shape[1]), value=-10.0)
        pooled = [scene.mean((2, 3)), scene.amax((2, 3)), scalars, strongest]
        return self.net(torch.cat(pooled, dim=1))


class FactorHead(nn.Module):
    """Both covariance factors as free outputs, 4 N K_max real numbers."""

    def __init__(self, channels: int, num_elements: int, max_sources: int, hidden: int) -> None:
        super().__init__()
        self.shape = (num_elements, max_sources)
        size = 4 * num_elements * max_sources
        pooled = channels * POOL[0] * POOL[1]
        self.net = nn.Sequential(nn.Linear(pooled, hidden), nn.SiLU(), nn.Linear(hidden, size))

    def forward(self, scene: Tensor) -> tuple[Tensor, Tensor]:
        """Scene features [B, C, h, w] -> A_angle, A_range, complex [B, N, K_max]."""
        x = self.net(adaptive_avg_pool2d(scene, POOL).flatten(1)).float()
        x = x.view(-1, 4, *self.shape)
        return torch.complex(x[:, 0], x[:, 1]), torch.complex(x[:, 2], x[:, 3])
