"""Weights of the twelve terms: those of the main phase, and their schedule over a training.

Validation, gates, checkpoints and searches always use the main phase's, so that their losses can be compared.
"""

from __future__ import annotations

from risctl.config import LossConfig

TERMS = (
    "cov",
    "cov_pred",
    "ortho",
    "cross",
    "gap",
    "margin",
    "K",
    "aux",
    "peak",
    "align",
    "subspace_align",
    "peak_contrast",
)


def main_weights(loss: LossConfig) -> dict[str, float]:
    """Weight of every term in the main phase."""
    return {
        "cov": loss.cov,
        "cov_pred": loss.cov_pred,
        "ortho": loss.ortho,
        "cross": loss.cross,
        "gap": loss.gap,
        "margin": loss.margin,
        "K": loss.K,
        "aux": loss.aux,
        "peak": loss.peak,
        "align": loss.align,
        "subspace_align": loss.subspace_align,
        "peak_contrast": loss.peak_contrast,
    }


def term_weights(loss: LossConfig, epoch: int, epochs: int) -> dict[str, float]:
    """Weight of every term in training.

    The last `schedule_final_fraction` of the epochs (rounded to whole epochs) is the final phase; of the
    others the first `schedule_start_epochs` are the first phase, the rest the main phase.

    Args:
        loss: weights and schedule.
        epoch: from 0.
        epochs: how many there will be.
    """
    weights = main_weights(loss)
    if epoch >= epochs - round(loss.schedule_final_fraction * epochs):
        weights["subspace_align"] = loss.subspace_align_final
        weights["peak_contrast"] = loss.peak_contrast_final
    elif epoch < loss.schedule_start_epochs:
        weights["subspace_align"] = loss.subspace_align_start
        weights["peak_contrast"] = loss.peak_contrast_start
    return weights
