"""Figures of raw rows: of one cell, by closeness of sources, of an oracle."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np

from risctl.config import PhysicsConfig
from risctl.evaluation.bootstrap import percentile_interval, ratio, resampled_sums
from risctl.evaluation.positions import BoolArray, FloatArray, Positions, great_circle
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
    scenes = rows.scenes
    count, recall, precision, *ratios = interval_figures(rows, resamples, rng)
    errors = {name: error_stats(rows.sources, q, ratios[q]) for q, name in enumerate(QUANTITIES)}
    true, matched = int(scenes.num_sources.sum()), int(scenes.num_matched.sum())
    estimated = int(scenes.num_estimated.sum())
    each = [  # the scenes of every source count present, all counts weighing the same
        scenes.select(scenes.num_sources == count)
        for count in np.unique(scenes.num_sources[scenes.num_sources > 0])
    ]
    correct = [np.mean(part.num_estimated == part.num_sources) for part in each]
    found = [part.num_matched.sum() / part.num_sources.sum() for part in each]
    return Cell(
        estimator=label[0],
        snr_db=label[1],
        num_sources=label[2],
        scenes=len(scenes),
        mean_snr_db=statistic(np.mean, scenes.snr_db),
        true_sources=true,
        estimated_sources=estimated,
        matched_sources=matched,
        left_out_share=share(true - matched, true),
        count_accuracy=count,
        recall=recall,
        precision=precision,
        count_accuracy_mean_over_k=statistic(np.mean, np.array(correct)),
        recall_mean_over_k=statistic(np.mean, np.array(found)),
        gospa=gospa_stats(scenes, gospa_power),
        edge_pegged_share=share(int(scenes.num_pegged.sum()), estimated),
        **errors,
    )


def interval_figures(rows: EstimatorRows, resamples: int, rng: np.random.Generator) -> list[Interval]:
    """Count accuracy, recall, precision and the four RMSE/bound ratios, each with its interval.

    All are ratios of sums over scenes (the RMSE ones under a square root), so they share the resamples.
    """
    scenes, sources = rows.scenes, rows.sources
    place = np.searchsorted(scenes.scene, sources.scene)
    used = sources.matched[:, None] & usable(sources.bound)
    squared = np.zeros((2, len(scenes), len(QUANTITIES)))  # of errors and bounds, summed per scene
    for sums, values in zip(squared, (sources.error, sources.bound), strict=True):
        np.add.at(sums, place, np.where(used, values, 0.0) ** 2)
    correct = scenes.num_estimated == scenes.num_sources
    counts = np.stack([correct, scenes.num_matched, scenes.num_matched], axis=1)
    totals = np.stack([np.ones(len(scenes)), scenes.num_sources, scenes.num_estimated], axis=1)
    above, below = np.hstack([counts, squared[0]]), np.hstack([totals, squared[1]])
    values = ratio(above.sum(axis=0), below.sum(axis=0))
    samples = ratio(*np.split(resampled_sums(np.hstack([above, below]), resamples, rng), 2, axis=1))
    values[3:], samples[:, 3:] = np.sqrt(values[3:]), np.sqrt(samples[:, 3:])
    figures = []
    for value, sample in zip(values.tolist(), samples.T, strict=True):
        low, high = percentile_interval(sample)
        figures.append(Interval(value=value if np.isfinite(value) else None, low=low, high=high))
    return figures


def usable(std: FloatArray) -> BoolArray:
    """Whether a standard deviation or a bound is finite and positive."""
    return np.isfinite(std) & (std > 0)


def error_stats(sources: SourceRows, quantity: int, rmse_ratio: Interval) -> ErrorStats:
    """The figures of one quantity (an index into QUANTITIES) over the matched sources."""
    error, bound = (part[sources.matched, quantity] for part in (sources.error, sources.bound))
    bounded = usable(bound)
    error_bounded, bound = error[bounded], bound[bounded]
    within = np.empty(0)  # |error| / std where there is a standard deviation
    if quantity < len(COORDINATES):
        std = sources.std[sources.matched, quantity]
        known = usable(std)
        within = np.abs(error[known]) / std[known]
    return ErrorStats(
        sources=len(error),
        rmse=statistic(rms, error),
        bias=statistic(np.mean, error),
        bound=statistic(rms, bound),
        ratio=rmse_ratio,
        normalised_ratio=statistic(rms, error_bounded / bound),
        median_error=statistic(np.median, np.abs(error)),
        median_bound=statistic(np.median, bound),
        without_bound=int((~bounded).sum()),
        with_std=len(within),
        within_1_sigma=statistic(np.mean, within <= 1),
        within_2_sigma=statistic(np.mean, within <= 2),
    )


def gospa_stats(scenes: SceneRows, power: float) -> GospaStats:
    """The mean GOSPA distance, and the p-th-power mean with its three parts."""
    if len(scenes) == 0:
        return GospaStats(mean=None, rms=None, localisation=None, missed=None, false=None)
    parts = scenes.gospa_parts.mean(axis=0)
    localisation, missed, false = (float(part ** (1 / power)) for part in parts)
    rms = float(parts.sum() ** (1 / power))
    return GospaStats(
        mean=statistic(np.mean, scenes.gospa), rms=rms, localisation=localisation, missed=missed, false=false
    )


def confusion(scenes: SceneRows, estimator: str, snr_db: float | None, max_sources: int) -> Confusion:
    """Count scenes by true (from 1, or 0 if that occurs) and estimated source count (from 0)."""
    least = int(scenes.num_sources.min(initial=1))
    most = int(max(max_sources, scenes.num_estimated.max(initial=0)))
    table = np.zeros((max_sources + 1, most + 1), dtype=np.int64)
    np.add.at(table, (scenes.num_sources, scenes.num_estimated), 1)
    return Confusion(
        estimator=estimator,
        snr_db=snr_db,
        true_counts=tuple(range(least, max_sources + 1)),
        estimated_counts=tuple(range(most + 1)),
        scenes=tuple(map(tuple, table[least:].tolist())),
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
        ratios: list[float | None] = []
        for error, bound in zip(inside.error.T, inside.bound.T, strict=True):
            used = inside.matched & usable(bound)
            above, below = statistic(rms, error[used]), statistic(rms, bound[used])
            ratios.append(None if above is None or below is None else above / below)
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
    truth, found = Positions.of_table(assigned.truth), Positions.of_table(assigned.estimate)
    angle = np.degrees(great_circle(truth, found))
    medians = statistic(np.median, angle), statistic(np.median, np.abs(assigned.error[:, 2]))
    pegged = share(int(rows.scenes.num_pegged.sum()), int(rows.scenes.num_estimated.sum()))
    targets = zip((*medians, pegged), (ANGLE_TARGET, RANGE_TARGET, EDGE_TARGET), strict=True)
    return OracleFigures(
        name=name,
        side_information=side_information,
        scenes=len(rows.scenes),
        sources=len(assigned),
        median_angle_deg=medians[0],
        median_range_m=medians[1],
        within_a_degree=statistic(np.mean, angle < 1.0),
        edge_pegged_share=pegged,
        edge_share_of_truth=statistic(
            np.mean, at_limit(Positions.of_table(sources.truth[sources.source >= 0]), physics)
        ),
        met=all(value is not None and value < target for value, target in targets),
    )


def share(part: int, whole: int) -> float | None:
    """part / whole; None of nothing."""
    return part / whole if whole else None


def statistic(function: Callable[[Any], Any], values: FloatArray | BoolArray) -> float | None:
    """A statistic of the values; None of nothing."""
    return float(function(values)) if len(values) else None


def rms(values: FloatArray) -> float:
    """The root mean square."""
    return float(np.sqrt(np.mean(values**2)))
