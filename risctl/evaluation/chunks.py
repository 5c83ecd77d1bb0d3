"""What a worker does with a chunk of scenes: bound, estimators under the clock, scores."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from risctl.config import EvaluationConfig, PhysicsConfig
from risctl.errors import RisctlError
from risctl.evaluation.positions import FloatArray, Positions
from risctl.evaluation.rows import EstimatorRows
from risctl.evaluation.score import Answers, Truth, score
from risctl.inference import Estimates, Estimator, Oracle
from risctl.physics import ArrayGeometry, Scenes, steering_vector
from risctl.physics.bounds import scene_bounds


@dataclass(frozen=True)
class Measured:
    """One estimator on one chunk: its rows and the seconds its call took."""

    rows: EstimatorRows
    cpu_seconds: float
    wall_seconds: float


@dataclass(frozen=True)
class Chunk:
    """Consecutive scenes as numpy arrays, which travel between processes by value."""

    first: int
    arrays: Mapping[str, npt.NDArray[Any]]
    phase_bits: int

    @classmethod
    def pack(cls, first: int, scenes: Scenes) -> Chunk:
        """Take the scenes apart."""
        arrays = {name: tensor.cpu().numpy() for name, tensor in scenes.tensors().items()}
        return cls(first, arrays, scenes.phase_bits)

    def unpack(self) -> Scenes:
        """Return the scenes."""
        tensors = {name: torch.from_numpy(array) for name, array in self.arrays.items()}
        return Scenes(**tensors, phase_bits=self.phase_bits)


@dataclass(frozen=True)
class ChunkScorer:
    """What each worker does with a chunk; picklable as long as the estimators are.

    `references` are told the truth of a scene, `estimators` what was measured.
    """

    estimators: Mapping[str, Estimator]
    physics: PhysicsConfig
    evaluation: EvaluationConfig
    num_sources_known: bool
    device: str
    references: Mapping[str, Oracle] = field(default_factory=dict)

    def __call__(self, chunk: Chunk) -> dict[str, Measured]:
        """Run and score every estimator and reference on the chunk."""
        scenes = chunk.unpack()
        truth, there = truth_of(scenes, chunk.first, self.physics), scenes.to(self.device)
        measured = {name: self._measure(name, self._asked(name, there), truth) for name in self.estimators}
        for name, reference in self.references.items():
            measured[name] = self._measure(name, partial(reference, there), truth)
        return measured

    def _asked(self, name: str, scenes: Scenes) -> Callable[[], Estimates]:
        """Return the call of an estimator, with everything it may see made beforehand."""
        codes, known = scenes.codes, scenes.num_sources.long() if self.num_sources_known else None
        return lambda: self.estimators[name](scenes.y, scenes.H, codes, known)

    def _measure(self, name: str, locate: Callable[[], Estimates], truth: Truth) -> Measured:
        cpu, wall = time.process_time(), time.perf_counter()
        answers = answers_of(locate())  # waits for the device
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        try:
            rows = score(truth, answers, self.physics, self.evaluation)
        except RisctlError as error:
            raise RisctlError(f"estimator {name}: {error}") from error
        return Measured(rows, cpu, wall)


def truth_of(scenes: Scenes, first: int, physics: PhysicsConfig) -> Truth:
    """Return what is true of `scenes`, the first of which is scene `first`, with the conditional bound."""
    mask = scenes.source_mask.cpu().numpy()

    def padded(values: torch.Tensor, scale: float = 1.0) -> FloatArray:
        return np.where(mask, values.double().cpu().numpy() * scale, np.nan)

    geometry = ArrayGeometry.from_config(physics, scenes.y.device, torch.float64)
    bounds = scene_bounds(scenes, geometry, kind="conditional")
    degrees = float(np.degrees(1.0))
    columns = [padded(bounds.azimuth, degrees), padded(bounds.elevation, degrees)]
    columns += [padded(bounds.range), padded(bounds.position)]
    return Truth(
        first=first,
        snr_db=scenes.snr_db.double().cpu().numpy(),
        positions=Positions(padded(scenes.azimuth), padded(scenes.elevation), padded(scenes.range)),
        power=padded(scenes.power),
        coherence=padded(largest_coherence(scenes, geometry)),
        bound=np.stack(columns, axis=-1),
    )


def largest_coherence(scenes: Scenes, geometry: ArrayGeometry) -> torch.Tensor:
    """Return each source's largest |a_i^H a_j| with another of its scene, (B, K_max); 0 if it is alone."""
    mask = scenes.source_mask
    range_ = torch.where(mask, scenes.range.double(), 1.0)
    A = steering_vector(scenes.azimuth.double(), scenes.elevation.double(), range_, geometry)
    gram = (A.conj() @ A.mT).abs()
    pairs = (
        mask[:, :, None] & mask[:, None, :] & ~torch.eye(mask.shape[1], dtype=torch.bool, device=mask.device)
    )
    return torch.where(pairs, gram, 0.0).amax(dim=-1)


def answers_of(estimates: Estimates) -> Answers:
    """Return an estimator's answers as numpy arrays, NaN past the estimated number of sources."""
    counts = estimates.num_sources.cpu().numpy()
    used = np.arange(estimates.azimuth.shape[1]) < counts[:, None]

    def padded(values: torch.Tensor) -> FloatArray:
        return np.where(used, values.detach().double().cpu().numpy(), np.nan)

    found = Positions(padded(estimates.azimuth), padded(estimates.elevation), padded(estimates.range))
    std = [padded(s) for s in (estimates.std_azimuth, estimates.std_elevation, estimates.std_range)]
    return Answers(counts, found, Positions(*std))
