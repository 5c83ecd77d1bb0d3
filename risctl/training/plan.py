"""Everything a training run is made from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from risctl.config import CovarianceConfig, DataConfig, LossConfig, ModelConfig, PhysicsConfig, TrainingConfig
from risctl.data import SceneSource, SceneStore
from risctl.errors import InputError
from risctl.model import Prediction
from risctl.training.objective import Objective

CPU = torch.device("cpu")


class TrainableNetwork(Protocol):
    """A `torch.nn.Module` that predicts and sorts its parameters into groups."""

    def __call__(self, y: Tensor, H: Tensor, codes: Tensor) -> Prediction:
        """Predict from B scenes."""

    def parameter_groups(self) -> Mapping[str, list[nn.Parameter]]:
        """Every trainable parameter exactly once, as `backbone` or `head`."""

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """As of a module."""

    def parameters(self) -> Iterator[nn.Parameter]:
        """As of a module."""

    def state_dict(self) -> dict[str, Tensor]:
        """As of a module."""

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> Any:
        """As of a module."""

    def train(self, mode: bool = True) -> Any:
        """As of a module."""

    def get_submodule(self, target: str) -> nn.Module:
        """As of a module; its convolutions, say, are the submodule `backbone`."""

    def to(self, device: torch.device) -> Any:
        """As of a module."""

    def eval(self) -> Any:
        """As of a module."""


@dataclass(frozen=True)
class TrainingPlan:
    """A run before it starts.

    Attributes:
        physics, covariance, model, loss, training, data: the sections the trainer takes.
        train, validation: where scenes come from. A `train` that is a stream and does not repeat must have no
            end.
        document: the whole resolved configuration as JSON values; stored in the checkpoints.
        device: where the network and the covariances are computed.
        network: the network to train; made from `model` and the training seed if None.
        objective: the losses; the twelve terms of `loss` if None.
    """

    physics: PhysicsConfig
    covariance: CovarianceConfig
    model: ModelConfig
    loss: LossConfig
    training: TrainingConfig
    data: DataConfig
    train: SceneSource
    validation: SceneSource
    document: Mapping[str, Any] = field(default_factory=dict)
    device: torch.device = CPU
    network: TrainableNetwork | None = None
    objective: Objective | None = None

    @property
    def repeats(self) -> bool:
        """Whether every epoch goes over the same scenes; those on a disk always do."""
        return self.data.repeat or isinstance(self.train, SceneStore)

    @property
    def train_scenes(self) -> int:
        """Scenes of an epoch: those configured, or all there are if these are fewer."""
        return min(self.data.train_scenes, len(self.train)) if self.repeats else self.data.train_scenes

    @property
    def validation_scenes(self) -> int:
        """Scenes of a validation."""
        return min(self.data.val_scenes, len(self.validation))

    @property
    def step_scenes(self) -> int:
        """Scenes of one optimiser step."""
        return self.training.batch * self.training.accumulate

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps of an epoch; what is left over of the scenes opens the next epoch.

        Raises:
            InputError: an epoch has fewer scenes than one step.
        """
        if self.train_scenes < self.step_scenes:
            expected = f"at most the {self.train_scenes} scenes of an epoch"
            raise InputError("training", "batch * accumulate", expected, self.step_scenes)
        return self.train_scenes // self.step_scenes

    @property
    def total_steps(self) -> int:
        """Steps of a run that does not stop early."""
        return self.training.epochs * self.steps_per_epoch

    @property
    def config(self) -> dict[str, Any]:
        """The document, with the sections the run really uses."""
        names = ("physics", "covariance", "model", "loss", "training", "data")
        sections = {
            name: section.model_dump(mode="json")
            for name, section in zip(
                names,
                (self.physics, self.covariance, self.model, self.loss, self.training, self.data),
                strict=True,
            )
        }
        return {**self.document, **sections}
