"""The ledger: who has which trial, without any training."""

import sys
from pathlib import Path

import pytest
from optuna.trial import TrialState

from risctl.errors import DamagedFileError, InputError
from risctl.hpo import same_database, shown_url
from risctl.hpo.run import outcome_of
from risctl.hpo.storage import open_storage
from risctl.hpo.study import MAX_EXCESS_FAILURES, LostTrialError
from tests.hpo.clerk import Clerk
from tests.hpo.conftest import OpenClerk
from tests.hpo.small import small_config, small_plan

COMPLETE, PRUNED = TrialState.COMPLETE, TrialState.PRUNED


@pytest.fixture
def clerk(open_clerk: OpenClerk, tmp_path: Path) -> Clerk:
    return open_clerk(small_plan(trials=3), tmp_path)


def test_exactly_as_many_as_asked(clerk: Clerk) -> None:
    assert [clerk.claim().number for _ in range(3)] == [0, 1, 2]
    assert clerk.claim() is None
    clerk.finish(0, 1.0)
    clerk.finish(1, 2.0, PRUNED)
    assert clerk.claim() is None
    assert "running" in clerk.states()
    clerk.finish(2, 0.5)
    assert clerk.claim() is None
    assert "running" not in clerk.states()
    assert clerk.states() == ["complete", "pruned", "complete"]
    assert clerk.study.gave_up is None


def test_a_failed_trial_is_replaced(clerk: Clerk) -> None:
    clerk.claim()
    record = clerk.study.fail(0, "not finite", 2.0)
    assert (record.state, record.reason, record.seconds) == ("failed", "not finite", 2.0)
    assert [clerk.claim().number for _ in range(3)] == [1, 2, 3]
    assert clerk.claim() is None


def test_one_death_is_forgiven_two_are_not(clerk: Clerk) -> None:
    clerk.claim()
    assert clerk.study.died(0, "killed by signal 9").state == "running"
    record = clerk.study.died(0, "killed by signal 9 again")
    assert (record.state, record.reason) == ("failed", "killed by signal 9 again")
    assert record.deaths == ("killed by signal 9", "killed by signal 9 again")


def test_it_gives_up_when_hardly_anything_finishes(tmp_path: Path, open_clerk: OpenClerk) -> None:
    clerk = open_clerk(small_plan(trials=20), tmp_path)
    clerk.claim()
    clerk.finish(0, 1.0)
    for number in range(1, 20):
        if clerk.claim() is None:
            break
        assert clerk.study.gave_up is None
        clerk.study.fail(number, f"failure {number}", 1.0)
    assert clerk.states().count("failed") == MAX_EXCESS_FAILURES + 2
    assert f"failure {MAX_EXCESS_FAILURES + 2}" in clerk.study.gave_up


def test_what_was_running_is_taken_up_first(clerk: Clerk, tmp_path: Path, open_clerk: OpenClerk) -> None:
    first = clerk.claim()
    clerk.study.report(0, 0, 3.0, {"count_accuracy": 0.5}, 4.0)
    later = open_clerk(small_plan(trials=3), tmp_path)
    claim = later.claim()
    assert (claim.number, claim.params, claim.seconds) == (0, first.params, 4.0)
    assert claim.before == tmp_path.absolute() / "0"
    assert later.claim().number == 1
    record = later.study.records()[0]
    assert (record.epochs, record.deaths, record.secondary) == ((3.0,), (), {"count_accuracy": 0.5})


def test_who_lost_a_trial_learns_of_it(clerk: Clerk, tmp_path: Path, open_clerk: OpenClerk) -> None:
    clerk.claim()
    later = open_clerk(small_plan(trials=3), tmp_path)
    later.claim()
    for action in (
        lambda: clerk.study.report(0, 0, 1.0, None, 1.0),
        lambda: clerk.finish(0, 1.0),
        lambda: clerk.study.fail(0, "late", 1.0),
        lambda: clerk.study.died(0, "late"),
        lambda: clerk.study.release(0),
    ):
        with pytest.raises(LostTrialError):
            action()
    assert clerk.study.heartbeat([0]) == [0]
    assert later.study.heartbeat([0]) == []
    later.finish(0, 1.0)
    with pytest.raises(LostTrialError):
        later.finish(0, 2.0)
    assert later.study.records()[0].value == 1.0


def test_trials_are_pruned_by_what_was_known_at_their_epoch(tmp_path: Path, open_clerk: OpenClerk) -> None:
    """From the second epoch on and against three others; a value of a later epoch changes nothing."""
    clerk = open_clerk(small_plan(trials=9), tmp_path)
    for value in (1.0, 2.0, 3.0):
        claim = clerk.claim()
        for epoch in range(3):
            assert not clerk.study.report(claim.number, epoch, value - 0.1 * epoch, None, 1.0)
        clerk.finish(claim.number, value - 0.2)
    clerk.claim()
    assert not clerk.study.report(3, 0, 9.0, None, 1.0)  # too early
    assert clerk.study.report(3, 1, 2.5, None, 1.0)  # above the median, 1.9
    assert not clerk.study.report(3, 2, 0.5, None, 1.0)
    assert clerk.study.report(3, 1, 2.5, None, 1.0)  # again, after its process died
    record = clerk.study.finish(3, PRUNED, None, 5.0)
    assert (record.state, record.value, record.seconds) == ("pruned", 0.5, 5.0)


def test_the_best_is_complete(clerk: Clerk) -> None:
    for value, state in ((2.0, COMPLETE), (1.0, PRUNED), (3.0, COMPLETE)):
        clerk.finish(clerk.claim().number, value, state)
    assert outcome_of(small_plan(), clerk.study).best.number == 0


def test_other_settings_are_refused(clerk: Clerk, tmp_path: Path, open_clerk: OpenClerk) -> None:
    with pytest.raises(InputError, match=r"study\.db: search\.epochs: expected 2, as the search began"):
        open_clerk(small_plan(config=small_config(epochs=7)), tmp_path)


def test_a_file_that_is_no_study(tmp_path: Path, open_clerk: OpenClerk) -> None:
    (tmp_path / "study.db").write_text("something else, and rather long for the header of a database " * 20)
    with pytest.raises(DamagedFileError, match=r"study\.db: damaged: .* file is not a database"):
        open_clerk(small_plan(), tmp_path)


@pytest.mark.parametrize(
    "url",
    [
        "nonsense",
        "sqlite:///x.db",
        "mysql://me:secret@host/db",
        "postgresql://me:secret@host",
        "postgresql+asyncpg://h/d",
        "mysql://me@host/db?password=secret",
    ],
)
def test_only_a_postgresql_database_can_be_shared(url: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"postgresql\+psycopg://user@host/database") as error:
        open_storage(small_plan(storage_url=url), tmp_path)
    assert "secret" not in str(error.value)


@pytest.mark.parametrize("name", ["password", "sslpassword"])
def test_a_password_is_never_shown(name: str) -> None:
    shown = shown_url(f"postgresql://me:secret@host/db?{name}=secret&sslmode=require")
    assert "secret" not in shown
    assert shown.startswith("postgresql+psycopg://me:***@host/db?")
    assert "sslmode=require" in shown
    with pytest.raises(InputError, match="%40") as error:
        shown_url("postgresql://me:half@secret@host/db")
    assert "secret" not in str(error.value)


def test_one_database_whoever_asks() -> None:
    url = "postgresql+psycopg://me:***@host:5433/db"
    assert same_database(url, "postgresql://you:secret@host:5433/db")
    for other in ("host:5433/other", "elsewhere:5433/db", "host/db", "/db?host=/tmp"):
        assert not same_database(url, f"postgresql://me:secret@{other}")


def test_the_driver_that_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(InputError, match="pip install 'psycopg"):
        open_storage(small_plan(storage_url="postgresql://host/database"), tmp_path)
