"""Database URLs: checked, compared, and shown without their secrets."""

from __future__ import annotations

import sqlalchemy
from sqlalchemy.exc import ArgumentError

from risctl.errors import InputError

DRIVER = "postgresql+psycopg"
EXPECTED = f"{DRIVER}://user@host/database (without it: a file in the run's directory)"
SECRET = ("password", "sslpassword")  # of the query, which the driver takes as well


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
