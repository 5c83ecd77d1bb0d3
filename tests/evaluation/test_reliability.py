"""Reliability and detection curves against figures counted by hand."""

import numpy as np
import pytest

from risctl.evaluation.reliability import (
    calibration_of,
    detection_curve,
    detection_of,
    reliability_bins,
    reliability_of,
)
from tests.evaluation.test_metrics import ROWS


def test_bins_hold_what_was_stated_and_what_came_true() -> None:
    p = np.array([0.05, 0.08, 0.55, 0.95, 1.0])
    y = np.array([False, True, True, True, True])
    bins = reliability_bins("nomp", "source", p, y)
    assert [(b.low, b.statements) for b in bins] == [(0.0, 2), (0.5, 1), (0.9, 2)]
    assert bins[0].stated == pytest.approx(0.065)
    assert [b.observed for b in bins] == [0.5, 1.0, 1.0]


def test_the_curve_runs_from_the_surest_report_to_all() -> None:
    p, hit = np.array([0.9, 0.2, 0.7, 0.5]), np.array([True, True, False, True])
    curve = detection_curve("nomp", "gate", 0.0, p, hit, sources=5, scenes=2)
    found = [(c.threshold, c.detection, c.false_alarms) for c in curve]
    assert found == [(0.9, 0.2, 0.0), (0.7, 0.2, 0.5), (0.5, 0.4, 0.5), (0.2, 0.6, 0.5)]
    assert detection_curve("nomp", "gate", 0.0, p[:0], hit[:0], sources=5, scenes=2) == []


def test_the_rows_of_an_evaluation() -> None:
    curves = detection_of("nomp", ROWS, None)
    ends = {point.event: (point.detection, point.false_alarms) for point in curves}
    assert ends == {"gate": (4 / 5, 2 / 3), "cut-off": (3 / 5, 3 / 3)}
    error = calibration_of("nomp", ROWS, None)
    assert error.source == pytest.approx((0.1 + 0.4 + 0.2 + 0.3 + 0.6 + 0.3) / 6)
    assert error.count == pytest.approx((0.1 + 0.5 + 0.3) / 3)
    assert {b.what for b in reliability_of("nomp", ROWS)} == {"source", "count"}
    nothing = calibration_of("nomp", ROWS, 99.0)
    assert (nothing.source, nothing.count) == (None, None)
