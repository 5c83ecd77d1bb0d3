"""Tables are text, of one width, and say what they hold."""

import re

import pytest

from risctl.evaluation import (
    Evaluation,
    TextTable,
    accuracy_table,
    closeness_table,
    count_table,
    detection_table,
    headline,
    median_table,
    timing_table,
)


@pytest.fixture(
    params=[detection_table, accuracy_table, median_table, count_table, closeness_table, timing_table]
)
def table(request: pytest.FixtureRequest, evaluated: Evaluation) -> TextTable:
    made = request.param(evaluated.results)
    assert isinstance(made, TextTable)
    return made


def test_rows_are_as_wide_as_the_header(table: TextTable) -> None:
    assert table.rows
    assert {len(row) for row in table.rows} == {len(table.columns)}
    assert all(isinstance(cell, str) and cell for row in table.rows for cell in row)
    text = str(table).lower()
    assert "nan" not in text
    assert "none" not in text


def test_a_row_an_estimator_and_bin_then_all(evaluated: Evaluation) -> None:
    rows = detection_table(evaluated.results).rows
    expected = [(name, snr) for name in ("good", "poor") for snr in ("0", "20", "all")]
    assert [row[:2] for row in rows] == expected


def test_figures_are_those_of_the_cell(evaluated: Evaluation) -> None:
    cell = evaluated.results.cell("poor", 20.0)
    row = next(r for r in accuracy_table(evaluated.results).rows if r[:2] == ("poor", "20"))
    stats = cell.azimuth_deg
    assert row[3].rstrip("*") == f"{stats.rmse:.3g} / {stats.bound:.3g} ({stats.ratio.value:.2f})"
    recall = cell.recall
    row = next(r for r in detection_table(evaluated.results).rows if r[:2] == ("poor", "20"))
    assert row[4] == f"{recall.value:.2f} [{recall.low:.2f}, {recall.high:.2f}]"


def test_headline_is_of_the_highest_snr(evaluated: Evaluation) -> None:
    line = headline(evaluated.results)
    wanted = r"azimuth error / bound at 20 dB: good [\d.]+, poor [\d.]+ \(bound [\d.]+ deg\); GOSPA"
    assert re.match(wanted, line)
    assert "\n" not in line
