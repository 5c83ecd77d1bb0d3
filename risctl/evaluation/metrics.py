"""Figures of raw rows: of one cell, by closeness of sources, of an oracle."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from risctl.config import PhysicsConfig
from risctl.evaluation.bootstrap import percentile_interval, ratio, resampled_sums
from risctl.evaluation.positions import BoolArray, FloatArray, IntArray, Positions, great_circle
from risctl.evaluation.results import (
    Cell,
    ClosenessCell,
    Confusion,
    ErrorStats,
    GospaStats,
    Interval,
    OracleFigures,
)
from risctl.evaluation.rows import COORDINATES, QUANTITIES, EstimatorRows, SceneRows, SourceRows
from risctl.evaluation.score import at_limit

ANGLE_TARGET, RANGE_TARGET, EDGE_TARGET = 0.2, 0.2, 0.01  # degrees, metres, share of the estimates


def cell_figures(
    rows: EstimatorRows,
    label: tuple[str, float | None, int | None],
    gospa_power: float,
    resamples: int,
    rng: np.random.Generator,
) -> Cell:
    """The figures of the rows of one cell, labelled (estimator, SNR bin, source count)."""
    scenes, sources = rows.scenes, rows.sources
    count, recall, precision, *ratios = interval_figures(rows, resamples, rng)
    errors = [error_stats(sources, q, ratios[q]) for q in range(len(QUANTITIES))]
    true, matched = int(scenes.num_sources.sum()), int(scenes.num_matched.sum())
    estimated = int(scenes.num_estimated.sum())
    correct, found = mean_over_counts(scenes)
    return Cell(
        estimator=label[0],
        snr_db=label[1],
        num_sources=label[2],
        scenes=len(scenes),
        mean_snr_db=mean(scenes.snr_db),
        true_sources=true,
        estimated_sources=estimated,
        matched_sources=matched,
        left_out_share=share(true - matched, true),
        count_accuracy=count,
        recall=recall,
        precision=precision,
        count_accuracy_mean_over_k=correct,
        recall_mean_over_k=found,
        azimuth_deg=errors[0],
        elevation_deg=errors[1],
        range_m=errors[2],
        position_m=errors[3],
        gospa=gospa_stats(scenes, gospa_power),
        edge_pegged_share=share(int(scenes.num_pegged.sum()), estimated),
    )


def interval_figures(rows: EstimatorRows, resamples: int, rng: np.random.Generator) -> list[Interval]:
    """Count accuracy, recall, precision and the four RMSE/bound ratios, each with its interval.

    All are ratios of sums over scenes (the RMSE ones under a square root), so they share the resamples.
    """
    scenes = rows.scenes
    squared_error, squared_bound = squares_per_scene(rows)
    correct = scenes.num_estimated == scenes.num_sources
    counts = [correct, scenes.num_matched, scenes.num_matched]
    totals = [np.ones(len(scenes)), scenes.num_sources, scenes.num_estimated]
    above = np.concatenate([np.stack(counts, axis=1).astype(np.float64), squared_error], axis=1)
    below = np.concatenate([np.stack(totals, axis=1).astype(np.float64), squared_bound], axis=1)
    values = ratio(above.sum(axis=0), below.sum(axis=0))
    sums = resampled_sums(np.concatenate([above, below], axis=1), resamples, rng)
    samples = ratio(*np.split(sums, 2, axis=1))
    squared = slice(len(counts), None)
    values[squared], samples[:, squared] = np.sqrt(values[squared]), np.sqrt(samples[:, squared])
    return [_interval(values[q], samples[:, q]) for q in range(len(values))]


def squares_per_scene(rows: EstimatorRows) -> tuple[FloatArray, FloatArray]:
    """Per scene the sums of error^2 and bound^2, each (scenes, 4), of matched sources with a bound."""
    scenes, sources = rows.scenes, rows.sources
    place = np.searchsorted(scenes.scene, sources.scene)
    used = sources.matched[:, None] & np.isfinite(sources.bound) & (sources.bound > 0)

    def total(values: FloatArray) -> FloatArray:
        sums = np.zeros((len(scenes), len(QUANTITIES)))
        np.add.at(sums, place, np.where(used, values, 0.0) ** 2)
        return sums

    return total(sources.error), total(sources.bound)


def error_stats(sources: SourceRows, quantity: int, rmse_ratio: Interval) -> ErrorStats:
    """The figures of one quantity (an index into QUANTITIES) over the matched sources."""
    error = sources.error[sources.matched, quantity]
    bound = sources.bound[sources.matched, quantity]
    bounded = np.isfinite(bound) & (bound > 0)
    error_bounded, bound = error[bounded], bound[bounded]
    within = coverage(sources, quantity) if quantity < len(COORDINATES) else np.empty(0)
    return ErrorStats(
        sources=len(error),
        rmse=root_mean_square(error),
        bias=mean(error),
        bound=root_mean_square(bound),
        ratio=rmse_ratio,
        normalised_ratio=root_mean_square(error_bounded / bound),
        median_error=median(np.abs(error)),
        median_bound=median(bound),
        without_bound=int((~bounded).sum()),
        with_std=len(within),
        within_1_sigma=mean(within <= 1),
        within_2_sigma=mean(within <= 2),
    )


def coverage(sources: SourceRows, quantity: int) -> FloatArray:
    """|error| / std of the matched sources that have a finite, positive standard deviation."""
    error, std = sources.error[sources.matched, quantity], sources.std[sources.matched, quantity]
    usable = np.isfinite(std) & (std > 0)
    return np.asarray(np.abs(error[usable]) / std[usable])


def mean_over_counts(scenes: SceneRows) -> tuple[float | None, float | None]:
    """Count accuracy and recall averaged over the source counts present, all weighing the same."""
    correct, found = [], []
    for count in np.unique(scenes.num_sources[scenes.num_sources > 0]):
        chosen = scenes.num_sources == count
        correct.append(np.mean(scenes.num_estimated[chosen] == count))
        found.append(scenes.num_matched[chosen].sum() / scenes.num_sources[chosen].sum())
    return mean(np.array(correct)), mean(np.array(found))


def gospa_stats(scenes: SceneRows, power: float) -> GospaStats:
    """The mean GOSPA distance, and the p-th-power mean with its three parts."""
    if len(scenes) == 0:
        return GospaStats(mean=None, rms=None, localisation=None, missed=None, false=None)
    parts = scenes.gospa_parts.mean(axis=0)
    localisation, missed, false = (float(part ** (1 / power)) for part in parts)
    rms = float(parts.sum() ** (1 / power))
    return GospaStats(mean=mean(scenes.gospa), rms=rms, localisation=localisation, missed=missed, false=false)


def confusion(scenes: SceneRows, estimator: str, snr_db: float | None, max_sources: int) -> Confusion:
    """Count scenes by true (1 .. max_sources) and estimated (0 .. the most seen or allowed) source count."""
    true = range(1, max_sources + 1)
    estimated = range(int(max(max_sources, scenes.num_estimated.max(initial=0))) + 1)
    table = np.zeros((max_sources + 1, len(estimated)), dtype=np.int64)
    np.add.at(table, (scenes.num_sources, scenes.num_estimated), 1)
    return Confusion(
        estimator=estimator,
        snr_db=snr_db,
        true_counts=tuple(true),
        estimated_counts=tuple(estimated),
        scenes=tuple(tuple(int(n) for n in row) for row in table[1:]),
    )


# (-0.1, 0] holds the sources that are alone in their scene.
COHERENCE_EDGES = (-0.1, 0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


def closeness_cells(sources: SourceRows, estimator: str) -> list[ClosenessCell]:
    """Recall and RMSE over bound by how close, in |a_i^H a_j|, a source's nearest neighbour is."""
    cells = []
    for low, high in pairwise(COHERENCE_EDGES):
        # Rounding may take the coherence of two sources at one place a little past 1.
        chosen = (sources.coherence > low) & (sources.coherence <= high + 1e-9)
        inside = sources.select(chosen & (sources.source >= 0))
        ratios = [_rmse_over_bound(inside, q) for q in range(len(COORDINATES))]
        matched = int(inside.matched.sum())
        cells.append(
            ClosenessCell(
                estimator=estimator,
                coherence_low=max(low, 0.0),
                coherence_high=high,
                true_sources=len(inside),
                matched_sources=matched,
                recall=share(matched, len(inside)),
                azimuth_ratio=ratios[0],
                elevation_ratio=ratios[1],
                range_ratio=ratios[2],
            )
        )
    return cells


def oracle_figures(
    name: str, side_information: str, rows: EstimatorRows, physics: PhysicsConfig
) -> OracleFigures:
    """Figures of an oracle over all its scenes: the errors of the search itself."""
    sources = rows.sources
    assigned = sources.select((sources.source >= 0) & np.isfinite(sources.error[:, 2]))
    angle = np.degrees(great_circle(_positions(assigned.truth), _positions(assigned.estimate)))
    middle = median(angle), median(np.abs(assigned.error[:, 2]))
    true = _positions(sources.truth[sources.source >= 0])
    pegged = share(int(rows.scenes.num_pegged.sum()), int(rows.scenes.num_estimated.sum()))
    achieved, targets = (*middle, pegged), (ANGLE_TARGET, RANGE_TARGET, EDGE_TARGET)
    return OracleFigures(
        name=name,
        side_information=side_information,
        scenes=len(rows.scenes),
        sources=len(assigned),
        median_angle_deg=middle[0],
        median_range_m=middle[1],
        within_a_degree=mean(angle < 1.0),
        edge_pegged_share=pegged,
        edge_share_of_truth=mean(at_limit(true, physics)),
        met=all(
            value is not None and value < target for value, target in zip(achieved, targets, strict=True)
        ),
    )


def _positions(table: FloatArray) -> Positions:
    """Columns azimuth and elevation (deg), range (m) as positions."""
    return Positions(np.radians(table[:, 0]), np.radians(table[:, 1]), table[:, 2])


def _rmse_over_bound(sources: SourceRows, quantity: int) -> float | None:
    error, bound = sources.error[:, quantity], sources.bound[:, quantity]
    used = sources.matched & np.isfinite(bound) & (bound > 0)
    above, below = root_mean_square(error[used]), root_mean_square(bound[used])
    return None if above is None or below is None else above / below


def share(part: int, whole: int) -> float | None:
    """part / whole; None of nothing."""
    return part / whole if whole else None


def mean(values: FloatArray | BoolArray | IntArray) -> float | None:
    """The mean; None of nothing."""
    return float(values.mean()) if len(values) else None


def median(values: FloatArray) -> float | None:
    """The median; None of nothing."""
    return float(np.median(values)) if len(values) else None


def root_mean_square(values: FloatArray) -> float | None:
    """The root mean square; None of nothing."""
    return float(np.sqrt(np.mean(values**2))) if len(values) else None


def _interval(value: float, samples: FloatArray) -> Interval:
    low, high = percentile_interval(samples)
    return Interval(value=float(value) if np.isfinite(value) else None, low=low, high=high)
