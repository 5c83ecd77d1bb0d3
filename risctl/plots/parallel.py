"""Parallel coordinates of a search: one line a trial across all of its parameters, coloured by its loss."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from risctl.hpo import TrialRecord
from risctl.plots.style import COLOURS, FAINT, INK, colour_bar, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TICKS = 5
NEAR = 0.12  # of an axis: two labels that are nearer would touch
WIDEST = 13.0  # inches
COLOUR_MAP = "viridis"  # the best darkest
WORST_DRAWN = 0.9  # quantile of the losses at the end of the colours: one bad trial must not fade the others


def loss_of(trial: TrialRecord) -> float:
    """The trial's lowest validation loss, NaN where there is none."""
    return math.nan if trial.value is None else trial.value


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
        """Height of a value on the axis."""
        if self.choices:
            return self.choices.index(value) / max(len(self.choices) - 1, 1)
        if self.high <= self.low:
            return 0.5
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return float((value - self.low) / (self.high - self.low))

    def ticks(self) -> list[tuple[float, str]]:
        """Heights and words of the marks."""
        if self.choices:
            return [(self.place(choice), str(choice)) for choice in self.choices]
        if self.step and not self.log:
            count = round((self.high - self.low) / self.step)
            every = -(-count // (TICKS + 1)) * self.step
            values = [self.low + i * every for i in range(int((self.high - self.low) / every + 1e-9) + 1)]
            return [(self.place(value), f"{value:.3g}") for value in values]
        if self.log and self.high > self.low:
            return [(self.place(value), f"{value:.3g}") for value in self._round_values()]
        parts = [i / (TICKS - 1) for i in range(TICKS)]
        return [(part, f"{self.low + (self.high - self.low) * part:.3g}") for part in parts]

    def _round_values(self) -> list[float]:
        """Both ends of a logarithmic range, and the round values that are not too near them."""
        decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        for steps in ((1, 2, 5), (1, 3), (1,)):
            inside = [step * 10.0**decade for decade in decades for step in steps]
            inside = [value for value in inside if NEAR < self.place(value) < 1 - NEAR]
            if len(inside) <= TICKS:
                break
        return [self.low, *inside, self.high]


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
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    drawn = [trial for trial in trials if math.isfinite(loss_of(trial))]
    drawn.sort(key=lambda trial: -loss_of(trial))  # the better ones on top
    figure = new_figure(min(1.9 * (len(scales) + 1) + 1.2, WIDEST), 4.8)
    axes = figure.subplots()
    losses, colours = sorted(loss_of(trial) for trial in drawn), ScalarMappable(cmap=COLOUR_MAP)
    axis = Scale("validation loss")
    if losses:
        axis = Scale("validation loss", losses[0], losses[-1])
        high = losses[min(int(WORST_DRAWN * len(losses)), len(losses) - 1)]
        colours.set_norm(Normalize(losses[0], high if high > losses[0] else losses[0] + 1e-9))
        colour_bar(figure, colours, axes, "validation loss", pad=0.01, fraction=0.03, extend="max")
    axes.set_xlim(-0.35, len(scales) + 0.45)
    axes.set_ylim(-0.06, 1.06)
    axes.set_axis_off()
    line: dict[str, Any] = {"color": INK, "linewidth": 0.8, "zorder": 3}
    box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 0.8}
    for i, scale in enumerate((*scales, axis)):
        axes.plot([i, i], [0, 1], **line)
        section, _, name = scale.key.rpartition(".")
        axes.text(i, 1.07, f"{section}\n{name}".strip(), ha="center", fontsize=8.5, color=INK)
        for at, words in scale.ticks():
            axes.plot([i - 0.015, i + 0.015], [at, at], **line)
            left = axes.text(i - 0.03, at, words, ha="right", va="center", fontsize=7.5, color=INK, zorder=4)
            left.set_bbox(box)
    best = min((t for t in drawn if t.state == "complete"), key=loss_of, default=None)
    for trial in drawn:
        heights = [scale.place(trial.params[scale.key]) for scale in scales] + [axis.place(loss_of(trial))]
        own, top = trial.number == preset, trial is best
        axes.plot(
            heights,
            color=colours.to_rgba(np.array(loss_of(trial))),
            linewidth=3.2 if top else 1.3,
            alpha=1.0 if own or top else 0.75,
            linestyle=":" if trial.state == "pruned" else "-",
            label="best" if top else None,
        )
        if own:
            axes.plot(heights, color=COLOURS[1], linewidth=1.6, linestyle="--", label="preset")
    axes.plot([], [], color=FAINT, linestyle=":", label="pruned")
    axes.legend(fontsize=8, frameon=False, loc="upper center", bbox_to_anchor=(0.5, 0.0), ncols=3)
    axes.set_title(title, fontsize=10, loc="left", color=INK, pad=36)
    return figure
