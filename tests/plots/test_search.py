"""The pictures of a search show every trial at its place; whatever is missing leaves a gap."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from risctl.hpo import TrialRecord
from risctl.hpo.importance import Importance
from risctl.plots.parallel import Scale, parallel_figure
from risctl.plots.search import history_figure, importance_figure
from risctl.plots.style import save_figure

SCALES = (
    Scale("training.lr", 1e-4, 1e-2, log=True),
    Scale("model.depth", 1, 3, step=1),
    Scale("model.head", choices=("structured", "factors")),
)


def _trial(number: int, value: float | None, state: Any = "complete") -> TrialRecord:
    own = {"training.lr": 1e-3, "model.depth": 2, "model.head": "factors"}
    epochs = () if value is None else tuple(value * (2 - i / 3) for i in range(4))
    return TrialRecord(number, state, value, own, epochs=epochs)


TRIALS = [_trial(0, 0.9), _trial(1, 0.5), _trial(2, 1.2, "pruned"), _trial(3, None, "failed"), _trial(4, 0.7)]


def _labels(axes: Any) -> list[str]:
    return list(axes.get_legend_handles_labels()[1])


def test_the_history_marks_best_preset_pruned_and_failed() -> None:
    left, right = history_figure(TRIALS, 0, "t").axes
    shown = {"complete", "pruned: lowest until then", "best so far", "preset", "best: trial 1, 0.5", "failed"}
    assert set(_labels(left)) == shown
    assert set(_labels(right)) == {"preset", "best", "pruned"}
    steps = next(line for line in left.lines if line.get_label() == "best so far")
    assert list(steps.get_ydata()) == [0.9, 0.5, 0.5]  # type: ignore[arg-type]
    points = next(line for line in left.lines if line.get_label() == "complete")
    assert list(points.get_xdata()) == [0, 1, 4]  # type: ignore[arg-type]


def test_a_search_of_one_epoch_shows_its_losses_as_dots_at_a_whole_number() -> None:
    single = [replace(trial, epochs=trial.epochs[:1]) for trial in TRIALS]
    for trials, dots in ((single, True), (TRIALS, False)):
        _, right = history_figure(trials, 0, "t").axes
        lines = [line for line in right.lines if len(line.get_xdata()) == len(trials[0].epochs)]
        assert [line.get_marker() not in ("", "None") for line in lines] == [dots] * len(lines)
        assert len(lines) >= 3
        assert all(float(tick).is_integer() for tick in right.get_xticks())


def test_one_exploded_trial_does_not_press_the_others_together() -> None:
    left, _ = history_figure([*TRIALS, _trial(5, 1e6)], 0, "t").axes
    assert left.get_ylim()[1] < 10


@pytest.mark.parametrize("trials", [[], [_trial(0, 0.5), _trial(1, None, "failed"), _trial(2, math.nan)]])
def test_next_to_nothing_can_be_drawn(trials: list[TrialRecord], tmp_path: Path) -> None:
    for i, figure in enumerate(
        (history_figure(trials, 0, "t"), parallel_figure(trials, SCALES, 0, "t"), importance_figure([], "t"))
    ):
        assert save_figure(figure, tmp_path / f"{i}.png").read_bytes().startswith(b"\x89PNG")


def test_a_scale_puts_values_between_its_ends() -> None:
    log, whole, named = SCALES
    assert [log.place(x) for x in (1e-4, 1e-3, 1e-2)] == pytest.approx([0.0, 0.5, 1.0])
    assert [whole.place(x) for x in (1, 2, 3)] == pytest.approx([0.0, 0.5, 1.0])
    assert whole.ticks() == [(0.0, "1"), (0.5, "2"), (1.0, "3")]
    assert [words for _, words in Scale("x", 16, 48, step=8).ticks()] == ["16", "24", "32", "40", "48"]
    assert [words for _, words in Scale("x", 0, 100, step=1).ticks()] == ["0", "17", "34", "51", "68", "85"]
    assert [words for _, words in Scale("x", 0.0, 0.2).ticks()] == ["0", "0.05", "0.1", "0.15", "0.2"]
    assert named.ticks() == [(0.0, "structured"), (1.0, "factors")]
    marks = ["0.0001", "0.0002", "0.0005", "0.001", "0.002", "0.005", "0.01"]
    assert [words for _, words in log.ticks()] == marks
    assert [words for _, words in Scale("x", 1e-4, 4e-4, log=True).ticks()] == ["0.0001", "0.0002", "0.0004"]
    assert Scale("x", choices=(64,)).place(64) == 0.0
    assert Scale("x", 1.0, 1.0).place(1.0) == 0.5


def test_every_trial_with_a_loss_is_a_line_through_its_values() -> None:
    axes = parallel_figure(TRIALS, SCALES, 0, "t").axes[0]
    across = [line for line in axes.lines if len(line.get_xdata()) == 4]  # type: ignore[arg-type]
    assert len(across) == 4 + 1  # the preset's own has a second line over it
    best = next(line for line in across if line.get_label() == "best")
    assert list(best.get_ydata()) == pytest.approx([0.5, 0.5, 1.0, 0.0])  # type: ignore[arg-type]
    assert {"preset", "best", "pruned"} == set(_labels(axes))


def test_bars_stand_out_or_fade() -> None:
    axes = importance_figure([Importance("a", 0.8, 0.2, -0.5), Importance("b", 0.1, 0.2, None)], "t").axes[0]
    widths = [patch.get_width() for patch in axes.patches]  # type: ignore[attr-defined]
    assert widths == [0.8, 0.1]
    first, second = (patch.get_facecolor() for patch in axes.patches)
    assert first != second
    assert {text.get_text() for text in axes.texts} == {"no clear trend (rank correlation -0.50)", "no order"}
