"""From measurements through the network to covariances: the path that training and inference share."""

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from risctl.config import CovarianceConfig
from risctl.covariance import Covariances, covariances


@dataclass(frozen=True)
class Prediction:
    """Covariance factors, source count and one position and power per slot.

    Attributes:
        A_angle: covariance factor of the directions, complex [B, N, K_max].
        A_range: covariance factor of the range uncertainty, complex [B, N, K_max].
        count_logits: logits of K = 1..K_max [B, K_max].
        position: azimuth, elevation (rad) and range (m) of every slot, in the field of view [B, K_max, 3].
        power: relative power of every slot, >= 0, close to 0 where a slot is empty [B, K_max].
        maps: raw detection maps, for the detection losses [B, C, rows, columns]; None if it has none.
    """

    A_angle: Tensor
    A_range: Tensor
    count_logits: Tensor
    position: Tensor
    power: Tensor
    maps: Tensor | None = None


class Network(Protocol):
    """Any callable that predicts from y [B, L, M], H [B, M, N] and codes [B, L, N] alone."""

    def __call__(self, y: Tensor, H: Tensor, codes: Tensor) -> Prediction:
        """Predict from B scenes."""
        ...


@dataclass(frozen=True)
class Forward:
    """Output of the network and the covariances computed from it."""

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
        y: snapshots, complex [B, L, M].
        H: channel, complex [B, M, N].
        codes: RIS codes, complex [B, L, N].
        covariance: settings of the covariance pipeline.
        beta_offset: jitter of beta in training [B]; None everywhere else.

    Raises:
        MeasurementError: naming the first scene whose measurements are not finite or without energy.
        DivergedError: naming the first scene for which the network's factors are not finite.
    """
    prediction = network(y, H, codes)
    made = covariances(y, H, codes, prediction.A_angle, prediction.A_range, covariance, beta_offset)
    return Forward(prediction, made)
