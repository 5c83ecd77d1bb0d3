"""Searches whose workers, and whose own process, are killed at random moments."""

import random
from pathlib import Path

import pytest

from tests.hpo.checks import check_same_parameters, check_whole, kill_a_worker
from tests.hpo.conftest import Searches, count, events
from tests.hpo.small import read_outcome, small_plan
from tests.processes import wait_until


def _ended(directory: Path) -> int:
    return len({event["number"] for event in events(directory, "TrialEnded") if event["state"] != "failed"})


@pytest.mark.parametrize(
    ("trials", "workers", "kills"),
    [
        pytest.param(6, 2, {"worker": 6, "search": 2}, id="8 kills", marks=pytest.mark.slow),
        pytest.param(24, 4, {"worker": 20, "search": 5}, id="25 kills", marks=pytest.mark.slow),
    ],
)
def test_no_trial_is_lost(
    tmp_path: Path, searches: Searches, trials: int, workers: int, kills: dict[str, int]
) -> None:
    """The kills are spread evenly over the search."""
    targets, rng = [target for target, times in kills.items() for _ in range(times)], random.Random(3)
    rng.shuffle(targets)
    plan, died = {"trials": trials, "workers": workers}, 0
    pid = searches.start(tmp_path, **plan)
    for place, target in enumerate(targets):
        due = int(2 * trials * place / len(targets)) + rng.randrange(2)
        wait_until(lambda due=due: count(tmp_path, "TrialEpoch") >= due)
        if target == "worker":
            died += kill_a_worker(searches, rng, lambda: _ended(tmp_path) >= trials)
        else:
            assert searches.kill(pid) == -9
            pid = searches.start(tmp_path, **plan)
    assert searches.wait(pid) == 0
    outcome = read_outcome(small_plan(trials), tmp_path)
    check_whole(outcome, trials)
    check_same_parameters([tmp_path])
    assert died >= kills["worker"] // 2
    noticed = sum(len(trial.deaths) for trial in outcome.trials)
    assert 1 <= noticed <= died  # a search that was killed too, or a trial that had just ended, notices none
    assert not searches.workers()
    retried = events(tmp_path, "TrialRetried")
    assert all("killed by signal 9" in event["reason"] for event in retried)
