"""The picture of a training: every figure is in it, and what is missing leaves a gap."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from risctl.plots.curves import Curves, curves_figure
from risctl.plots.style import save_figure

WEIGHTS = {f"term{i}": 1.0 / (i + 1) for i in range(12)}


def make_curves(epochs: int = 4, each: int = 5) -> Curves:
    steps: list[dict[str, Any]] = [
        {
            "step": step,
            "terms": dict.fromkeys(WEIGHTS, 3.0 / step),
            "lr": {"backbone": 1e-4 * step, "head": 4e-4 * step},
            "grad_norm": {"backbone": 1.0, "head": 2.0},
            "skipped": step == 3,
            "sanitised": 0,
        }
        for step in range(1, epochs * each + 1)
    ]
    ends: list[dict[str, Any]] = [
        {
            "step": epoch * each,
            "train": dict.fromkeys(WEIGHTS, 2.0 / epoch),
            "val": dict.fromkeys(WEIGHTS, 1.0 / epoch) | {"total": 2.5 / epoch},
            "metrics": {"nmse_blend": 0.5, "nmse_pred": None, "count_accuracy": 0.8},
        }
        for epoch in range(1, epochs + 1)
    ]
    return Curves(steps, ends, WEIGHTS, gate=0.5)


def test_the_panels_hold_the_records() -> None:
    curves = make_curves()
    loss, terms, rates, angle, lr, grad = curves_figure(curves, "run").axes
    lines = {line.get_label(): line for line in loss.get_lines()}
    assert list(lines["validation"].get_ydata()) == [2.5, 1.25, 2.5 / 3, 0.625]
    assert list(lines["validation"].get_xdata()) == [5, 10, 15, 20]
    assert (lines["best 0.625"].get_xdata()[0], lines["best 0.625"].get_ydata()[0]) == (20, 0.625)
    assert lines["gate 0.5"].get_ydata()[0] == 0.5
    whole = sum(WEIGHTS.values())
    assert list(lines["each step"].get_ydata()) == pytest.approx([3 * whole / n for n in range(1, 21)])
    assert list(lines["training"].get_ydata()) == pytest.approx([2 * whole / n for n in range(1, 5)])
    weighted = {line.get_label(): line.get_ydata()[1] for line in terms.get_lines()}
    assert weighted == {name: pytest.approx(weight / 2) for name, weight in WEIGHTS.items()}
    assert {line.get_label() for line in lr.get_lines()} == {"backbone", "head"}
    assert "skipped: 1" in {line.get_label() for line in grad.get_lines()}
    assert np.isnan(np.asarray(rates.get_lines()[1].get_ydata(), float)).all()
    assert np.isnan(np.asarray(angle.get_lines()[0].get_ydata(), float)).all()


def test_a_loss_that_is_not_finite_leaves_a_gap() -> None:
    curves = make_curves()
    curves.epochs[-1]["val"]["total"] = None
    loss = curves_figure(curves, "run").axes[0]
    assert "best 0.833" in {line.get_label() for line in loss.get_lines()}


@pytest.mark.parametrize(("curves", "size"), [(Curves([], [], {}), 1), (make_curves(), 10_000)])
def test_nothing_recorded_and_a_whole_training_can_be_drawn(
    curves: Curves, size: int, tmp_path: Path
) -> None:
    drawn = save_figure(curves_figure(curves, "run"), tmp_path / "curves.png").read_bytes()
    assert drawn.startswith(b"\x89PNG")
    assert len(drawn) > size
