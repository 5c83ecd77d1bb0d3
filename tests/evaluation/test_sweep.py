"""Sweeps: figures by value, where an estimator breaks, files, the picture."""

import csv
import io
import json
import re
import struct
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from risctl.errors import DamagedFileError
from risctl.evaluation import (
    Evaluation,
    StoredPoint,
    Sweep,
    assemble,
    read_point,
    sweep_headline,
    sweep_stem,
    sweep_table,
    write_point,
    write_sweep,
)
from risctl.evaluation.results import Results, find
from risctl.plots import save_figure, sweep_figure
from risctl.plots.sweep import places

KEY = "physics.num_snapshots"


def with_recall(results: Results, factor: float) -> Results:
    """The same results with every recall of `poor` multiplied by `factor`."""

    def changed(cell: Any) -> Any:
        if cell.estimator != "poor" or cell.recall.value is None:
            return cell
        recall = cell.recall.model_copy(update={"value": factor * cell.recall.value})
        return cell.model_copy(update={"recall": recall})

    return results.model_copy(update={"cells": tuple(map(changed, results.cells))})


@pytest.fixture(scope="module")
def sweep(evaluated: Evaluation) -> Sweep:
    factors = {4: 0.5, 8: 0.89, 16: 0.91, 32: 1.0}
    found = [with_recall(evaluated.results, factor) for factor in factors.values()]
    return assemble(KEY, tuple(factors), found)


def test_an_estimator_breaks_below_nine_tenths_of_its_best(sweep: Sweep) -> None:
    good, poor = sweep.breaks
    assert (good.estimator, good.broken_at) == ("good", ())
    assert (poor.estimator, poor.broken_at) == ("poor", (4, 8))
    assert poor.best_recall == sweep.points[3].cell("poor").recall.value
    assert re.search(
        "good recall.*holds throughout; poor.*below 90 % of that at 4, 8$", sweep_headline(sweep)
    )


def test_points_hold_the_margins_of_their_results(sweep: Sweep, evaluated: Evaluation) -> None:
    results = evaluated.results
    for point in sweep.points:
        labels = {(cell.snr_db, cell.num_sources) for cell in point.cells}
        assert labels == {(None, None), (None, 1), (None, 2), (None, 3), (0.0, None), (20.0, None)}
        assert point.cell("good") == results.cell("good")
        assert point.cpu_seconds("good") == find(results.timings, estimator="good").cpu_seconds_per_scene
    assert sweep.snr_values_db == results.snr_values_db


def test_where_the_snr_is_swept_no_snr_is_stated(evaluated: Evaluation) -> None:
    other = evaluated.results.model_copy(update={"snr_values_db": (3.0,)})
    assert assemble("physics.snr_db", (1.0, 3.0), [evaluated.results, other]).snr_values_db == ()


def test_the_table_has_a_row_an_estimator_and_value(sweep: Sweep) -> None:
    table = sweep_table(sweep)
    assert [row[:2] for row in table.rows] == list(product(("good", "poor"), ("4", "8", "16", "32")))
    assert [row[-1] for row in table.rows if row[0] == "poor"] == ["*", "*", "", ""]
    assert {len(row) for row in table.rows} == {len(table.columns)}


def test_files_are_the_document_and_a_line_a_cell(sweep: Sweep, tmp_path: Path) -> None:
    paths = write_sweep(tmp_path, sweep)
    assert [path.name for path in paths] == ["sweep_num_snapshots.json", "sweep_num_snapshots.csv"]
    assert Sweep.model_validate_json(paths[0].read_text()) == sweep
    lines = list(csv.DictReader(io.StringIO(paths[1].read_text())))
    assert len(lines) == sum(len(point.cells) for point in sweep.points)
    line = next(x for x in lines if (x["value"], x["estimator"], x["num_sources"]) == ("8", "poor", "2"))
    cell = next(c for c in sweep.points[1].cells if c.estimator == "poor" and c.num_sources == 2)
    assert float(line["recall_value"]) == cell.recall.value
    assert (line["key"], line["kind"], line["snr_db"]) == (KEY, "estimator", "")


def test_stems_of_nested_settings_differ() -> None:
    assert sweep_stem("physics.impairments.phase_error_deg") == "sweep_impairments_phase_error_deg"


def test_a_finished_value_reads_back_and_damage_is_noticed(evaluated: Evaluation, tmp_path: Path) -> None:
    path, point = tmp_path / "00.json", StoredPoint(fingerprint="ab", results=evaluated.results)
    assert read_point(path) is None
    write_point(path, point)
    assert read_point(path).results == point.results  # type: ignore[union-attr]
    path.write_text(path.read_text()[:-40])
    with pytest.raises(DamagedFileError, match="damaged"):
        read_point(path)
    path.write_text(json.dumps({"fingerprint": "ab"}))
    with pytest.raises(DamagedFileError, match="results"):
        read_point(path)


def test_lines_go_through_the_values_and_hollow_markers_say_where_it_breaks(sweep: Sweep) -> None:
    figure = sweep_figure(sweep)
    recall = figure.axes[0]
    lines = [line for line in recall.get_lines() if len(line.get_xdata()) == 4]
    assert [line.get_xdata().tolist() for line in lines] == [[4, 8, 16, 32]] * 2
    expected = [point.cell("poor").recall.value for point in sweep.points]
    assert lines[1].get_ydata().tolist() == pytest.approx(expected)
    hollow = [float(m.get_xdata()[0]) for m in recall.get_lines() if m.get_markerfacecolor() == "white"]
    assert hollow == [4.0, 8.0]
    assert recall.get_xscale() == "log"


def test_names_stand_side_by_side_without_lines_between(evaluated: Evaluation, tmp_path: Path) -> None:
    named = assemble("physics.codebook", ("random", "dft"), [evaluated.results] * 2)
    figure = sweep_figure(named)
    assert all(len(line.get_xdata()) == 1 for line in figure.axes[0].get_lines())
    assert [text.get_text() for text in figure.axes[3].get_xticklabels()] == ["random", "dft"]
    head = save_figure(figure, tmp_path / "x.png").read_bytes()[:24]
    assert min(struct.unpack(">II", head[16:])) > 900


@pytest.mark.parametrize(
    ("values", "expected"), [((4, 8.5), [4.0, 8.5]), (("a", "b"), [0.0, 1.0]), ((False, True), [0.0, 1.0])]
)
def test_places_on_the_axis(values: tuple[Any, ...], expected: list[float]) -> None:
    assert places(values) == expected
