"""Commands that this version does not contain: they are listed, and say so in one line."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NoReturn

import typer

from risctl.errors import InputError, RisctlError


class NotInThisVersionError(RisctlError):
    """A command that is planned (exit status 2)."""

    exit_status = InputError.exit_status


LATER = {
    "hpo": "Search the hyper-parameters (not in this version).",
}


def register(app: typer.Typer, working: Sequence[str]) -> None:
    """Add the stand-ins, which take any arguments and name the commands that work."""
    for name, summary in LATER.items():
        settings = {"ignore_unknown_options": True, "allow_extra_args": True}
        app.command(name, help=summary, context_settings=settings)(_stand_in(name, working))


def _stand_in(name: str, working: Sequence[str]) -> Callable[[], None]:
    def refuse() -> NoReturn:
        works = ", ".join(working)
        raise NotInThisVersionError(
            f"{name}: this version does not contain this command yet; these work: {works}"
        )

    return refuse
