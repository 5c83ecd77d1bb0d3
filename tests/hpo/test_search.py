"""Searches of one machine, undisturbed and interrupted."""

import os
import signal
import sqlite3
from pathlib import Path

import optuna
import pytest

from risctl.data import exclusive_lock
from risctl.errors import InputError, StorageError
from risctl.hpo import TrialEnded, run_search
from tests.hpo.checks import check_same_parameters, check_whole
from tests.hpo.conftest import OpenClerk, Searches, count, events
from tests.hpo.small import SPACE, essence, read_outcome, small_config, small_plan
from tests.processes import wait_until
from tests.small import Recorder

TRIALS = 4


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, searches: Searches) -> Path:
    directory = tmp_path_factory.mktemp("search") / "undisturbed"
    assert searches.run(directory, trials=TRIALS) == 0
    return directory


def test_every_trial_ends(undisturbed: Path) -> None:
    outcome = read_outcome(small_plan(TRIALS), undisturbed)
    check_whole(outcome, TRIALS)
    assert outcome.storage_url == f"sqlite:///{undisturbed / 'study.db'}"
    assert outcome.baseline.params["training.lr"] == 1e-2
    complete = [trial for trial in outcome.trials if trial.state == "complete"]
    assert outcome.best.value == min(trial.value or 0.0 for trial in complete)
    for trial in outcome.trials:
        assert trial.directory == undisturbed / "trials" / f"{trial.number:04d}"
        assert (trial.directory / "checkpoints" / "best.safetensors").is_file()
        assert trial.seconds > 0


def test_events_tell_all_of_it(undisturbed: Path) -> None:
    outcome = read_outcome(small_plan(TRIALS), undisturbed)
    told = events(undisturbed)
    assert [event["number"] for event in told if event["kind"] == "TrialStarted"] == list(range(TRIALS))
    for trial in outcome.trials:
        own = [event for event in told if event["number"] == trial.number]
        middle = ["TrialEpoch"] * len(trial.epochs)
        assert [event["kind"] for event in own] == ["TrialStarted", *middle, "TrialEnded"]
        assert [event["epoch"] for event in own[1:-1]] == list(range(len(trial.epochs)))
        assert tuple(event["value"] for event in own[1:-1]) == trial.epochs
        assert (own[-1]["state"], own[-1]["value"]) == (trial.state, trial.value)
        assert own[0]["params"] == trial.params


def test_killed_and_interrupted_it_ends_alike(tmp_path: Path, undisturbed: Path, searches: Searches) -> None:
    """Same seed, one worker: the same trials and values, a SIGKILL and a SIGINT in between."""
    pid = searches.start(tmp_path, trials=TRIALS)
    wait_until(lambda: count(tmp_path, "TrialEpoch") >= 2)
    assert searches.kill(pid) == -signal.SIGKILL
    pid = searches.start(tmp_path, trials=TRIALS)
    wait_until(lambda: count(tmp_path, "TrialEpoch") >= 5)
    os.kill(pid, signal.SIGINT)
    assert searches.wait(pid) == 128 + signal.SIGINT
    assert read_outcome(small_plan(TRIALS), tmp_path).finished < TRIALS
    assert searches.run(tmp_path, trials=TRIALS) == 0
    outcome = read_outcome(small_plan(TRIALS), tmp_path)
    check_whole(outcome, TRIALS)
    check_same_parameters([tmp_path])
    assert essence(outcome) == essence(read_outcome(small_plan(TRIALS), undisturbed))
    assert not any(trial.deaths for trial in outcome.trials)


def test_more_trials_go_on_where_it_ended(tmp_path: Path, undisturbed: Path, searches: Searches) -> None:
    (tmp_path / "study.db").write_bytes((undisturbed / "study.db").read_bytes())
    assert searches.run(tmp_path, trials=TRIALS + 1) == 0
    outcome = read_outcome(small_plan(TRIALS + 1), tmp_path)
    check_whole(outcome, TRIALS + 1)
    before = read_outcome(small_plan(TRIALS), undisturbed)
    assert outcome.trials[:-1] == before.trials
    ended = [event["number"] for event in events(tmp_path, "TrialEnded")]
    assert ended == list(range(TRIALS + 1))  # those of before are told again


def test_trials_that_cannot_train_are_failed_and_replaced(tmp_path: Path, searches: Searches) -> None:
    """A batch of more scenes than there are: no other process would do better."""
    batches = {"small": SPACE | {"training": SPACE["training"] | {"batch": {"choices": [16, 4096]}}}}
    assert searches.run(tmp_path, trials=3, search={"spaces": batches}) == 0
    outcome = read_outcome(small_plan(3, config=small_config(spaces=batches)), tmp_path)
    assert outcome.finished == 3
    failed = [trial for trial in outcome.trials if trial.state == "failed"]
    assert failed
    for trial in failed:
        assert trial.params["training.batch"] == 4096
        assert "training: batch * accumulate" in (trial.reason or "")
        assert not trial.deaths
    assert not events(tmp_path, "TrialRetried")


def test_a_search_without_hope_ends(tmp_path: Path, searches: Searches) -> None:
    batches = {"small": {"training": {"batch": {"low": 2048, "high": 4096}}}}
    assert searches.run(tmp_path, trials=9, search={"spaces": batches}) == 0
    outcome = read_outcome(small_plan(9, config=small_config(spaces=batches)), tmp_path)
    assert outcome.best is None
    assert outcome.baseline is None  # the preset's 16 is not in the space
    assert outcome.gave_up.startswith("6 of 6 trials failed, the last one: training: batch")


def test_parameters_that_fit_nothing_else_fail_their_trials(tmp_path: Path) -> None:
    """Each value alone is possible, but not with constant symbols: no worker is ever started."""
    config = small_config(spaces={"small": {"covariance": {"center": {"choices": [True]}}}})
    constant = config.physics.model_copy(update={"symbols": "constant"})
    plain = config.covariance.model_copy(update={"center": False})
    changed = config.model_copy(update={"physics": constant, "covariance": plain})
    heard = Recorder()
    outcome = run_search(small_plan(config=changed), tmp_path, [heard])
    assert "covariance.center: expected false with constant symbols" in outcome.gave_up
    assert [event.state for event in heard.of(TrialEnded)] == ["failed"] * 6


def test_the_study_is_an_ordinary_one(undisturbed: Path) -> None:
    """Anything that reads studies of Optuna reads it, a dashboard say."""
    storage = optuna.storages.RDBStorage(f"sqlite:///{undisturbed / 'study.db'}")
    study = optuna.load_study(study_name="risctl", storage=storage)
    assert len(study.trials) == TRIALS
    complete = study.get_trials(states=[optuna.trial.TrialState.COMPLETE])
    assert study.best_trial.value == min(trial.value for trial in complete)
    assert all(trial.intermediate_values for trial in study.trials)
    storage.remove_session()
    storage.engine.dispose()


def test_only_one_search_a_directory(tmp_path: Path) -> None:
    with exclusive_lock(tmp_path / ".lock"), pytest.raises(StorageError, match="locked by another process"):
        run_search(small_plan(), tmp_path)
    assert not (tmp_path / "study.db").exists()


@pytest.mark.slow
@pytest.mark.parametrize("killed", [False, True])
def test_a_trial_that_somebody_else_took_is_let_go(
    tmp_path: Path, searches: Searches, open_clerk: OpenClerk, killed: bool
) -> None:
    pid = searches.start(tmp_path, trials=2)
    wait_until(lambda: count(tmp_path, "TrialEpoch") >= 1)
    taken = open_clerk(small_plan(2), tmp_path).claim()  # against the rules: the search holds the lock
    assert taken is not None
    if killed:
        for worker in searches.workers():
            searches.kill_worker(worker)
    assert searches.wait(pid) == 0
    check_whole(read_outcome(small_plan(2), tmp_path), 2)


@pytest.mark.slow
def test_a_signal_for_the_whole_group_saves(tmp_path: Path, searches: Searches) -> None:
    """As a batch system sends it: to the search, its workers and the server they come from, at once."""
    pid = searches.start(tmp_path, trials=4, workers=2, group=True)
    wait_until(lambda: count(tmp_path, "TrialEpoch") >= 3)
    os.killpg(pid, signal.SIGTERM)
    assert searches.wait(pid) == 128 + signal.SIGTERM
    assert searches.run(tmp_path, trials=4) == 0
    outcome = read_outcome(small_plan(4), tmp_path)
    check_whole(outcome, 4)
    assert not any(trial.deaths for trial in outcome.trials)
    assert not events(tmp_path, "TrialRetried")


def test_what_is_refused_before_anything_starts(tmp_path: Path) -> None:
    config = small_config()
    store = config.model_copy(update={"data": config.data.model_copy(update={"source": "store"})})
    for plan, words in (
        (small_plan(config=small_config(spaces={})), "search: space"),
        (small_plan(trials=0), "search: trials"),
        (small_plan(workers=0), "search: workers"),
        (small_plan(config=store), "data: source"),
    ):
        with pytest.raises(InputError, match=words):
            run_search(plan, tmp_path / "new")
    assert not (tmp_path / "new").exists()
    sqlite3.connect(tmp_path / "study.db").close()
    with pytest.raises(InputError, match=r"study\.db: expected none"):
        run_search(small_plan(), tmp_path)
