"""The plan of a training run: settings, scenes, device, network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from risctl.config import (
    Config,
    CovarianceConfig,
    DataConfig,
    LossConfig,
    ModelConfig,
    PhysicsConfig,
    TrainingConfig,
)
from risctl.data import SceneSource, SceneStore, SceneStream
from risctl.errors import InputError
from risctl.model import RisNetwork
from risctl.training.forward import usable_precision
from risctl.training.objective import Objective


@dataclass(frozen=True)
class TrainingPlan:
    """A training run before it starts; made by :meth:`from_config`.

    Attributes:
        physics, covariance, model, loss, training, data: the sections that the trainer uses.
        train: source of the training scenes; a stream that is not repeated has no end.
        validation: source of the validation scenes.
        document: the whole resolved configuration as JSON values, stored in the checkpoints.
        device: where the network and the covariances are computed.
        network: network to train; built from `model` and the training seed if None.
        objective: losses; those of `loss` if None.
    """

    physics: PhysicsConfig
    covariance: CovarianceConfig
    model: ModelConfig
    loss: LossConfig
    training: TrainingConfig
    data: DataConfig
    train: SceneSource
    validation: SceneSource
    document: Mapping[str, Any]
    device: torch.device
    network: RisNetwork | None = None
    objective: Objective | None = None

    @classmethod
    def from_config(
        cls,
        config: Config,
        sources: tuple[SceneSource, SceneSource] | None = None,
        device: str | torch.device = "cpu",
        network: RisNetwork | None = None,
        objective: Objective | None = None,
    ) -> TrainingPlan:
        """Plan of a run under `config`; training and validation scenes are `scene_streams` if None.

        A precision of `auto` becomes that of the device, for checkpoints to say which it was.

        Raises:
            InputError: scenes without a source, which have no covariance to learn.
        """
        if config.physics.min_sources < 1:
            expected = "1 or more for a training"
            raise InputError("configuration", "physics.min_sources", expected, config.physics.min_sources)
        if config.training.curriculum:
            _check_curriculum(config.physics, config.training)
        train, validation = sources or scene_streams(config.physics, config.data)
        precision = usable_precision(config.training.precision, torch.device(device))
        training = config.training.model_copy(update={"precision": precision})
        config = config.model_copy(update={"training": training})
        return cls(
            physics=config.physics,
            covariance=config.covariance,
            model=config.model,
            loss=config.loss,
            training=config.training,
            data=config.data,
            train=train,
            validation=validation,
            document=config.model_dump(mode="json"),
            device=torch.device(device),
            network=network,
            objective=objective,
        )

    @property
    def repeats(self) -> bool:
        """Whether every epoch goes over the same scenes; always so for a stored dataset."""
        return self.data.repeat or isinstance(self.train, SceneStore)

    @property
    def train_scenes(self) -> int:
        """Scenes per epoch: those configured, or all there are if these are fewer."""
        return min(self.data.train_scenes, len(self.train)) if self.repeats else self.data.train_scenes

    @property
    def validation_scenes(self) -> int:
        """Scenes per validation."""
        return min(self.data.val_scenes, len(self.validation))

    @property
    def step_scenes(self) -> int:
        """Scenes per optimiser step."""
        return self.training.batch * self.training.accumulate

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps per epoch; the scenes left over open the next epoch.

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


def scene_streams(physics: PhysicsConfig, data: DataConfig) -> tuple[SceneStream, SceneStream]:
    """Training and validation scenes made on the fly; training scenes without end unless they repeat."""
    train = SceneStream(physics, data.seed, "train", data.train_scenes if data.repeat else None)
    on_train = data.validate_on == "train"
    count = data.train_scenes if on_train else data.val_scenes
    return train, SceneStream(physics, data.seed, "train" if on_train else "val", count)


def _check_curriculum(physics: PhysicsConfig, training: TrainingConfig) -> None:
    """Refuse phases of a curriculum that no scene belongs to."""
    fewest, strongest = physics.min_sources, max(physics.snr_values_db or (physics.snr_max_db,))
    if (most := min(training.curriculum_max_sources)) < fewest:
        expected = f"{fewest} or more, as physics.min_sources"
        raise InputError("configuration", "training.curriculum_max_sources", expected, most)
    if (least := max(training.curriculum_min_snr_db)) > strongest:
        expected = f"at most {strongest:g}, as the scenes have"
        raise InputError("configuration", "training.curriculum_min_snr_db", expected, least)
