"""The curriculum: few sources at high SNR first, then more, then every scene."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from risctl.config import TrainingConfig
from risctl.physics import Scenes

LAST_PHASE = 2


@dataclass(frozen=True)
class Filter:
    """Training scenes of at most `max_sources` sources at `min_snr_db` or more."""

    max_sources: int
    min_snr_db: float

    def accepts(self, scenes: Scenes) -> Tensor:
        """Mask of the scenes that pass, bool [n]."""
        return (scenes.num_sources <= self.max_sources) & (scenes.snr_db >= self.min_snr_db)


def phase_of(training: TrainingConfig, epoch: int) -> int:
    """Phase of an epoch, 0 to 2; without a curriculum always 2."""
    if not training.curriculum:
        return LAST_PHASE
    share = epoch / training.epochs
    return sum(share >= end for end in training.curriculum_until)


def filter_of(training: TrainingConfig, epoch: int) -> Filter | None:
    """Filter of the scenes of an epoch, None in the last phase."""
    phase = phase_of(training, epoch)
    if phase == LAST_PHASE:
        return None
    return Filter(training.curriculum_max_sources[phase], training.curriculum_min_snr_db[phase])
