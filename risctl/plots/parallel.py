"""Parallel coordinates of a search: one line a trial across all of its parameters, coloured by its loss."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from risctl.hpo import TrialRecord
from risctl.plots.search import loss_of
from risctl.plots.style import COLOURS, FAINT, INK, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TICKS = 5
COLOUR_MAP = "viridis"  # the best darkest
WORST_DRAWN = 0.9  # quantile of the losses at the end of the colours: one bad trial must not fade the others


@dataclass(frozen=True)
class Scale:
    """One vertical axis, from 0 below to 1 above.

    Attributes:
        key: `section.key`, or the name of the loss.
        low: lower end of a range.
        high: upper end of a range.
        log: logarithmic scale.
        step: distance of two values, 0 for a continuous range.
        choices: values along an axis that is no range.
    """

    key: str
    low: float = 0.0
    high: float = 1.0
    log: bool = False
    step: float = 0.0
    choices: tuple[Any, ...] = ()

    def place(self, value: Any) -> float:
        """Return where a value stands."""
        if self.choices:
            return self.choices.index(value) / max(len(self.choices) - 1, 1)
        if self.high <= self.low:
            return 0.5
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return float((value - self.low) / (self.high - self.low))

    def ticks(self) -> list[tuple[float, str]]:
        """Return places and words of the marks."""
        if self.choices:
            return [(self.place(choice), str(choice)) for choice in self.choices]
        parts = [i / (TICKS - 1) for i in range(TICKS)]
        if self.step and not self.log:
            count = round((self.high - self.low) / self.step)
            every = -(-count // (TICKS + 1)) * self.step
            values = [self.low + i * every for i in range(int((self.high - self.low) / every + 1e-9) + 1)]
            return [(self.place(value), f"{value:.3g}") for value in values]
        if self.log:
            return [(part, f"{self.low * (self.high / self.low) ** part:.2g}") for part in parts]
        return [(part, f"{self.low + (self.high - self.low) * part:.3g}") for part in parts]


def parallel_figure(
    trials: Sequence[TrialRecord], scales: Sequence[Scale], preset: int | None, title: str
) -> Figure:
    """Draw the trials that have a loss; the best in bold, the preset's own dashed.

    Args:
        trials: all that ended.
        scales: axes of the parameters, in their order.
        preset: number of the trial with the preset's own values, None if there is none.
        title: of the figure.
    """
    drawn = [trial for trial in trials if math.isfinite(loss_of(trial))]
    drawn.sort(key=lambda trial: -loss_of(trial))  # the better ones on top
    figure = new_figure(1.9 * (len(scales) + 1) + 1.2, 4.8)
    axes = figure.subplots()
    losses = sorted(loss_of(trial) for trial in drawn)
    loss = Scale("validation loss", losses[0], losses[-1]) if losses else Scale("validation loss")
    _draw_scales(axes, [*scales, loss])
    _draw_lines(axes, drawn, [*scales, loss], preset)
    _colour_bar(figure, axes, losses)
    axes.set_title(title, fontsize=10, loc="left", color=INK, pad=26)
    return figure


def _draw_scales(axes: Axes, scales: Sequence[Scale]) -> None:
    axes.set_xlim(-0.35, len(scales) - 0.55)
    axes.set_ylim(-0.06, 1.06)
    axes.set_axis_off()
    for i, scale in enumerate(scales):
        axes.plot([i, i], [0, 1], color=INK, linewidth=0.8, zorder=3)
        axes.text(i, 1.08, scale.key, ha="center", fontsize=9, color=INK)
        for place, words in scale.ticks():
            axes.plot([i - 0.015, i + 0.015], [place, place], color=INK, linewidth=0.8, zorder=3)
            box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 0.8}
            axes.text(
                i - 0.03, place, words, ha="right", va="center", fontsize=7.5, color=INK, zorder=4, bbox=box
            )


def _draw_lines(
    axes: Axes, trials: Sequence[TrialRecord], scales: Sequence[Scale], preset: int | None
) -> None:
    from matplotlib import colormaps
    from matplotlib.colors import Normalize

    losses = sorted(loss_of(trial) for trial in trials)
    best = min((t for t in trials if t.state == "complete"), key=loss_of, default=None)
    colours = colormaps[COLOUR_MAP]
    shade = Normalize(*_colour_ends(losses)) if losses else Normalize()
    for trial in trials:
        values = [trial.params[scale.key] for scale in scales[:-1]] + [loss_of(trial)]
        heights = [scale.place(value) for scale, value in zip(scales, values, strict=True)]
        own, top = trial.number == preset, trial is best
        axes.plot(
            range(len(scales)),
            heights,
            color=colours(shade(loss_of(trial))),
            linewidth=3.2 if top else 1.3,
            alpha=1.0 if own or top else 0.75,
            linestyle=":" if trial.state == "pruned" else "-",
            label="best" if top else None,
        )
        if own:
            axes.plot(
                range(len(scales)), heights, color=COLOURS[1], linewidth=1.6, linestyle="--", label="preset"
            )
    axes.plot([], [], color=FAINT, linestyle=":", label="pruned")
    axes.legend(fontsize=8, frameon=False, loc="upper center", bbox_to_anchor=(0.5, 0.0), ncols=3)


def _colour_ends(losses: Sequence[float]) -> tuple[float, float]:
    return losses[0], losses[min(int(WORST_DRAWN * len(losses)), len(losses) - 1)]


def _colour_bar(figure: Figure, axes: Axes, losses: Sequence[float]) -> None:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    if not losses:
        return
    low, high = _colour_ends(losses)
    colours = ScalarMappable(Normalize(low, high if high > low else low + 1e-9), COLOUR_MAP)
    bar = figure.colorbar(colours, ax=axes, pad=0.01, fraction=0.03, extend="max")
    bar.set_label("validation loss", fontsize=9)
    bar.ax.tick_params(labelsize=8)
