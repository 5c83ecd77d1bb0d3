"""Fitting the count fusion of a trained network, on scenes that its training never saw.

The likelihood moves run on the scenes as they do in inference; the fusion sees their results alone. It
minimises the cross-entropy of the source count. The epoch that is best on the validation scenes is kept.
"""

from collections.abc import Callable
from contextlib import closing
from copy import deepcopy
from dataclasses import dataclass, fields
from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from risctl.evaluation.chunks import Chunk, IndexedScenes, read_chunks
from risctl.inference import LearnedEstimator
from risctl.inference.observation import Observation
from risctl.model.fusion import CountFusion
from risctl.parallel import map_in_order

CHUNK = 64
HIDDEN = 64
EPOCHS = 40
BATCH = 256
RATE, DECAY = 2e-3, 0.1
LEAST_STD = 1e-3


@dataclass(frozen=True)
class CountData:
    """The data of S scenes on which the fusion is fitted.

    Attributes:
        head: scores of the network's count head, [S, K_max].
        evidence: scores of the likelihood, [S, K_max].
        figures: of the scenes, [S, F].
        num_sources: true count, int64 [S].
        snr_db: [S], for reports only.
    """

    head: Tensor
    evidence: Tensor
    figures: Tensor
    num_sources: Tensor
    snr_db: Tensor


@torch.no_grad()
def count_data(estimator: LearnedEstimator, chunk: Chunk) -> CountData:
    """Run the moves on a chunk of scenes for the inputs of the fusion."""
    scenes = chunk.unpack()
    obs = Observation.build(scenes.y, scenes.H, scenes.codes)
    found = estimator.count_hypotheses(obs, estimator.forward(scenes.y, scenes.H, scenes.codes))
    return CountData(found.head, found.evidence, found.features, scenes.num_sources.long(), scenes.snr_db)


@dataclass(frozen=True)
class Fit:
    """A fitted fusion, its cross-entropy and the share of right counts on the validation scenes."""

    network: CountFusion
    cross_entropy: float
    accuracy: float
    epoch: int


def collect_counts(
    estimator: LearnedEstimator,
    source: IndexedScenes,
    start: int,
    count: int,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> CountData:
    """Run the moves on scenes ``start .. start + count - 1`` of `source`."""
    parts: list[CountData] = []
    chunks = read_chunks(source, start, start + count, CHUNK)
    with closing(map_in_order(partial(count_data, estimator), chunks, workers)) as coming:
        for part in coming:
            parts.append(part)
            if progress is not None:
                progress(min(len(parts) * CHUNK, count), count)
    names = [field.name for field in fields(CountData)]
    return CountData(**{name: torch.cat([getattr(part, name) for part in parts]) for name in names})


def fit_fusion(train: CountData, validation: CountData, seed: int) -> Fit:
    """Fit a fusion; the result follows from the data and the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = CountFusion(train.figures.shape[1], train.head.shape[1], HIDDEN)
    network.mean.copy_(train.figures.mean(0))
    network.std.copy_(train.figures.std(0).clamp_min(LEAST_STD))
    generator = torch.Generator().manual_seed(seed)
    batches = max(1, len(train.num_sources) // BATCH)
    optimiser = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, EPOCHS * batches)
    best = _validated(network, validation, 0)
    for epoch in range(1, EPOCHS + 1):
        order = torch.randperm(len(train.num_sources), generator=generator)
        for rows in order.tensor_split(batches):
            scores = network(train.head[rows], train.evidence[rows], train.figures[rows])
            optimiser.zero_grad()
            torch.autograd.backward(cross_entropy(scores, train.num_sources[rows] - 1))
            optimiser.step()
            schedule.step()
        best = min(best, _validated(network, validation, epoch), key=lambda fit: fit.cross_entropy)
    return best


def count_accuracy(scores: Tensor, data: CountData) -> float:
    """Share of the scenes whose largest score [S, K_max] is that of the true count."""
    return float((scores.argmax(1) + 1 == data.num_sources).double().mean())


@torch.no_grad()
def _validated(network: CountFusion, data: CountData, epoch: int) -> Fit:
    scores = network(data.head, data.evidence, data.figures)
    loss = float(cross_entropy(scores, data.num_sources - 1))
    return Fit(deepcopy(network).eval(), loss, count_accuracy(scores, data), epoch)
