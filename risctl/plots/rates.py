"""Recall and source-count accuracy against SNR, a line for each number of sources."""

from __future__ import annotations

from typing import TYPE_CHECKING

from risctl.evaluation.results import Interval, Results
from risctl.plots.style import MARKERS, dress, legend_below, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def rates_figure(results: Results) -> Figure:
    """Draw recall (above) and count accuracy (below), a column an estimator, with 95 % intervals as bands."""
    columns = len(results.estimators)
    figure = new_figure(max(3.1 * columns, 5.0) + 0.6, 5.8)
    panels = figure.subplots(2, columns, sharex=True, sharey=True, squeeze=False)
    counts = true_counts(results)
    gate = f"recall within {results.gate_deg:g} deg"
    for column, estimator in enumerate(results.estimators):
        _draw_panel(panels[0, column], results, estimator, counts, "recall")
        dress(panels[0, column], "SNR (dB)", gate, estimator)
        _draw_panel(panels[1, column], results, estimator, counts, "count")
        dress(panels[1, column], "SNR (dB)", "source count right")
    for axes in panels.flat:
        axes.set_ylim(-0.03, 1.03)
        axes.set_xticks(results.snr_values_db)
        axes.label_outer()
    known = "given" if results.num_sources_known else "estimated"
    figure.suptitle(f"Share of sources found and of scenes counted right (K {known})", fontsize=11)
    handles = panels[0, 0].get_lines()
    legend_below(figure, handles, [f"K = {count}" for count in counts], columns=len(counts))
    return figure


def true_counts(results: Results) -> list[int]:
    """Return the source counts that have cells of their own."""
    return sorted({cell.num_sources for cell in results.cells if cell.num_sources is not None})


def _draw_panel(axes: Axes, results: Results, estimator: str, counts: list[int], figure: str) -> None:
    from matplotlib import colormaps

    for i, count in enumerate(counts):
        colour = colormaps["viridis"](0.05 + 0.82 * i / max(len(counts) - 1, 1))
        cells = [results.cell(estimator, snr, count) for snr in results.snr_values_db]
        shares = [cell.recall if figure == "recall" else cell.count_accuracy for cell in cells]
        snr, marker = results.snr_values_db, MARKERS[i % len(MARKERS)]
        axes.plot(
            snr,
            [_number(s.value) for s in shares],
            color=colour,
            marker=marker,
            markersize=4.5,
            linewidth=1.4,
        )
        low, high = zip(*(_band(s) for s in shares), strict=True)
        axes.fill_between(snr, low, high, color=colour, alpha=0.15, linewidth=0)


def _band(share: Interval) -> tuple[float, float]:
    return _number(share.low), _number(share.high)


def _number(value: float | None) -> float:
    return float("nan") if value is None else value
