"""The two sides that are compared: the training step, and the predictor of `eval` and `locate`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Tensor

from risctl.config import CovarianceConfig, LossConfig, PhysicsConfig, TrainingConfig
from risctl.covariance import lowrank
from risctl.inference.learned import LearnedEstimator
from risctl.losses import Truth
from risctl.model import Forward, Network
from risctl.physics import ArrayGeometry, FieldOfView, Scenes
from risctl.training.forward import Measured, Precision, forward_pass
from risctl.training.generators import Generators
from risctl.training.objective import StepLoss, WeightedTerms
from risctl.training.process_group import ProcessGroup
from risctl.training.step import StepContext, batch_loss

SideName = Literal["training", "inference"]
SIDES: tuple[SideName, ...] = ("training", "inference")
Patch = Callable[[Measured], AbstractContextManager[Any]]
InputChange = Callable[[Measured], Measured]


@dataclass(frozen=True)
class MeasuredArrays:
    """y [B, L, M], H [B, M, N] and codes [B, L, N] of B scenes, and nothing else."""

    y: Tensor
    H: Tensor
    codes: Tensor


def only_measured(measured: Measured, change: Callable[[Tensor], Tensor] = lambda x: x) -> MeasuredArrays:
    """y, H and codes of the scenes, `change` applied to each."""
    return MeasuredArrays(change(measured.y), change(measured.H), change(measured.codes))


@dataclass(frozen=True)
class TwoSides:
    """A network with the two ways in which it is run.

    Both sides run the network in evaluation mode and in single precision: dropout and half precision belong
    to training alone.

    Attributes:
        network: network of the training side.
        training_covariance: covariance settings of the training side.
        estimator: predictor of `eval` and `locate`, with its own network and covariance settings.
        physics: of the scenes.
        stated: covariance settings as the checkpoint or the preset states them.
        precision: of the network in training; reported beside the comparison, which is in single precision.
        loss: weights and shape parameters of the loss.
        patches: context in which a side runs; how the self-test alters the code of one side.
        inputs: change of what a side is given; how the self-test alters the data of one side.
    """

    network: Network
    training_covariance: CovarianceConfig
    estimator: LearnedEstimator
    physics: PhysicsConfig
    stated: CovarianceConfig
    precision: Precision = "float32"
    loss: LossConfig = field(default_factory=LossConfig)
    patches: Mapping[str, Patch] = field(default_factory=dict)
    inputs: Mapping[str, InputChange] = field(default_factory=dict)

    def run(self, name: SideName, measured: Measured, precision: Precision = "float32") -> SideOutput:
        """Run one side on a batch.

        On simulated scenes the training side is :func:`risctl.training.step.batch_loss`, the function that
        the training loop calls, with the jitter of beta switched off; on measurements without a truth there
        is no loss, and it is the step's forward pass alone.
        """
        device = measured.y.device
        geometry = ArrayGeometry.from_config(self.physics, device)
        objective = WeightedTerms(self.loss, geometry, FieldOfView.from_config(self.physics), epochs=1)
        loss: StepLoss | None = None
        with self.patches[name](measured) if name in self.patches else nullcontext():
            given = self.inputs[name](measured) if name in self.inputs else measured
            if name == "inference":
                forward = self.estimator.forward(given.y, given.H, given.codes)
            elif isinstance(given, Scenes):
                training = TrainingConfig(precision=precision, beta_jitter=0.0)
                processes = ProcessGroup(device=device)
                context = StepContext(self.training_covariance, training, objective, geometry, processes)
                loss, forward = batch_loss(self.network, given, context, Generators(0, processes), epoch=0)
            else:
                forward = forward_pass(self.network, given, self.training_covariance, precision)
            # Many processors form F F^H Hermitian to the last bit by themselves: whether the Hermitisation is
            # there shows only on a matrix that needs it.
            skewed = torch.complex(torch.arange(16.0, device=device), torch.ones(16, device=device))
            probe = lowrank.hermitian_part(skewed.view(4, 4))
        if name == "inference" and isinstance(measured, Scenes):
            loss = objective.training(forward, Truth.of(measured, geometry), epoch=0)
        made, error = forward.covariances, float((probe - probe.mH).abs().max())
        dense = {"R_samp": made.samp.dense(), "R_pred": made.pred.dense(), "R_blend": made.blend.dense()}
        return SideOutput(name, forward, dense, error, loss)

    def with_covariance(self, name: SideName, covariance: CovarianceConfig) -> TwoSides:
        """The same with other covariance settings on one side."""
        if name == "training":
            return replace(self, training_covariance=covariance)
        return replace(self, estimator=replace(self.estimator, covariance=covariance))

    def with_network(self, name: SideName, network: Network) -> TwoSides:
        """The same with another network on one side."""
        if name == "training":
            return replace(self, network=network)
        return replace(self, estimator=replace(self.estimator, network=network))


@dataclass(frozen=True)
class SideOutput:
    """Results of one side.

    Attributes:
        name: which side.
        forward: prediction, and covariances in factor form.
        matrices: ``R_samp``, ``R_pred``, ``R_blend`` as dense matrices [B, N, N].
        hermitian_error: Hermitian error left of a skewed matrix by the side's Hermitisation.
        loss: training loss of the batch; None where the truth is not known.
    """

    name: SideName
    forward: Forward
    matrices: Mapping[str, Tensor]
    hermitian_error: float
    loss: StepLoss | None = None


@torch.no_grad()
def relative_difference(a: Tensor, b: Tensor) -> float:
    """Largest difference over the largest entry of `a`; infinite if the shapes differ, NaN passes through."""
    if a.shape != b.shape:
        return float("inf")
    return float((a - b.to(a.device)).abs().max() / a.abs().max())
