"""Ground truth of the losses: the sources of the scenes and their covariance."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from risctl.covariance import LowRank
from risctl.physics import ArrayGeometry, Scenes, steering_vector

EMPTY_RANGE = 1.0  # metres, where no source is: its logarithm is zero and its steering vector finite


@dataclass(frozen=True)
class Truth:
    """The sources of B scenes, padded to K_max slots.

    Attributes:
        A: unit-norm steering vectors, complex [B, N, K_max], zero past K.
        power: source powers scaled so that they sum to N, [B, K_max], zero past K.
        mask: which slots hold a source, bool [B, K_max].
        position: azimuth, elevation (rad) and range (m) [B, K_max, 3]; (0, 0, 1) past K.
        num_sources: K, int64 [B].
        snr_db: scene SNR in dB [B].
    """

    A: Tensor
    power: Tensor
    mask: Tensor
    position: Tensor
    num_sources: Tensor
    snr_db: Tensor

    @classmethod
    def of(cls, scenes: Scenes, geometry: ArrayGeometry) -> Truth:
        """Truth of simulated scenes, in the precision and on the device of `geometry`.

        Args:
            scenes: B scenes with at least one source of positive power each.
            geometry: the nominal surface, the one that estimators know, positions [N, 3].
        """
        like = geometry.positions
        mask = scenes.source_mask.to(like.device)
        found = [x.to(like) for x in (scenes.azimuth, scenes.elevation, scenes.range)]
        azimuth, elevation = (torch.where(mask, x, torch.zeros_like(x)) for x in found[:2])
        range_ = torch.where(mask, found[2], torch.full_like(found[2], EMPTY_RANGE))
        A = steering_vector(azimuth, elevation, range_, geometry).mT * mask.unsqueeze(-2)
        power = torch.where(mask, scenes.power.to(like), torch.zeros_like(azimuth))
        return cls(
            A=A,
            power=power * (geometry.num_elements / power.sum(-1, keepdim=True)),
            mask=mask,
            position=torch.stack([azimuth, elevation, range_], dim=-1),
            num_sources=scenes.num_sources.to(like.device).long(),
            snr_db=scenes.snr_db.to(like),
        )

    def covariance(self) -> LowRank:
        """``R_true = A diag(p) A^H``, trace N, as a factor ``A diag(p)^1/2`` [B, N, K_max]."""
        return LowRank(self.A * self.power.sqrt().unsqueeze(-2))

    def mean_over_sources(self, x: Tensor) -> Tensor:
        """Mean of x [B, K_max] over the sources of each scene [B]; empty slots are ignored."""
        used = torch.where(self.mask, x, torch.zeros_like(x))
        return used.sum(-1) / self.num_sources.to(x.dtype)
