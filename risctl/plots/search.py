"""The pictures of a search: losses over trials and epochs, what mattered, all trials in parallel."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from risctl.config import Config
from risctl.config.search import setting
from risctl.hpo import TrialRecord
from risctl.hpo.files import direction
from risctl.hpo.importance import WITHOUT_EFFECT, Importance
from risctl.plots.parallel import Scale, loss_of
from risctl.plots.style import COLOURS, FAINT, INK, MARKERS, dress, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FAR = 3.0  # times the median loss: what is beyond it is drawn at the edge


def scales(config: Config) -> list[Scale]:
    """The axes of the parallel coordinates; parameters that don't enter the loss come last."""
    axes = []
    space = config.search.parameters
    for key in sorted(space, key=lambda key: (key.startswith(f"{WITHOUT_EFFECT}."), key)):
        parameter, whole = space[key], isinstance(setting(config, key), int)
        if parameter.choices is None:
            step = parameter.step or (1.0 if whole else 0.0)
            axes.append(Scale(key, *parameter.bounds, parameter.log, step))
        else:
            axes.append(Scale(key, choices=parameter.choices))
    return axes


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
    complete = [(loss_of(trial), trial.number) for trial in finite if trial.state == "complete"]
    best = min(complete)[1] if complete else None
    _over_trials(left, finite, best, preset)
    failed = [trial.number for trial in trials if trial.state == "failed"]
    if failed:  # without a loss: at the upper edge
        edge: dict[str, Any] = {
            "transform": left.get_xaxis_transform(),
            "color": COLOURS[1],
            "label": "failed",
        }
        left.plot(failed, [0.97] * len(failed), "X", markersize=8, **edge)
    _over_epochs(right, finite, best, preset)
    for axes in (left, right):
        _limit(axes, [loss_of(trial) for trial in finite])
        if axes.get_legend_handles_labels()[1]:
            axes.legend(fontsize=8, frameon=False)
    figure.suptitle(title, fontsize=11, color=INK)
    return figure


def _over_trials(axes: Axes, trials: Sequence[TrialRecord], best: int | None, preset: int | None) -> None:
    dress(axes, "trial", "validation loss", "Loss of every trial")
    losses = {trial.number: loss_of(trial) for trial in trials}
    for i, (state, label) in enumerate((("complete", "complete"), ("pruned", "pruned: lowest until then"))):
        at = [trial.number for trial in trials if trial.state == state]
        if at:
            values = [losses[number] for number in at]
            axes.plot(at, values, MARKERS[4 * i], color=COLOURS[i], markersize=6, label=label)
    at = sorted(trial.number for trial in trials if trial.state == "complete")
    if at:
        lowest = list(accumulate((losses[number] for number in at), min))
        axes.step(at, lowest, where="post", color=COLOURS[0], linewidth=1.2, alpha=0.6, label="best so far")
    for number, loss in losses.items():
        if number == preset:
            axes.axhline(loss, color=COLOURS[2], linestyle="--", linewidth=1, label="preset")
        if number == best:
            label = f"best: trial {number}, {loss:.4g}"
            axes.plot([number], [loss], "o", color=INK, fillstyle="none", ms=11, label=label)


def _over_epochs(axes: Axes, trials: Sequence[TrialRecord], best: int | None, preset: int | None) -> None:
    dress(axes, "epoch", "validation loss", "Loss of every epoch")
    named = {preset: ("preset", COLOURS[2], "--"), best: ("best", COLOURS[0], "-")}
    for trial in sorted(trials, key=lambda trial: trial.number in named):
        at, losses = range(1, len(trial.epochs) + 1), trial.epochs
        label, colour, line = named.get(trial.number, (None, FAINT, "-"))
        width, alpha = (2.0, 1.0) if label else (0.9, 0.6)
        dot = MARKERS[0] if len(at) == 1 else ""  # a line of one epoch is not seen
        drawn = axes.plot(at, losses, color=colour, linestyle=line, linewidth=width, alpha=alpha, label=label)
        drawn[0].set_marker(dot)
        if trial.state == "pruned" and at:
            axes.plot(at[-1:], losses[-1:], MARKERS[4], color=COLOURS[1], markersize=5)
    if any(trial.state == "pruned" for trial in trials):
        axes.plot([], [], MARKERS[4], color=COLOURS[1], markersize=5, label="pruned")


def _limit(axes: Axes, losses: Sequence[float]) -> None:
    """Keep one exploded trial from pressing all others together; trials and epochs are whole numbers."""
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
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
    dress(axes, "share of the importance", "", title)
    places = list(range(len(bars)))[::-1]
    colours = [COLOURS[0] if bar.share > bar.chance else FAINT for bar in bars]
    axes.barh(places, [bar.share for bar in bars], height=0.62, color=colours)
    for i, (place, bar) in enumerate(zip(places, bars, strict=True)):
        label = "what chance exceeds in 1 of 20 searches" if i == 0 else None
        axes.plot([bar.chance] * 2, [place - 0.38, place + 0.38], color=COLOURS[1], linewidth=2, label=label)
        end = max(bar.share, bar.chance)
        axes.text(end + 0.012, place, direction(bar), va="center", fontsize=8, color=INK)
    axes.set_yticks(places, [bar.key for bar in bars])
    axes.set_xlim(0, 1.35 * max([max(bar.share, bar.chance) for bar in bars] + [0.1]))
    axes.grid(False, axis="y")
    if bars:
        axes.legend(fontsize=8, frameon=False, loc="lower right")
    return figure
