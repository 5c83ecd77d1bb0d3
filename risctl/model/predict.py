"""From measurements through the network to covariances: the one path of training and inference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from risctl.config import CovarianceConfig
from risctl.covariance import Covariances, covariances
from risctl.model.prediction import Prediction


class Network(Protocol):
    """Anything that predicts from y [B, L, M], H [B, M, N] and codes [B, L, N], and from nothing else."""

    def __call__(self, y: Tensor, H: Tensor, codes: Tensor) -> Prediction:
        """Predict from B scenes."""
        ...


@dataclass(frozen=True)
class Forward:
    """What the network said and the covariances that follow from it."""

    prediction: Prediction
    covariances: Covariances


def predict(
    network: Network,
    y: Tensor,
    H: Tensor,
    codes: Tensor,
    covariance: CovarianceConfig,
    beta_offset: Tensor | None = None,
) -> Forward:
    """Run the network and the covariance pipeline on the same measurements.

    Args:
        network: the network, in whatever mode and precision its caller chose.
        y: snapshots, complex [B, L, M]. H: channel [B, M, N]. codes: [B, L, N].
        covariance: the knobs of the pipeline.
        beta_offset: training's jitter of beta [B]; None everywhere else.

    Raises:
        MeasurementError: naming the first scene whose measurements are not finite or without energy.
        DivergedError: naming the first scene for which the network's factors are not finite.
    """
    prediction = network(y, H, codes)
    made = covariances(y, H, codes, prediction.A_angle, prediction.A_range, covariance, beta_offset)
    return Forward(prediction, made)
