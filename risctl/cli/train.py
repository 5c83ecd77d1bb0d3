"""`risctl train`: train the network."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from risctl import runs
from risctl.cli.completion import complete_run
from risctl.cli.console import closing, dry_run, note, show_pictures
from risctl.cli.options import Common, Ending, FormatOption, NameOption, OutOption, common_options
from risctl.cli.screens.training import TrainingState, training_screen
from risctl.cli.signals import SIGNAL_STATUS, stop_on_signals
from risctl.errors import InputError, require_range
from risctl.text import Document, counted

if TYPE_CHECKING:
    from risctl.runs import PreparedTraining, Trained

WorkersOption = Annotated[
    int | None,
    typer.Option(help="Processes that share every batch; absent: those of the run, or every core."),
]
ResumeOption = Annotated[
    Path | None,
    typer.Option(
        metavar="RUN", help="Go on with this run, in its own directory.", autocompletion=complete_run
    ),
]
TensorboardOption = Annotated[
    bool, typer.Option("--tensorboard", help="Write TensorBoard scalars into the run, too.")
]
VerboseOption = Annotated[
    bool, typer.Option("--verbose", "-v", help="Show every loss term, rate, gradient and figure.")
]


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
    resume: ResumeOption = None,
    fork: Annotated[
        bool,
        typer.Option(
            "--fork",
            help="With --resume: a new run from that state, or from exported weights; settings may change.",
        ),
    ] = False,
    tensorboard: TensorboardOption = False,
    workers: WorkersOption = None,
    epochs: Annotated[int | None, typer.Option(help="Epochs; the preset's if absent.")] = None,
    name: NameOption = None,
    out: OutOption = None,
    pictures: FormatOption = "png",
    verbose: VerboseOption = False,
) -> Document | Ending:
    """Train the network.

    What is interrupted goes on with --resume and ends the same.
    """
    require_range("epochs", epochs, 1, 100_000)
    if epochs is not None:
        common = common.with_override(f"training.epochs={epochs}", first=True)
    machine = replace(common.machine, workers=workers)
    prepared = runs.prepare_training(
        common.layers, "train", data, val_data, resume, fork, tensorboard, machine, all_cores=True
    )
    prepared = placed(prepared, name, out, pictures)
    if common.dry_run:
        return dry_run_training(prepared)
    if prepared.is_worker:
        raise typer.Exit(follow(prepared))
    with stop_on_signals() as stop, training_screen(state_of(prepared, verbose), stop) as screen:
        trained = runs.train(prepared, [screen], stop, announce)
    if trained.outcome.stopped_by is not None:
        return interrupted("train", trained)
    show_pictures(runs.pictures(trained.files))
    early = " (stopped early: no better for a while)" if trained.outcome.early_stopped else ""
    closing(trained.run, outcome_sentence(trained) + early, f"risctl eval {shlex.quote(str(trained.run))}")
    return {"command": "train"} | trained.document()


def placed(prepared: PreparedTraining, name: str | None, out: Path | None, pictures: str) -> PreparedTraining:
    """The training with the directory of its run and its pictures; a run that goes on has a directory."""
    if prepared.resumed is not None and (name is not None or out is not None):
        raise InputError("resume", "", "no name or out beside it (the run has its directory)", name or out)
    return replace(prepared, place=runs.run_place(prepared.command, name, out), pictures=pictures)


def dry_run_training(prepared: PreparedTraining) -> Document:
    """Show settings and needs; nothing is written."""
    writes = prepared.resumed or prepared.place or f"runs/{prepared.command}/<utc-time>_<preset>_<id>/"
    plan = prepared.plan
    scenes = counted(plan.step_scenes, "scene")
    steps = f"{counted(plan.training.epochs, 'epoch')} of {counted(plan.steps_per_epoch, 'step')} of {scenes}"
    work = f"{steps}; {plan.validation_scenes:,} validated after each"
    seconds = runs.seconds_of_training(prepared)
    return dry_run(prepared.command, prepared.config, prepared.needs, writes, seconds, work)


def follow(prepared: PreparedTraining) -> int:
    """Train as a `torchrun` process of rank > 0; return the exit status."""
    with stop_on_signals(quiet=True) as stop:
        stopped_by = runs.train_as_worker(prepared, stop)
    return 0 if stopped_by is None else SIGNAL_STATUS + stopped_by


def state_of(prepared: PreparedTraining, verbose: bool = False) -> TrainingState:
    """An empty state for the training's display."""
    return TrainingState(prepared.first_value, verbose=verbose)


def announce(run: Path) -> None:
    """Say where a new run is."""
    note(f"run: {run}")


def interrupted(command: str, trained: Trained) -> Ending:
    """The ending of a command that a signal stopped: how far it came, and how to go on."""
    outcome = trained.outcome
    assert outcome.stopped_by is not None
    again = f"risctl {command} --resume {shlex.quote(str(trained.run))}"
    message = f"stopped and saved after step {outcome.steps}; go on with: {again}"
    return Ending({"command": command} | trained.document(), SIGNAL_STATUS + outcome.stopped_by, message)


def outcome_sentence(trained: Trained) -> str:
    """The best validation loss beside the first, with the figures of its epoch."""
    outcome = trained.outcome
    if outcome.best_value is None or outcome.best_epoch is None or outcome.first_value is None:
        return f"{counted(outcome.steps, 'step')}, no validation yet"
    start = f"validation loss {outcome.best_value:.4g} after epoch {outcome.best_epoch + 1}"
    figures = ", ".join(runs.figure_sentences(trained.best_metrics, brief=True))
    return "; ".join([f"{start} (first {outcome.first_value:.4g})", figures]).rstrip("; ")
