"""Errors of one estimator on a batch of scenes beside truth and bound: raw rows, nothing averaged."""

import math
from dataclasses import dataclass, replace

import numpy as np

from risctl.config import EvaluationConfig, PhysicsConfig
from risctl.errors import RisctlError
from risctl.evaluation.matching import gospa, inside_gate, link, paired, pick
from risctl.evaluation.positions import BoolArray, FloatArray, IntArray, Positions, wrap
from risctl.evaluation.rows import EstimatorRows, SceneRows, SourceRows
from risctl.inference.decision import CUTOFF
from risctl.physics import FieldOfView

# An estimate this close to a limit of the field of view, relative to the limit, was stopped by it.
PEG_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Truth:
    """Scenes `first`, `first + 1`, ...: sources (B, K), bounds (B, K, 4), both NaN in unused slots."""

    first: int
    snr_db: FloatArray
    positions: Positions
    power: FloatArray
    coherence: FloatArray
    bound: FloatArray


@dataclass(frozen=True)
class Answers:
    """Estimates of the same scenes: number (B,), positions and deviations (B, K_hat), NaN past it.

    Probabilities of the sources (B, K_hat) and of the counts from 0 on (B, C), NaN where there are none.
    """

    num_sources: IntArray
    positions: Positions
    std: Positions
    probability: FloatArray
    count_probability: FloatArray


def score(
    truth: Truth, answers: Answers, physics: PhysicsConfig, evaluation: EvaluationConfig
) -> EstimatorRows:
    """Raw rows of one estimator on one batch of scenes; plane waves count as from the far limit of range."""
    truth = replace(truth, positions=at_far_limit(truth.positions, physics))
    answers = replace(answers, positions=at_far_limit(answers.positions, physics))
    check_answers(answers, truth.first)
    gate, true, found = math.radians(evaluation.gate_deg), truth.positions, answers.positions
    snr_bin_db, num_sources = nearest(truth.snr_db, evaluation.snr_values_db), true.present.sum(axis=1)
    pairs = zip(true.cartesian(), true.present, found.cartesian(), found.present, strict=True)
    cutoff, power = evaluation.gospa_cutoff, evaluation.gospa_power
    distances, near = [], np.zeros(found.present.shape, dtype=bool)
    for place, (x, used, estimate, given) in zip(near, pairs, strict=True):
        distances.append(gospa(x[used], estimate[given], cutoff, power))
        place[given] = paired(x[used], estimate[given], CUTOFF)  # what stated probabilities are of
    links = link(true, found, gate)
    scene, here, there = links.scene, links.of_sources(true), links.of_estimates(found)
    sources = SourceRows(
        scene=truth.first + scene,
        source=links.source,
        snr_db=truth.snr_db[scene],
        snr_bin_db=snr_bin_db[scene],
        num_sources=num_sources[scene],
        num_estimated=answers.num_sources[scene],
        matched=inside_gate(here, there, gate),
        pegged=at_limit(there, physics),
        power_db=10 * np.log10(pick(truth.power, scene, links.source)),
        coherence=pick(truth.coherence, scene, links.source),
        truth=here.table(),
        estimate=there.table(),
        error=errors(here, there),
        bound=pick(truth.bound, scene, links.source),
        std=links.of_estimates(answers.std).table(),
        probability=pick(answers.probability, scene, links.slot),
        near=pick(near.astype(np.float64), scene, links.slot) == 1.0,
    )
    known = np.isfinite(answers.count_probability).all(axis=1)
    filled = np.nan_to_num(answers.count_probability)
    scenes = SceneRows(
        scene=truth.first + np.arange(len(num_sources)),
        snr_db=truth.snr_db,
        snr_bin_db=snr_bin_db,
        num_sources=num_sources,
        num_estimated=answers.num_sources,
        num_matched=np.bincount(scene[sources.matched], minlength=len(num_sources)),
        num_pegged=np.bincount(scene[sources.pegged], minlength=len(num_sources)),
        gospa=np.array([d.distance for d in distances]),
        gospa_parts=np.array([(d.localisation, d.missed, d.false) for d in distances]).reshape(-1, 3),
        probable_count=np.where(known, filled.argmax(axis=1), -1),
        count_probability=np.where(known, filled.max(axis=1), np.nan),
    )
    return EstimatorRows(scenes, sources)


def check_answers(answers: Answers, first: int) -> None:
    """Refuse a position that is not finite in a used slot: it would drop out of every mean unseen."""
    good = np.asarray(np.isfinite(answers.positions.table()).all(axis=-1))
    broken = np.flatnonzero(good.sum(axis=1) != answers.num_sources)
    if len(broken):
        scene = int(broken[0])
        got = f"{good[scene].sum()} finite positions for {answers.num_sources[scene]} sources"
        raise RisctlError(f"scene {first + scene}: {got}")


def at_far_limit(positions: Positions, physics: PhysicsConfig) -> Positions:
    """Positions with `range_max` for a range that is known to be infinite, so that distances are in metres
    there."""
    if physics.known_range != math.inf:
        return positions
    return replace(
        positions, range=np.where(np.isposinf(positions.range), physics.range_max, positions.range)
    )


def at_limit(found: Positions, physics: PhysicsConfig) -> BoolArray:
    """Whether an estimate is on (or beyond) a limit of the field of view in any coordinate not known."""
    view = FieldOfView.from_config(physics)
    known_azimuth, known_elevation, known_range = view.known
    azimuth = np.abs(found.azimuth) >= view.azimuth * (1 - PEG_TOLERANCE)
    elevation = np.abs(found.elevation) >= view.elevation * (1 - PEG_TOLERANCE)
    near = found.range <= view.range_min * (1 + PEG_TOLERANCE)
    far = found.range >= view.range_max * (1 - PEG_TOLERANCE)
    pegged = (
        azimuth & (not known_azimuth) | elevation & (not known_elevation) | (near | far) & (not known_range)
    )
    return np.asarray(pegged)


def nearest(values: FloatArray, bins: tuple[float, ...]) -> FloatArray:
    """The nearest of the ascending `bins` for each value; halfway goes to the lower."""
    table = np.asarray(bins, dtype=np.float64)
    found: FloatArray = table[np.abs(values[:, None] - table).argmin(axis=1)]
    return found


def errors(truth: Positions, estimate: Positions) -> FloatArray:
    """Errors estimate - truth in azimuth, elevation (deg) and range (m), then the distance (m): (..., 4)."""
    azimuth = np.degrees(wrap(estimate.azimuth - truth.azimuth))
    elevation = np.degrees(estimate.elevation - truth.elevation)
    distance = np.linalg.norm(estimate.cartesian() - truth.cartesian(), axis=-1)
    return np.stack([azimuth, elevation, estimate.range - truth.range, distance], axis=-1)
