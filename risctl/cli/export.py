"""`risctl export`: what others need of a training run, small enough to hand on."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from risctl import runs
from risctl.cli.console import closing, say
from risctl.cli.options import Common, common_options, named_path
from risctl.text import Document, counted


@common_options
def export(
    common: Common,
    target: Annotated[Path, typer.Argument(metavar="RUN", help="Training run to export.")],
    out: Annotated[
        Path, typer.Option(parser=named_path, metavar="PATH", help="Directory to make; it must not exist.")
    ],
) -> Document:
    """Copy what inference needs out of a run.

    Weights, probabilities, settings and curves; train --resume DIR --fork can begin with them.
    """
    made = runs.export(target, out, common.dry_run)
    if common.dry_run:
        say(f"export: nothing was written; would write into {out}:")
        for name in made.files:
            say(f"  {name}")
        return {"command": "export", "dry_run": True, "files": made.files, "out": str(out)}
    headline = f"{counted(len(made.files), 'file')}, {made.num_bytes / 1e6:.2f} MB"
    closing(out, headline, f"risctl eval {shlex.quote(str(out))}")
    return {"command": "export", "out": str(out), "files": made.files, "bytes": made.num_bytes}
