"""Evaluation: estimators on scenes, scored against truth and bound, in bins of SNR and count."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np
import torch

from risctl.config import EvaluationConfig, PhysicsConfig
from risctl.errors import InputError
from risctl.evaluation.answers import StoredAnswers
from risctl.evaluation.chunks import ChunkScorer, IndexedScenes, Measured, read_chunks
from risctl.evaluation.metrics import cell_figures, closeness_cells, confusion, oracle_figures
from risctl.evaluation.reliability import calibration_of, detection_of, reliability_of
from risctl.evaluation.results import SCHEMA_VERSION, Cell, Results, Timing
from risctl.evaluation.rows import EstimatorRows
from risctl.inference import Estimator, Oracle
from risctl.parallel import THREADS, map_in_order

FIRST_CHUNK = 8  # scenes: small, so that it is soon known how long the others take


@dataclass(frozen=True)
class Evaluation:
    """The figures, and the raw rows of each estimator that they were computed from."""

    results: Results
    rows: Mapping[str, EstimatorRows]


def evaluate(
    source: IndexedScenes,
    estimators: Mapping[str, Estimator],
    physics: PhysicsConfig,
    evaluation: EvaluationConfig,
    *,
    num_scenes: int | None = None,
    batch: int = 128,
    workers: int = 1,
    num_sources_known: bool = False,
    device: str = "cpu",
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
    references: Mapping[str, Oracle] | None = None,
) -> Evaluation:
    """Run `estimators` on the first `num_scenes` scenes of `source` (None: all of them) and score them.

    Args:
        source: the scenes; read `batch` at a time in this process.
        estimators: by the name they are reported under; `ExternalEstimator` makes one of a function, and
            `read_answers` of another program's file. With several workers they must be picklable.
        physics: what the scenes were made with: the bound's array model and the limits of the field of view.
        evaluation: SNR bins, gate, GOSPA, bootstrap.
        batch: scenes in one call of an estimator.
        workers: processes; with one, everything happens here. The figures don't depend on it.
        num_sources_known: give the estimators the number of sources of each scene.
        device: where the estimators want their measurements.
        seed: of the bootstrap.
        progress: called with (scenes done, scenes in all) after each batch.
        references: oracles, which see the truth, by name; no name is an estimator's as well.

    Raises:
        InputError: if there is nothing to evaluate, several workers would share an accelerator, or stored
            answers are of another number of scenes.
        RisctlError: if an estimate is not finite, or a worker dies.
    """
    total = len(source) if num_scenes is None else min(num_scenes, len(source))
    scorer = ChunkScorer(estimators, physics, evaluation, num_sources_known, device, references or {})
    _check_request(scorer, total, len(source), workers)
    outcomes, done = [], 0
    with closing(map_in_order(scorer, read_chunks(source, 0, total, batch, FIRST_CHUNK), workers)) as coming:
        for outcome in coming:
            outcomes.append(outcome)
            done += len(next(iter(outcome.values())).rows.scenes)
            if progress is not None:
                progress(done, total)
    rows, timings = {}, []
    for name in outcomes[0]:
        measured = [outcome[name] for outcome in outcomes]
        rows[name] = EstimatorRows.concatenate([part.rows for part in measured])
        timings.append(_timing(scorer, name, measured, total, workers, batch))
    return Evaluation(_results(scorer, rows, timings, seed), rows)


def _check_request(scorer: ChunkScorer, total: int, available: int, workers: int) -> None:
    assert not scorer.estimators.keys() & scorer.references.keys()
    if total < 1:
        raise InputError("evaluation", "scenes", "at least one", total)
    if not scorer.estimators and not scorer.references:
        raise InputError("evaluation", "estimators", "at least one", "none")
    if workers > 1 and torch.device(scorer.device).type != "cpu":
        raise InputError("evaluation", "workers", f"1 on {scorer.device}", workers)
    for estimator in scorer.estimators.values():
        if isinstance(estimator, StoredAnswers):
            estimator.check(total, available, scorer.physics.known_range == math.inf)


def _timing(
    scorer: ChunkScorer, name: str, measured: Sequence[Measured], scenes: int, workers: int, batch: int
) -> Timing:
    """Seconds of all calls of an estimator; null for answers read from a file."""
    stored = isinstance(scorer.estimators.get(name), StoredAnswers)
    cpu = None if stored else sum(m.cpu_seconds for m in measured)
    return Timing(
        estimator=name,
        scenes=scenes,
        cpu_seconds=cpu,
        cpu_seconds_per_scene=None if cpu is None else cpu / scenes,
        wall_seconds=None if stored else sum(m.wall_seconds for m in measured),
        workers=max(workers, 1),
        threads_per_worker=THREADS,
        batch=batch,
        device=scorer.device,
    )


def _results(
    scorer: ChunkScorer, rows: Mapping[str, EstimatorRows], timings: Sequence[Timing], seed: int
) -> Results:
    """Figures of raw rows: every SNR bin and source count, and the margins over them."""
    physics, evaluation = scorer.physics, scorer.evaluation
    bins = (None, *evaluation.snr_values_db)
    stated = {name: rows[name] for name in scorer.estimators}
    return Results(
        schema_version=SCHEMA_VERSION,
        scenes=timings[0].scenes,
        estimators=tuple(scorer.estimators),
        references=tuple(
            oracle_figures(name, oracle.side_information, rows[name], physics)
            for name, oracle in scorer.references.items()
        ),
        num_sources_known=scorer.num_sources_known,
        snr_values_db=evaluation.snr_values_db,
        max_sources=physics.max_sources,
        gate_deg=evaluation.gate_deg,
        gospa_cutoff_m=evaluation.gospa_cutoff,
        gospa_power=evaluation.gospa_power,
        bootstrap=evaluation.bootstrap,
        seed=seed,
        bound="conditional",
        timings=tuple(timings),
        cells=tuple(c for name, r in rows.items() for c in _cells(name, r, physics, evaluation, seed)),
        confusion=tuple(
            confusion(r.cell(snr, None).scenes, name, snr, physics.max_sources)
            for name, r in rows.items()
            for snr in bins
        ),
        closeness=tuple(c for name, r in rows.items() for c in closeness_cells(r.sources, name)),
        reliability=tuple(b for name, r in stated.items() for b in reliability_of(name, r)),
        calibration=tuple(calibration_of(name, r, snr) for name, r in stated.items() for snr in bins),
        detection=tuple(p for name, r in stated.items() for snr in bins for p in detection_of(name, r, snr)),
    )


def _cells(
    name: str, rows: EstimatorRows, physics: PhysicsConfig, evaluation: EvaluationConfig, seed: int
) -> Iterator[Cell]:
    for i, snr in enumerate((None, *evaluation.snr_values_db)):
        for count in (None, *range(physics.min_sources, physics.max_sources + 1)):
            # Keyed by the cell alone: all estimators are held against the same resamples.
            rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(i, count or 0)))
            cell = rows.cell(snr, count)
            yield cell_figures(cell, (name, snr, count), evaluation.gospa_power, evaluation.bootstrap, rng)
