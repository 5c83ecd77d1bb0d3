"""The figures of an evaluation: errors beside the bound, shares found and counted right, confusion."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from risctl.evaluation.results import Confusion, Results, find
from risctl.plots.style import (
    FAINT,
    INK,
    MARKERS,
    colour_bar,
    dress,
    legend_below,
    log_scale,
    new_figure,
    number,
    styles_of,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

REFERENCE: dict[str, Any] = {"color": INK, "linestyle": ":", "linewidth": 1.3}
DASHED = (0, (4, 2))
ERRORS = {
    "azimuth_deg": "azimuth RMSE (deg)",
    "elevation_deg": "elevation RMSE (deg)",
    "range_m": "range RMSE (m)",
    "position_m": "position RMSE (m)",
}


def rmse_figure(results: Results) -> Figure:
    """Draw RMSE against SNR in four panels, each estimator beside the bound of the very sources it found."""
    from matplotlib.lines import Line2D

    figure = new_figure(8.2, 6.4)
    panels = figure.subplots(2, 2, sharex=True)
    for axes, (name, label) in zip(panels.flat, ERRORS.items(), strict=True):
        _draw_errors(axes, results, name)
        dress(axes, "SNR (dB)" if axes in panels[-1] else "", label)
    title = "Error of matched sources against the Cramér–Rao bound (all source counts)"
    figure.suptitle(title, fontsize=11)
    handles = [Line2D([], [], color=c, marker=m, markersize=5) for c, m in styles_of(results.estimators)]
    handles.append(Line2D([], [], color=FAINT, linestyle=DASHED))
    handles += [Line2D([], [], **REFERENCE) for _ in results.references]
    references = [f"{r.name}: an oracle, given the truth" for r in results.references]
    legend_below(figure, handles, [*results.estimators, "bound of the same sources", *references])
    return figure


def _draw_errors(axes: Axes, results: Results, name: str) -> None:
    """One panel; a reference is drawn on the scale of the estimators, a word where it lies below."""
    snr = results.snr_values_db

    def line(estimator: str, figure: str) -> list[float]:
        stats = [getattr(results.cell(estimator, value), name) for value in snr]
        return [getattr(s, figure) or float("nan") for s in stats]  # zero has no place on the scale

    for estimator, (colour, marker) in zip(results.estimators, styles_of(results.estimators), strict=True):
        axes.plot(snr, line(estimator, "bound"), color=colour, linestyle=DASHED, linewidth=1.1)
        axes.plot(snr, line(estimator, "rmse"), color=colour, marker=marker, markersize=5, linewidth=1.5)
    log_scale(axes)
    low, high = axes.get_ylim()
    for reference in results.references:
        rmse = line(reference.name, "rmse")
        axes.plot(snr, rmse, **REFERENCE)
        known = [value for value in rmse if value == value]
        if known and max(known) < low:
            text = f"{reference.name}: below {max(known):.0e}"
            axes.text(0.02, 0.02, text, va="bottom", fontsize=7, color=INK, transform=axes.transAxes)
    axes.set_ylim(low, high)
    axes.set_xticks(snr)


def rates_figure(results: Results) -> Figure:
    """Draw recall (above) and count accuracy (below) against SNR, a line per number of sources.

    One column per estimator; the bands are 95 % intervals.
    """
    from matplotlib import colormaps

    snr, counts = results.snr_values_db, results.counts
    figure = new_figure(max(3.1 * len(results.estimators), 5.0) + 0.6, 5.8)
    panels = figure.subplots(2, len(results.estimators), sharex=True, sharey=True, squeeze=False)
    above, below = f"recall within {results.gate_deg:g} deg", "source count right"
    for row, (share, label) in enumerate((("recall", above), ("count_accuracy", below))):
        for axes, estimator in zip(panels[row], results.estimators, strict=True):
            for i, count in enumerate(counts):
                colour = colormaps["viridis"](0.2 + 0.7 * i / max(len(counts) - 1, 1))
                shares = [getattr(results.cell(estimator, value, count), share) for value in snr]
                values, low, high = (
                    [number(getattr(s, k)) for s in shares] for k in ("value", "low", "high")
                )
                marker = MARKERS[i % len(MARKERS)]
                axes.plot(snr, values, color=colour, marker=marker, markersize=4.5, linewidth=1.4)
                axes.fill_between(snr, low, high, color=colour, alpha=0.15, linewidth=0)
            dress(axes, "SNR (dB)", label, estimator if row == 0 else "")
    for axes in panels.flat:
        axes.set_ylim(-0.03, 1.03)
        axes.set_xticks(snr)
        axes.label_outer()
    known = "given" if results.num_sources_known else "estimated"
    figure.suptitle(f"Share of sources found and of scenes counted right (K {known})", fontsize=11)
    labels = [f"K = {count}" for count in counts]
    legend_below(figure, panels[0, 0].get_lines(), labels, columns=len(counts))
    return figure


def confusion_figure(results: Results) -> Figure:
    """Draw a matrix for each estimator (row) and SNR (column): the share of each true count's scenes."""
    rows, columns = len(results.estimators), len(results.snr_values_db)
    figure = new_figure(1.75 * columns + 1.2, 1.95 * rows + 0.9)
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for i, estimator in enumerate(results.estimators):
        for j, snr in enumerate(results.snr_values_db):
            image = _draw_matrix(panels[i, j], find(results.confusion, estimator=estimator, snr_db=snr))
        panels[i, 0].set_ylabel(f"{estimator}\ntrue K", fontsize=9)
    for axes, snr in zip(panels[0], results.snr_values_db, strict=True):
        axes.set_title(f"{snr:g} dB", fontsize=10)
    for axes in panels[-1]:
        axes.set_xlabel("estimated K", fontsize=9)
    label = "share of the true count's scenes (%)"
    colour_bar(figure, image, panels, label, shrink=0.8, aspect=30, pad=0.02)
    known = " (K was given)" if results.num_sources_known else ""
    figure.suptitle(f"Source count: estimated against true{known}", fontsize=11)
    return figure


def _draw_matrix(axes: Axes, matrix: Confusion) -> AxesImage:
    counts = np.array(matrix.scenes, dtype=np.float64)
    totals = counts.sum(axis=1, keepdims=True)
    percent = np.where(totals > 0, 100 * counts / np.maximum(totals, 1), np.nan)
    left, right = matrix.estimated_counts[0] - 0.5, matrix.estimated_counts[-1] + 0.5
    top, bottom = matrix.true_counts[0] - 0.5, matrix.true_counts[-1] + 0.5
    extent = (left, right, bottom, top)
    image = axes.imshow(percent, cmap="cividis", vmin=0, vmax=100, extent=extent, aspect="auto")
    axes.set_facecolor("#eeeeee")
    axes.set_xticks(matrix.estimated_counts)
    axes.set_yticks(matrix.true_counts)
    axes.tick_params(labelsize=8, length=0)
    for true, row in zip(matrix.true_counts, percent, strict=True):
        for estimated, share in zip(matrix.estimated_counts, row, strict=True):
            if not share < 0.5:
                text, colour = f"{share:.0f}", "black" if share > 55 else "white"
                if np.isnan(share):
                    text, colour = "–", FAINT
                axes.text(estimated, true, text, ha="center", va="center", fontsize=7, color=colour)
    return image
