"""One scene of somebody's own measurements: its sources in space, in angle, and over a MUSIC spectrum."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from risctl.config import Config
from risctl.data import Measurements
from risctl.evaluation.positions import FloatArray, Positions
from risctl.plots.example import draw_crosses, draw_spectrum, floor_of, music_spectrum, to_decibels
from risctl.plots.scene import CROSS, FOUND, draw_points, draw_surface_and_view, surface_and_view_legend
from risctl.plots.style import FAINT, dress, legend_below, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WITHIN = math.sqrt(-2 * math.log(0.05))  # standard deviations of an ellipse that holds 95 %
_CIRCLE = np.linspace(0.0, 2 * math.pi, 73)


def located_figure(
    scene: Measurements, config: Config, estimate: Positions, std: Positions, title: str, fit: str
) -> Figure:
    """Draw the sources of one scene, each with the ellipses that hold it with 95 % probability.

    Args:
        scene: its measurements, one scene.
        config: geometry of the surface, field of view and covariance settings.
        estimate: the sources, (K,).
        std: their standard deviations, same units; not finite where unknown.
        title: the file, the scene, who located.
        fit: a sentence on the goodness of fit.
    """
    from matplotlib.lines import Line2D

    figure = new_figure(11.5, 6.4)
    grid = figure.add_gridspec(2, 3, width_ratios=[1.15, 0.05, 1.0])  # room for the label of the z axis
    space: Any = figure.add_subplot(grid[:, 0], projection="3d", computed_zorder=False)
    floor = draw_surface_and_view(space, config.physics)
    draw_points(space, estimate, floor, FOUND, **CROSS)
    for k in range(len(estimate.azimuth)):
        for plane in ((0, 1), (0, 2), (1, 2)):
            curve = ellipse(estimate[k], std[k], plane, config.physics.range_max).cartesian()
            space.plot(*curve.T, color=FOUND, linewidth=1.1, alpha=0.8, zorder=5)
        space.text(*estimate[k].cartesian(), f"  {k}", fontsize=9, zorder=7)
    angles = figure.add_subplot(grid[0, 2])
    _draw_angles(angles, config, estimate, std)
    below = figure.add_subplot(grid[1, 2])
    spectrum, azimuth, range_ = music_spectrum(scene, estimate, config)
    draw_spectrum(figure, below, to_decibels(spectrum, floor_of(spectrum)), azimuth, range_)
    _draw_sources(below, config, estimate, std, plane=(0, 2))
    below.set_title("MUSIC spectrum of R_samp, largest over elevation", fontsize=10, loc="left")
    figure.suptitle(f"{title}\n{fit}", fontsize=11)
    legend = {
        "source": Line2D([], [], color=FOUND, marker="X", markersize=8, linestyle=""),
        "95 % ellipse": Line2D([], [], color=FOUND, linewidth=1.1),
        **surface_and_view_legend(),
    }
    legend_below(figure, list(legend.values()), list(legend))
    return figure


def _draw_angles(axes: Axes, config: Config, estimate: Positions, std: Positions) -> None:
    """Azimuth and elevation, with the edge of the field of view and a margin around it."""
    across, up = config.physics.azimuth_limit_deg, config.physics.elevation_limit_deg
    edge = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1], [-1, -1]]) * (across, up)
    dress(axes, "azimuth (deg)", "elevation (deg)", "seen from the surface")
    axes.plot(*edge.T, color=FAINT, linewidth=1.1)
    _draw_sources(axes, config, estimate, std, plane=(0, 1))
    axes.set_xlim(-1.12 * across, 1.12 * across)
    axes.set_ylim(-1.2 * up, 1.2 * up)


def _draw_sources(
    axes: Axes, config: Config, estimate: Positions, std: Positions, plane: tuple[int, int]
) -> None:
    """Numbered crosses and ellipses over two of the columns azimuth (deg), elevation (deg), range (m)."""
    x, y = estimate.table()[:, plane].T
    draw_crosses(axes, x, y)
    for k in range(len(x)):
        curve = ellipse(estimate[k], std[k], plane, config.physics.range_max).table()[:, plane]
        axes.plot(*curve.T, color=FOUND, linewidth=1.3, zorder=5)
        offset, side = ((-6, 4), "right") if x[k] > 0 else ((6, 4), "left")  # towards the middle
        axes.annotate(str(k), (x[k], y[k]), offset, textcoords="offset points", fontsize=9, ha=side)


def ellipse(at: Positions, std: Positions, plane: tuple[int, int], range_max: float) -> Positions:
    """The curve that holds a source with 95 % probability, two of its coordinates being looked at.

    Args:
        at: one source.
        std: its deviations; an unknown one makes the curve NaN, which draws nothing.
        plane: two of 0 azimuth, 1 elevation, 2 range.
        range_max: the far end of the field of view, where the curve is cut off, as it is at the surface.
    """
    centre, step = ([x.azimuth, x.elevation, x.range] for x in (at, std))
    points: FloatArray = np.full((len(_CIRCLE), 3), np.nan)
    if np.isfinite([step[axis] for axis in plane]).all():
        points[:] = centre
        for axis, wave in zip(plane, (np.cos(_CIRCLE), np.sin(_CIRCLE)), strict=True):
            points[:, axis] += WITHIN * step[axis] * wave
        points[:, 2] = np.clip(points[:, 2], 0.0, max(range_max, float(at.range)))
    return Positions(*points.T)
