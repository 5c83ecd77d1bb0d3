"""The work on a chunk of scenes: bound, timed calls of the estimators, scores."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from risctl.config import EvaluationConfig, PhysicsConfig
from risctl.errors import RisctlError
from risctl.evaluation.external import IndexedEstimator
from risctl.evaluation.positions import FloatArray, Positions
from risctl.evaluation.rows import EstimatorRows
from risctl.evaluation.score import Answers, Truth, score
from risctl.inference import Estimates, Estimator, Oracle
from risctl.physics import ArrayGeometry, FieldOfView, Scenes, steering_vector
from risctl.physics.bounds import scene_bounds


class IndexedScenes(Protocol):
    """Scenes by index: a stream, a store on disk."""

    def __len__(self) -> int: ...

    def scenes(self, start: int, stop: int) -> Scenes:
        """Scenes start .. stop - 1."""
        ...


@dataclass(frozen=True)
class Measured:
    """Rows of one estimator on one chunk, and the seconds of its call."""

    rows: EstimatorRows
    cpu_seconds: float
    wall_seconds: float


@dataclass(frozen=True)
class Chunk:
    """Scenes from `first` on as numpy arrays, which travel between processes by value."""

    first: int
    arrays: Mapping[str, npt.NDArray[Any]]
    phase_bits: int

    def unpack(self) -> Scenes:
        """The scenes on the CPU."""
        tensors = {name: torch.from_numpy(array) for name, array in self.arrays.items()}
        return Scenes(**tensors, phase_bits=self.phase_bits)


def read_chunks(
    source: IndexedScenes, start: int, stop: int, size: int, first: int | None = None
) -> Iterator[Chunk]:
    """Scenes start .. stop - 1 of `source`, `size` at a time, at most `first` in the first chunk."""
    begin = start
    while begin < stop:
        end = min(begin + min(size, first or size if begin == start else size), stop)
        scenes = source.scenes(begin, end)
        arrays = {name: tensor.cpu().numpy() for name, tensor in scenes.tensors().items()}
        yield Chunk(begin, arrays, scenes.phase_bits)
        begin = end


@dataclass(frozen=True)
class ChunkScorer:
    """Runs and scores estimators on chunks of scenes; picklable as long as the estimators are.

    Attributes:
        estimators: see the measurements alone.
        references: oracles, which see the truth as well.
    """

    estimators: Mapping[str, Estimator]
    physics: PhysicsConfig
    evaluation: EvaluationConfig
    num_sources_known: bool
    device: str
    references: Mapping[str, Oracle] = field(default_factory=dict)

    def __call__(self, chunk: Chunk) -> dict[str, Measured]:
        """Run and score every estimator and reference on the chunk."""
        on_cpu = chunk.unpack()
        truth, scenes = truth_of(on_cpu, chunk.first, self.physics), on_cpu.to(self.device)
        known = scenes.num_sources.long() if self.num_sources_known else None
        seen = (scenes.y, scenes.H, scenes.codes, known)  # made before the clock starts
        runs: dict[str, Callable[[], Estimates]] = {}
        for name, estimator in self.estimators.items():
            if isinstance(estimator, IndexedEstimator):
                estimator = estimator.starting_at(chunk.first)
            runs[name] = partial(estimator, *seen)
        runs |= {name: partial(reference, scenes) for name, reference in self.references.items()}
        measured = {}
        for name, run in runs.items():
            cpu, wall = time.process_time(), time.perf_counter()
            answers = answers_of(run())  # waits for the device
            cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
            try:
                rows = score(truth, answers, self.physics, self.evaluation)
            except RisctlError as error:
                raise RisctlError(f"estimator {name}: {error}") from error
            measured[name] = Measured(rows, cpu, wall)
        return measured


def truth_of(scenes: Scenes, first: int, physics: PhysicsConfig) -> Truth:
    """Sources and conditional bounds of `scenes`, the first of which is scene `first`."""
    mask = scenes.source_mask.cpu().numpy()

    def padded(values: torch.Tensor, scale: float = 1.0) -> FloatArray:
        return np.where(mask, values.double().cpu().numpy() * scale, np.nan)

    geometry = ArrayGeometry.from_config(physics, scenes.y.device, torch.float64)
    view = FieldOfView.from_config(physics)
    bounds = scene_bounds(scenes, geometry, "conditional", view, physics.symbols, physics.static_path)
    degrees = float(np.degrees(1.0))
    angles = padded(bounds.azimuth, degrees), padded(bounds.elevation, degrees)
    return Truth(
        first=first,
        snr_db=scenes.snr_db.double().cpu().numpy(),
        positions=Positions(padded(scenes.azimuth), padded(scenes.elevation), padded(scenes.range)),
        power=padded(scenes.power),
        coherence=padded(largest_coherence(scenes, geometry)),
        bound=np.stack([*angles, padded(bounds.range), padded(bounds.position)], axis=-1),
    )


def largest_coherence(scenes: Scenes, geometry: ArrayGeometry) -> torch.Tensor:
    """Each source's largest |a_i^H a_j| with another of its scene, (B, K_max); 0 if it is the only one."""
    mask = scenes.source_mask
    range_ = torch.where(mask, scenes.range.double(), 1.0)
    A = steering_vector(scenes.azimuth.double(), scenes.elevation.double(), range_, geometry)
    gram = (A.conj() @ A.mT).abs()
    others = ~torch.eye(mask.shape[1], dtype=torch.bool, device=mask.device)
    pairs = mask[:, :, None] & mask[:, None, :] & others
    return torch.where(pairs, gram, 0.0).amax(dim=-1)


def answers_of(estimates: Estimates) -> Answers:
    """Estimates as NumPy arrays, NaN past the estimated number of sources."""
    counts = estimates.num_sources.cpu().numpy()
    used = np.arange(estimates.azimuth.shape[1]) < counts[:, None]

    def padded(values: torch.Tensor) -> FloatArray:
        return np.where(used, values.detach().double().cpu().numpy(), np.nan)

    found = Positions(padded(estimates.azimuth), padded(estimates.elevation), padded(estimates.range))
    std = [padded(s) for s in (estimates.std_azimuth, estimates.std_elevation, estimates.std_range)]
    chances = estimates.count_probability.detach().double().cpu().numpy()
    return Answers(counts, found, Positions(*std), padded(estimates.probability), chances)
