"""One scene of an evaluation: its sources and estimates in space, and over a MUSIC spectrum."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Self, TypeAlias

import numpy as np
import torch
from pydantic import model_validator

from risctl.config import Config, PhysicsConfig
from risctl.config.base import cross_field_error
from risctl.covariance import snapshot_factor, snapshot_factor_through
from risctl.data import Measurements, SceneSource
from risctl.evaluation import Evaluation, Positions
from risctl.evaluation.positions import FloatArray
from risctl.evaluation.results import Record
from risctl.inference.music import music_pseudospectrum
from risctl.physics import ArrayGeometry, FieldOfView
from risctl.plots.scene import scene_figure
from risctl.plots.style import COLOURS, INK, Drawing, colour_bar, legend_below, new_figure
from risctl.training import Measured

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import PathCollection
    from matplotlib.figure import Figure

Row: TypeAlias = tuple[float | None, float | None, float | None]
Table: TypeAlias = tuple[Row, ...]
TYPICAL_SOURCES = 3
GRID = (17, 121, 61)  # elevations, azimuths, ranges of the spectrum
FLOOR_DB = -30.0


class Example(Record):
    """A typical scene, what the first estimator found in it, and a MUSIC spectrum: `example.json`.

    Sources are rows of azimuth (deg), elevation (deg) and range (m).
    """

    scene: int
    """Its index among those evaluated, as in `scenes.csv`."""
    snr_db: float
    estimator: str
    truth: Table
    estimate: Table
    std: Table
    """The estimator's own standard deviations; null where it has none."""
    azimuth_deg: tuple[float, ...]
    range_m: tuple[float, ...]
    spectrum_db: tuple[tuple[float, ...], ...]
    """MUSIC spectrum of `R_samp` (rows: range, columns: azimuth), largest over elevation; 0 at its peak."""

    @model_validator(mode="after")
    def _require_one_shape(self) -> Self:
        lengths = {len(row) for row in self.spectrum_db}
        if len(self.spectrum_db) != len(self.range_m) or lengths != {len(self.azimuth_deg)}:
            expected = f"{len(self.range_m)} rows of {len(self.azimuth_deg)}"
            raise cross_field_error("spectrum_db", expected, f"{len(self.spectrum_db)} of {sorted(lengths)}")
        if len(self.truth) < 1 or len(self.std) != len(self.estimate):
            raise cross_field_error("std", f"{len(self.estimate)} rows", str(len(self.std)))
        return self


def make_example(evaluation: Evaluation, config: Config, source: SceneSource) -> Example:
    """Take the first estimator's view of a typical scene."""
    name = evaluation.results.names[0]
    index = example_scene(evaluation, name)
    rows = evaluation.rows[name].sources
    rows = rows.select(rows.scene == index)
    scene = source.scenes(index, index + 1)
    estimate = Positions.of_table(rows.estimate)
    spectrum, azimuth, range_ = music_spectrum(scene, estimate[estimate.present], config)
    return Example(
        scene=index,
        snr_db=float(scene.snr_db[0]),
        estimator=name,
        truth=_rows(rows.truth),
        estimate=_rows(rows.estimate),
        std=_rows(rows.std),
        azimuth_deg=tuple(np.degrees(azimuth).tolist()),
        range_m=tuple(range_.tolist()),
        spectrum_db=tuple(map(tuple, to_decibels(spectrum, floor_of(spectrum)).round(4).tolist())),
    )


def _rows(table: FloatArray) -> Table:
    finite = [[float(x) if math.isfinite(x) else None for x in row] for row in table]
    return tuple((azimuth, elevation, range_) for azimuth, elevation, range_ in finite)


def example_figures(example: Example, physics: PhysicsConfig) -> dict[str, Drawing]:
    """The two pictures of an example by the name of their file, each drawn when it is called."""
    parts = (example.truth, example.estimate, example.std)
    truth, estimate, std = (
        Positions.of_table(np.array(part, dtype=np.float64).reshape(-1, 3)) for part in parts
    )
    title = f"Scene {example.scene} of scenes.csv, {example.snr_db:.0f} dB: "

    def spectrum() -> Figure:
        decibels = np.array(example.spectrum_db)
        azimuth, range_ = np.radians(example.azimuth_deg), np.array(example.range_m)
        words = f"{title}MUSIC spectrum of R_samp,\nlargest over elevation; estimates of {example.estimator}"
        return spectrum_figure(decibels, azimuth, range_, truth, estimate, words)

    return {
        "scene": lambda: scene_figure(physics, truth, estimate, std, title + example.estimator),
        "spectrum": spectrum,
    }


def floor_of(spectrum: FloatArray) -> float:
    """Depth in dB that shows all of a spectrum: 30 at most, half a decibel at least.

    A snapshot of M antennas fixes only M of the N dimensions of the wave on the surface: even at high SNR the
    peaks of the sample covariance may stand only a decibel or two above the rest.
    """
    return float(max(FLOOR_DB, min(-0.5, 10 * math.log10(spectrum.min() / spectrum.max()))))


def music_spectrum(
    scene: Measured | Measurements, estimate: Positions, config: Config
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """The spectrum [R, A] of one scene and its grids: azimuths (rad), ranges (m).

    The signal subspace has as many dimensions as there are estimates. Their elevations are on the elevation
    grid, where the sharp peaks would else fall between two points.
    """
    view = FieldOfView.from_config(config.physics)
    limits = (
        (-view.elevation, view.elevation),
        (-view.azimuth, view.azimuth),
        (view.range_min, view.range_max),
    )
    elevation, azimuth, range_ = (
        torch.linspace(*limit, steps, dtype=torch.float64) for limit, steps in zip(limits, GRID, strict=True)
    )
    elevation = torch.cat([elevation, torch.from_numpy(estimate.elevation)])
    if view.known_elevation is not None:
        elevation = elevation.new_tensor([view.known_elevation])
    if scene.H is not None and scene.codes is not None:
        F = snapshot_factor(scene.y, scene.H, scene.codes, config.covariance)[0]
    else:
        assert isinstance(scene, Measurements)
        assert scene.Phi is not None
        F = snapshot_factor_through(scene.y, scene.Phi, config.covariance)[0]
    K, geometry = max(1, len(estimate.azimuth)), ArrayGeometry.from_config(config.physics)
    spectrum = music_pseudospectrum(F, K, elevation, azimuth, range_, geometry)
    return spectrum, azimuth.numpy(), range_.numpy()


def example_scene(evaluation: Evaluation, name: str) -> int:
    """The first scene of the highest SNR bin whose source count is nearest to `TYPICAL_SOURCES`."""
    scenes = evaluation.rows[name].scenes
    high = scenes.snr_bin_db == scenes.snr_bin_db.max()
    distance = np.where(high, np.abs(scenes.num_sources - TYPICAL_SOURCES), np.iinfo(np.int64).max)
    return int(scenes.scene[distance.argmin()])


def spectrum_figure(
    decibels: FloatArray,
    azimuth: FloatArray,
    range_: FloatArray,
    truth: Positions,
    estimate: Positions,
    title: str = "MUSIC spectrum, largest over elevation",
) -> Figure:
    """Draw a spectrum.

    Args:
        decibels: relative to the peak, shape (ranges, azimuths).
        azimuth: grid, ascending, radians. range_: grid, ascending, metres.
        truth, estimate: the sources of this scene, (K,) and (K_hat,); slots that hold NaN are left out.
        title: what the spectrum is (a slice at one elevation, a maximum over elevation ...).
    """
    from matplotlib.patheffects import withStroke

    figure = new_figure(7.6, 4.6)
    axes = figure.subplots()
    draw_spectrum(figure, axes, decibels, azimuth, range_)
    true_dots = axes.scatter(
        np.degrees(truth.azimuth), truth.range, s=110, facecolors="none", edgecolors="white", linewidths=1.8
    )
    true_dots.set_path_effects([withStroke(linewidth=3.4, foreground=INK)])
    crosses = draw_crosses(axes, np.degrees(estimate.azimuth), estimate.range)
    axes.set_title(title, fontsize=11)
    legend_below(figure, [true_dots, crosses], ["true source", "estimate"])
    return figure


def draw_spectrum(
    figure: Figure, axes: Axes, decibels: FloatArray, azimuth: FloatArray, range_: FloatArray
) -> None:
    """Draw a spectrum as in `spectrum_figure` into axes, with its colour bar."""
    scale: dict[str, Any] = {"cmap": "cividis", "vmin": float(decibels.min()), "vmax": 0.0}
    mesh = axes.pcolormesh(np.degrees(azimuth), range_, decibels, shading="nearest", **scale)
    mesh.set_rasterized(True)
    colour_bar(figure, mesh, axes, "below the peak (dB)", pad=0.02, aspect=28, extend="min")
    axes.set_xlim(float(np.degrees(azimuth[0])), float(np.degrees(azimuth[-1])))
    axes.set_ylim(float(range_[0]), float(range_[-1]))
    axes.set_xlabel("azimuth (deg)", fontsize=9)
    axes.set_ylabel("range (m)", fontsize=9)
    axes.tick_params(labelsize=8)


def draw_crosses(axes: Axes, x: FloatArray, y: FloatArray) -> PathCollection:
    """Mark estimates so that they are seen on any background."""
    from matplotlib.patheffects import withStroke

    crosses = axes.scatter(x, y, s=55, marker="x", color=COLOURS[1], linewidths=1.8, zorder=6)
    crosses.set_path_effects([withStroke(linewidth=3.6, foreground="white")])
    return crosses


def to_decibels(spectrum: FloatArray, floor_db: float) -> FloatArray:
    """10 log10 of the spectrum over its largest value, not below `floor_db`; nothing is all floor."""
    peak = float(spectrum.max())
    if peak <= 0:
        return np.full_like(spectrum, floor_db)
    return np.asarray(10 * np.log10(np.maximum(spectrum / peak, 10 ** (floor_db / 10))))
