"""Do stated probabilities hold, and what does a threshold on them buy: reliability and detection curves."""

import math

import numpy as np
import numpy.typing as npt

from risctl.evaluation.positions import BoolArray, FloatArray
from risctl.evaluation.results import CalibrationError, DetectionEvent, DetectionPoint, ReliabilityBin
from risctl.evaluation.rows import EstimatorRows

BINS = 10
POINTS = 40  # of a detection curve


def calibration_error(probability: npt.ArrayLike, happened: npt.ArrayLike, bins: int = BINS) -> float:
    """Expected calibration error: mean over all statements of |stated - observed share| in bins of equal
    width.

    Naeini, Cooper, Hauskrecht, "Obtaining well calibrated probabilities using Bayesian binning", AAAI 2015.
    NaN of nothing.
    """
    p, y = np.asarray(probability, dtype=np.float64), np.asarray(happened, dtype=np.float64)
    if not len(p):
        return float("nan")
    place = _bins(p, bins)
    gaps = [abs(float((p - y)[place == b].sum())) for b in range(bins)]
    return sum(gaps) / len(p)


def _bins(p: FloatArray, bins: int) -> npt.NDArray[np.int64]:
    return np.minimum((p * bins).astype(np.int64), bins - 1)


def reliability_bins(
    estimator: str, what: str, probability: FloatArray, happened: BoolArray, bins: int = BINS
) -> list[ReliabilityBin]:
    """Stated probability and observed share in each bin of equal width; bins without a statement are left
    out."""
    place = _bins(probability, bins)
    return [
        ReliabilityBin(
            estimator=estimator,
            what=what,
            low=b / bins,
            high=(b + 1) / bins,
            statements=int((place == b).sum()),
            stated=float(probability[place == b].mean()),
            observed=float(happened[place == b].mean()),
        )
        for b in np.unique(place).tolist()
    ]


def detection_curve(
    estimator: str,
    event: DetectionEvent,
    snr_db: float | None,
    probability: FloatArray,
    true: BoolArray,
    sources: int,
    scenes: int,
    points: int = POINTS,
) -> list[DetectionPoint]:
    """Probability of detection against false alarms per scene, as the threshold on the probability falls.

    Args:
        estimator, event, snr_db: labels. probability: of every report. true: whether it is a hit.
        sources, scenes: true sources and scenes in all.
    """
    order = np.argsort(-probability, kind="stable")
    p, hits = probability[order], true[order]
    if not len(p) or not sources or not scenes:
        return []
    ends = np.unique(np.linspace(0, len(p) - 1, points).round().astype(np.int64))
    detected, false = np.cumsum(hits), np.cumsum(~hits)
    return [
        DetectionPoint(
            estimator=estimator,
            event=event,
            snr_db=snr_db,
            threshold=float(p[end]),
            detection=float(detected[end] / sources),
            false_alarms=float(false[end] / scenes),
        )
        for end in ends.tolist()
    ]


def reliability_of(name: str, rows: EstimatorRows) -> list[ReliabilityBin]:
    """Reliability of an estimator's probabilities, over all SNR: of its sources, of the count."""
    sources, counts = _source_statements(rows), _count_statements(rows)
    return reliability_bins(name, "source", *sources) + reliability_bins(name, "count", *counts)


def calibration_of(name: str, rows: EstimatorRows, snr_db: float | None) -> CalibrationError:
    """Expected calibration error of an estimator in one SNR bin; null where it gives no probabilities."""
    cell = rows.cell(snr_db, None)
    figures = [calibration_error(*part) for part in (_source_statements(cell), _count_statements(cell))]
    source, count = (None if math.isnan(figure) else figure for figure in figures)
    return CalibrationError(estimator=name, snr_db=snr_db, source=source, count=count)


def detection_of(name: str, rows: EstimatorRows, snr_db: float | None) -> list[DetectionPoint]:
    """Detection curves of an estimator in one SNR bin, by both events; each report detects at most one."""
    cell = rows.cell(snr_db, None)
    sources = cell.sources.select(np.isfinite(cell.sources.probability))
    total, scenes = int(cell.scenes.num_sources.sum()), len(cell.scenes)
    within = detection_curve(name, "cut-off", snr_db, sources.probability, sources.near, total, scenes)
    return within + detection_curve(name, "gate", snr_db, sources.probability, sources.matched, total, scenes)


def _source_statements(rows: EstimatorRows) -> tuple[FloatArray, BoolArray]:
    """Stated probabilities of the reported sources, and whether a true one is within the cut-off."""
    stated = rows.sources.select(np.isfinite(rows.sources.probability))
    return stated.probability, stated.near


def _count_statements(rows: EstimatorRows) -> tuple[FloatArray, BoolArray]:
    """Probabilities of the most probable counts, and whether they are right."""
    stated = rows.scenes.select(rows.scenes.probable_count >= 0)
    return stated.count_probability, np.asarray(stated.probable_count == stated.num_sources)
