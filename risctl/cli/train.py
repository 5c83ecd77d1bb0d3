"""`risctl train`: train the network."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from risctl.cli.console import closing
from risctl.cli.documents import Document, Ending
from risctl.cli.options import Common, common_options

if TYPE_CHECKING:
    from risctl.cli.training_report import Trained


@common_options
def train(
    common: Common,
    data: Annotated[
        Path | None,
        typer.Option(help="Training dataset, or a directory with train/ and val/; absent: scenes are made."),
    ] = None,
    val_data: Annotated[
        Path | None, typer.Option(help="Validation dataset beside --data; absent: scenes are made.")
    ] = None,
    resume: Annotated[
        Path | None, typer.Option(metavar="RUN", help="Go on with this run, in its own directory.")
    ] = None,
    fork: Annotated[
        bool, typer.Option("--fork", help="With --resume: a new run from that state; settings may change.")
    ] = False,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Write TensorBoard scalars into the run, too.")
    ] = False,
) -> Document | Ending:
    """Train the network; what is interrupted goes on with --resume and ends the same."""
    from risctl.cli.training_needs import dry_run_training
    from risctl.cli.training_run import TrainingRequest, follow, prepare, train_into_run
    from risctl.training import launched_rank

    request = TrainingRequest(common, "train", data, val_data, resume, fork, tensorboard)
    prepared = prepare(request)
    if common.dry_run:
        return dry_run_training(request, prepared)
    if launched_rank() > 0:
        raise typer.Exit(follow(prepared))
    return train_into_run(request, prepared, finish)


def finish(trained: Trained) -> Document:
    """Draw the curves, say how it went, return the document."""
    from risctl.cli.training_report import draw_curves, outcome_document, outcome_sentence

    curves = draw_curves(trained)
    early = " (stopped early: no better for a while)" if trained.outcome.early_stopped else ""
    closing(trained.run, outcome_sentence(trained) + early, f"risctl eval {trained.run}")
    return {"command": "train"} | outcome_document(trained, (curves,))
