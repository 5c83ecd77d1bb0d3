"""`risctl overfit`: whether the network can learn 512 scenes by heart."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer

from risctl import runs
from risctl.cli.console import closing, say, show_pictures, show_table
from risctl.cli.options import Common, Ending, FormatOption, NameOption, OutOption, common_options
from risctl.cli.screens.training import training_screen
from risctl.cli.signals import stop_on_signals
from risctl.cli.train import (
    ResumeOption,
    TensorboardOption,
    VerboseOption,
    announce,
    dry_run_training,
    follow,
    interrupted,
    outcome_sentence,
    placed,
    state_of,
)
from risctl.errors import CheckFailedError
from risctl.text import Document, number

if TYPE_CHECKING:
    from risctl.runs import Judged, PreparedTraining, Trained

COLUMNS = ("figure", "found", "wanted", "met")
SHARED = ("physics", "covariance", "model", "loss")  # sections that a training has in common with its gate


@common_options
def overfit(
    common: Common,
    resume: ResumeOption = None,
    tensorboard: TensorboardOption = False,
    name: NameOption = None,
    out: OutOption = None,
    pictures: FormatOption = "png",
    verbose: VerboseOption = False,
) -> Document | Ending:
    """Learn 512 scenes by heart: the gate before any training.

    Ready (exit status 0), debug or broken (3).
    """
    prepared = runs.prepare_overfit(common.layers, resume, tensorboard, common.machine)
    prepared = placed(prepared, name, out, pictures)
    if common.dry_run:
        return dry_run_training(prepared)
    if prepared.is_worker:
        raise typer.Exit(follow(prepared))
    return conclude(run_gate(prepared, verbose), common.layers.overrides)


def run_gate(prepared: PreparedTraining, verbose: bool = False) -> Judged | Trained:
    """Train and judge, with a display; the training alone if a signal stopped it."""
    with stop_on_signals() as stop, training_screen(state_of(prepared, verbose), stop) as screen:
        return runs.overfit(prepared, [screen], stop, announce)


def conclude(judged: Judged | Trained, words: Sequence[str] = ()) -> Document | Ending:
    """Show the verdict; return the document, as an ending where the gate is not passed.

    Of the settings, `words`, those that a training after it shares are in the next command.
    """
    if isinstance(judged, runs.Trained):
        return interrupted("overfit", judged)
    rows = [(c.name, number(c.value), c.wanted, "yes" if c.met else "NO") for c in judged.gate.checks]
    show_table("The overfit gate, at the best epoch", COLUMNS, rows)
    say("  ready: everything met; debug: something missed; broken: loss above 1, NaN, or an explosion")
    say()
    show_pictures(runs.pictures(judged.trained.files))
    ready = judged.gate.verdict == "ready"
    shared = [word for word in words if word.partition(".")[0] in SHARED]
    passed = ["train", "--preset", "quick"] if judged.verdict["is_gate"] else ["overfit"]
    again = shlex.join(["risctl", *(passed if ready else ["overfit", "training.lr=1e-4"]), *shared])
    closing(judged.trained.run, f"{judged.label}: {outcome_sentence(judged.trained)}", again)
    document = {"command": "overfit"} | judged.document()
    return document if ready else Ending(document, CheckFailedError.exit_status, judged.message)
