"""Where each estimator breaks: recall, count, RMSE over bound and time against the swept setting."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from risctl.evaluation.results import Cell, Interval
from risctl.evaluation.sweep import HOLDS, Sweep, SweepPoint, value_text
from risctl.plots.style import (
    FAINT,
    INK,
    dress,
    hollow_handle,
    legend_below,
    log_scale,
    new_figure,
    number,
    styles_of,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LABELS = {
    "physics.num_snapshots": "snapshots L",
    "physics.num_antennas": "base-station antennas M",
    "physics.snr_db": "SNR (dB)",
    "physics.phase_bits": "bits of a RIS phase",
    "physics.codebook": "codebook",
    "physics.pair_coherence": "coherence of the closest two sources",
    "physics.max_coherence": "largest pairwise coherence",
    "physics.power_spread_db": "half width of the source powers (dB)",
    "physics.impairments.position_error": "element position error (m)",
    "physics.impairments.phase_error_deg": "element phase error (deg)",
    "physics.impairments.amplitude_jitter_db": "element gain error (dB)",
    "physics.impairments.dead_elements": "share of dead elements",
    "physics.impairments.wavelength_mismatch": "relative wavelength error",
}
WIDE = 8.0  # largest over smallest value from which the axis is logarithmic
Reading = Callable[[SweepPoint, Cell], Interval]
PANELS: tuple[tuple[str, Reading], ...] = (
    ("recall", lambda _, cell: cell.recall),
    ("K right", lambda _, cell: cell.count_accuracy),
    (
        "CPU seconds per scene",
        lambda point, cell: Interval(value=point.cpu_seconds(cell.estimator), low=None, high=None),
    ),
    ("azimuth RMSE / bound", lambda _, cell: cell.azimuth_deg.ratio),
    ("elevation RMSE / bound", lambda _, cell: cell.elevation_deg.ratio),
    ("range RMSE / bound", lambda _, cell: cell.range_m.ratio),
)
SHARES = ("recall", "K right")


def sweep_figure(sweep: Sweep) -> Figure:
    """Draw six panels over the swept values, with 95 % intervals as bands or bars; hollow where it breaks."""
    from matplotlib.lines import Line2D

    figure = new_figure(10.4, 6.2)
    panels = figure.subplots(2, 3, sharex=True)
    values = [point.value for point in sweep.points]
    x = places(values)
    for axes, (label, read) in zip(panels.flat, PANELS, strict=True):
        for i in range(len(sweep.estimators)):
            _draw_line(axes, sweep, i, read)
        if label in SHARES:
            axes.set_ylim(-0.03, 1.03)
        elif "bound" not in label:
            axes.set_ylim(0.0, max(1.08 * float(axes.dataLim.y1), 1e-6))
        else:
            axes.axhline(1.0, color=FAINT, linestyle=(0, (4, 2)), linewidth=1.1)
            log_scale(axes)
        if is_number(values) and min(x) > 0 and max(x) / min(x) >= WIDE:
            axes.set_xscale("log")
        if not is_number(values):
            axes.set_xlim(-0.5, len(x) - 0.5)
        axes.minorticks_off()
        axes.set_xticks(x, [value_text(value) for value in values], color=INK)
        dress(axes, LABELS.get(sweep.key, sweep.key) if axes in panels[-1] else "", label)
    snr = sweep.snr_values_db
    bins = f", {snr[0]:g}..{snr[-1]:g} dB" if len(snr) > 1 else f", {snr[0]:g} dB" if snr else ""
    known = "given" if sweep.num_sources_known else "estimated"
    scenes = min(point.scenes for point in sweep.points)
    title = f"{sweep.key}: {scenes} scenes a value{bins}, K {known}; with 95 % intervals"
    figure.suptitle(title, fontsize=11)
    handles = [Line2D([], [], color=c, marker=m, markersize=5) for c, m in styles_of(sweep.estimators)]
    labels = [*sweep.estimators, f"recall below {100 * HOLDS:g} % of its best"]
    legend_below(figure, [*handles, hollow_handle()], labels)
    return figure


def places(values: Sequence[bool | int | float | str]) -> list[float]:
    """Where the values stand on the axis: at themselves if they are numbers, else side by side."""
    return [float(value if is_number(values) else place) for place, value in enumerate(values)]


def is_number(values: Sequence[bool | int | float | str]) -> bool:
    """Whether all values are numbers."""
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)


def _draw_line(axes: Axes, sweep: Sweep, index: int, read: Reading) -> None:
    name, (colour, marker) = sweep.estimators[index], styles_of(sweep.estimators)[index]
    values = [point.value for point in sweep.points]
    figures = [read(point, point.cell(name)) for point in sweep.points]
    middle, low, high = ([number(getattr(f, k)) for f in figures] for k in ("value", "low", "high"))
    x = places(values)
    if is_number(values):
        along, line, lower, upper = np.array([x, middle, low, high])[:, np.argsort(x)]
        axes.plot(along, line, color=colour, linewidth=1.4)
        axes.fill_between(along, lower, upper, color=colour, alpha=0.15, linewidth=0)
    else:  # side by side, with bars: no value lies between two others
        x = [at + 0.12 * (index - (len(sweep.estimators) - 1) / 2) for at in x]
        axes.vlines(x, low, high, color=colour)
    for at, value, height in zip(x, values, middle, strict=True):
        face = "white" if value in sweep.breaks[index].broken_at else colour
        axes.plot(at, height, marker, color=colour, markersize=5, markerfacecolor=face)
