"""What a person sees of a training: a table on a terminal, lines elsewhere."""

from __future__ import annotations

import io
import sys

import pytest
from rich.console import Console

from risctl.cli import training_screen as screens
from risctl.cli.training_screen import render, training_screen
from risctl.cli.training_state import TrainingState, readable_seconds
from risctl.config import LossConfig
from risctl.losses import TERMS, term_weights
from tests.runs.events import STEPS, epoch, first_batch, started, step, training


def _state(clock: list[float] | None = None) -> TrainingState:
    ticks = iter(clock or [0.0] * 1000)
    return TrainingState(lambda e: term_weights(LossConfig(), e, 3), clock=lambda: next(ticks))


def _text(state: TrainingState, width: int = 80) -> str:
    out = io.StringIO()
    Console(file=out, width=width).print(render(state))
    return out.getvalue()


def test_the_table_shows_everything() -> None:
    state = _state()
    for event in training():
        state.update(event)
    shown = _text(state)
    for name in TERMS:
        assert name in shown
    parts = ("epoch 3/3, step 12/12", "80 scenes/s", "best 0.6667, first 2", "+ presence", "backbone")
    parts += ("4.0e-04", "moved by", "skipped steps", "sanitised", "NMSE of R_blend", "rank 25, norm 41")
    for part in parts:
        assert part in shown, part
    assert max(map(len, shown.splitlines())) <= 80


def test_the_table_is_drawn_before_anything_happened() -> None:
    assert "the first batch" in _text(_state())


def test_weighted_terms_are_weight_times_raw() -> None:
    state = _state()
    for event in (started(), step(1)):
        state.update(event)
    row = next(line for line in _text(state).splitlines() if line.startswith("cov_pred"))
    assert row.split()[:3] == ["cov_pred", "0.2", "0.006"]
    assert "(aux 0.4, K 0.21, cov 0.1)" in state.step_line()


def test_skipped_and_sanitised_steps_are_counted_and_said() -> None:
    state = _state()
    for event in (started(), step(1, sanitised=7), step(2, skipped=True, total=None)):
        state.update(event)
    assert (state.skipped, state.sanitised) == (1, 1)
    assert "loss not finite" in state.step_line()
    assert "skipped 1" in state.step_line()
    assert "sanitised 1" in state.step_line()


def test_time_left_follows_the_steps_of_this_process() -> None:
    state = _state([100.0, 110.0])
    for event in (started(epoch=1), step(STEPS + 1), step(STEPS + 2)):
        state.update(event)
    assert state.seconds_left() == pytest.approx(6 * 10.0 / 2)
    assert readable_seconds(3725.4) == "1:02:05"
    assert readable_seconds(65) == "1:05"


def test_off_a_terminal_there_are_plain_lines(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(screens, "PLAIN_INTERVAL", 1e9)
    with training_screen(_state()) as show:
        for event in training():
            show(event)
    captured = capsys.readouterr()
    lines = captured.err.splitlines()
    assert captured.out == ""
    assert lines[0].startswith("first batch: R_pred rank 10, norm 70.5")
    heads = [line.split(":")[0] for line in lines[1:]]
    assert heads == ["epoch 1/3, step 1/12", "epoch 1/3", "epoch 2/3", "epoch 3/3"]
    assert "validation 0.6667 (best so far), NMSE of R_blend 0.200" in lines[-1]


def test_plain_lines_of_steps_come_every_few_seconds(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(screens, "PLAIN_INTERVAL", 0.0)
    with training_screen(_state()) as show:
        for event in (started(), first_batch(), step(1), step(2), epoch(0, 1.0)):
            show(event)
    steps = [line for line in capsys.readouterr().err.splitlines() if ", step " in line]
    assert len(steps) == 2
    assert steps[1].startswith("epoch 1/3, step 2/12: loss 2.5 (aux 0.4")


def test_on_a_terminal_the_table_is_live(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", terminal)
    with training_screen(_state()) as show:
        for event in training():
            show(event)
    assert "\x1b[" in terminal.getvalue()
    assert "step 12/12" in terminal.getvalue()
