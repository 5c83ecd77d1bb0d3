"""A training that takes a fraction of a second: few elements, a network of two small layers, cheap losses."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch
import xxhash
from torch import Tensor, nn

from risctl.config import Config, DataConfig, LossConfig, ModelConfig, TrainingConfig
from risctl.data import SceneStream
from risctl.losses import Truth
from risctl.losses.moments import Moments, Reference, inner_products
from risctl.model import Forward, Prediction, RisNetwork, build_network
from risctl.model.checkpoint import read_checkpoint
from risctl.physics import ArrayGeometry, FieldOfView
from risctl.training import Outcome, TrainingPlan, run_training
from risctl.training.metrics import nmse
from risctl.training.objective import StepLoss, WeightedTerms
from tests.small import PHYSICS
from tests.small import Recorder as Recorder

MODEL = ModelConfig(width=8, depth=2, map_rows=4, map_columns=8, map_ranges=2, map_alphas=(1.0,), dropout=0.1)
CLOCKS = {"seconds"}


class SmallNetwork(nn.Module):
    """Answers from the mean energy of the snapshots seen through the channel; has dropout."""

    def __init__(self, dropout: float = 0.1) -> None:
        super().__init__()
        self.N, self.K = PHYSICS.num_elements, PHYSICS.max_sources
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.body = nn.Linear(self.N, 16)
            self.norm = nn.LayerNorm(16)
            self.head = nn.Linear(16, self.K * (4 * self.N + 3 + 2))
        self.drop = nn.Dropout(dropout)

    def forward(self, y: Tensor, H: Tensor, codes: Tensor) -> Prediction:
        seen = ((y @ H.conj()) * codes.conj()).abs().square().mean(1)
        x = self.drop(torch.tanh(self.norm(self.body(seen / seen.mean(1, keepdim=True)))))
        out = self.head(x).float()
        size = self.N * self.K
        real, rest = out[:, : 4 * size].view(-1, 4, self.N, self.K), out[:, 4 * size :].view(-1, 5, self.K)
        low = torch.tensor([-1.0, -0.5, 0.5])
        position = low + torch.sigmoid(rest[:, :3]).mT * (torch.tensor([1.0, 0.5, 10.0]) - low)
        A_angle, A_range = (torch.complex(real[:, i], real[:, i + 1]) for i in (0, 2))
        return Prediction(A_angle, A_range, rest[:, 3], position, rest[:, 4].softmax(1))

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        body = [*self.body.parameters(), *self.norm.parameters()]
        return {"backbone": body, "head": list(self.head.parameters())}


class TwoTerms:
    """A cheap objective: the error of the prediction and the count."""

    def training(self, forward: Forward, truth: Truth, epoch: int) -> StepLoss:
        terms = {name: value.mean() for name, value in self.terms(forward, truth).items()}
        return StepLoss(sum(terms.values()), terms)

    def terms(self, forward: Forward, truth: Truth) -> Mapping[str, Tensor]:
        logits, target = forward.prediction.count_logits, truth.num_sources - 1
        counted = nn.functional.cross_entropy(logits, target, reduction="none")
        R = forward.covariances.blend
        moments = Moments(R, *inner_products(R.F, truth.A.mT))
        return {"cov": nmse(moments, Reference.of(truth)), "K": counted}

    def weights(self) -> Mapping[str, float]:
        return {"cov": 1.0, "K": 1.0}


def real_network(dropout: float = 0.1) -> RisNetwork:
    """The real network at its smallest."""
    return build_network(PHYSICS, MODEL.model_copy(update={"dropout": dropout}), seed=0)


def weighted_terms() -> WeightedTerms:
    """The real objective."""
    geometry, view = ArrayGeometry.from_config(PHYSICS), FieldOfView.from_config(PHYSICS)
    return WeightedTerms(LossConfig(), geometry, view, epochs=3)


@cache
def _stream(split: str, length: int | None) -> SceneStream:
    """One stream for all trainings of a process: their scenes are made once."""
    return SceneStream(PHYSICS, 0, split, length)


def small_plan(network: Any = None, objective: Any = None, **changes: Any) -> TrainingPlan:
    """Return a plan of three epochs of four steps; `changes` are settings of the training or data section."""
    training = {"epochs": 3, "batch": 8, "lr": 1e-2, "swa_fraction": 0.34, "warmup_fraction": 0.2}
    training |= {"checkpoint_seconds": 0.0, "early_stop_patience": 0}
    data = {"train_scenes": 32, "val_scenes": 16, "repeat": True}
    for key, value in changes.items():
        (data if key in DataConfig.model_fields and key != "seed" else training)[key] = value
    sections = {"training": TrainingConfig(**training), "data": DataConfig(**data)}
    config = Config(physics=PHYSICS, model=MODEL, **sections)
    length = config.data.train_scenes if config.data.repeat else None
    sources = (_stream("train", length), _stream("val", config.data.val_scenes))
    parts = {"network": network or SmallNetwork(), "objective": objective or TwoTerms()}
    return TrainingPlan.from_config(config, sources, **parts)


def train_small(directory: Path, *listeners: Any, **settings: Any) -> Outcome:
    """Run the small training to its end."""
    run = {key: settings.pop(key) for key in ("stop", "resume", "fork") if key in settings}
    if "make" in settings:
        settings["network"] = settings.pop("make")()
    return run_training(small_plan(**settings), directory, listeners, **run)


def state_hash(directory: Path) -> str:
    """Hash of everything in the last checkpoint but how often the disk was written."""
    checkpoint = read_checkpoint(directory / "checkpoints" / "last.safetensors")
    hasher = xxhash.xxh3_128(checkpoint.state.model_dump_json().encode())
    for name in sorted(checkpoint.tensors):
        hasher.update(name.encode())
        hasher.update(checkpoint.tensors[name].reshape(-1).view(torch.uint8).numpy())
    return hasher.hexdigest()
