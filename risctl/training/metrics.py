"""Training figures: errors of covariances, counts and matched positions, and the table that names them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from risctl.covariance import Covariances
from risctl.losses import Truth, match_slots
from risctl.losses.moments import Moments, Reference, inner_products
from risctl.model import Forward
from risctl.physics.geometry import direction
from risctl.training.events import FirstBatch

HIGH_SNR_DB = 10.0


@dataclass(frozen=True)
class Figure:
    """A validation figure: how it is named, printed and judged wherever it appears.

    Attributes:
        name: key in `EpochResult.metrics`, in `metrics.jsonl` and in tables for programs.
        words: name for people.
        short: name for the head of a narrow column, with its unit.
        format: format specification of its value.
        unit: empty for a share or a ratio.
        condition: of the scenes that count, empty for all.
        brief: whether it is among the few that a line or a narrow table shows.
    """

    name: str
    words: str
    short: str
    format: str
    unit: str = ""
    condition: str = ""
    brief: bool = False

    @property
    def label(self) -> str:
        """Name with unit and condition, for tables and axes: `median angle error, deg, >= 10 dB`."""
        return ", ".join(filter(None, (self.words, self.unit, self.condition)))

    @property
    def row(self) -> str:
        """The same for a narrow table: `angle deg, >= 10 dB`."""
        return f"{self.short}, {self.condition}" if self.condition else self.words

    def sentence(self, value: float) -> str:
        """Name and value in running text: `median angle error 0.59 deg at >= 10 dB`."""
        text = f"{self.words} {value:{self.format}}"
        text += f" {self.unit}" if self.unit else ""
        return f"{text} at {self.condition}" if self.condition else text


_HIGH = f">= {HIGH_SNR_DB:g} dB"
FIGURES = (
    Figure("nmse_blend", "NMSE of R_blend", "NMSE R_blend", ".3f"),
    Figure("nmse_pred", "NMSE of R_pred", "NMSE R_pred", ".3f"),
    Figure("count_accuracy", "K right", "K right", ".3f", brief=True),
    Figure("median_angle_deg_high_snr", "median angle error", "angle deg", ".2f", "deg", _HIGH, True),
    Figure("median_range_m_high_snr", "median range error", "range m", ".2f", "m", _HIGH),
)
STRUCTURE_TERMS = ("gap", "margin", "align")
RANK_FLOOR = 1e-6


def nmse(R: Moments, R_true: Reference) -> Tensor:
    """``||R - R_true||_F^2 / ||R_true||_F^2`` per scene [B]."""
    return (R.squared_norm() - 2.0 * R.inner(R_true) + R_true.squared_norm) / R_true.squared_norm


def scene_figures(forward: Forward, truth: Truth) -> dict[str, Tensor]:
    """Covariance errors, correctness of the count, and Frobenius norms, each [B]."""
    made, reference = forward.covariances, Reference.of(truth)
    moments = {
        name: Moments(R, *inner_products(R.F, truth.A.mT))
        for name, R in {"pred": made.pred, "samp": made.samp, "blend": made.blend}.items()
    }
    counted = forward.prediction.count_logits.argmax(dim=1) + 1
    return {
        "nmse_pred": nmse(moments["pred"], reference),
        "nmse_blend": nmse(moments["blend"], reference),
        "count_accuracy": (counted == truth.num_sources).float(),
        **{f"norm_{name}": found.squared_norm().clamp_min(0.0).sqrt() for name, found in moments.items()},
    }


def source_figures(forward: Forward, truth: Truth) -> dict[str, Tensor]:
    """Errors of the slots matched to the true sources, each [B, K_max].

    Returns:
        `angle`: great-circle angle between true and matched direction, degrees.
        `range`: range error, metres.
        `counts`: 1 for a source of a scene at 10 dB or more, else 0.
    """
    slots = match_slots(forward.prediction.position, truth)
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
    u, v = (direction(x[..., 0].double(), x[..., 1].double()) for x in (a, b))
    chord = torch.linalg.vector_norm(u - v, dim=-1)
    return 2.0 * torch.asin((chord / 2.0).clamp(max=1.0))


def first_batch(made: Covariances) -> FirstBatch:
    """Ranks and norms of the three covariances, means over the batch."""
    ranks, norms = {}, {}
    for name, R in {"pred": made.pred, "samp": made.samp, "blend": made.blend}.items():
        spectrum = torch.linalg.eigvalsh(R.detach().gram())
        ranks[name] = float((spectrum > RANK_FLOOR * spectrum[:, -1:]).sum(dim=1).float().mean())
        norms[name] = float(R.detach().norm().mean())
    return FirstBatch(1, ranks, norms)


def summary(table: Mapping[str, Tensor]) -> dict[str, float]:
    """Medians over the counted sources; empty where there is none."""
    counted = table["counts"] > 0
    if not bool(counted.any()):
        return {}
    return {
        "median_angle_deg_high_snr": float(table["angle"][counted].quantile(0.5)),
        "median_range_m_high_snr": float(table["range"][counted].quantile(0.5)),
    }


def moved_share(steps: Sequence[Mapping[str, Any]]) -> float:
    """Share of the recorded steps (`StepResult` as a mapping) that moved the parameters; 0 without steps."""
    return sum(step["moved"] > 0 for step in steps) / len(steps) if steps else 0.0


def inactive_terms(epochs: Sequence[Mapping[str, Any]], weights: Mapping[str, float]) -> list[str]:
    """Loss terms of the covariance's structure that had no effect on a training.

    A term is active if its weight is not zero, its training mean is above zero at first (a hinge that is met
    from the start has no gradient), and that mean changes from epoch to epoch.

    Args:
        epochs: records of the epochs (`EpochResult` as a mapping), in order.
        weights: weight of every term.
    """
    values = {name: [epoch["train"].get(name) or 0.0 for epoch in epochs] for name in STRUCTURE_TERMS}
    return [
        name
        for name, means in values.items()
        if not weights[name] or not means or not means[0] > 0 or (len(means) > 1 and len(set(means)) == 1)
    ]
