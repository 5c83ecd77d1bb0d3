"""Figures of a cell, by hand."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from risctl.evaluation.metrics import cell_figures, closeness_cells, confusion
from risctl.evaluation.results import Cell
from risctl.evaluation.rows import EstimatorRows, SceneRows, SourceRows

NAN = math.nan


def rows_by_hand() -> EstimatorRows:
    """Three scenes: K = 1 right; K = 2, one of two found, K right; K = 2, both found, one ghost."""
    scenes = SceneRows(
        scene=np.array([4, 5, 9]),
        snr_db=np.array([1.0, 2.0, 6.0]),
        snr_bin_db=np.zeros(3),
        num_sources=np.array([1, 2, 2]),
        num_estimated=np.array([1, 2, 3]),
        num_matched=np.array([1, 1, 2]),
        num_pegged=np.array([0, 2, 1]),
        gospa=np.array([0.0, 3.0, 5.0]),
        gospa_parts=np.array([[0.0, 0.0, 0.0], [1.0, 4.0, 4.0], [23.0, 0.0, 2.0]]),
        probable_count=np.array([1, 2, 2]),
        count_probability=np.array([0.9, 0.5, 0.7]),
    )
    count = 6
    error = np.tile(np.array([1.0, -99.0, 3.0, 2.0, -2.0, NAN])[:, None], (1, 4))
    return EstimatorRows(
        scenes,
        SourceRows(
            scene=np.array([4, 5, 5, 9, 9, 9]),
            source=np.array([0, 0, 1, 0, 1, -1]),
            snr_db=np.zeros(count),
            snr_bin_db=np.zeros(count),
            num_sources=np.array([1, 2, 2, 2, 2, 2]),
            num_estimated=np.array([1, 2, 2, 3, 3, 3]),
            matched=np.array([True, False, True, True, True, False]),
            pegged=np.zeros(count, dtype=bool),
            power_db=np.zeros(count),
            coherence=np.array([0.0, 0.45, 0.45, 1.0 + 1e-12, 0.1, NAN]),
            truth=np.zeros((count, 3)),
            estimate=np.zeros((count, 3)),
            error=error,
            bound=np.tile(np.array([0.5, 7.0, 1.0, 2.0, math.inf, NAN])[:, None], (1, 4)),
            std=np.tile(np.array([1.0, 1.0, 1.4, 1.9, NAN, NAN])[:, None], (1, 3)),
            probability=np.array([0.9, 0.4, 0.8, 0.7, 0.6, 0.3]),
            near=np.array([True, False, True, True, False, False]),
        ),
    )


ROWS = rows_by_hand()
NONE = ROWS.cell(99.0, None)


def figures(rows: EstimatorRows, resamples: int = 200) -> Cell:
    return cell_figures(rows, ("nomp", 0.0, None), 2.0, resamples, np.random.default_rng(0))


@pytest.fixture(scope="module")
def cell() -> Cell:
    return figures(ROWS)


def test_counts(cell: Cell) -> None:
    assert (cell.scenes, cell.true_sources, cell.estimated_sources, cell.matched_sources) == (3, 5, 6, 4)
    assert cell.left_out_share == pytest.approx(1 / 5)
    assert cell.mean_snr_db == pytest.approx(3.0)
    assert cell.edge_pegged_share == pytest.approx(3 / 6)


def test_rates(cell: Cell) -> None:
    assert cell.count_accuracy.value == pytest.approx(2 / 3)
    assert cell.recall.value == pytest.approx(4 / 5)
    assert cell.precision.value == pytest.approx(4 / 6)


def test_means_over_counts_weigh_each_count_the_same(cell: Cell) -> None:
    assert cell.count_accuracy_mean_over_k == pytest.approx((1 + 1 / 2) / 2)
    assert cell.recall_mean_over_k == pytest.approx((1 + 3 / 4) / 2)


def test_errors_over_matched_sources_and_their_own_bound(cell: Cell) -> None:
    stats = cell.azimuth_deg  # matched errors 1, 3, 2, -2, bounds 0.5, 1, 2, infinite
    assert stats.sources == 4
    assert stats.rmse == pytest.approx(math.sqrt(18 / 4))
    assert stats.bias == pytest.approx(1.0)
    assert stats.without_bound == 1
    assert stats.bound == pytest.approx(math.sqrt(5.25 / 3))
    assert stats.ratio.value == pytest.approx(math.sqrt(14 / 5.25))
    assert stats.normalised_ratio == pytest.approx(math.sqrt((4 + 9 + 1) / 3))
    assert stats.median_error == pytest.approx(2.0)
    assert stats.median_bound == pytest.approx(1.0)


def test_coverage_by_the_estimators_own_deviation(cell: Cell) -> None:
    stats = cell.range_m  # |error| / std: 1, 2.14, 1.05; the fourth has no deviation
    assert stats.with_std == 3
    assert stats.within_1_sigma == pytest.approx(1 / 3)
    assert stats.within_2_sigma == pytest.approx(2 / 3)
    assert cell.position_m.with_std == 0
    assert cell.position_m.within_1_sigma is None


def test_gospa_means(cell: Cell) -> None:
    gospa = cell.gospa
    assert gospa.mean == pytest.approx(8 / 3)
    assert gospa.rms == pytest.approx(math.sqrt(34 / 3))
    assert gospa.localisation == pytest.approx(math.sqrt(8.0))
    assert gospa.missed == pytest.approx(math.sqrt(4 / 3))
    assert gospa.false == pytest.approx(math.sqrt(2.0))


def test_intervals_hold_the_figure(cell: Cell) -> None:
    for figure in (cell.count_accuracy, cell.recall, cell.precision, cell.azimuth_deg.ratio):
        assert None not in (figure.low, figure.value, figure.high)
        assert figure.low <= figure.value <= figure.high


def test_no_resamples_no_interval() -> None:
    recall = figures(ROWS, resamples=0).recall
    assert (recall.value, recall.low, recall.high) == (pytest.approx(4 / 5), None, None)


def test_an_empty_cell_is_zeros_and_nulls() -> None:
    cell = figures(NONE)
    assert (cell.scenes, cell.true_sources) == (0, 0)
    document = json.loads(json.dumps(cell.model_dump(mode="json"), allow_nan=False))
    numbers = {"scenes", "true_sources", "estimated_sources", "matched_sources", "snr_db", "estimator"}
    for key, value in document.items():
        if key not in numbers and not isinstance(value, dict):
            assert value is None
    stats = document["azimuth_deg"]
    assert [*stats.values(), *stats["ratio"].values()].count(None) == 11
    assert list(document["gospa"].values()) == [None] * 5


def test_no_matched_sources_no_error_figures() -> None:
    unmatched = replace(ROWS.sources, matched=np.zeros_like(ROWS.sources.matched))
    stats = figures(EstimatorRows(ROWS.scenes, unmatched)).elevation_deg
    assert (stats.sources, stats.rmse, stats.bound, stats.ratio.value, stats.ratio.low) == (0, *[None] * 4)


def test_cells_select_by_bin_and_count() -> None:
    rows = ROWS.cell(0.0, 2)
    assert rows.scenes.scene.tolist() == [5, 9]
    assert rows.sources.scene.tolist() == [5, 5, 9, 9, 9]


def test_confusion_counts_scenes() -> None:
    matrix = confusion(ROWS.scenes, "nomp", None, max_sources=2)
    assert (matrix.true_counts, matrix.estimated_counts) == ((1, 2), (0, 1, 2, 3))
    assert matrix.scenes == ((0, 1, 0, 0), (0, 0, 1, 1))
    assert confusion(NONE.scenes, "nomp", 99.0, max_sources=2).scenes == ((0, 0, 0), (0, 0, 0))


def test_closeness_sorts_sources_by_their_nearest_neighbour() -> None:
    cells = {c.coherence_high: c for c in closeness_cells(ROWS.sources, "nomp") if c.true_sources}
    found = {high: (c.true_sources, c.matched_sources, c.recall) for high, c in cells.items()}
    assert found == {0.0: (1, 1, 1.0), 0.1: (1, 1, 1.0), 0.5: (2, 1, 0.5), 1.0: (1, 1, 1.0)}
    assert cells[0.5].azimuth_ratio == pytest.approx(3.0)
    assert cells[1.0].range_ratio == pytest.approx(1.0)
    assert cells[0.1].range_ratio is None  # its bound is infinite


def test_closeness_of_nothing_is_null() -> None:
    cells = closeness_cells(NONE.sources, "nomp")
    assert len(cells) == 11
    assert {(c.true_sources, c.recall, c.azimuth_ratio) for c in cells} == {(0, None, None)}
