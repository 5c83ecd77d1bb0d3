"""What the network says about a batch of scenes."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Prediction:
    """Covariance factors, source count and one position and power per slot.

    Attributes:
        A_angle, A_range: covariance factors, complex [B, N, K_max].
        count_logits: of K = 1..K_max [B, K_max].
        position: azimuth, elevation (rad) and range (m) of every slot, in the field of view [B, K_max, 3].
        power: relative power of every slot, >= 0, next to 0 where a slot is empty [B, K_max].
        maps: what the architecture's own training terms look at [B, C, rows, columns]; None if it has none.
    """

    A_angle: Tensor
    A_range: Tensor
    count_logits: Tensor
    position: Tensor
    power: Tensor
    maps: Tensor | None = None
