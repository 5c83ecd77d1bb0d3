"""Figures of a batch that people read: errors of covariances, counts and matched positions."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from risctl.covariance import Covariances, LowRank
from risctl.losses import Truth, match_slots
from risctl.model import Forward
from risctl.training.events import FirstBatch

RANK_FLOOR = 1e-6
HIGH_SNR_DB = 10.0


def nmse(R: LowRank, R_true: LowRank) -> Tensor:
    """``||R - R_true||_F^2 / ||R_true||_F^2`` scene by scene [B]."""
    energy = R_true.inner(R_true)
    return (R.inner(R) - 2.0 * R.inner(R_true) + energy) / energy


def scene_figures(forward: Forward, truth: Truth) -> dict[str, Tensor]:
    """Covariance errors, whether the count is right, and Frobenius norms, each [B]."""
    made, R_true = forward.covariances, truth.covariance()
    counted = forward.prediction.count_logits.argmax(dim=1) + 1
    return {
        "nmse_pred": nmse(made.pred, R_true),
        "nmse_blend": nmse(made.blend, R_true),
        "count_accuracy": (counted == truth.num_sources).float(),
        "norm_pred": made.pred.norm(),
        "norm_samp": made.samp.norm(),
        "norm_blend": made.blend.norm(),
    }


def source_figures(forward: Forward, truth: Truth) -> dict[str, Tensor]:
    """Errors of the slots matched to the true sources, each [B, K_max].

    `angle`: great-circle angle in degrees between true and matched direction. `range`: in metres. `counts`: 1
    for a source of a scene at 10 dB or more, else 0.
    """
    slots = match_slots(forward.prediction.position, truth).clamp_min(0)
    matched = forward.prediction.position.gather(1, slots.unsqueeze(-1).expand(-1, -1, 3))
    high = truth.mask & (truth.snr_db >= HIGH_SNR_DB).unsqueeze(1)
    return {
        "angle": torch.rad2deg(great_circle(matched, truth.position)),
        "range": (matched[..., 2] - truth.position[..., 2]).abs(),
        "counts": high.float(),
    }


def great_circle(a: Tensor, b: Tensor) -> Tensor:
    """Angle in radians between two directions (azimuth, elevation first in the last axis).

    Through half the chord, ``2 asin(|u - v| / 2)``: the cosine's arc loses small angles to rounding.
    """
    chord = torch.linalg.vector_norm(_unit(a) - _unit(b), dim=-1)
    return 2.0 * torch.asin((chord / 2.0).clamp(max=1.0))


def _unit(position: Tensor) -> Tensor:
    azimuth, elevation = position[..., 0].double(), position[..., 1].double()
    flat = elevation.cos()
    return torch.stack([flat * azimuth.cos(), flat * azimuth.sin(), elevation.sin()], dim=-1)


def first_batch(made: Covariances) -> FirstBatch:
    """Ranks and norms of the three covariances, means over the batch."""
    operands = {"pred": made.pred, "samp": made.samp, "blend": made.blend}
    return FirstBatch(
        step=1,
        ranks={name: _mean_rank(R) for name, R in operands.items()},
        norms={name: float(R.detach().norm().mean()) for name, R in operands.items()},
    )


def _mean_rank(R: LowRank) -> float:
    spectrum = torch.linalg.eigvalsh(R.detach().gram())
    return float((spectrum > RANK_FLOOR * spectrum[:, -1:]).sum(dim=1).float().mean())


def summary(table: Mapping[str, Tensor]) -> dict[str, float]:
    """Medians over the counted sources; nothing where there is none."""
    counted = table["counts"] > 0
    if not bool(counted.any()):
        return {}
    return {
        "median_angle_deg_high_snr": float(table["angle"][counted].quantile(0.5)),
        "median_range_m_high_snr": float(table["range"][counted].quantile(0.5)),
    }
