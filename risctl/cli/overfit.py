"""`risctl overfit`: whether the network can learn 512 scenes by heart."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from risctl.cli.console import closing, say, show_table
from risctl.cli.documents import Document, Ending, versioned, write_json
from risctl.cli.options import Common, common_options
from risctl.errors import CheckFailedError, InputError

if TYPE_CHECKING:
    from risctl.cli.gate import Check, Gate
    from risctl.cli.training_report import Trained
    from risctl.config import Config

PRESET = "overfit"
COLUMNS = ("figure", "found", "wanted", "met")


@common_options
def overfit(
    common: Common,
    resume: Annotated[
        Path | None, typer.Option(metavar="RUN", help="Go on with an interrupted run of this command.")
    ] = None,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Write TensorBoard scalars into the run, too.")
    ] = False,
) -> Document | Ending:
    """Learn 512 scenes by heart, the gate before any long training: ready (0), debug or broken (3)."""
    from risctl.cli.training_needs import dry_run_training
    from risctl.cli.training_run import TrainingRequest, follow, prepare, train_into_run
    from risctl.training import launched_rank

    chosen = common if resume is not None else common.with_preset(PRESET)
    request = TrainingRequest(chosen, "overfit", resume=resume, tensorboard=tensorboard)
    prepared = prepare(request)
    check_gate_settings(prepared.config)
    if common.dry_run:
        return dry_run_training(request, prepared)
    if launched_rank() > 0:
        raise typer.Exit(follow(prepared))
    return train_into_run(request, prepared, finish)


def check_gate_settings(config: Config) -> None:
    """Refuse settings under which a pass would mean nothing."""
    from risctl.cli.gate import MAX_EPOCHS

    if config.data.validate_on != "train" or not config.data.repeat:
        expected = 'data.validate_on = "train" and data.repeat = true (the same scenes again and again)'
        raise InputError("overfit", "data", expected, "other scenes (start from --preset overfit)")
    if config.training.epochs > MAX_EPOCHS:
        raise InputError("overfit", "training.epochs", f"at most {MAX_EPOCHS}", config.training.epochs)


def finish(trained: Trained) -> Document | Ending:
    """Judge, draw, write the verdict, say it."""
    from risctl.cli.gate import READY_BELOW, VERDICT_FILE, gate_document, judge
    from risctl.cli.training_report import draw_curves, outcome_document, outcome_sentence

    gate = judge(trained.outcome, trained.epochs)
    verdict = gate_document(gate, trained.config, trained.outcome)
    write_json(trained.run / VERDICT_FILE, versioned(verdict))
    files = [draw_curves(trained, READY_BELOW), trained.run / VERDICT_FILE]
    _report(gate)
    ready = gate.verdict == "ready"
    again = "risctl train --preset quick" if ready else "risctl overfit training.lr=1e-4"
    closing(trained.run, f"{gate.verdict}: {outcome_sentence(trained)}", again)
    document = {"command": "overfit"} | outcome_document(trained, files) | verdict
    if ready:
        return document
    return Ending(document, CheckFailedError.exit_status, f"overfit: {gate.verdict}: {gate.missed}")


def _report(gate: Gate) -> None:
    show_table("The overfit gate, at the best epoch", COLUMNS, [_row(check) for check in gate.checks])
    say("  ready: everything met; debug: something missed; broken: loss above 1, NaN, or an explosion")
    say()


def _row(check: Check) -> tuple[str, ...]:
    found = "–" if check.value is None else f"{check.value:.4g}"
    return check.name, found, check.wanted, "yes" if check.met else "NO"
