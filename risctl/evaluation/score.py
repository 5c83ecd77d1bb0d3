"""Errors of one estimator on a batch of scenes beside truth and bound: raw rows, nothing averaged."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from risctl.config import EvaluationConfig, PhysicsConfig
from risctl.errors import RisctlError
from risctl.evaluation.gospa import gospa
from risctl.evaluation.matching import Links, inside_gate, link, pick
from risctl.evaluation.positions import BoolArray, FloatArray, IntArray, Positions, wrap
from risctl.evaluation.rows import EstimatorRows, SceneRows, SourceRows
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
    """Estimates of the same scenes: number (B,), positions and deviations (B, K_hat), NaN past it."""

    num_sources: IntArray
    positions: Positions
    std: Positions


def score(
    truth: Truth, answers: Answers, physics: PhysicsConfig, evaluation: EvaluationConfig
) -> EstimatorRows:
    """Raw rows of one estimator on one batch of scenes."""
    check_answers(answers, truth.first)
    links = link(truth.positions, answers.positions, math.radians(evaluation.gate_deg))
    sources = _source_rows(truth, answers, links, physics, evaluation)
    return EstimatorRows(_scene_rows(truth, answers, sources, evaluation), sources)


def check_answers(answers: Answers, first: int) -> None:
    """Refuse a position that is not finite in a used slot: it would drop out of every mean unseen."""
    good = np.asarray(np.isfinite(answers.positions.table()).all(axis=-1))
    broken = np.flatnonzero(good.sum(axis=1) != answers.num_sources)
    if len(broken):
        scene = int(broken[0])
        got = f"{good[scene].sum()} finite positions for {answers.num_sources[scene]} sources"
        raise RisctlError(f"scene {first + scene}: {got}")


def at_limit(found: Positions, physics: PhysicsConfig) -> BoolArray:
    """Whether an estimate is on (or beyond) a limit of the field of view in any coordinate."""
    view = FieldOfView.from_config(physics)
    azimuth = np.abs(found.azimuth) >= view.azimuth * (1 - PEG_TOLERANCE)
    elevation = np.abs(found.elevation) >= view.elevation * (1 - PEG_TOLERANCE)
    near = found.range <= view.range_min * (1 + PEG_TOLERANCE)
    far = found.range >= view.range_max * (1 - PEG_TOLERANCE)
    return np.asarray(azimuth | elevation | near | far)


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


def _source_rows(
    truth: Truth, answers: Answers, links: Links, physics: PhysicsConfig, evaluation: EvaluationConfig
) -> SourceRows:
    there, found = links.of_sources(truth.positions), links.of_estimates(answers.positions)
    snr_db = truth.snr_db[links.scene]
    return SourceRows(
        scene=truth.first + links.scene,
        source=links.source,
        snr_db=snr_db,
        snr_bin_db=nearest(snr_db, evaluation.snr_values_db),
        num_sources=truth.positions.present.sum(axis=1)[links.scene],
        num_estimated=answers.num_sources[links.scene],
        matched=inside_gate(there, found, math.radians(evaluation.gate_deg)),
        pegged=at_limit(found, physics),
        power_db=10 * np.log10(pick(truth.power, links.scene, links.source)),
        coherence=pick(truth.coherence, links.scene, links.source),
        truth=there.table(),
        estimate=found.table(),
        error=errors(there, found),
        bound=pick(truth.bound, links.scene, links.source),
        std=links.of_estimates(answers.std).table(),
    )


def _scene_rows(
    truth: Truth, answers: Answers, sources: SourceRows, evaluation: EvaluationConfig
) -> SceneRows:
    scenes = len(truth.snr_db)
    local = sources.scene - truth.first
    distance, parts = _gospa_scenes(truth.positions, answers.positions, evaluation)
    return SceneRows(
        scene=truth.first + np.arange(scenes),
        snr_db=truth.snr_db,
        snr_bin_db=nearest(truth.snr_db, evaluation.snr_values_db),
        num_sources=truth.positions.present.sum(axis=1),
        num_estimated=answers.num_sources,
        num_matched=np.bincount(local[sources.matched], minlength=scenes),
        num_pegged=np.bincount(local[sources.pegged], minlength=scenes),
        gospa=distance,
        gospa_parts=parts,
    )


def _gospa_scenes(
    truth: Positions, found: Positions, evaluation: EvaluationConfig
) -> tuple[FloatArray, FloatArray]:
    """GOSPA distance (B,) and its three parts (B, 3) of each scene."""
    cutoff, power = evaluation.gospa_cutoff, evaluation.gospa_power
    pairs = zip(truth.cartesian(), truth.present, found.cartesian(), found.present, strict=True)
    scores = [gospa(x[used], y[there], cutoff, power) for x, used, y, there in pairs]
    parts = np.array([(s.localisation, s.missed, s.false) for s in scores]).reshape(-1, 3)
    return np.array([s.distance for s in scores]), parts
