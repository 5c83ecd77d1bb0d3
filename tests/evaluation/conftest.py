"""Scenes of a small surface, and an estimator that knows the truth and errs as it is told to."""

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from risctl.config import EvaluationConfig, PhysicsConfig
from risctl.evaluation import Evaluation, evaluate
from risctl.inference import Estimates
from risctl.inference.estimates import unknown
from risctl.physics import ArrayGeometry, Scenes, simulate_scenes
from risctl.physics.bounds import Bounds, scene_bounds

Run = Callable[..., Evaluation]


@dataclass(frozen=True)
class HeldScenes:
    """A source of scenes that are all in memory."""

    all: Scenes

    def __len__(self) -> int:
        return len(self.all)

    def scenes(self, start: int, stop: int) -> Scenes:
        return self.all[start:stop]


@dataclass
class OracleEstimator:
    """Answers true positions plus Gaussian errors of `scale` times the bound; recognises scenes by their y.

    The first source of every `drop_every`-th scene is left out; told the count, it says what it was told.
    """

    scenes: Scenes
    geometry: ArrayGeometry
    scale: float = 1.0
    drop_every: int = 0
    seed: int = 0
    name: str = "oracle"
    told: list[Tensor | None] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.bounds: Bounds = scene_bounds(self.scenes, self.geometry)
        self._place = {y.numpy().tobytes(): i for i, y in enumerate(self.scenes.y)}
        rng = np.random.default_rng(self.seed)
        shape = (3, *self.scenes.azimuth.shape)
        self._noise = torch.from_numpy(rng.normal(size=shape)) * self.scale

    def __call__(self, y: Tensor, H: Tensor, codes: Tensor, num_sources: Tensor | None = None) -> Estimates:
        assert len(y) == len(H) == len(codes)
        self.told.append(num_sources)
        index = torch.tensor([self._place[item.numpy().tobytes()] for item in y])
        scenes, bounds = self.scenes[index], self.bounds
        stds = [part[index] for part in (bounds.azimuth, bounds.elevation, bounds.range)]
        truth = (scenes.azimuth, scenes.elevation, scenes.range)
        columns = [t.double() + n[index] * s for t, n, s in zip(truth, self._noise, stds, strict=True)]
        dropped = index % self.drop_every == 0 if self.drop_every else torch.zeros(len(y), dtype=torch.bool)
        count = scenes.num_sources.long() - dropped.long()
        used = torch.arange(columns[0].shape[1]) < count[:, None]

        def kept(column: Tensor) -> Tensor:
            left = torch.where(dropped[:, None], column.roll(-1, dims=1), column)
            return torch.where(used, left, torch.nan)

        power = torch.where(used, scenes.power.double(), 0.0)
        rest = (power, *map(kept, stds), scenes.noise_var.double(), *unknown(count, used.shape[1]))
        return Estimates(count, *map(kept, columns), *rest)


@pytest.fixture(scope="session")
def physics() -> PhysicsConfig:
    return PhysicsConfig(max_sources=3, snr_values_db=(0.0, 20.0), stratified=True, ris_columns=8, ris_rows=8)


@pytest.fixture(scope="session")
def evaluation() -> EvaluationConfig:
    return EvaluationConfig(snr_values_db=(0.0, 20.0), bootstrap=50)


@pytest.fixture(scope="session")
def scenes(physics: PhysicsConfig) -> Scenes:
    return simulate_scenes(physics, np.random.default_rng(1), 60)


@pytest.fixture(scope="session")
def source(scenes: Scenes) -> HeldScenes:
    return HeldScenes(scenes)


@pytest.fixture(scope="session")
def oracle(physics: PhysicsConfig, scenes: Scenes) -> Callable[..., OracleEstimator]:
    geometry = ArrayGeometry.from_config(physics, dtype=torch.float64)

    return partial(OracleEstimator, scenes, geometry)


@pytest.fixture(scope="session")
def run(
    source: HeldScenes, oracle: Callable[..., Any], physics: PhysicsConfig, evaluation: EvaluationConfig
) -> Run:
    """Evaluates estimators, or a good one, on the 60 scenes in batches of 16."""

    def run(estimators: Any = None, evaluation: EvaluationConfig = evaluation, **options: Any) -> Evaluation:
        estimators = {"good": oracle()} if estimators is None else estimators
        return evaluate(source, estimators, physics, evaluation, **{"batch": 16} | options)

    return run


@pytest.fixture(scope="session")
def evaluated(run: Run, oracle: Callable[..., Any]) -> Evaluation:
    """A good estimator and one that drops sources, on the 60 scenes."""
    return run({"good": oracle(), "poor": oracle(scale=2.0, drop_every=4, seed=1)})


def assert_same_rows(one: Evaluation, other: Evaluation, but: tuple[str, ...] = ()) -> None:
    assert list(one.rows) == list(other.rows)
    for name, rows in one.rows.items():
        for kind in ("scenes", "sources"):
            a, b = (getattr(r, kind) for r in (rows, other.rows[name]))
            for column in [column.name for column in fields(a) if column.name not in but]:
                np.testing.assert_array_equal(getattr(a, column), getattr(b, column))
