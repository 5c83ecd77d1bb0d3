"""Detection curves, and whether stated probabilities hold."""

from __future__ import annotations

from typing import TYPE_CHECKING

from risctl.evaluation.results import Results
from risctl.plots.style import FAINT, dress, legend_below, new_figure, styles_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMNS = 3
LEAST_WIDTH = 0.01  # false alarms per scene, of the axes
WHAT = {
    "source": "source: one within the cut-off of a report",
    "count": "K: the most probable count is right",
}


def detection_figure(results: Results) -> Figure:
    """Draw probability of detection against false alarms per scene, a panel per SNR, a line per estimator.

    Detected is a source within the cut-off of a report, which is what the stated probability is of (in older
    files: one in the gate). Estimators that state no probability of a source have no curve.
    """
    event = "cut-off" if any(p.event == "cut-off" for p in results.detection) else "gate"
    points = [p for p in results.detection if p.event == event]
    snr, stating = results.snr_values_db, {p.estimator for p in points}
    shown = [name for name in results.estimators if name in stating]
    looks = dict(zip(results.estimators, styles_of(results.estimators), strict=True))
    widest = max((p.false_alarms for p in points), default=0.0)
    rows = -(-len(snr) // COLUMNS)
    figure = new_figure(8.2, 2.5 * rows + 0.8)
    panels = figure.subplots(rows, COLUMNS, sharex=True, sharey=True, squeeze=False)
    for axes, value in zip(panels.flat, snr, strict=False):
        for name, (colour, marker) in ((name, looks[name]) for name in shown):
            curve = [p for p in points if (p.estimator, p.snr_db) == (name, value)]
            x, y = [p.false_alarms for p in curve], [p.detection for p in curve]
            axes.plot(x, y, color=colour, linewidth=1.5)
            axes.plot(x[-1:], y[-1:], color=colour, marker=marker, markersize=5)  # all its reports
        dress(axes, "false alarms per scene", "probability of detection", f"{value:g} dB")
        axes.set_ylim(-0.03, 1.03)
        axes.set_xlim(-0.02 * max(widest, LEAST_WIDTH), 1.05 * max(widest, LEAST_WIDTH))
    for axes in panels.flat:
        axes.label_outer()
    for axes in panels.flat[len(snr) :]:
        axes.set_visible(False)
    figure.suptitle("Detection as the threshold on the probability falls; marks: all reports", fontsize=11)
    legend_below(figure, panels[0, 0].get_lines()[1::2], shown)
    return figure


def reliability_figure(results: Results) -> Figure:
    """Draw the observed share against the stated probability; large marks are of many statements."""
    figure = new_figure(8.2, 4.3)
    panels = figure.subplots(1, len(WHAT), sharey=True)
    for axes, (what, title) in zip(panels, WHAT.items(), strict=True):
        axes.plot([0, 1], [0, 1], color=FAINT, linewidth=1.0)
        for name, (colour, marker) in zip(results.estimators, styles_of(results.estimators), strict=True):
            bins = [b for b in results.reliability if (b.estimator, b.what) == (name, what)]
            x, y = [b.stated for b in bins], [b.observed for b in bins]
            total = sum(b.statements for b in bins)
            axes.plot(x, y, color=colour, linewidth=1.2, marker=marker, markersize=3, label=name)
            axes.scatter(x, y, [300 * b.statements / total for b in bins], color=colour, alpha=0.3)
        dress(axes, "stated probability", "observed share", title)
    figure.suptitle("Reliability of the stated probabilities (all SNR)", fontsize=11)
    legend_below(figure, panels[0].get_lines()[1:], results.estimators)
    return figure
