"""Speed on this machine, one thread: figures beside their targets and beside naive baselines.

CPU seconds (`time.process_time`), medians over repeats after one call that warms caches up. They are figures
to print and compare, not to assert: another machine, or a busy one, gives others.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import Tensor

from risctl.config import Config, CovarianceConfig, PhysicsConfig
from risctl.covariance import LowRank, leading_subspace, snapshot_factor
from risctl.data import SceneStream, write_dataset
from risctl.evaluation.bench_covariance import covariance_figures, dense_denominator
from risctl.evaluation.timing import Figure, cost, cpu_seconds, speed
from risctl.inference import Estimator, build_estimator
from risctl.losses import Truth
from risctl.model import Prediction, build_network
from risctl.parallel import single_thread
from risctl.physics import ArrayGeometry, FieldOfView, Scenes, simulate_scenes
from risctl.physics.grid import PolarGrid
from risctl.training.forward import forward_pass
from risctl.training.plan import TrainingPlan
from risctl.training.process_group import ProcessGroup
from risctl.training.state import new_train_state
from risctl.training.step import StepContext, take_step

SNR_DB = 10.0
GRID_RINGS = 10
SINGLE_SCENES = 64  # simulated one at a time, as the baseline of `gen-data`
LEARNED_SCENES = 256  # its batch
LEARNED_GAIN = 5.0  # times cheaper than NOMP it is meant to be


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


def benchmarks(
    config: Config,
    plan: Plan,
    learned: Estimator | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Figure]:
    """Measure one group of figures after another, on one thread of the CPU.

    Args:
        config: surface, scenes and estimators.
        plan: size of the measurements.
        learned: a trained estimator, if there is one.
        progress: called with (groups measured, groups in all).
    """
    found: list[Figure] = []
    with single_thread():
        scenes = example_scenes(config.physics, plan.covariances)
        groups: list[Callable[[], Iterable[Figure]]] = [
            lambda: writing_figures(config.physics, plan),
            lambda: covariance_figures(scenes, config.covariance, config.physics, plan.repeats),
            lambda: training_figures(config, plan),
            lambda: nomp_figures(config, plan),
            lambda: () if learned is None else (learned_figure(learned, config, plan),),
            lambda: music_figures(config.physics, config.covariance, plan),
        ]
        for done, measure in enumerate(groups):
            progress(done, len(groups))
            found += measure()
    progress(len(groups), len(groups))
    return found


def example_scenes(physics: PhysicsConfig, count: int) -> Scenes:
    """Scenes at 10 dB that cycle through the source counts."""
    design = physics.model_copy(update={"stratified": True, "snr_values_db": (SNR_DB,)})
    return SceneStream(design, 0, "test", count).scenes(0, count)


def writing_figures(physics: PhysicsConfig, plan: Plan) -> Iterator[Figure]:
    """Scenes per CPU second of `gen-data`, hashing and writing included, and their size on disk."""
    samples, each, count = [], 0.0, plan.written_scenes
    for _ in range(plan.repeats + 1):
        with TemporaryDirectory(prefix="risctl-bench-") as name:
            write = partial(write_dataset, name, physics, seed=0, split="train", num_scenes=count)
            samples += cpu_seconds(write, 1, warm=False)
            each = sum(path.stat().st_size for path in Path(name).rglob("*") if path.is_file()) / count

    def one_by_one() -> None:
        rng = np.random.default_rng(0)
        for index in range(SINGLE_SCENES):
            simulate_scenes(physics, rng, 1, first_index=index)

    slow = SINGLE_SCENES / median(cpu_seconds(one_by_one, plan.repeats))
    beside = (6000.0, slow, "scene by scene, unwritten")
    yield speed("gen-data, written and hashed", "scenes/s", count, samples[1:], beside)
    yield Figure("size of a scene on disk", "bytes", each, each, each, 1, target=25_000.0)


def training_figures(config: Config, bench: Plan) -> Iterator[Figure]:
    """Scenes per CPU second of whole steps; covariances and losses beside the network."""
    batch, repeats = bench.training_batch, bench.repeats
    network = build_network(config.physics, config.model, config.training.seed)
    plan, processes = TrainingPlan.from_config(config), ProcessGroup()
    context = StepContext.from_plan(plan, processes)
    scenes = plan.train.scenes(0, batch)
    state = new_train_state(plan, network, processes)
    step = cpu_seconds(lambda: take_step(state, context, [scenes]), repeats)
    yield speed("training steps", "scenes/s", batch, step, (150.0, None, ""))

    def outputs() -> dict[str, Tensor]:
        found = vars(network(scenes.y, scenes.H, scenes.codes))
        return {name: x for name, x in found.items() if x is not None}

    def network_alone() -> None:
        """Maps, forward and backward of the network for a gradient of every output."""
        sums = [(x.real + x.imag).sum() if x.is_complex() else x.sum() for x in outputs().values()]
        torch.autograd.backward(torch.stack(sums).sum())

    alone = median(cpu_seconds(network_alone, repeats)) / batch
    made = outputs()

    def rest_alone() -> None:
        """Truth, covariances and losses, forward and backward, from a prediction that is there already."""
        fixed = Prediction(**{name: x.detach().requires_grad_() for name, x in made.items()})
        forward = forward_pass(lambda y, H, codes: fixed, scenes, context.covariance)
        loss = context.objective.training(forward, Truth.of(scenes, context.geometry), 0)
        torch.autograd.backward(loss.total)

    rest = cpu_seconds(rest_alone, repeats)
    beside = (alone, alone, "the network alone, both ways")
    yield cost("covariances and losses, both ways", batch, rest, beside)


def nomp_figures(config: Config, plan: Plan) -> Iterator[Figure]:
    """CPU seconds per scene of NOMP, greedy and with swap moves, K given, mean over K at 10 dB.

    All scenes at once; a few of them one at a time are the baseline.
    """
    scenes = example_scenes(config.physics, plan.located_scenes)
    few = min(len(scenes), config.physics.max_sources)
    rounds = max(1, config.inference.swap_rounds)
    for swaps, target in ((0, 0.05), (rounds, 0.2)):
        inference = config.inference.model_copy(update={"swap_rounds": swaps})
        estimator = build_estimator("nomp", config.physics, config.covariance, inference)
        together = cpu_seconds(partial(locate, estimator, scenes, [slice(None)]), plan.repeats)
        one_by_one = partial(locate, estimator, scenes, [slice(i, i + 1) for i in range(few)])
        (singly,) = cpu_seconds(one_by_one, 1, warm=False)
        name = f"NOMP, {swaps} swap rounds" if swaps else "NOMP without swaps"
        yield cost(name, len(scenes), together, (target, singly / few, "one scene at a time"))


def locate(estimator: Estimator, scenes: Scenes, batches: Sequence[slice]) -> None:
    """Run an estimator that is given K on batches of the scenes, one after another."""
    for part in (scenes[batch] for batch in batches):
        estimator(part.y, part.H, part.codes, part.num_sources.long())


def learned_figure(learned: Estimator, config: Config, plan: Plan) -> Figure:
    """CPU seconds per scene of the learned estimator beside NOMP's without swaps, K unknown, at 10 dB."""
    scenes = example_scenes(config.physics, max(plan.located_scenes, LEARNED_SCENES))
    inference = config.inference.model_copy(update={"swap_rounds": 0})
    nomp = build_estimator("nomp", config.physics, config.covariance, inference)
    measured = (scenes.y, scenes.H, scenes.codes)
    seconds, slow = (cpu_seconds(partial(e, *measured), plan.repeats) for e in (learned, nomp))
    reference = median(slow) / len(scenes)
    beside = (reference / LEARNED_GAIN, reference, "NOMP without swaps, K estimated")
    return cost("learned, K estimated", len(scenes), seconds, beside)


def music_figures(physics: PhysicsConfig, covariance: CovarianceConfig, plan: Plan) -> Iterator[Figure]:
    """MUSIC spectrum points per CPU second, from the snapshot factor to the spectrum on a fine grid."""
    most = physics.model_copy(update={"min_sources": physics.max_sources})
    scenes = example_scenes(most, plan.covariances)
    factors = snapshot_factor(scenes.y, scenes.H, scenes.codes, covariance)
    K, grid = physics.max_sources, music_grid(physics, plan)
    dense = median(cpu_seconds(partial(dense_spectrum, factors[:1], K, grid.steering()), plan.repeats))
    baseline = (grid.num_points / dense, "dense noise subspace, 1 covariance")
    for count, target in ((1, 2e6), (plan.covariances, 15e6)):
        name = f"MUSIC, {count} covariance{'s' if count > 1 else ''}"
        seconds = cpu_seconds(partial(spectrum, factors[:count], K, grid), plan.repeats)
        yield speed(name, "points/s", count * grid.num_points, seconds, (target, *baseline))
    anew = cpu_seconds(lambda: spectrum(factors[:1], K, music_grid(physics, plan)), plan.repeats)
    yield speed("MUSIC, 1 covariance, grid made anew", "points/s", grid.num_points, anew, (None, *baseline))


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
    null = dense_denominator(LowRank(factors).dense(), A.mT, num_sources)
    return 1.0 / null.clamp_min(torch.finfo(null.dtype).eps)
