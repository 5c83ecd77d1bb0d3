"""The figures of an evaluation: errors beside the bound, shares found and counted right, confusion."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from risctl.evaluation.results import Cell, Confusion, ErrorStats, Interval, OracleFigures, Results, find
from risctl.evaluation.tables import TRUSTED_RECALL
from risctl.plots.detection import detection_figure, reliability_figure
from risctl.plots.style import (
    FAINT,
    INK,
    MARKERS,
    Drawing,
    colour_bar,
    dress,
    hollow_handle,
    legend_below,
    log_scale,
    new_figure,
    number,
    styles_of,
)

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

REFERENCE: dict[str, Any] = {"color": INK, "linestyle": ":", "linewidth": 1.3}
DASHED = (0, (4, 2))
ERRORS = {
    "azimuth_deg": "azimuth RMSE (deg)",
    "elevation_deg": "elevation RMSE (deg)",
    "range_m": "range RMSE (m)",
}
COUNTS_SNR = (0.0, 10.0, 20.0)  # whose confusion is drawn; all are in confusion.csv


def result_figures(results: Results) -> dict[str, Drawing]:
    """The figures of the estimators, if any, by the name of their file, each drawn when it is called."""
    drawn: dict[str, Callable[[Results], Figure]] = {}
    if results.estimators:
        drawn = {"rmse": rmse_figure, "rates": rates_figure, "confusion": confusion_figure}
        drawn |= {"detection": detection_figure} if results.detection else {}
        drawn |= {"reliability": reliability_figure} if results.reliability else {}
    return {name: partial(draw, results) for name, draw in drawn.items()}


def rmse_figure(results: Results) -> Figure:
    """Draw RMSE against SNR beside the bound, and recall; bands are 95 % intervals.

    Marks are hollow where recall is below `TRUSTED_RECALL`: the errors are those of the easier sources. The
    bound is of the sources that the estimator of the highest recall found, at each SNR.
    """
    from matplotlib.lines import Line2D

    figure = new_figure(8.2, 6.4)
    panels = figure.subplots(2, 2, sharex=True)
    drawn = {
        reference.name
        for axes, (name, label) in zip(panels.flat, ERRORS.items(), strict=False)
        for reference in _draw_errors(axes, results, name, label)
    }
    recall = panels[1, 1]
    for name, (colour, marker) in zip(results.estimators, styles_of(results.estimators), strict=True):
        shares = [results.cell(name, snr).recall for snr in results.snr_values_db]
        _draw_line(recall, results, name, colour, marker, shares)
    recall.axhline(TRUSTED_RECALL, color=FAINT, linestyle=DASHED, linewidth=1.1)
    dress(recall, "", f"recall within {results.gate_deg:g} deg")
    recall.set_ylim(-0.03, 1.03)
    for axes in panels.flat:
        axes.set_xticks(results.snr_values_db)
    for axes in panels[-1]:
        axes.set_xlabel("SNR (dB)", fontsize=9)
    figure.suptitle("Error of the sources found beside the Cramér–Rao bound, all source counts", fontsize=11)
    handles: list[Artist] = [
        Line2D([], [], color=c, marker=m, markersize=5) for c, m in styles_of(results.estimators)
    ]
    handles.append(Line2D([], [], color=INK, linestyle=DASHED, linewidth=1.1))
    handles.append(hollow_handle())
    handles += [Line2D([], [], **REFERENCE) for _ in drawn]
    references = [f"{name}: an oracle, given the truth" for name in sorted(drawn)]
    labels = ["bound", f"recall below {TRUSTED_RECALL:g}: the easier sources only", *references]
    legend_below(figure, handles, [*results.estimators, *labels])
    return figure


def _draw_errors(axes: Axes, results: Results, name: str, label: str) -> list[OracleFigures]:
    """One panel; a reference is drawn on the scale of the estimators, a word where it lies below it.

    Returns the references that were drawn.
    """
    for estimator, (colour, marker) in zip(results.estimators, styles_of(results.estimators), strict=True):
        stats = [getattr(results.cell(estimator, snr), name) for snr in results.snr_values_db]
        _draw_line(axes, results, estimator, colour, marker, [_rmse(s) for s in stats])
    bound = [getattr(_most_found(results, snr), name).bound for snr in results.snr_values_db]
    axes.plot(results.snr_values_db, _positive(bound), color=INK, linestyle=DASHED, linewidth=1.1)
    log_scale(axes)
    low, high = axes.get_ylim()
    drawn = []
    for reference in results.references:
        rmse = [getattr(results.cell(reference.name, snr), name).rmse for snr in results.snr_values_db]
        known = [value for value in _positive(rmse) if value == value]
        if known and max(known) < low:
            text = f"{reference.name}: below {max(known):.0e}"
            axes.text(0.02, 0.02, text, va="bottom", fontsize=7, color=INK, transform=axes.transAxes)
        elif known:
            axes.plot(results.snr_values_db, _positive(rmse), **REFERENCE)
            drawn.append(reference)
    axes.set_ylim(low, high)
    dress(axes, "", label)
    return drawn


def _rmse(stats: ErrorStats) -> Interval:
    """The RMSE with the interval of its ratio to the bound, on the bound."""
    low, high = (
        None if end is None or stats.bound is None else end * stats.bound
        for end in (stats.ratio.low, stats.ratio.high)
    )
    return Interval(value=stats.rmse or None, low=low or None, high=high or None)


def _most_found(results: Results, snr: float) -> Cell:
    """The cell of the estimator that found the largest share of the sources."""
    return max((results.cell(name, snr) for name in results.estimators), key=lambda c: c.recall.value or 0.0)


def _positive(values: Sequence[float | None]) -> list[float]:
    """The values; NaN for none, and for zero, which has no place on a logarithmic scale."""
    return [value or float("nan") for value in values]


def _draw_line(
    axes: Axes, results: Results, name: str, colour: str, marker: str, figures: Sequence[Interval]
) -> None:
    """A line with its band; hollow marks where too few sources were found."""
    snr = results.snr_values_db
    values, low, high = ([number(getattr(f, k)) for f in figures] for k in ("value", "low", "high"))
    axes.plot(snr, values, color=colour, linewidth=1.5)
    axes.fill_between(snr, low, high, color=colour, alpha=0.15, linewidth=0)
    for at, value in zip(snr, values, strict=True):
        trusted = (results.cell(name, at).recall.value or 0.0) >= TRUSTED_RECALL
        face = colour if trusted else "white"
        axes.plot(at, value, marker, color=colour, markersize=5, markerfacecolor=face)


def rates_figure(results: Results) -> Figure:
    """Draw recall (above) and count accuracy (below) against SNR, a line per number of sources.

    One column per estimator; the bands are 95 % intervals.
    """
    from matplotlib import colormaps

    snr, counts = results.snr_values_db, results.counts
    figure = new_figure(max(3.1 * len(results.estimators), 5.0) + 0.6, 5.8)
    panels = figure.subplots(2, len(results.estimators), sharex=True, sharey=True, squeeze=False)
    above, below = f"recall within {results.gate_deg:g} deg", "K right"
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
    """Draw a matrix for each estimator (row) and some SNR (column): the share of each true count's scenes."""
    shown = [snr for snr in results.snr_values_db if snr in COUNTS_SNR] or list(results.snr_values_db)
    rows, columns = len(results.estimators), len(shown)
    figure = new_figure(2.1 * columns + 1.2, 1.95 * rows + 0.9)
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for i, estimator in enumerate(results.estimators):
        for j, snr in enumerate(shown):
            image = _draw_matrix(panels[i, j], find(results.confusion, estimator=estimator, snr_db=snr))
        panels[i, 0].set_ylabel(f"{estimator}\ntrue K", fontsize=9)
    for axes, snr in zip(panels[0], shown, strict=True):
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
