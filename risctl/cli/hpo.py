"""`risctl hpo`: search the hyper-parameters."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from risctl.cli.documents import Document, Ending
from risctl.cli.options import Common, common_options, require_range


@common_options
def hpo(
    common: Common,
    trials: Annotated[
        int | None, typer.Option(help="Trials that are to end; the preset's if absent (24).")
    ] = None,
    workers: Annotated[int, typer.Option(help="Trials at a time, a process each.")] = 1,
    storage: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            envvar="RISCTL_STORAGE",
            help="postgresql+psycopg://... that several machines share; absent: a file in the run.",
        ),
    ] = None,
    study: Annotated[
        str | None, typer.Option(help="Name of the study; made from the settings if absent.")
    ] = None,
    resume: Annotated[
        Path | None, typer.Option(metavar="RUN", help="Go on with this run, in its own directory.")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Start without a passed overfit gate for this network.")
    ] = False,
) -> Document | Ending:
    """Search the hyper-parameters; what is interrupted goes on with --resume, and no trial is lost."""
    from risctl.cli.hpo_needs import dry_run_search
    from risctl.cli.hpo_prepare import SearchRequest, prepare_search
    from risctl.cli.hpo_run import search_into_run

    require_range("--trials", trials, 1, 100_000)
    require_range("--workers", workers, 1, 256)
    request = SearchRequest(common, trials, workers, storage, study, resume, force)
    prepared = prepare_search(request)
    return dry_run_search(prepared) if common.dry_run else search_into_run(request, prepared)
