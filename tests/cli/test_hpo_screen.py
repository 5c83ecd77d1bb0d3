"""What a person sees of a search: a table on a terminal, lines elsewhere, and the time left."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from risctl.cli import hpo_screen
from risctl.cli.hpo_screen import render, search_screen, shown_rows
from risctl.cli.hpo_state import SearchState, number, words
from risctl.search import TrialEnded, TrialEpoch, TrialRetried, TrialStarted
from tests.runs.searches import METRICS, events, params, record, trials


class Clock:
    """Seconds that a test sets."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def state(clock: Clock) -> SearchState:
    return SearchState(12, 4, params(0), clock)


def _text(state: SearchState, height: int = 40, width: int = 140) -> str:
    out = io.StringIO()
    Console(file=out, width=width).print(render(state, height))
    return out.getvalue()


def test_the_table_shows_every_trial_with_its_loss_and_parameters(state: SearchState) -> None:
    for event in events(trials()):
        state.update(event)
    shown = _text(state)
    parts = (
        "12 of 12 trials done",
        "pruned",
        "0 preset",
        "complete",
        "4/4",
        "lr 0.0002",
        "0:00 left",
        "best ",
    )
    for part in parts:
        assert part in shown, part
    assert len(shown.splitlines()) == 3 + 12


def test_the_table_is_drawn_before_anything_happened(state: SearchState) -> None:
    assert "0 of 12 trials done; – left" in _text(state)


def test_a_small_terminal_keeps_the_running_the_best_and_the_preset(state: SearchState) -> None:
    for event in events([record(0, 0.9), record(1, 0.5), record(2, 0.8), record(3, 0.85)]):
        state.update(event)
    state.update(TrialStarted(4, params(4), 0))
    assert [row.number for row in shown_rows(state, 3)] == [0, 1, 4]
    assert [row.number for row in shown_rows(state, 4)] == [0, 1, 3, 4]


def test_time_left_is_that_of_the_trials_still_to_come(state: SearchState, clock: Clock) -> None:
    state.update(TrialStarted(0, params(0), 0))
    state.update(TrialStarted(1, params(1), 1))
    assert state.seconds_left() is None
    clock.now = 10.0
    state.update(TrialEpoch(0, 0, 1.1, METRICS))
    state.update(TrialEpoch(0, 1, 1.0, METRICS))  # half of a trial in ten seconds
    assert state.seconds_left() == pytest.approx(11.5 * 20)
    state.update(TrialEnded(0, "complete", 1.0, None, 10.0))
    assert state.seconds_left() == pytest.approx(11 * 10)


def test_trials_of_earlier_processes_and_other_machines_say_nothing_about_the_speed(
    state: SearchState, clock: Clock
) -> None:
    for event in events([record(0, 0.9), record(1, 0.5)], worker=-1):
        state.update(event)
    assert (state.finished, state.seconds_left()) == (2, None)
    clock.now = 100.0
    state.update(TrialStarted(2, params(2), 0, resumed=True))
    state.update(TrialEpoch(2, 2, 0.7, METRICS))  # two of its four epochs are an earlier process's
    clock.now = 110.0
    assert state.seconds_left() == pytest.approx((10 - 0.75) * 110 / 0.25)


def test_a_failed_trial_is_replaced_and_not_the_best(state: SearchState) -> None:
    for event in events([record(0, 0.9), record(1, None, "failed", reason="killed by signal 9")]):
        state.update(event)
    assert (state.finished, state.count("failed")) == (1, 1)
    assert state.best is not None
    assert state.best.number == 0
    assert "1 failed" in state.summary()


def test_a_pruned_trial_is_never_the_best(state: SearchState) -> None:
    for event in events([record(0, 0.9), record(1, 0.1, "pruned")]):
        state.update(event)
    assert state.best is not None
    assert state.best.number == 0


@pytest.fixture
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hpo_screen, "PLAIN_INTERVAL", 0.0)


@pytest.mark.usefixtures("_no_waiting")
def test_off_a_terminal_there_are_plain_lines(state: SearchState, capsys: pytest.CaptureFixture[str]) -> None:
    with search_screen(state) as screen:
        for event in events([record(0, 0.9)]):
            screen(event)
        screen(TrialStarted(1, params(1), 0, resumed=True))
        screen(TrialRetried(1, "the worker was killed by signal 9"))
        screen(TrialEnded(1, "failed", None, "killed twice", 65.0))
    said = capsys.readouterr().err.splitlines()
    assert said[0].startswith("trial 0 (the preset's own values): ")
    assert "trial 0, epoch 2/4: loss " in said[2]
    assert "trial 0: complete, loss 0.9, 0:12; 1 of 12 trials done, best 0.9 (trial 0)" in said[5]
    assert said[6].startswith("trial 1 goes on: ")
    assert said[7] == "trial 1: the worker was killed by signal 9; it goes on from its last checkpoint"
    assert "trial 1: failed, killed twice, 1:05; 1 of 12 trials done, 1 failed" in said[8]
    assert "\x1b" not in "".join(said)


@pytest.mark.usefixtures("_no_waiting")
def test_of_earlier_trials_only_the_end_is_told(
    state: SearchState, capsys: pytest.CaptureFixture[str]
) -> None:
    with search_screen(state) as screen:
        screen(TrialStarted(0, params(0), -1))
        screen(TrialEnded(0, "complete", 0.9, None, 12.0))
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert said[0].startswith("trial 0: complete, loss 0.9")


def test_a_terminal_gets_a_live_table(
    state: SearchState, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with search_screen(state) as screen:
        for event in events(trials(3)):
            screen(event)
    assert "3 of 12 trials done" in capsys.readouterr().err


def test_numbers_and_words() -> None:
    assert [number(x) for x in (0.123456, 64, None, float("nan"), True)] == ["0.1235", "64", "–", "–", "True"]
    assert words({"training.lr": 2e-4, "model.head": "structured"}) == "head structured, lr 0.0002"
