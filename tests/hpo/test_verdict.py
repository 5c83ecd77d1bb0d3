"""The go/no-go lines of a search, at their limits."""

from typing import Any

import pytest

from risctl.hpo import SearchOutcome, TrialRecord
from risctl.hpo.verdict import judge_search, spread


def _trial(number: int, value: float | None, state: Any = "complete", **more: Any) -> TrialRecord:
    return TrialRecord(number, state, value, {}, **more)


def _outcome(*trials: TrialRecord, best: int | None = None, baseline: int | None = 0) -> SearchOutcome:
    found = {None: None} | {trial.number: trial for trial in trials}
    told = {"best": found[best], "baseline": found[baseline]}
    return SearchOutcome(trials=trials, stopped_by=None, study_name="s", storage_url="u", **told)


def _findings(outcome: SearchOutcome, asked: int = 2) -> dict[str, Any]:
    return {finding.name: finding for finding in judge_search(outcome, asked).findings}


@pytest.mark.parametrize(
    ("low", "met", "said"),
    [(1.0 / 1.04, False, "4.0%"), (1.0 / 1.06, True, "6.0%, weak"), (1.0 / 1.2, True, "20.0%")],
)
def test_losses_that_hardly_move_are_no_go(low: float, met: bool, said: str) -> None:
    moved = _findings(_outcome(_trial(0, 1.0), _trial(1, low), best=1))["spread of the losses"]
    assert (moved.met, moved.found) == (met, said)


def test_only_complete_trials_tell_how_far_losses_move() -> None:
    assert spread([_trial(0, 1.0), _trial(1, 0.5), _trial(2, 9.0, "pruned")]) == pytest.approx(1.0)
    assert spread([_trial(0, 1.0), _trial(1, 2.0, "pruned")]) is None
    found = _findings(_outcome(_trial(0, 1.0), best=0))["spread of the losses"]
    assert (found.met, found.value) == (False, None)


def test_the_best_must_beat_the_presets_own() -> None:
    better = _findings(_outcome(_trial(0, 1.0), _trial(1, 0.8), best=1))["best loss"]
    assert (better.met, better.found) == (True, "0.8, preset 1 (-20.0%)")
    assert not _findings(_outcome(_trial(0, 0.8), _trial(1, 1.0), best=0))["best loss"].met
    assert not _findings(_outcome(_trial(1, 0.8), best=1, baseline=None))["best loss"].met


def test_what_is_not_finite_and_what_crashed_are_told_apart() -> None:
    trials = (
        _trial(0, 1.0),
        _trial(1, 0.5),
        _trial(2, None, "failed", reason="the validation loss is not finite (cov)"),
        _trial(3, None, "failed", reason="/home/fernando: disk full", deaths=("signal 9", "signal 9")),
    )
    found = _findings(_outcome(*trials, best=1))
    infinite, crashed = found["NaN or Inf"], found["crashed"]
    assert (infinite.value, infinite.met, crashed.value, crashed.met) == (1, False, 1, False)
    assert "2 deaths of workers" in crashed.found


def test_a_death_that_was_mended_is_told_and_forgiven() -> None:
    found = _outcome(_trial(0, 1.0), _trial(1, 0.5, deaths=("signal 9",)), best=1)
    verdict = judge_search(found, 2)
    assert (verdict.go, verdict.missed) == (True, "")
    assert "1 deaths" in _findings(found)["crashed"].found


def test_too_few_trials_are_no_go() -> None:
    verdict = judge_search(_outcome(_trial(0, 1.0), _trial(1, 0.5), best=1), 3)
    assert not verdict.go
    assert verdict.missed == "trials finished: 2 of 3, 0 pruned (wanted 3)"
