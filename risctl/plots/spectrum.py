"""A spectrum over range and azimuth, with the true and the estimated sources."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from risctl.evaluation.positions import FloatArray, Positions
from risctl.plots.style import INK, colour_bar, legend_below, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FLOOR_DB = -30.0


def spectrum_figure(
    spectrum: FloatArray,
    azimuth: FloatArray,
    range_: FloatArray,
    truth: Positions,
    estimate: Positions,
    title: str = "MUSIC spectrum, largest over elevation",
    floor_db: float = FLOOR_DB,
) -> Figure:
    """Draw a spectrum in dB below its peak.

    Args:
        spectrum: power-like values, not negative, shape (ranges, azimuths).
        azimuth: grid, ascending, radians. range_: grid, ascending, metres.
        truth, estimate: the sources of this scene, (K,) and (K_hat,); slots that hold NaN are left out.
        title: what the spectrum is (a slice at one elevation, a maximum over elevation ...).
        floor_db: everything further below the peak than this is drawn alike.
    """
    from matplotlib.patheffects import withStroke

    figure = new_figure(7.6, 4.6)
    axes = figure.subplots()
    decibels = to_decibels(spectrum, floor_db)
    mesh = axes.pcolormesh(
        np.degrees(azimuth), range_, decibels, cmap="cividis", vmin=floor_db, vmax=0.0, shading="nearest"
    )
    mesh.set_rasterized(True)
    colour_bar(figure, mesh, axes, "below the peak (dB)", pad=0.02, aspect=28, extend="min")
    true_dots = axes.scatter(
        np.degrees(truth.azimuth), truth.range, s=110, facecolors="none", edgecolors="white", linewidths=1.8
    )
    crosses = axes.scatter(
        np.degrees(estimate.azimuth), estimate.range, s=55, marker="x", color="#D55E00", linewidths=1.8
    )
    true_dots.set_path_effects([withStroke(linewidth=3.4, foreground=INK)])
    crosses.set_path_effects([withStroke(linewidth=3.6, foreground="white")])
    axes.set_xlim(float(np.degrees(azimuth[0])), float(np.degrees(azimuth[-1])))
    axes.set_ylim(float(range_[0]), float(range_[-1]))
    axes.set_xlabel("azimuth (deg)", fontsize=9)
    axes.set_ylabel("range (m)", fontsize=9)
    axes.tick_params(labelsize=8)
    axes.set_title(title, fontsize=11)
    legend_below(figure, [true_dots, crosses], ["true source", "estimate"])
    return figure


def to_decibels(spectrum: FloatArray, floor_db: float) -> FloatArray:
    """10 log10 of the spectrum over its largest value, not below `floor_db`; nothing is all floor."""
    peak = float(spectrum.max())
    if peak <= 0:
        return np.full_like(spectrum, floor_db)
    return np.asarray(10 * np.log10(np.maximum(spectrum / peak, 10 ** (floor_db / 10))))
