"""Where a study is kept: a file of this machine, or a database that machines share.

Everything that reads and then writes happens inside `Storage.exclusive`: one process at a time. A file has
one process anyway, which holds the lock of the run. A database has a lock of its own for it, which its server
takes back from a machine that is gone.
"""

import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TypeVar

import optuna
import sqlalchemy
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError

from risctl.errors import DamagedFileError, InputError, StorageError, one_line
from risctl.hpo.plan import SearchPlan

T = TypeVar("T")
STUDY_FILE = "study.db"
BUSY_SECONDS = 60.0  # a dashboard may be reading
# Pauses before a shared database is tried again: a restart of the server must not end a search of days.
PAUSES = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
# A machine that stops in the middle of a transaction is cut off after this, and its lock is free again.
SESSION = "-c timezone=UTC -c lock_timeout=60s -c idle_in_transaction_session_timeout=60s"
STALE = """
    SELECT trials.number FROM trials LEFT JOIN trial_heartbeats USING (trial_id)
    WHERE study_id = :study AND state = 'RUNNING'
    AND (heartbeat IS NULL OR heartbeat < CAST(now() AS timestamp) - make_interval(secs => :grace))
"""
MALFORMED = ("malformed", "not a database", "file is encrypted")  # how SQLite says that its file is damaged
DRIVER = "postgresql+psycopg"
EXPECTED = f"{DRIVER}://user@host/database (without it: a file in the run's directory)"
SECRET = ("password", "sslpassword")  # of the query, which the driver takes as well


class Storage:
    """A place for a study: a SQLite file, of which this process is the only writer.

    Attributes:
        rdb: Optuna's storage.
        where: its name in messages.
        url: its URL for other programs, without a password.
    """

    rdb: RDBStorage

    def __init__(self, path: Path) -> None:
        self.where, self.url = str(path), f"sqlite:///{path.absolute()}"
        self.rdb = RDBStorage(_unformatted(self.url), {"connect_args": {"timeout": BUSY_SECONDS}})

    def exclusive(self) -> AbstractContextManager[object]:
        """Keep every other process out of the study inside the block; the lock of a file's run does so."""
        return nullcontext()

    def stale_trials(self, study: int) -> frozenset[int] | None:
        """Running trials whose last heartbeat is older than the grace; None: all that are not its own.

        Those of a file are: the process that trained them held the lock that this process holds now.
        """
        return None

    def heartbeat(self, trial: int) -> None:
        """Record that the trial of this id is alive; nobody asks for it in a file."""

    def close(self) -> None:
        """Close every connection of this process."""
        self.rdb.remove_session()
        self.rdb.engine.dispose()


class SharedStorage(Storage):
    """The plan's PostgreSQL database, used by any number of processes on any number of machines."""

    def __init__(self, plan: SearchPlan) -> None:
        url = checked_url(plan.storage_url or "")
        self.where = self.url = _without_secrets(url)
        self._grace = plan.grace_seconds
        self._study = plan.study_name
        text = url.render_as_string(hide_password=False)
        options = {"connect_args": {"options": SESSION, "connect_timeout": 10}, "pool_pre_ping": True}
        try:
            self._engine = sqlalchemy.create_engine(text, **options)
            with self._lock("tables"):  # they are made once
                self.rdb = RDBStorage(_unformatted(text), options)
        except ImportError:
            expected = "the driver psycopg beside it: pip install 'psycopg[binary]'"
            raise InputError("storage", "", expected, "none installed") from None

    def exclusive(self) -> AbstractContextManager[object]:
        """Hold the study's lock in the server until the block ends, or this process, or its machine."""
        return self._lock(f"study {self._study}")

    @contextmanager
    def _lock(self, name: str) -> Iterator[None]:
        digest = hashlib.blake2b(f"risctl {name}".encode(), digest_size=8).digest()
        key = int.from_bytes(digest, "big", signed=True)
        with self._engine.begin() as connection:
            connection.execute(sqlalchemy.text("SELECT pg_advisory_xact_lock(:key)"), {"key": key})
            yield

    def stale_trials(self, study: int) -> frozenset[int] | None:
        """Running trials whose last heartbeat is older than the grace, by the server's clock."""
        values = {"study": study, "grace": self._grace}
        with self._engine.begin() as connection:
            return frozenset(connection.execute(sqlalchemy.text(STALE), values).scalars())

    def heartbeat(self, trial: int) -> None:
        """Record the server's time for the trial."""
        self.rdb.record_heartbeat(trial)

    def close(self) -> None:
        """Close the connections."""
        self._engine.dispose()
        super().close()


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
            return with_retries(where, (), lambda: Storage(path))
        return with_retries(where, PAUSES[:1], lambda: SharedStorage(plan))
    except RuntimeError as error:  # how Optuna says that another version of it made the tables
        raise InputError(where, "", "a study of this version of Optuna", one_line(str(error))) from None


def with_retries(where: str, pauses: tuple[float, ...], operation: Callable[[], T]) -> T:
    """Result of `operation`, which is tried again after each of `pauses` if the database fails.

    Raises:
        StorageError: it failed every time.
    """
    for pause in (*pauses, None):
        try:
            return operation()
        except (SQLAlchemyError, StorageInternalError) as error:
            if pause is None:
                reason = _reason(error)
                if any(words in reason for words in MALFORMED):
                    raise DamagedFileError(where, "a study as it was written", reason) from None
                raise StorageError(one_line(f"{where}: {reason}")) from None
        time.sleep(pause)
    raise AssertionError


def _reason(error: BaseException) -> str:
    """The database's own message, without the statement."""
    while isinstance(error.__cause__, SQLAlchemyError):
        error = error.__cause__
    own = error.orig if isinstance(error, DBAPIError) else error
    return str(own).strip().partition("\n")[0]


def _unformatted(url: str) -> str:
    """Escape braces, which Optuna would take for a template."""
    return url.replace("{", "{{").replace("}", "}}")


def checked_url(text: str) -> sqlalchemy.URL:
    """The URL of a PostgreSQL database, for the driver psycopg.

    Raises:
        InputError: anything else; a password in it is not repeated.
    """
    try:
        url = sqlalchemy.make_url(text)
    except (ArgumentError, ValueError):
        raise InputError("storage", "", EXPECTED, "no URL") from None
    if "@" in (url.host or ""):
        raise InputError("storage", "", "a password with every @ written as %40", "more than one @")
    if url.drivername not in ("postgresql", DRIVER) or not url.database:
        raise InputError("storage", "", EXPECTED, _without_secrets(url))
    return url.set(drivername=DRIVER)


def shown_url(text: str) -> str:
    """The URL of a shared study without its password.

    Raises:
        InputError: it is not one that `checked_url` takes.
    """
    return _without_secrets(checked_url(text))


def same_database(shown: str, other: str) -> bool:
    """Whether two URLs lead to one database, whoever asks for it: same host, port and name.

    Raises:
        InputError: one is none that `checked_url` takes.
    """
    return _place(shown) == _place(other)


def _place(text: str) -> tuple[object, ...]:
    url = checked_url(text)
    return url.host, url.port, url.database, url.query.get("host"), url.query.get("port")


def _without_secrets(url: sqlalchemy.URL) -> str:
    hidden = {key: "***" for key in url.query if key in SECRET}
    return url.update_query_dict(hidden).render_as_string(hide_password=True)
