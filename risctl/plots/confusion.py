"""Which source count was taken for which, by SNR."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from risctl.evaluation.results import Confusion, Results
from risctl.plots.style import FAINT, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

COLOURS = "cividis"


def confusion_figure(results: Results) -> Figure:
    """Draw a matrix for each estimator (row) and SNR (column): the share of each true count's scenes."""
    rows, columns = len(results.estimators), len(results.snr_values_db)
    figure = new_figure(1.75 * columns + 1.2, 1.95 * rows + 0.9)
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for i, estimator in enumerate(results.estimators):
        for j, snr in enumerate(results.snr_values_db):
            image = _draw_matrix(panels[i, j], results.confusion_of(estimator, snr))
            if i == 0:
                panels[i, j].set_title(f"{snr:g} dB", fontsize=10)
            if j == 0:
                panels[i, j].set_ylabel(f"{estimator}\ntrue K", fontsize=9)
            if i == rows - 1:
                panels[i, j].set_xlabel("estimated K", fontsize=9)
    bar = figure.colorbar(image, ax=panels, shrink=0.8, aspect=30, pad=0.02)
    bar.set_label("share of the true count's scenes (%)", fontsize=9)
    bar.ax.tick_params(labelsize=8)
    known = " (K was given)" if results.num_sources_known else ""
    figure.suptitle(f"Source count: estimated against true{known}", fontsize=11)
    return figure


def _draw_matrix(axes: Axes, matrix: Confusion) -> AxesImage:
    counts = np.array(matrix.scenes, dtype=np.float64)
    totals = counts.sum(axis=1, keepdims=True)
    percent = np.where(totals > 0, 100 * counts / np.maximum(totals, 1), np.nan)
    left, right = matrix.estimated_counts[0] - 0.5, matrix.estimated_counts[-1] + 0.5
    top, bottom = matrix.true_counts[0] - 0.5, matrix.true_counts[-1] + 0.5
    image = axes.imshow(
        percent, cmap=COLOURS, vmin=0, vmax=100, extent=(left, right, bottom, top), aspect="auto"
    )
    axes.set_facecolor("#eeeeee")
    axes.set_xticks(matrix.estimated_counts)
    axes.set_yticks(matrix.true_counts)
    axes.tick_params(labelsize=8, length=0)
    for i, true in enumerate(matrix.true_counts):
        for j, estimated in enumerate(matrix.estimated_counts):
            _annotate(axes, estimated, true, percent[i, j])
    return image


def _annotate(axes: Axes, x: float, y: float, percent: float) -> None:
    if np.isnan(percent):
        axes.text(x, y, "–", ha="center", va="center", fontsize=7, color=FAINT)
    elif percent >= 0.5:
        colour = "black" if percent > 55 else "white"
        axes.text(x, y, f"{percent:.0f}", ha="center", va="center", fontsize=7, color=colour)
