"""Fitting the probabilities of an estimator, on scenes that its training never saw.

The search runs on the scenes as it does in inference; the fit sees its results alone. First the counts, by
their cross-entropy; the epoch that is best on the validation scenes is kept. Then the sources of all
hypotheses: the probabilities that a true source lies within the cut-off and inside the gate, by their
cross-entropy, and the mean squared error. A hypothesis weighs as much as its count is probable, and a little
more, so that no corner is left to chance.
"""

import math
from collections.abc import Callable, Iterable
from contextlib import closing
from copy import deepcopy
from dataclasses import dataclass, fields
from functools import partial
from itertools import chain, pairwise
from typing import Protocol

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits as cross_entropy_of_logits
from torch.nn.functional import cross_entropy

from risctl.config import PhysicsConfig
from risctl.evaluation.chunks import Chunk, IndexedScenes, read_chunks
from risctl.evaluation.reliability import calibration_error
from risctl.inference.decision import CUTOFF, GATE_DEG, head_scores
from risctl.inference.fusion import CountHypotheses, cartesian, count_features, source_features
from risctl.inference.observation import Observation
from risctl.model.fusion import CountFusion
from risctl.parallel import map_in_order
from risctl.physics import Scenes
from risctl.physics.polar import from_polar, to_polar

CHUNK, CHUNK_VALUES = 32, 8192  # most scenes and, as the cache is finite, measured values at a time
HIDDEN = 64
EPOCHS = 30
BATCH = 256
SOURCE_EPOCHS = 12
SOURCE_BATCH = 1024
RATE, DECAY, SOURCE_DECAY = 2e-3, 0.1, 0.02
LEAST_WEIGHT = 0.1  # of a hypothesis whose count is out of the question
ANTENNAS = (4, 6, 8, 12, 16, 16, 16, 24, 32)  # of the scenes of other dimensions
HIT_WEIGHT = 0.5  # of the gate's cross-entropy in the loss


class Finder(Protocol):
    """An estimator that lays open what it found."""

    def find(self, obs: Observation) -> CountHypotheses:
        """Hypotheses of all counts in B scenes."""
        ...


@dataclass(frozen=True)
class CountData:
    """The data of S scenes on which the probabilities are fitted.

    Attributes:
        head: scores of the network's count head [S, K_max]; zeros without one.
        evidence: of K = 0 .. K_max [S, K_max + 1].
        figures: of the scenes [S, F].
        sources: figures of the sources of the hypotheses of k = 1, .., K_max in a row [S, I, F'].
        spread: mean squared error of these by their posteriors, m^2 [S, I].
        near, hit: whether a true source lies within the cut-off, and inside the gate [S, I].
        error: squared distance from it, m^2 [S, I]; the cut-off's square without one.
        num_sources: true count, int64 [S].
        snr_db: [S]. usual: whether the scene is of the configuration's own kind [S]; both for reports only.
    """

    head: Tensor
    evidence: Tensor
    figures: Tensor
    sources: Tensor
    spread: Tensor
    near: Tensor
    hit: Tensor
    error: Tensor
    num_sources: Tensor
    snr_db: Tensor
    usual: Tensor

    def __len__(self) -> int:
        return len(self.num_sources)

    def copied(self) -> "CountData":
        """The same in this process's own memory: what a worker sends keeps a file open for every tensor."""
        return CountData(**{field.name: getattr(self, field.name).clone() for field in fields(CountData)})

    @staticmethod
    def concatenate(parts: "list[CountData]") -> "CountData":
        """The data of all `parts`."""
        names = [field.name for field in fields(CountData)]
        return CountData(**{name: torch.cat([getattr(part, name) for part in parts]) for name in names})


def found_data(found: CountHypotheses, scenes: Scenes, usual: bool = True) -> CountData:
    """The data of what was found in simulated scenes."""
    counts = range(1, found.max_sources + 1)
    labels = [source_labels(found.posteriors[k].points, scenes) for k in counts]
    near, hit, error = (torch.cat(part, dim=1) for part in zip(*labels, strict=True))
    sources = torch.cat([source_features(found, k) for k in counts], dim=1)
    spread = torch.cat([found.posteriors[k].spread for k in counts], dim=1).float()
    truth = (scenes.num_sources.long(), scenes.snr_db, torch.full((len(scenes),), usual))
    scene = (head_scores(found), found.evidence, count_features(found))
    return CountData(*scene, sources, spread, near, hit, error, *truth)


def source_labels(points: Tensor, scenes: Scenes) -> tuple[Tensor, Tensor, Tensor]:
    """Whether each of the points [B, k, 3] is within the cut-off of a true source (GOSPA's assignment: each
    source counts once), whether inside the gate of one, and the squared distance; float32 [B, k]."""
    truth = to_polar(
        scenes.azimuth.double(), scenes.elevation.double(), scenes.range.double().clamp_min(1e-3)
    )
    absent = ~scenes.source_mask.unsqueeze(1)
    distance = torch.cdist(cartesian(points.double()), cartesian(truth)).masked_fill(absent, torch.inf)
    error = torch.full(points.shape[:2], CUTOFF**2)
    cost = distance.square().clamp_max(CUTOFF**2).numpy()
    for b in range(len(points)):
        i, j = linear_sum_assignment(cost[b])
        error[b, i] = torch.from_numpy(cost[b, i, j]).float()
    azimuth, elevation, _ = (x.unsqueeze(2) for x in from_polar(points.double()))
    gate = math.radians(GATE_DEG)
    inside = (azimuth - scenes.azimuth.double().unsqueeze(1)).abs() <= gate
    inside &= (elevation - scenes.elevation.double().unsqueeze(1)).abs() <= gate
    return (error < CUTOFF**2).float(), (inside & ~absent).any(2).float(), error


@torch.no_grad()
def count_data(estimator: Finder, task: tuple[Chunk, bool]) -> CountData:
    """Search a chunk of scenes for the data of the fit; the flag says whether they are of the usual kind."""
    chunk, usual = task
    scenes = chunk.unpack()
    return found_data(estimator.find(Observation.build(scenes.y, scenes.H, scenes.codes)), scenes, usual)


@dataclass(frozen=True)
class Batch:
    """Scenes ``start .. start + count - 1`` of a source, searched `size` at a time."""

    source: IndexedScenes
    start: int
    count: int
    usual: bool = True
    size: int = CHUNK

    def chunks(self) -> Iterable[tuple[Chunk, bool]]:
        """The scenes in chunks."""
        for chunk in read_chunks(self.source, self.start, self.start + self.count, self.size):
            yield chunk, self.usual


def chunk_size(physics: PhysicsConfig) -> int:
    """Scenes that are searched at a time: fewer where one has many measured values."""
    return min(CHUNK, max(4, CHUNK_VALUES // (physics.num_antennas * physics.num_snapshots)))


def other_kinds(physics: PhysicsConfig, count: int, seed: int) -> list[PhysicsConfig]:
    """Scenes of other dimensions and priors: a broad mixture, so that a fit leans on none.

    L from 2 to 128, M from 4 to 32, powers +-1 to 12 dB, with and without the coherence cap.
    """
    rng = np.random.default_rng(seed)
    kinds = []
    for index in range(count):
        snapshots = 128 if index % 12 == 11 else round(2.0 ** rng.uniform(1.0, 5.5))
        kind = {
            "num_antennas": max(int(rng.choice(ANTENNAS)), physics.max_sources // snapshots + 1),
            "num_snapshots": snapshots,
            "power_spread_db": float(rng.uniform(1.0, 12.0)),
            "max_coherence": 1.0 if rng.uniform() < 0.5 else physics.max_coherence,
        }
        kinds.append(physics.model_copy(update=kind))
    return kinds


def collect_counts(
    estimator: Finder,
    batches: Iterable[Batch],
    workers: int = 1,
    progress: Callable[[int], None] | None = None,
) -> CountData:
    """Search all scenes of the batches for the data of the fit; `progress` takes how many are done."""
    parts: list[CountData] = []
    done = 0
    tasks = chain.from_iterable(batch.chunks() for batch in batches)
    with closing(map_in_order(partial(count_data, estimator), tasks, workers)) as coming:
        for part in coming:
            parts.append(part.copied())
            done += len(part)
            if progress is not None:
                progress(done)
    return CountData.concatenate(parts)


@dataclass(frozen=True)
class Fit:
    """A fitted fusion, and its figures on the validation scenes.

    Attributes:
        network: in evaluation mode. cross_entropy, accuracy: of the counts. epoch: the one kept.
        calibration_error: of the probabilities of the sources of the most probable hypothesis.
    """

    network: CountFusion
    cross_entropy: float
    accuracy: float
    epoch: int
    calibration_error: float = math.nan


def fit_fusion(train: CountData, validation: CountData, seed: int) -> Fit:
    """Fit counts, then sources; the result follows from the data and the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        width, own = train.figures.shape[1], train.sources.shape[2]
        network = CountFusion(width, own, train.head.shape[1], HIDDEN)
    generator = torch.Generator().manual_seed(seed)
    fit = _fit_counts(network, train, validation, generator)
    _fit_sources(fit.network, train, generator)
    chosen = _probabilities(fit.network, validation)
    error = calibration_error(chosen[0].numpy(), chosen[1].numpy())
    return Fit(fit.network, fit.cross_entropy, fit.accuracy, fit.epoch, error)


def _fit_counts(
    network: CountFusion, train: CountData, validation: CountData, generator: torch.Generator
) -> Fit:
    network.count.standardise(train.figures)
    batches = max(1, len(train) // BATCH)
    optimiser = torch.optim.AdamW([network.weights, *network.count.parameters()], lr=RATE, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, EPOCHS * batches)
    best = _validated(network, validation, 0)
    for epoch in range(1, EPOCHS + 1):
        for rows in torch.randperm(len(train), generator=generator).tensor_split(batches):
            scores = network(train.head[rows], train.evidence[rows], train.figures[rows])
            optimiser.zero_grad()
            torch.autograd.backward(cross_entropy(scores, train.num_sources[rows]))
            optimiser.step()
            schedule.step()
        best = min(best, _validated(network, validation, epoch), key=lambda fit: fit.cross_entropy)
    return best


def _fit_sources(network: CountFusion, data: CountData, generator: torch.Generator) -> None:
    with torch.no_grad():
        log_count = network(data.head, data.evidence, data.figures)
    network.source.standardise(_all_figures(network, data, log_count))
    batches = max(1, len(data) * data.spread.shape[1] // SOURCE_BATCH)
    optimiser = torch.optim.AdamW(network.source.parameters(), lr=RATE, weight_decay=SOURCE_DECAY)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, SOURCE_EPOCHS * batches)
    for _ in range(SOURCE_EPOCHS):
        for rows in torch.randperm(len(data), generator=generator).tensor_split(batches):
            loss = source_loss(network, data, log_count, rows)
            optimiser.zero_grad()
            torch.autograd.backward(loss)
            optimiser.step()
            schedule.step()
    network.eval()


def source_loss(network: CountFusion, data: CountData, log_count: Tensor, rows: Tensor) -> Tensor:
    """Weighted loss of the sources of all hypotheses of the scenes `rows`."""
    total = log_count.new_zeros(())
    for k, own in enumerate(own_columns(network.max_sources), start=1):
        counts = log_count[rows]
        belief = network.sources(counts, data.sources[rows, own], data.spread[rows, own], CUTOFF)
        near, hit, error = (x[rows, own] for x in (data.near, data.hit, data.error))
        loss = cross_entropy_of_logits(belief.near, near, reduction="none")
        loss = loss + HIT_WEIGHT * cross_entropy_of_logits(belief.hit, hit, reduction="none")
        loss = loss + near * (belief.error - error).square() / CUTOFF**2
        total = total + (loss * (LEAST_WEIGHT + counts[:, k].exp()).unsqueeze(1)).sum()
    return total / len(rows)


def own_columns(max_sources: int) -> list[slice]:
    """Columns of the sources of the hypotheses of k = 1, 2, .., K_max."""
    ends = np.cumsum(range(max_sources + 1)).tolist()
    return [slice(low, high) for low, high in pairwise(ends)]


def _all_figures(network: CountFusion, data: CountData, log_count: Tensor) -> Tensor:
    parts = []
    for k, own in enumerate(own_columns(network.max_sources), start=1):
        parts.append(network.source_input(log_count, data.sources[:, own], k).flatten(0, 1))
    return torch.cat(parts)


@torch.no_grad()
def _probabilities(network: CountFusion, data: CountData) -> tuple[Tensor, Tensor]:
    """Probabilities of the sources of the most probable hypotheses, and whether there is one."""
    log_count = network(data.head, data.evidence, data.figures)
    counts, found, true = log_count.argmax(1), [], []
    for k, own in enumerate(own_columns(network.max_sources), start=1):
        rows = (counts == k).nonzero().squeeze(-1)
        belief = network.sources(log_count[rows], data.sources[rows, own], data.spread[rows, own], CUTOFF)
        found.append(belief.near.sigmoid().flatten())
        true.append(data.near[rows, own].flatten())
    return torch.cat(found), torch.cat(true)


def count_accuracy(scores: Tensor, data: CountData) -> float:
    """Share of the scenes whose largest score [S, K_max + 1] is that of the true count."""
    return float((scores.argmax(1) == data.num_sources).double().mean())


@torch.no_grad()
def _validated(network: CountFusion, data: CountData, epoch: int) -> Fit:
    scores = network(data.head, data.evidence, data.figures)
    loss = float(cross_entropy(scores, data.num_sources))
    return Fit(deepcopy(network).eval(), loss, count_accuracy(scores, data), epoch)
