"""`risctl verdict`: go or no-go of a trained model."""

from __future__ import annotations

import shlex
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from risctl import runs
from risctl.cli.console import closing, say
from risctl.cli.options import Common, Ending, common_options
from risctl.errors import CheckFailedError, InputError
from risctl.text import Document

MARKS = {True: "yes", False: "NO ", None: "?  "}


@common_options
def verdict(
    common: Common,
    overrides: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[RUN]", help="Trained model; absent: the newest training, else the shipped one."
        ),
    ] = None,
) -> Document | Ending:
    """Show go or no-go: every gate on one page.

    Exit status 0, or 3 where a gate is missed or not measured. Nothing is computed: each line is read from
    the newest run that measured it, or says what to type.
    """
    if overrides and len(overrides) > 1:
        raise InputError("verdict", "", "one run", f"{len(overrides)} words")
    found = runs.judge_model(overrides[0] if overrides else None)
    for line in found.lines:
        say(f"{MARKS[line.met]}  {line.name}: {line.found or 'not run'}")
        say(f"     wanted: {line.limit}")
        say(f"     {'type: ' if line.met is None else 'from: '}{line.source}")
    following = next((line.source for line in found.lines if line.met is None), None)
    closing(found.model, found.headline, following or f"risctl report {shlex.quote(str(found.model))}")
    document: Document = {
        "command": "verdict",
        "model": str(found.model),
        "go": found.go,
        "lines": [asdict(line) for line in found.lines],
    }
    return (
        document if found.go else Ending(document, CheckFailedError.exit_status, f"verdict: {found.headline}")
    )
