"""`risctl runs list|compare|clean`: what was run."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from risctl import runs
from risctl.cli.console import say, show_table
from risctl.cli.options import Common, common_options
from risctl.errors import InputError
from risctl.text import ABSENT, Document, counted, number, readable_bytes

HEADLINE = 60  # characters of a headline in the list
Words = Annotated[list[str] | None, typer.Argument(hidden=True)]


class ListFirst(TyperGroup):
    """A group whose first command is meant where none is named: `risctl runs` lists."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put `list` in front of options, or of nothing."""
        if not args or (args[0].startswith("-") and args[0] not in ("-h", "--help")):
            args = ["list", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(help="List, compare and remove runs; alone: list.", cls=ListFirst, add_completion=False)


@app.command("list")
@common_options
def list_runs(common: Common, overrides: Words = None) -> Document:
    """List the runs below runs/, newest first: what, when, state, what came of it."""
    found = runs.list_runs()
    rows = [
        (str(run.path), run.started[:16].replace("T", " "), run.state, _short(run.headline)) for run in found
    ]
    if rows:
        show_table(counted(len(rows), "run"), ("run", "begun, UTC", "state", "what came of it"), rows)
    else:
        say("no runs below runs/ yet; type: risctl demo")
    listed = [asdict(run) | {"path": str(run.path)} for run in found]
    return {"command": "runs list", "runs": listed}


@app.command("compare")
@common_options
def compare(
    common: Common,
    first: Annotated[Path, typer.Argument(metavar="A", help="Directory of a run.")],
    second: Annotated[Path, typer.Argument(metavar="B", help="Directory of another.")],
    estimators: Annotated[
        str | None,
        typer.Option(
            metavar="OF_A,OF_B", help="Estimators to compare; absent: each of both runs with itself."
        ),
    ] = None,
    overrides: Words = None,
) -> Document:
    """Show the settings in which two runs differ, and their figures side by side.

    Where both evaluated the same scenes, differences have 95 % intervals over pairs of scenes.
    """
    pair = None if estimators is None else estimators.split(",")
    if pair is not None and len(pair) != 2:
        raise InputError("estimators", "", "two names with a comma between", estimators)
    found = runs.compare_runs(first, second, None if pair is None else (pair[0], pair[1]))
    settings = [(key, *(_short(str(value)) for value in pair)) for key, pair in found.settings.items()]
    if settings:
        show_table("Settings that differ", ("setting", "A", "B"), settings)
    else:
        say("no setting differs")
    if found.paired:
        rows = [
            (
                f"{d.estimator}, {'all SNR' if d.snr_db is None else f'{d.snr_db:g} dB'}: {d.figure}",
                number(d.first),
                number(d.second),
                f"{number(d.low, 2)} to {number(d.high, 2)}",
                "" if d.low is None or d.high is None or d.low <= 0 <= d.high else "*",
            )
            for d in found.paired
        ]
        show_table("Figures on the same scenes", ("figure", "A", "B", "B - A, 95 %", ""), rows)
        say("  * the interval of the difference leaves out 0; RMSE: of the sources that both found")
    elif found.figures:
        plain = [(name, number(a), number(b)) for name, a, b in found.figures]
        show_table("Figures", ("figure", "A", "B"), plain)
    say(f"A: {first}")
    say(f"B: {second}")
    return {
        "command": "runs compare",
        "a": str(first),
        "b": str(second),
        "settings": [{"key": key, "a": a, "b": b} for key, (a, b) in found.settings.items()],
        "figures": [{"figure": name, "a": a, "b": b} for name, a, b in found.figures],
        "paired": [asdict(difference) for difference in found.paired],
    }


@app.command("clean")
@common_options
def clean(
    common: Common,
    overrides: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[RUN...]", help="Runs; absent: all that failed, were killed or are damaged."),
    ] = None,
    older_than: Annotated[
        float, typer.Option(metavar="DAYS", help="Only runs begun so many days ago.")
    ] = 0.0,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Remove without asking.")] = False,
) -> Document:
    """Remove runs, after asking; never a running one, nor those that came with risctl."""
    found = runs.removable(overrides or (), older_than)
    for run in found:
        say(f"{run.path}  {run.state}  {readable_bytes(run.num_bytes)}  {_short(run.headline)}")
    size = sum(run.num_bytes for run in found)
    say(f"{counted(len(found), 'run')}, {readable_bytes(size)}")
    wanted = bool(found) and not common.dry_run and (yes or _agreed())
    if wanted:
        runs.remove_runs(found)
        say("removed")
    return {
        "command": "runs clean",
        "removed": wanted,
        "bytes": size,
        "runs": [str(run.path) for run in found],
    }


def _agreed() -> bool:
    if not sys.stdin.isatty():
        raise InputError("yes", "", "--yes where nobody can be asked", "no terminal")
    return typer.confirm("Remove them?", default=False, err=True)


def _short(text: str) -> str:
    return text if len(text) <= HEADLINE else f"{text[: HEADLINE - 1]}{ABSENT}"
