"""Pictures: they are drawn, without pyplot, and hold what they should."""

import math
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from risctl.config import PhysicsConfig
from risctl.errors import StorageError
from risctl.evaluation import Evaluation, Positions
from risctl.evaluation.results import Results
from risctl.physics import FieldOfView
from risctl.plots import confusion_figure, rates_figure, result_figures, rmse_figure, save_figure
from risctl.plots.captions import pictures
from risctl.plots.detection import detection_figure
from risctl.plots.example import spectrum_figure, to_decibels
from risctl.plots.scene import error_bars, scene_figure, view_edges
from risctl.plots.style import log_scale, new_figure


def positions(*at: tuple[float, float, float]) -> Positions:
    azimuth, elevation, range_ = np.array(at).reshape(-1, 3).T
    return Positions(azimuth, elevation, range_)


def with_an_empty_bin(results: Results) -> Results:
    """The same results with a bin at 40 dB of which nothing is known."""
    nothing = dict.fromkeys(("rmse", "bound", "value", "low", "high"))
    stats = ("azimuth_deg", "elevation_deg", "range_m", "position_m", "recall")
    document = results.model_dump()
    document["snr_values_db"] = (*results.snr_values_db, 40.0)
    for cell in [c.model_dump() for c in results.cells if c.snr_db == 0.0]:
        unknown = {name: {key: nothing.get(key, x) for key, x in cell[name].items()} for name in stats}
        document["cells"] += (cell | unknown | {"snr_db": 40.0},)
    for matrix in [m.model_dump() for m in results.confusion if m.snr_db == 0.0]:
        scenes = tuple((0,) * len(row) for row in matrix["scenes"])
        document["confusion"] += (matrix | {"scenes": scenes, "snr_db": 40.0},)
    return Results.model_validate(document)


def test_files_are_pngs_of_some_size(evaluated: Evaluation, tmp_path: Path) -> None:
    figures = result_figures(evaluated.results)
    assert list(figures) == ["rmse", "rates", "confusion"]
    for name, draw in figures.items():
        head = save_figure(draw(), tmp_path / f"{name}.png").read_bytes()[:24]
        assert head[:8] == b"\x89PNG\r\n\x1a\n"
        assert min(struct.unpack(">II", head[16:])) > 600


@pytest.mark.parametrize("draw", [rmse_figure, rates_figure, confusion_figure])
def test_bins_without_figures_leave_gaps(evaluated: Evaluation, draw: object, tmp_path: Path) -> None:
    figure = draw(with_an_empty_bin(evaluated.results))  # type: ignore[operator]
    assert save_figure(figure, tmp_path / "x.png").stat().st_size > 10_000


def test_rmse_lines_are_the_cells_and_every_estimator_is_in_the_legend(evaluated: Evaluation) -> None:
    results, figure = evaluated.results, rmse_figure(evaluated.results)
    azimuth, recall = figure.axes[0], figure.axes[3]
    cells = [results.cell("good", snr) for snr in results.snr_values_db]
    np.testing.assert_array_equal(azimuth.get_lines()[0].get_ydata(), [c.azimuth_deg.rmse for c in cells])
    np.testing.assert_array_equal(recall.get_lines()[0].get_ydata(), [c.recall.value for c in cells])
    bound = next(line for line in azimuth.get_lines() if line.is_dashed())
    np.testing.assert_array_equal(bound.get_ydata(), [c.azimuth_deg.bound for c in cells])
    assert azimuth.get_yscale() == "log"
    assert [axes.get_ylabel() for axes in figure.axes][::3] == ["azimuth RMSE (deg)", "recall within 5 deg"]
    texts = {text.get_text() for text in figure.legends[0].get_texts()}
    assert texts == {"good", "poor", "bound", "recall below 0.9: the easier sources only"}


def test_marks_are_hollow_where_too_few_sources_are_found(evaluated: Evaluation) -> None:
    results, recall = evaluated.results, rmse_figure(evaluated.results).axes[3]
    marks = [line for line in recall.get_lines() if line.get_linestyle() == "None"]
    cells = [results.cell(name, snr) for name in results.estimators for snr in results.snr_values_db]
    hollow = [line.get_markerfacecolor() == "white" for line in marks]
    assert hollow == [(cell.recall.value or 0.0) < 0.9 for cell in cells]
    assert len(set(hollow)) == 2


def test_ticks_of_a_logarithmic_axis_are_plain_numbers() -> None:
    for values, ticks in (([0.2, 3.0], {"0.2", "0.5", "1", "2"}), ([1.05, 1.35], {"1.1", "1.2", "1.3"})):
        figure = new_figure(4, 3)
        axes = figure.subplots()
        axes.plot(values)
        log_scale(axes)
        figure.draw_without_rendering()
        assert ticks <= {label.get_text() for label in axes.get_yticklabels()}


def test_spectrum(tmp_path: Path) -> None:
    azimuth, range_ = np.radians(np.linspace(-60, 60, 31)), np.linspace(0.5, 10, 21)
    spectrum = np.random.default_rng(0).random((21, 31))
    there = positions((0.1, 0.0, 3.0), (math.nan, math.nan, math.nan))
    figure = spectrum_figure(to_decibels(spectrum, -30.0), azimuth, range_, there, positions())
    axes = figure.axes[0]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("azimuth (deg)", "range (m)")
    save_figure(figure, tmp_path / "spectrum.png")


def test_decibels_are_below_the_peak() -> None:
    np.testing.assert_allclose(
        to_decibels(np.array([[10.0, 1.0], [0.0, 0.1]]), -15.0), [[0, -10], [-15, -15]]
    )
    np.testing.assert_array_equal(to_decibels(np.zeros((1, 2)), -15.0), [[-15.0, -15.0]])


@pytest.mark.parametrize("with_std", [True, False])
@pytest.mark.parametrize("found", [0, 1, 3])
def test_scene(found: int, with_std: bool, tmp_path: Path) -> None:
    truth = positions((0.1, 0.2, 3.0), (-0.5, 0.0, 8.0), (math.nan, math.nan, math.nan))
    estimate = positions(*[(0.1 + 0.1 * k, 0.1, 4.0) for k in range(found)])
    std = positions(*[(0.01, math.nan, 3.0)] * found) if with_std else None
    figure = scene_figure(PhysicsConfig(), truth, estimate, std, title="a scene")
    assert isinstance(figure, Figure)
    save_figure(figure, tmp_path / "scene.png")


def test_error_bars_are_one_deviation_each_way() -> None:
    at, std = positions((0.2, 0.1, 4.0))[0], positions((0.02, math.inf, 9.0))[0]
    bars = list(error_bars(at, std, range_max=10.0))
    assert len(bars) == 2
    across, along = (np.linalg.norm(bar[1] - bar[0]) for bar in bars)
    assert across == pytest.approx(2 * 4.0 * math.cos(0.1) * math.sin(0.02))
    assert along == pytest.approx(10.0)


def test_edges_of_the_field_of_view_meet_its_corners() -> None:
    view = FieldOfView.from_config(PhysicsConfig())
    ranges = np.concatenate([np.linalg.norm(edge.cartesian(), axis=-1) for edge in view_edges(view)])
    assert ranges.min() == pytest.approx(0.5)
    assert ranges.max() == pytest.approx(10.0)


def test_a_picture_that_cannot_be_written(evaluated: Evaluation, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="nowhere"):
        save_figure(rmse_figure(evaluated.results), tmp_path / "nowhere" / "rmse.png")


def test_matplotlib_is_loaded_by_drawing_only_and_pyplot_never() -> None:
    code = (
        "import sys, risctl.plots as p; assert 'matplotlib' not in sys.modules;"
        "p.style.new_figure(1, 1); assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_every_picture_says_what_it_shows(evaluated: Evaluation, tmp_path: Path) -> None:
    names = [f"{name}.pdf" for name in result_figures(evaluated.results)]
    found = pictures([*names, tmp_path / "sweep_snr_db.png", "cells.csv"])
    assert len(found) >= 4
    assert all(caption for _, caption in found)


def test_detection_is_drawn_of_those_who_state_probabilities_on_one_scale(evaluated: Evaluation) -> None:
    document = evaluated.results.model_dump()
    _, stating = document["estimators"]
    first, second = document["snr_values_db"][:2]
    document["detection"] = tuple(
        {"estimator": stating, "snr_db": value, "threshold": 0.5, "detection": 0.5, "false_alarms": false}
        for value, false in ((first, 0.2), (second, 0.004))
    )
    figure = detection_figure(Results.model_validate(document))
    drawn = [axes for axes in figure.axes if axes.get_visible()]
    assert {axes.get_xlim() for axes in drawn} == {(-0.02 * 0.2, 1.05 * 0.2)}
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [stating]
