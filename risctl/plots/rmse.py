"""RMSE against SNR, each estimator beside the bound of the very sources it found."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from risctl.evaluation.results import Cell, ErrorStats, Results
from risctl.plots.style import COLOURS, FAINT, INK, MARKERS, dress, legend_below, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TOLD: dict[str, Any] = {"color": INK, "linestyle": ":", "linewidth": 1.3}  # a line of what knew the truth
PANELS = (
    ("azimuth", "azimuth RMSE (deg)"),
    ("elevation", "elevation RMSE (deg)"),
    ("range", "range RMSE (m)"),
    ("position", "position RMSE (m)"),
)


def rmse_figure(results: Results, num_sources: int | None = None) -> Figure:
    """Draw RMSE and bound against SNR in four panels, over all source counts or one."""
    from matplotlib.lines import Line2D

    figure = new_figure(8.2, 6.4)
    panels = figure.subplots(2, 2, sharex=True)
    for axes, (name, label) in zip(panels.flat, PANELS, strict=True):
        _draw_panel(axes, results, name, num_sources)
        dress(axes, "SNR (dB)" if axes in panels[-1] else "", label)
    counts = "all source counts" if num_sources is None else f"K = {num_sources}"
    figure.suptitle(f"Error of matched sources against the Cramér–Rao bound ({counts})", fontsize=11)
    styles = list(zip(results.estimators, COLOURS, MARKERS, strict=False))
    handles = [Line2D([], [], color=c, marker=m, markersize=5) for _, c, m in styles]
    handles.append(Line2D([], [], color=FAINT, linestyle=(0, (4, 2))))
    labels = [*(name for name, _, _ in styles), "bound of the same sources"]
    if results.references:
        handles += [Line2D([], [], **TOLD) for _ in results.references]
        labels += [f"{r.name}: a reference, told the truth" for r in results.references]
    legend_below(figure, handles, labels)
    return figure


def _draw_references(axes: Axes, results: Results, name: str, num_sources: int | None) -> None:
    """Draw what was told the truth, on the scale of the estimators; a word where it lies below."""
    low, high = axes.get_ylim()
    for reference in results.references:
        cells = [results.cell(reference.name, snr, num_sources) for snr in results.snr_values_db]
        line = _line([stats_of(cell, name).rmse for cell in cells])
        axes.plot(results.snr_values_db, line, **TOLD)
        known = [value for value in line if value == value]
        if known and max(known) < low:
            text = f"{reference.name}: below {max(known):.0e}"
            axes.text(
                0.02, 0.02, text, transform=axes.transAxes, fontsize=7, color=INK, ha="left", va="bottom"
            )
    axes.set_ylim(low, high)


def stats_of(cell: Cell, name: str) -> ErrorStats:
    """Return the error figures of one panel."""
    panels = {
        "azimuth": cell.azimuth_deg,
        "elevation": cell.elevation_deg,
        "range": cell.range_m,
        "position": cell.position_m,
    }
    return panels[name]


def _draw_panel(axes: Axes, results: Results, name: str, num_sources: int | None) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    for i, estimator in enumerate(results.estimators):
        cells = [results.cell(estimator, snr, num_sources) for snr in results.snr_values_db]
        stats = [stats_of(cell, name) for cell in cells]
        colour, marker = COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)]
        snr = results.snr_values_db
        axes.plot(snr, _line([s.bound for s in stats]), color=colour, linestyle=(0, (4, 2)), linewidth=1.1)
        axes.plot(
            snr, _line([s.rmse for s in stats]), color=colour, marker=marker, markersize=5, linewidth=1.5
        )
    axes.set_yscale("log")
    _draw_references(axes, results, name, num_sources)
    axes.set_xticks(results.snr_values_db)
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _line(values: list[float | None]) -> list[float]:
    """Return a line that is broken where there is no figure."""
    return [float("nan") if value is None or value <= 0 else value for value in values]
