"""What a person sees of a training and of a search: a table on a terminal, lines elsewhere, the time left."""

import io
import sys

import pytest
from rich.console import Console

from risctl.cli.screens.search import SearchState, search_screen
from risctl.cli.screens.training import TrainingState, training_screen
from risctl.hpo import TrialEnded, TrialEpoch, TrialRetried, TrialStarted
from risctl.losses import TERMS
from risctl.training import StopFlag
from tests.cli.command import Capture
from tests.runs.events import STEPS, epoch, first_batch, started, step, training
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


@pytest.fixture
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("risctl.cli.screens.live.PLAIN_INTERVAL", 0.0)


class Terminal(io.StringIO):
    """A stream that is one."""

    def isatty(self) -> bool:
        return True


def _state(clock: Clock | None = None, verbose: bool = True) -> TrainingState:
    return TrainingState(clock=clock or Clock(), verbose=verbose)


def _text(state: TrainingState | SearchState, width: int = 80) -> str:
    out = io.StringIO()
    Console(file=out, width=width).print(state.render(40))
    return out.getvalue()


def test_the_table_shows_everything() -> None:
    state = _state()
    for event in training():
        state.update(event)
    shown = _text(state)
    for name in TERMS:
        assert name in shown
    parts = ("epoch 3/3, step 12/12", "80 scenes/s", "+ presence", "backbone")
    parts += ("4.0e-04", "moved by", "skipped steps", "sanitised", "NMSE of R_blend", "rank 25, norm 41")
    for part in parts:
        assert part in shown, part
    assert max(map(len, shown.splitlines())) <= 80


def test_unless_asked_for_more_a_training_shows_the_figures_of_interest() -> None:
    state = _state(verbose=False)
    for event in training():
        state.update(event)
    lines = _text(state).splitlines()
    assert len(lines) <= 6
    assert max(map(len, lines)) <= 80
    head, values = (line.split() for line in lines[2:4])
    assert head == ["loss", "validation", "best", "first", "K", "right", "angle", "deg,", ">=", "10", "dB"]
    assert values[1:4] == ["0.667", "0.667", "2"]
    assert "cov" not in "".join(lines)
    assert "NMSE" not in state.epoch_line()
    assert "rate" not in state.step_line()


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


def test_time_left_follows_the_steps_of_this_process(clock: Clock) -> None:
    state = _state(clock)
    state.update(started(epoch=1))
    clock.now = 10.0
    for number in (1, 2):
        state.update(step(STEPS + number))
    assert state.seconds_left() == pytest.approx(6 * 10.0 / 2)


def test_off_a_terminal_there_are_plain_lines(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("risctl.cli.screens.live.PLAIN_INTERVAL", 1e9)
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


def test_a_terminal_shows_that_the_run_is_stopping(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", terminal := Terminal())
    stop = StopFlag()
    with training_screen(_state(), stop) as show:
        show(started())
        assert "stopping" not in terminal.getvalue()
        stop.request(2)
        show(step(1))
    assert "stopping: this step is finished and saved first" in terminal.getvalue()


@pytest.mark.usefixtures("_no_waiting")
def test_plain_lines_of_steps_come_every_few_seconds(capsys: Capture) -> None:
    with training_screen(_state()) as show:
        for event in (started(), first_batch(), step(1), step(2), epoch(0, 1.0)):
            show(event)
    steps = [line for line in capsys.readouterr().err.splitlines() if ", step " in line]
    assert len(steps) == 2
    assert steps[1].startswith("epoch 1/3, step 2/12: loss 2.5 (aux 0.4")


def test_the_table_shows_every_trial_with_its_loss_and_parameters(state: SearchState) -> None:
    for event in events(trials()):
        state.update(event)
    shown = _text(state, 140)
    parts = ("12 of 12 trials done", "0 preset", "complete", "4/4", "lr 0.0002", "0:00 left", "best ")
    for part in (*parts, "pruned"):
        assert part in shown, part
    assert len(shown.splitlines()) == 3 + 12


def test_a_small_terminal_keeps_the_running_the_best_and_the_preset(state: SearchState) -> None:
    for event in events([record(0, 0.9), record(1, 0.5), record(2, 0.8), record(3, 0.85)]):
        state.update(event)
    state.update(TrialStarted(4, params(4), 0))
    assert [row.number for row in state.shown_rows(3)] == [0, 1, 4]
    assert [row.number for row in state.shown_rows(4)] == [0, 1, 3, 4]


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


@pytest.mark.usefixtures("_no_waiting")
def test_off_a_terminal_a_search_has_plain_lines(state: SearchState, capsys: Capture) -> None:
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
def test_of_earlier_trials_only_the_end_is_told(state: SearchState, capsys: Capture) -> None:
    with search_screen(state) as screen:
        screen(TrialStarted(0, params(0), -1))
        screen(TrialEnded(0, "complete", 0.9, None, 12.0))
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert said[0].startswith("trial 0: complete, loss 0.9")


def test_a_failed_trial_is_replaced_and_it_or_a_pruned_one_never_the_best(state: SearchState) -> None:
    failed = record(1, None, "failed", reason="killed by signal 9")
    for event in events([record(0, 0.9), failed, record(2, 0.1, "pruned")]):
        state.update(event)
    assert (state.finished, state.count("failed")) == (2, 1)
    assert state.best is not None
    assert state.best.number == 0
    assert "1 failed" in state.summary()


def test_the_tables_are_drawn_before_anything_happened(state: SearchState) -> None:
    assert "the first batch" in _text(_state())
    assert "0 of 12 trials done; – left" in _text(state, 140)


def test_on_a_terminal_the_tables_are_live(state: SearchState, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", terminal)
    with training_screen(_state()) as show:
        for event in training():
            show(event)
    with search_screen(state) as show:
        for told in events(trials(3)):
            show(told)
    for part in ("\x1b[", "step 12/12", "3 of 12 trials done"):
        assert part in terminal.getvalue()
