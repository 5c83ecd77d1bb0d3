"""Database URLs: which are taken, and how they may be shown."""

from __future__ import annotations

import sqlalchemy
from sqlalchemy.exc import ArgumentError

from risctl.errors import InputError

DRIVER = "postgresql+psycopg"
EXPECTED = f"{DRIVER}://user@host/database (without it: a file in the run's directory)"


def checked_url(text: str) -> sqlalchemy.URL:
    """Return the URL of a PostgreSQL database, for the driver psycopg.

    Raises:
        InputError: anything else; a password in it is not repeated.
    """
    try:
        url = sqlalchemy.make_url(text)
    except (ArgumentError, ValueError):
        raise InputError("--storage", "", EXPECTED, "no URL") from None
    if url.drivername not in ("postgresql", DRIVER) or not url.database:
        raise InputError("--storage", "", EXPECTED, url.render_as_string(hide_password=True))
    return url.set(drivername=DRIVER)


def shown_url(text: str) -> str:
    """Return the URL of a shared study as it may be shown: without its password.

    Raises:
        InputError: it is not one that `checked_url` takes.
    """
    return checked_url(text).render_as_string(hide_password=True)
