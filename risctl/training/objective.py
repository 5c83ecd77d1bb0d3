"""The training loss and the validation loss: weighted terms, behind a narrow interface."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor

from risctl.config import LossConfig
from risctl.losses import Truth, main_weights, per_scene_terms, term_weights, total_loss
from risctl.losses.presence import detection_terms, detection_weights
from risctl.model import Forward
from risctl.physics import ArrayGeometry, FieldOfView


@dataclass(frozen=True)
class StepLoss:
    """Loss of a batch.

    Attributes:
        total: scalar that is differentiated.
        terms: raw terms of :data:`risctl.losses.TERMS`, scalars, means over the scenes.
        detection: raw detection losses; part of `total`, never of a validation loss.
        weights: of the terms in `total`.
    """

    total: Tensor
    terms: Mapping[str, Tensor]
    detection: Mapping[str, Tensor] = field(default_factory=dict)
    weights: Mapping[str, float] = field(default_factory=dict)


class Objective(Protocol):
    """The losses as the trainer sees them."""

    def training(self, forward: Forward, truth: Truth, epoch: int) -> StepLoss:
        """Mean loss over the scenes, with the weights of `epoch` (from 0)."""

    def terms(self, forward: Forward, truth: Truth) -> Mapping[str, Tensor]:
        """Raw terms per scene [B]."""

    def weights(self) -> Mapping[str, float]:
        """Weights of the terms in the validation total: those of the main phase, in every epoch."""


@dataclass(frozen=True)
class WeightedTerms:
    """Weighted sum of the loss terms, weights scheduled over `epochs`, plus the detection losses.

    Attributes:
        loss: weights and shape parameters.
        geometry: nominal surface, on the device of the scenes.
        view: field of view that the network's maps cover.
        epochs: number of epochs of the run.
    """

    loss: LossConfig
    geometry: ArrayGeometry
    view: FieldOfView
    epochs: int

    def training(self, forward: Forward, truth: Truth, epoch: int) -> StepLoss:
        """Mean loss over the scenes, with the weights of `epoch`."""
        weights = term_weights(self.loss, epoch, self.epochs)
        value = total_loss(forward, truth, self.loss, weights, self.geometry)
        detection = detection_terms(forward.prediction, truth, self.view)
        shares = detection_weights(self.loss)
        total = value.total + sum(shares[name] * term for name, term in detection.items())
        return StepLoss(total, value.raw, detection, weights)

    def terms(self, forward: Forward, truth: Truth) -> Mapping[str, Tensor]:
        """Raw terms per scene [B]."""
        return per_scene_terms(forward, truth, self.loss, self.geometry)

    def weights(self) -> Mapping[str, float]:
        """Weights of the main phase."""
        return main_weights(self.loss)
