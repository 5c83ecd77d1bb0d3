"""What is minimised, and what a validation compares: the twelve terms, behind a narrow interface."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor

from risctl.config import LossConfig
from risctl.losses import Truth, main_weights, per_scene_terms, term_weights, total_loss
from risctl.losses.presence import own_terms, own_weights
from risctl.model import Forward
from risctl.physics import ArrayGeometry, FieldOfView


@dataclass(frozen=True)
class StepLoss:
    """A batch's loss.

    Attributes:
        total: what is differentiated, a scalar. terms: the raw twelve, scalars, means over the scenes.
        own: the architecture's own terms, part of `total` and of nothing else.
    """

    total: Tensor
    terms: Mapping[str, Tensor]
    own: Mapping[str, Tensor] = field(default_factory=dict)


class Objective(Protocol):
    """What the trainer needs to know of the losses."""

    def training(self, forward: Forward, truth: Truth, epoch: int) -> StepLoss:
        """Mean loss over the scenes, with the weights of `epoch` (from 0)."""

    def terms(self, forward: Forward, truth: Truth) -> Mapping[str, Tensor]:
        """The raw terms scene by scene [B]."""

    def weights(self) -> Mapping[str, float]:
        """The weights that make the terms of every validation one number: the main phase's."""


@dataclass(frozen=True)
class TwelveTerms:
    """The twelve terms, their training weights scheduled over `epochs`, and the network's own.

    Attributes:
        loss: the section. geometry: the nominal surface, on the device of the scenes.
        view: the field of view that the network's maps cover. epochs: of the run.
    """

    loss: LossConfig
    geometry: ArrayGeometry
    view: FieldOfView
    epochs: int

    def training(self, forward: Forward, truth: Truth, epoch: int) -> StepLoss:
        """Mean loss over the scenes, with the weights of `epoch`."""
        weights = term_weights(self.loss, epoch, self.epochs)
        value = total_loss(forward, truth, self.loss, weights, self.geometry)
        own, shares = own_terms(forward.prediction, truth, self.view), own_weights(self.loss)
        total = value.total + sum(shares[name] * term for name, term in own.items())
        return StepLoss(total, value.raw, own)

    def terms(self, forward: Forward, truth: Truth) -> Mapping[str, Tensor]:
        """The raw terms scene by scene [B]."""
        return per_scene_terms(forward, truth, self.loss, self.geometry)

    def weights(self) -> Mapping[str, float]:
        """The main phase's weights."""
        return main_weights(self.loss)
