"""How a hyper-parameter search went: losses over the trials and their epochs, and what mattered."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from risctl.hpo import TrialRecord
from risctl.hpo.files import direction
from risctl.hpo.importance import Importance
from risctl.plots.style import COLOURS, FAINT, INK, MARKERS, dress, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

STATES = ("complete", "pruned")
FAR = 3.0  # times the median loss: what is beyond it is drawn at the edge


def loss_of(trial: TrialRecord) -> float:
    """The trial's lowest validation loss, NaN where there is none."""
    return math.nan if trial.value is None else trial.value


def history_figure(trials: Sequence[TrialRecord], preset: int | None, title: str) -> Figure:
    """Draw the losses over the trials, and each trial's losses over its epochs.

    Args:
        trials: all that ended.
        preset: number of the one with the preset's own values, None if there is none.
        title: of the figure.
    """
    figure = new_figure(12.0, 4.6)
    left, right = figure.subplots(1, 2)
    finite = [trial for trial in trials if math.isfinite(loss_of(trial))]
    best = _best(finite)
    _over_trials(left, finite, best, preset)
    _failures(left, [trial for trial in trials if trial.state not in STATES])
    _over_epochs(right, finite, best, preset)
    for axes in (left, right):
        _limit(axes, [loss_of(trial) for trial in finite])
        if axes.get_legend_handles_labels()[1]:
            axes.legend(fontsize=8, frameon=False)
    figure.suptitle(title, fontsize=11, color=INK)
    return figure


def _best(trials: Sequence[TrialRecord]) -> int | None:
    complete = [(loss_of(trial), trial.number) for trial in trials if trial.state == "complete"]
    return min(complete)[1] if complete else None


def _over_trials(axes: Axes, trials: Sequence[TrialRecord], best: int | None, preset: int | None) -> None:
    dress(axes, "trial", "validation loss", "Loss of every trial")
    for i, state in enumerate(STATES):
        chosen = [trial for trial in trials if trial.state == state]
        at, losses = [trial.number for trial in chosen], [loss_of(trial) for trial in chosen]
        label = state if state == "complete" else f"{state}: lowest until then"
        if chosen:
            axes.plot(at, losses, MARKERS[4 * i], color=COLOURS[i], markersize=6, label=label)
    _best_so_far(axes, trials)
    for trial in trials:
        if trial.number == preset:
            axes.axhline(loss_of(trial), color=COLOURS[2], linestyle="--", linewidth=1, label="preset")
        if trial.number == best:
            label = f"best: trial {trial.number}, {loss_of(trial):.4g}"
            axes.plot([trial.number], [loss_of(trial)], "o", color=INK, fillstyle="none", ms=11, label=label)


def _best_so_far(axes: Axes, trials: Sequence[TrialRecord]) -> None:
    at: list[int] = []
    lowest: list[float] = []
    for trial in sorted(trials, key=lambda trial: trial.number):
        if trial.state == "complete":
            at.append(trial.number)
            lowest.append(min([loss_of(trial), *lowest[-1:]]))
    if at:
        axes.step(at, lowest, where="post", color=COLOURS[0], linewidth=1.2, alpha=0.6, label="best so far")


def _failures(axes: Axes, trials: Sequence[TrialRecord]) -> None:
    """Mark the trials without a loss at the upper edge."""
    at = [trial.number for trial in trials if trial.state == "failed"]
    if at:
        transform = axes.get_xaxis_transform()
        axes.plot(
            at, [0.97] * len(at), "X", color=COLOURS[1], markersize=8, transform=transform, label="failed"
        )


def _over_epochs(axes: Axes, trials: Sequence[TrialRecord], best: int | None, preset: int | None) -> None:
    dress(axes, "epoch", "validation loss", "Loss of every epoch")
    named = {preset: ("preset", COLOURS[2], "--"), best: ("best", COLOURS[0], "-")}
    for trial in sorted(trials, key=lambda trial: trial.number in named):
        at, losses = range(1, len(trial.epochs) + 1), trial.epochs
        label, colour, line = named.get(trial.number, (None, FAINT, "-"))
        width, alpha = (2.0, 1.0) if label else (0.9, 0.6)
        axes.plot(at, losses, color=colour, linestyle=line, linewidth=width, alpha=alpha, label=label)
        if trial.state == "pruned" and at:
            axes.plot(at[-1:], losses[-1:], MARKERS[4], color=COLOURS[1], markersize=5)
    if any(trial.state == "pruned" for trial in trials):
        axes.plot([], [], MARKERS[4], color=COLOURS[1], markersize=5, label="pruned")


def _limit(axes: Axes, losses: Sequence[float]) -> None:
    """Keep one exploded trial from pressing all others together; trials and epochs are whole numbers."""
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if not losses:
        return
    middle, low = sorted(losses)[len(losses) // 2], min(losses)
    top = axes.get_ylim()[1]
    if middle > 0 and top > FAR * middle:
        axes.set_ylim(low - 0.05 * (FAR * middle - low), FAR * middle)


def importance_figure(bars: Sequence[Importance], title: str) -> Figure:
    """Draw the shares as bars, each with the level that chance alone reaches."""
    figure = new_figure(8.0, 1.4 + 0.42 * max(len(bars), 1))
    axes = figure.subplots()
    dress(axes, "share of the importance", "")
    axes.set_title(title, fontsize=10, loc="left", color=INK)
    places = list(range(len(bars)))[::-1]
    colours = [COLOURS[0] if bar.share > bar.chance else FAINT for bar in bars]
    axes.barh(places, [bar.share for bar in bars], height=0.62, color=colours)
    for i, (place, bar) in enumerate(zip(places, bars, strict=True)):
        label = "what chance exceeds in 1 of 20 searches" if i == 0 else None
        axes.plot([bar.chance] * 2, [place - 0.38, place + 0.38], color=COLOURS[1], linewidth=2, label=label)
        axes.text(
            max(bar.share, bar.chance) + 0.012, place, direction(bar), va="center", fontsize=8, color=INK
        )
    axes.set_yticks(places, [bar.key for bar in bars])
    axes.set_xlim(0, 1.35 * max([bar.share for bar in bars] + [bar.chance for bar in bars] + [0.1]))
    axes.grid(False, axis="y")
    if bars:
        axes.legend(fontsize=8, frameon=False, loc="lower right")
    return figure
