"""Speed on this machine, one thread: figures beside their targets and beside naive baselines.

CPU seconds (`time.process_time`), medians over repeats after one call that warms caches up. They are figures
to print and compare, not to assert: another machine, or a busy one, gives others.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import Tensor

from risctl.config import Config, CovarianceConfig, InferenceConfig, PhysicsConfig
from risctl.covariance import LowRank, leading_subspace, snapshot_factor
from risctl.data import SceneStream, write_dataset
from risctl.evaluation.bench_covariance import covariance_figures
from risctl.evaluation.bench_training import training_figures
from risctl.evaluation.timing import Figure, cost, cpu_seconds, speed
from risctl.inference import Estimator, build_estimator
from risctl.parallel import single_thread
from risctl.physics import ArrayGeometry, FieldOfView, Scenes, simulate_scenes
from risctl.physics.grid import PolarGrid

SNR_DB = 10.0
GRID_RINGS = 10
LEARNED_SCENES = 64  # its batch
LEARNED_TIMES = 5.0  # times cheaper than NOMP it is meant to be


@dataclass(frozen=True)
class Plan:
    """Size of the measurements: repeats, scenes written, scenes estimated, oversampling of the MUSIC grid."""

    repeats: int = 5
    written_scenes: int = 8192
    located_scenes: int = 40
    oversampling: float = 8.0  # 40,320 points of the default surface and field of view
    covariances: int = 64
    training_batch: int = 64


QUICK = Plan(repeats=3, written_scenes=2048, located_scenes=10)


def benchmarks(config: Config, plan: Plan, learned: Estimator | None = None) -> Iterator[Figure]:
    """Measure one figure after another, on one thread of the CPU.

    Args:
        config: surface, scenes and estimators.
        plan: size of the measurements.
        learned: a trained estimator, if there is one.
    """
    with single_thread():
        yield from writing_figures(config.physics, plan)
        yield from covariance_figures(
            example_scenes(config.physics, plan.covariances), config.covariance, config.physics, plan.repeats
        )
        yield from training_figures(config, plan.training_batch, plan.repeats)
        yield from nomp_figures(config, plan)
        if learned is not None:
            yield learned_figure(learned, config, plan)
        yield from music_figures(config.physics, config.covariance, plan)


def writing_figures(physics: PhysicsConfig, plan: Plan) -> Iterator[Figure]:
    """Scenes per CPU second of `gen-data`, hashing and writing included, and their size on disk."""
    samples, size = [], 0
    for _ in range(plan.repeats + 1):
        with TemporaryDirectory(prefix="risctl-bench-") as name:
            samples += cpu_seconds(partial(_write, name, physics, plan), 1, warm=False)
            size = sum(path.stat().st_size for path in Path(name).rglob("*") if path.is_file())
    singly = cpu_seconds(partial(_one_by_one, physics), plan.repeats)
    written = speed("gen-data, written and hashed", "scenes/s", plan.written_scenes, samples[1:])
    slow = speed("", "", 64, singly).value
    yield replace(written, target=6000.0, reference=slow, reference_name="scene by scene, unwritten")
    each = size / plan.written_scenes
    yield Figure("size of a scene on disk", "bytes", each, each, each, 1, target=25_000.0)


def _write(directory: str, physics: PhysicsConfig, plan: Plan) -> None:
    write_dataset(directory, physics, seed=0, split="train", num_scenes=plan.written_scenes)


def _one_by_one(physics: PhysicsConfig) -> None:
    rng = np.random.default_rng(0)
    for index in range(64):
        simulate_scenes(physics, rng, 1, first_index=index)


def nomp_figures(config: Config, plan: Plan) -> Iterator[Figure]:
    """CPU seconds per scene of NOMP, greedy and with swap moves, K given, mean over K at 10 dB."""
    scenes = example_scenes(config.physics, plan.located_scenes)
    rounds = max(1, config.inference.swap_rounds)
    for swaps, target in ((0, 0.05), (rounds, 0.2)):
        inference = config.inference.model_copy(update={"swap_rounds": swaps})
        name = f"NOMP, {swaps} swap rounds" if swaps else "NOMP without swaps"
        yield nomp_figure(name, target, scenes, config, inference, plan)


def nomp_figure(
    name: str, target: float, scenes: Scenes, config: Config, inference: InferenceConfig, plan: Plan
) -> Figure:
    """Measure NOMP on all scenes at once and, for reference, on a few of them one at a time."""
    estimator = build_estimator("nomp", config.physics, config.covariance, inference)
    few = range(min(len(scenes), config.physics.max_sources))
    together = cpu_seconds(partial(locate, estimator, scenes), plan.repeats)
    singly = cpu_seconds(lambda: [locate(estimator, scenes[i : i + 1]) for i in few], 1, warm=False)
    slow = cost("", "", len(few), singly).value
    found = cost(name, "s/scene", len(scenes), together)
    return replace(found, target=target, reference=slow, reference_name="one scene at a time")


def learned_figure(learned: Estimator, config: Config, plan: Plan) -> Figure:
    """CPU seconds per scene of the learned estimator beside NOMP's without swaps, K unknown, at 10 dB."""
    scenes = example_scenes(config.physics, max(plan.located_scenes, LEARNED_SCENES))
    inference = config.inference.model_copy(update={"swap_rounds": 0})
    nomp = build_estimator("nomp", config.physics, config.covariance, inference)
    seconds, slow = (
        cpu_seconds(partial(locate_blind, estimator, scenes), plan.repeats) for estimator in (learned, nomp)
    )
    reference = cost("", "", len(scenes), slow).value
    found = cost("learned, K estimated", "s/scene", len(scenes), seconds)
    target = reference / LEARNED_TIMES
    return replace(
        found, target=target, reference=reference, reference_name="NOMP without swaps, K estimated"
    )


def locate_blind(estimator: Estimator, scenes: Scenes) -> object:
    """Run an estimator that is not given K."""
    return estimator(scenes.y, scenes.H, scenes.codes)


def locate(estimator: Estimator, scenes: Scenes) -> object:
    """Run an estimator that is given K."""
    return estimator(scenes.y, scenes.H, scenes.codes, scenes.num_sources.long())


def example_scenes(physics: PhysicsConfig, count: int) -> Scenes:
    """Scenes at 10 dB that cycle through the source counts."""
    design = physics.model_copy(update={"stratified": True, "snr_values_db": (SNR_DB,)})
    return SceneStream(design, 0, "test", count).scenes(0, count)


def music_figures(physics: PhysicsConfig, covariance: CovarianceConfig, plan: Plan) -> Iterator[Figure]:
    """MUSIC spectrum points per CPU second, from the snapshot factor to the spectrum on a fine grid."""
    most = physics.model_copy(update={"min_sources": physics.max_sources})
    scenes = example_scenes(most, plan.covariances)
    factors = snapshot_factor(scenes.y, scenes.H, scenes.codes, covariance)
    K = physics.max_sources
    grid = music_grid(physics, plan)
    G, unit = grid.num_points, "points/s"
    dense = cpu_seconds(partial(dense_spectrum, factors[:1], K, grid.steering()), plan.repeats)
    beside_dense = partial(
        replace,
        reference=speed("", "", G, dense).value,
        reference_name="dense noise subspace, 1 covariance",
    )
    for count, target in ((1, 2e6), (plan.covariances, 15e6)):
        name = f"MUSIC, {count} covariance{'s' if count > 1 else ''}"
        seconds = cpu_seconds(partial(spectrum, factors[:count], K, grid), plan.repeats)
        yield beside_dense(speed(name, unit, count * G, seconds), target=target)
    anew = cpu_seconds(lambda: spectrum(factors[:1], K, music_grid(physics, plan)), plan.repeats)
    yield beside_dense(speed("MUSIC, 1 covariance, grid made anew", unit, G, anew))


def music_grid(physics: PhysicsConfig, plan: Plan) -> PolarGrid:
    """A fine grid of steering vectors."""
    geometry, view = ArrayGeometry.from_config(physics), FieldOfView.from_config(physics)
    return PolarGrid.build(geometry, view, plan.oversampling, GRID_RINGS)


def spectrum(factors: Tensor, num_sources: int, grid: PolarGrid) -> Tensor:
    """``1 / (1 - |U^H a|^2)`` [B, G], U from the snapshot factors [B, N, L]."""
    U, _ = leading_subspace(factors, num_sources)
    null = grid.energy(U.mT).neg_().add_(1.0)  # in place: the spectrum is larger than the caches
    return null.clamp_min_(torch.finfo(null.dtype).eps).reciprocal_()


def dense_spectrum(factors: Tensor, num_sources: int, A: Tensor) -> Tensor:
    """``1 / |E^H a|^2`` [B, G], E the noise eigenvectors of the covariances, A steering vectors [N, G]."""
    _, vectors = torch.linalg.eigh(LowRank(factors).dense())
    E = vectors[..., : A.shape[0] - num_sources]
    return 1.0 / (E.mH @ A).abs().square().sum(-2).clamp_min(torch.finfo(A.real.dtype).eps)
