"""Weights of the loss terms: those of the main phase, and their schedule over a training.

Validation, gates, checkpoints and searches always use the main phase's, so that their losses can be compared.
"""

from __future__ import annotations

from risctl.config import LossConfig
from risctl.losses.total import TERMS

SCHEDULED = ("subspace_align", "peak_contrast")


def main_weights(loss: LossConfig) -> dict[str, float]:
    """Weight of every term in the main phase."""
    return {name: getattr(loss, name) for name in TERMS}


def term_weights(loss: LossConfig, epoch: int, epochs: int) -> dict[str, float]:
    """Weight of every term in training.

    The last `schedule_final_fraction` of the epochs (rounded to whole epochs) is the final phase; of the
    others the first `schedule_start_epochs` are the first phase, the rest the main phase.

    Args:
        loss: weights and schedule.
        epoch: from 0.
        epochs: number of epochs of the run.
    """
    phase = ""
    if epoch >= epochs - round(loss.schedule_final_fraction * epochs):
        phase = "_final"
    elif epoch < loss.schedule_start_epochs:
        phase = "_start"
    return main_weights(loss) | {name: getattr(loss, name + phase) for name in SCHEDULED}
