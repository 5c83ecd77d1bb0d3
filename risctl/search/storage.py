"""Where a study is kept: a file of this machine, or a database that machines share.

Everything that reads and then writes happens inside `Storage.alone`: one process at a time. A file has one
process anyway, which holds the lock of the run. A database has a lock of its own for it, which its server
takes back from a machine that has gone.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Protocol, TypeVar

import optuna
import sqlalchemy
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from risctl.errors import InputError, StorageError, one_line
from risctl.search.plan import SearchPlan
from risctl.search.url import checked_url, shown_url

T = TypeVar("T")
STUDY_FILE = "study.db"
BUSY_SECONDS = 60.0  # a dashboard may be reading
# Pauses before a shared database is tried again: a restart of the server must not end a search of days.
PAUSES = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
# A machine that stops in the middle of something is cut off after this, and its lock is free again.
SESSION = "-c timezone=UTC -c lock_timeout=60s -c idle_in_transaction_session_timeout=60s"
STALE = """
    SELECT trials.number FROM trials LEFT JOIN trial_heartbeats USING (trial_id)
    WHERE study_id = :study AND state = 'RUNNING'
    AND (heartbeat IS NULL OR heartbeat < CAST(now() AS timestamp) - make_interval(secs => :grace))
"""


class Storage(Protocol):
    """A place for a study.

    Attributes:
        rdb: optuna's own. where: how messages call it. url: how other programs do; without a password.
    """

    rdb: RDBStorage
    where: str
    url: str

    def alone(self) -> AbstractContextManager[object]:
        """Keep every other process out of the study inside the block."""

    def silent(self, study: int) -> frozenset[int] | None:
        """Return the running trials of which nothing was heard for long; None: all but one's own."""

    def beat(self, trial: int) -> None:
        """Say that the trial of this id is alive."""

    def close(self) -> None:
        """Close every connection of this process."""


class FileStorage:
    """A SQLite file, of which this process is the only writer."""

    def __init__(self, path: Path) -> None:
        self.where, self.url = str(path), f"sqlite:///{path.absolute()}"
        self.rdb = RDBStorage(_unformatted(self.url), {"connect_args": {"timeout": BUSY_SECONDS}})

    def alone(self) -> AbstractContextManager[object]:
        """Nobody else is there."""
        return nullcontext()

    def silent(self, study: int) -> frozenset[int] | None:
        """Whoever trained them held the lock that this process holds now."""
        return None

    def beat(self, trial: int) -> None:
        """Nobody listens."""

    def close(self) -> None:
        """Close the file."""
        _close(self.rdb)


class SharedStorage:
    """A PostgreSQL database, used by any number of processes on any number of machines.

    Args:
        plan: names the database and the study.
    """

    def __init__(self, plan: SearchPlan) -> None:
        url = checked_url(plan.storage_url or "")
        self.where = self.url = shown_url(plan.storage_url or "")
        self._grace = plan.grace_seconds
        self._key = _lock_key(f"study {plan.study_name}")
        text = url.render_as_string(hide_password=False)
        options = {"connect_args": {"options": SESSION, "connect_timeout": 10}, "pool_pre_ping": True}
        try:
            self._engine = sqlalchemy.create_engine(text, **options)
            with self._lock(_lock_key("tables")):  # they are made once
                self.rdb = RDBStorage(_unformatted(text), options)
        except ImportError:
            expected = "the driver psycopg beside it: pip install 'psycopg[binary]'"
            raise InputError("--storage", "", expected, "none installed") from None

    def alone(self) -> AbstractContextManager[object]:
        """Hold the study's lock in the server until the block ends, or this process, or its machine."""
        return self._lock(self._key)

    @contextmanager
    def _lock(self, key: int) -> Iterator[None]:
        with self._engine.begin() as connection:
            connection.execute(sqlalchemy.text("SELECT pg_advisory_xact_lock(:key)"), {"key": key})
            yield

    def silent(self, study: int) -> frozenset[int] | None:
        """Return those whose heartbeat is older than the grace, by the server's clock."""
        values = {"study": study, "grace": self._grace}
        with self._engine.begin() as connection:
            return frozenset(connection.execute(sqlalchemy.text(STALE), values).scalars())

    def beat(self, trial: int) -> None:
        """Note the server's time."""
        self.rdb.record_heartbeat(trial)

    def close(self) -> None:
        """Close the connections."""
        self._engine.dispose()
        _close(self.rdb)


def open_storage(plan: SearchPlan, directory: Path) -> Storage:
    """Open the plan's storage.

    Raises:
        InputError: a URL that cannot be used, or no driver for it.
        StorageError: the file or the server does not answer.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    path = directory / STUDY_FILE
    where = str(path) if plan.storage_url is None else shown_url(plan.storage_url)
    try:
        if plan.storage_url is None:
            return patient(where, (), lambda: FileStorage(path))
        return patient(where, PAUSES[:1], lambda: SharedStorage(plan))
    except RuntimeError as error:  # how Optuna says that another version of it made the tables
        raise InputError(where, "", "a study of this version of Optuna", one_line(str(error))) from None


def patient(where: str, pauses: tuple[float, ...], operation: Callable[[], T]) -> T:
    """Return what `operation` returns, which is tried again after each of `pauses` if the database fails.

    Raises:
        StorageError: it failed every time.
    """
    for pause in (*pauses, None):
        try:
            return operation()
        except (SQLAlchemyError, StorageInternalError) as error:
            if pause is None:
                raise StorageError(one_line(f"{where}: {_reason(error)}")) from None
        time.sleep(pause)
    raise AssertionError


def _close(rdb: RDBStorage) -> None:
    rdb.remove_session()
    rdb.engine.dispose()


def _reason(error: BaseException) -> str:
    """Return the database's own words, without the statement."""
    while isinstance(error.__cause__, SQLAlchemyError):
        error = error.__cause__
    own = error.orig if isinstance(error, DBAPIError) else error
    return str(own).strip().partition("\n")[0]


def _unformatted(url: str) -> str:
    """Braces would be taken for a template."""
    return url.replace("{", "{{").replace("}", "}}")


def _lock_key(name: str) -> int:
    digest = hashlib.blake2b(f"risctl {name}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)
