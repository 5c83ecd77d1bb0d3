"""The two sides under test: the training step's forward path and the predictor of `eval` and `locate`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Tensor

from risctl.config import CovarianceConfig, PhysicsConfig
from risctl.covariance import Covariances, lowrank
from risctl.inference.learned import LearnedEstimator
from risctl.model import Forward, Network
from risctl.training.forward import Measured, Precision, forward_pass

SideName = Literal["training", "inference"]
SIDES: tuple[SideName, ...] = ("training", "inference")
Around = Callable[[Measured], AbstractContextManager[Any]]
Feed = Callable[[Measured], Measured]


@dataclass(frozen=True)
class Measurements:
    """Snapshots, channel and codes and nothing else."""

    y: Tensor
    H: Tensor
    codes: Tensor

    @classmethod
    def of(cls, measured: Measured) -> Measurements:
        """Drop whatever else is known of the scenes."""
        return cls(measured.y, measured.H, measured.codes)

    def map(self, change: Callable[[Tensor], Tensor]) -> Measurements:
        """The same change to all three."""
        return Measurements(change(self.y), change(self.H), change(self.codes))


@dataclass(frozen=True)
class Subject:
    """A network with the two ways in which it is run.

    Both sides run the network in evaluation mode and in single precision: dropout and half precision are what
    training may have and inference never has.

    Attributes:
        network: of the training side.
        training_covariance: the knobs that the training side is run with.
        estimator: the predictor of `eval` and `locate`, with its own network and knobs.
        physics: of the scenes.
        stated: the knobs as the checkpoint or the preset states them.
        precision: of the network in the training step; the exact comparison is in single precision.
        around: a context in which a side runs: how the self-test alters one side. feed: what a side is given
            in place of the scenes, likewise.
    """

    network: Network
    training_covariance: CovarianceConfig
    estimator: LearnedEstimator
    physics: PhysicsConfig
    stated: CovarianceConfig
    precision: Precision = "float32"
    around: Mapping[str, Around] = field(default_factory=dict)
    feed: Mapping[str, Feed] = field(default_factory=dict)

    def run(self, name: SideName, measured: Measured, precision: Precision = "float32") -> Side:
        """Run one side on a batch, of which it may use what was measured only; `precision` of training."""
        with self.around[name](measured) if name in self.around else nullcontext():
            given = self.feed[name](measured) if name in self.feed else measured
            forward = self._training(given, precision) if name == "training" else self._inference(given)
            return Side(name, forward, dense(forward.covariances), hermitian_probe(measured.y.device))

    def _training(self, given: Measured, precision: Precision) -> Forward:
        return forward_pass(self.network, given, self.training_covariance, precision)

    def _inference(self, given: Measured) -> Forward:
        return self.estimator.forward(given.y, given.H, given.codes)

    def with_knobs(self, name: SideName, covariance: CovarianceConfig) -> Subject:
        """The same with other knobs on one side."""
        if name == "training":
            return replace(self, training_covariance=covariance)
        return replace(self, estimator=replace(self.estimator, covariance=covariance))

    def with_network(self, name: SideName, network: Network) -> Subject:
        """The same with another network on one side."""
        if name == "training":
            return replace(self, network=network)
        return replace(self, estimator=replace(self.estimator, network=network))


@dataclass(frozen=True)
class Side:
    """What one side computed.

    Attributes:
        name: which side. forward: prediction and covariances in factor form.
        matrices: ``R_samp``, ``R_pred``, ``R_blend`` as dense matrices [B, N, N].
        hermitian_error: of a skewed matrix that went through the side's Hermitisation.
    """

    name: SideName
    forward: Forward
    matrices: Mapping[str, Tensor]
    hermitian_error: float


def dense(made: Covariances) -> dict[str, Tensor]:
    """The three covariances as dense matrices [B, N, N], by name."""
    return {"R_samp": made.samp.dense(), "R_pred": made.pred.dense(), "R_blend": made.blend.dense()}


def hermitian_probe(device: torch.device) -> float:
    """Hermitian error left of a skewed matrix.

    Many processors form ``F F^H`` Hermitian to the last bit by themselves: that the Hermitisation is there
    shows only on a matrix that needs it.
    """
    skewed = torch.complex(torch.arange(16.0, device=device), torch.ones(16, device=device)).view(4, 4)
    R = lowrank.hermitian_part(skewed)
    return float((R - R.mH).abs().max())


@torch.no_grad()
def relative_difference(a: Tensor, b: Tensor) -> float:
    """Largest difference over the largest entry of `a`; infinite if the shapes differ, NaN passes through."""
    if a.shape != b.shape:
        return float("inf")
    b = b.to(a.device)
    return float((a - b).abs().max() / a.abs().max())
