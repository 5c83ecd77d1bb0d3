"""One scene in space: the surface, its field of view, where the sources are and where they were found."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from risctl.config import PhysicsConfig
from risctl.evaluation.matching import match_scene
from risctl.evaluation.positions import FloatArray, Positions
from risctl.physics import ArrayGeometry, FieldOfView
from risctl.plots.style import COLOURS, FAINT, INK, legend_below, new_figure

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.figure import Figure

TRUE, FOUND, PANEL = COLOURS[0], COLOURS[1], COLOURS[2]
CROSS = {"marker": "X", "color": FOUND, "s": 42, "linewidths": 0.4, "edgecolors": "white"}
SEEN = 1.0  # metres from which the line between an estimate and its source is longer than their marks
_CURVE = np.linspace(-1.0, 1.0, 41)
_GRID = {"color": "#d8d8d8", "linewidth": 0.6, "zorder": 0}


def scene_figure(
    physics: PhysicsConfig,
    truth: Positions,
    estimate: Positions,
    std: Positions | None = None,
    title: str = "",
) -> Figure:
    """Draw sources (K,), estimates (K_hat,) and, with `std`, bars of one standard deviation each way.

    A line joins each estimate to the source it is assigned to, and the title says how far that is; stems drop
    to the floor of the field of view. Slots that hold NaN are left out.
    """
    from matplotlib.lines import Line2D

    truth, found = truth[truth.present], estimate.present
    std, estimate = None if std is None else std[found], estimate[found]
    figure = new_figure(7.4, 5.6)
    axes: Any = figure.add_subplot(projection="3d", computed_zorder=False)
    floor = draw_surface_and_view(axes, physics)
    hollow = {"facecolors": "none", "edgecolors": TRUE, "s": 75, "linewidths": 1.7}
    draw_points(axes, truth, floor, TRUE, marker="o", **hollow)
    draw_points(axes, estimate, floor, FOUND, **CROSS)
    largest = 0.0
    for i, j in zip(*match_scene(truth, estimate, gate=math.pi), strict=True):
        ends = np.stack([truth[i].cartesian(), estimate[j].cartesian()])
        axes.plot(*ends.T, color=INK, linewidth=0.9, zorder=4)
        largest = max(largest, float(np.linalg.norm(ends[1] - ends[0])))
    if std is not None:
        for k in range(len(estimate.azimuth)):
            for bar in error_bars(estimate[k], std[k], physics.range_max):
                axes.plot(*bar.T, color=FOUND, linewidth=1.3, alpha=0.75, zorder=5)
    away = f"; at most {largest:.2g} m away" if largest else ""
    axes.set_title(f"{title}{away}", fontsize=11)
    line: Literal["-", ""] = "" if std is None else "-"
    legend = {
        "true source": Line2D([], [], color=TRUE, marker="o", markersize=8, fillstyle="none", linestyle=""),
        "estimate ± one standard deviation" if line else "estimate": Line2D(
            [], [], color=FOUND, marker="X", markersize=8, linestyle=line
        ),
        "height above the floor": Line2D([], [], color=FAINT, linestyle=":", marker=".", markersize=4),
        **({"estimate to its source": Line2D([], [], color=INK, linewidth=0.9)} if largest > SEEN else {}),
        **surface_and_view_legend(),
    }
    legend_below(figure, list(legend.values()), list(legend), columns=3)
    return figure


def draw_surface_and_view(axes: Any, physics: PhysicsConfig) -> float:
    """Draw the surface and the edges of its view into axes in 3-D; return the height of the floor."""
    view = FieldOfView.from_config(physics)
    floor = -view.range_max * math.sin(view.elevation)
    for curve in view_edges(view):
        axes.plot(*curve.cartesian().T, color=FAINT, linewidth=0.9, zorder=1)
    if physics.elements.positions:
        placed = ArrayGeometry.from_config(physics).positions.numpy()
        (y_low, z_low), (y_high, z_high) = placed[:, 1:].min(0), placed[:, 1:].max(0)
    else:
        spacing = physics.element_spacing * physics.wavelength
        y_high, z_high = physics.ris_columns * spacing / 2, physics.ris_rows * spacing / 2
        y_low, z_low = -y_high, -z_high
    across, up = np.meshgrid([y_low, y_high], [z_low, z_high])
    filled: dict[str, Any] = {"color": PANEL, "edgecolor": INK, "linewidth": 0.8, "alpha": 0.75}
    axes.plot_surface(np.zeros_like(across), across, up, shade=False, zorder=2, **filled)
    _frame(axes, view, floor)
    return floor


def surface_and_view_legend() -> dict[str, Artist]:
    """Legend entries of what `draw_surface_and_view` draws."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    return {
        "reconfigurable surface": Patch(facecolor=PANEL, edgecolor=INK, alpha=0.75),
        "edge of the field of view": Line2D([], [], color=FAINT, linewidth=0.9),
    }


def view_edges(view: FieldOfView) -> Iterator[Positions]:
    """Yield the four arcs at the far range, and the four edges from the near to the far range."""
    ones = np.ones_like(_CURVE)
    for side in (-1.0, 1.0):
        yield Positions(_CURVE * view.azimuth, side * view.elevation * ones, view.range_max * ones)
        yield Positions(side * view.azimuth * ones, _CURVE * view.elevation, view.range_max * ones)
        for other in (-1.0, 1.0):
            ends = np.array([view.range_min, view.range_max])
            yield Positions(np.full(2, side * view.azimuth), np.full(2, other * view.elevation), ends)


def draw_points(axes: Any, points: Positions, floor: float, colour: str, **style: Any) -> None:
    """Points with their stems and feet."""
    for x, y, z in points.cartesian():
        axes.plot([x, x], [y, y], [floor, z], color=colour, linewidth=0.7, linestyle=":", zorder=3)
        axes.plot([x], [y], [floor], color=colour, marker=".", markersize=3, zorder=3)
    axes.scatter(*points.cartesian().T, depthshade=False, zorder=6, **style)


def error_bars(at: Positions, std: Positions, range_max: float) -> Iterator[FloatArray]:
    """Yield segments (2, 3) of one standard deviation each way in azimuth, elevation and range.

    A deviation that is not finite has no bar; a range bar ends at the surface and at the far range.
    """
    centre = np.array([at.azimuth, at.elevation, at.range])
    for step in np.diag([std.azimuth, std.elevation, std.range]):
        ends = np.stack([centre - step, centre + step])
        ends[:, 2] = np.clip(ends[:, 2], 0.0, max(range_max, float(at.range)))
        if np.isfinite(ends).all():
            yield Positions(ends[:, 0], ends[:, 1], ends[:, 2]).cartesian()


def _frame(axes: Any, view: FieldOfView, floor: float) -> None:
    """Limits, labels and a grid on the floor."""
    far, side = view.range_max, view.range_max * math.sin(view.azimuth)
    limits = {"xlim": (0, far), "ylim": (-side, side), "zlim": (floor, -floor)}
    axes.set(**limits)
    axes.set_box_aspect((far, 2 * side, -2 * floor), zoom=1.2)
    axes.tick_params(labelsize=8)
    axes.view_init(elev=26, azim=-52)
    for name in "xyz":
        getattr(axes, f"set_{name}label")(f"{name} (m)", fontsize=9)
        getattr(axes, f"{name}axis").set_pane_color((0.97, 0.97, 0.97))
    axes.grid(False)
    for x in (x for x in axes.get_xticks() if 0 < x < far):
        axes.plot([x, x], [-side, side], [floor, floor], **_GRID)
    for y in (y for y in axes.get_yticks() if -side < y < side):
        axes.plot([0, far], [y, y], [floor, floor], **_GRID)
    axes.set(**limits)
