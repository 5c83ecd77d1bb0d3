"""`risctl report`: one page about one or several runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from risctl import runs
from risctl.cli.console import closing, say, show_pictures
from risctl.cli.options import Common, common_options
from risctl.text import Document, counted, readable_bytes


@common_options
def report(
    common: Common,
    overrides: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Directories of runs.")],
    out: Annotated[
        Path | None,
        typer.Option(help="HTML file to write; absent: report.html in the run, or beside several."),
    ] = None,
    pictures: Annotated[
        Literal["png", "pdf", "svg"] | None,
        typer.Option("--format", help="Draw the pictures of the runs again, too, in this format."),
    ] = None,
) -> Document:
    """Write one page about a run, or several side by side.

    One HTML file that needs nothing else: figures, tables, settings, how to repeat it.
    """
    beside = overrides[0] if len(overrides) == 1 else Path()
    runs.check_destination("out", out, (".html",))
    path = out or beside / runs.REPORT_FILE
    if common.dry_run:
        say(f"would write {path}")
        return {"command": "report", "dry_run": True, "out": str(path)}
    drawn = [picture for run in overrides for picture in (runs.draw_run(run, pictures) if pictures else ())]
    runs.write_reports(overrides, path)
    show_pictures(runs.pictures(drawn))
    size = path.stat().st_size
    words = f"{counted(len(overrides), 'run')}, {readable_bytes(size)}, nothing else needed to open it"
    closing(path, words, "risctl runs")
    document = {"command": "report", "out": str(path), "runs": [str(run) for run in overrides], "bytes": size}
    return document | {"files": [str(file) for file in drawn]}
