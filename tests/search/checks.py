"""What must hold of a search, whatever was killed."""

import random
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from risctl.search import SearchOutcome
from tests.search.conftest import Searches, events
from tests.search.small import SEARCH


def check_whole(outcome: SearchOutcome, asked: int) -> None:
    """None lost, none doubled, none left running, and every one trained to its end."""
    trials = outcome.trials
    assert outcome.finished == asked
    assert outcome.gave_up is None
    assert [trial.number for trial in trials] == list(range(len(trials)))
    assert {trial.state for trial in trials} <= {"complete", "pruned", "failed"}
    assert len({trial.params["training.lr"] for trial in trials}) == len(trials)
    for trial in trials:
        if trial.state == "complete":
            assert len(trial.epochs) == SEARCH["epochs"]
        if trial.state != "failed":
            assert trial.value == min(trial.epochs)
            assert trial.secondary["count_accuracy"] >= 0
            assert len(trial.deaths) <= 1
        else:
            assert len(trial.deaths) == 2
            assert trial.reason == trial.deaths[-1]


def check_same_parameters(directories: Iterable[Path]) -> None:
    """A trial that was tried again kept its parameters, wherever that was."""
    seen: dict[int, object] = {}
    for directory in directories:
        for event in events(directory, "TrialStarted"):
            assert seen.setdefault(event["number"], event["params"]) == event["params"]


def kill_a_worker(searches: Searches, rng: random.Random, over: Callable[[], bool]) -> bool:
    """Kill a random worker at once; wait for one if there is none, until `over`."""
    deadline = time.monotonic() + 60
    while not (workers := searches.workers()):
        if over():
            return False
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return searches.kill_worker(rng.choice(workers))
