"""Studies that several machines share: a real server, several searches, any of them killed."""

import os
import random
import secrets
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from risctl.errors import StorageError
from risctl.hpo import SearchPlan, shown_url
from risctl.hpo.study import LostTrialError
from tests.hpo.checks import check_same_parameters, check_whole, kill_a_worker
from tests.hpo.conftest import OpenClerk, Searches, count, events
from tests.hpo.postgres import find_server, server
from tests.hpo.small import read_outcome, small_plan
from tests.processes import wait_until

pytest.importorskip("psycopg", reason="no driver for PostgreSQL: pip install 'psycopg[binary]'")

RUN = secrets.token_hex(4)  # a database that is used again may have studies of earlier runs
GIVEN = "RISCTL_TEST_POSTGRESQL"  # the URL of an empty database to use instead


@pytest.fixture(scope="module")
def binaries() -> Path:
    return find_server() or pytest.skip("no PostgreSQL server installed (package postgresql)")


@pytest.fixture(scope="module")
def database(request: pytest.FixtureRequest) -> Iterator[str]:
    if GIVEN in os.environ:
        yield os.environ[GIVEN]
        return
    with server(request.getfixturevalue("binaries")) as running:
        yield running.url


def _plan(database: str, name: str, **changes: Any) -> SearchPlan:
    return small_plan(storage_url=database, study_name=f"{name}-{RUN}", **changes)


def test_a_cap_that_holds_for_all(database: str, tmp_path: Path, open_clerk: OpenClerk) -> None:
    """Five open the study and claim trials at once; exactly as many are begun as were asked for."""
    claimed: list[int] = []

    def claim_all(place: int) -> None:
        clerk = open_clerk(_plan(database, "cap", trials=12), tmp_path / str(place))
        while (claim := clerk.claim()) is not None:
            claimed.append(claim.number)

    threads = [threading.Thread(target=claim_all, args=(place,)) for place in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(claimed) == list(range(12))


def test_a_silent_machine_loses_its_trials_once(database: str, tmp_path: Path, open_clerk: OpenClerk) -> None:
    plan = _plan(database, "silent", trials=2, grace_seconds=0.5)
    first, other = open_clerk(plan, tmp_path / "a"), open_clerk(plan, tmp_path / "b")
    claim = first.claim()
    assert other.claim().number == 1  # alive: its trial is its own
    for _ in range(4):
        time.sleep(0.2)
        assert first.study.heartbeat([0]) == []
        assert other.study.heartbeat([1]) == []
        assert other.claim() is None
    time.sleep(0.8)
    taken = other.claim()
    assert (taken.number, taken.params, taken.before) == (0, claim.params, tmp_path / "a" / "0")
    with pytest.raises(LostTrialError):
        first.finish(0, 1.0)
    first.mine.discard(0)
    record = other.study.records()[0]
    assert record.deaths == ("nothing was heard of its machine for 0.5 s",)
    time.sleep(0.8)
    assert first.claim().number == 1  # it and the other's are silent now: number 0 for the second time
    assert first.claim().number == 2
    assert first.states()[0] == "failed"


def test_what_is_given_back_is_taken_at_once(database: str, tmp_path: Path, open_clerk: OpenClerk) -> None:
    plan = _plan(database, "released", trials=1)
    first, other = open_clerk(plan, tmp_path / "a"), open_clerk(plan, tmp_path / "b")
    first.claim()
    first.study.report(0, 0, 2.0, None, 1.5)
    assert other.claim() is None
    first.study.release(0)
    claim = other.claim()
    assert (claim.number, claim.seconds) == (0, 1.5)
    assert other.study.records()[0].deaths == ()


def test_an_absent_server_is_named_without_its_password(
    tmp_path: Path, open_clerk: OpenClerk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("risctl.hpo.storage.PAUSES", ())
    url = f"postgresql://me:secret@/nowhere?host={tmp_path}"
    with pytest.raises(StorageError, match=r"me:\*\*\*@/nowhere.*No such file") as error:
        open_clerk(small_plan(storage_url=url), tmp_path)
    assert "secret" not in str(error.value)
    assert "secret" not in shown_url(url)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("trials", "kills"),
    [
        pytest.param(4, {"worker": 1, "search": 1}, id="2 kills"),
        pytest.param(12, {"worker": 3, "search": 3}, id="6 kills", marks=pytest.mark.slow),
    ],
)
def test_three_machines_of_which_some_die(
    database: str, tmp_path: Path, searches: Searches, trials: int, kills: dict[str, int]
) -> None:
    name, rng = f"machines{trials}", random.Random(5)
    settings = {"storage_url": database, "study_name": f"{name}-{RUN}"}
    settings |= {"heartbeat_seconds": 0.3, "grace_seconds": 1.5}
    places = [tmp_path / str(place) for place in range(3)]
    pids = [searches.start(place, trials=trials, **settings) for place in places]
    targets = [target for target, times in kills.items() for _ in range(times)]
    rng.shuffle(targets)
    died = 0
    for turn, target in enumerate(targets):
        due = int(1.5 * trials * turn / len(targets)) + 1
        wait_until(lambda due=due: sum(count(place, "TrialEpoch") for place in places) >= due)
        if target == "worker":
            died += kill_a_worker(searches, rng, lambda: False)
        else:
            place = rng.randrange(3)
            assert searches.kill(pids[place]) == -9
            pids[place] = searches.start(places[place], trials=trials, **settings)
    assert [searches.wait(pid) for pid in pids] == [0, 0, 0]
    outcome = read_outcome(_plan(database, name, trials=trials), tmp_path)
    check_whole(outcome, trials)
    check_same_parameters(places)
    assert died == kills["worker"]
    assert not searches.workers()
    for place in places:  # whoever trained them: everybody was told of every end
        told = {event["number"] for event in events(place, "TrialEnded")}
        assert told == {trial.number for trial in outcome.trials}


@pytest.mark.slow
def test_a_server_that_restarts(tmp_path: Path, binaries: Path, searches: Searches) -> None:
    """Searches wait for it, and lose nothing."""
    with server(binaries) as running:
        settings = {"storage_url": running.url, "heartbeat_seconds": 0.3, "grace_seconds": 30.0}
        places = [tmp_path / str(place) for place in range(2)]
        pids = [searches.start(place, trials=6, **settings) for place in places]
        for due in (2, 6):
            wait_until(lambda due=due: sum(count(place, "TrialEpoch") for place in places) >= due)
            running.stop()
            time.sleep(1.5)
            running.start()
        assert [searches.wait(pid) for pid in pids] == [0, 0]
        outcome = read_outcome(small_plan(6, storage_url=running.url), tmp_path)
        check_whole(outcome, 6)
        assert not any(trial.deaths for trial in outcome.trials)
