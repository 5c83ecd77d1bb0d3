"""`risctl overfit`: whether the network can learn 512 scenes by heart."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from risctl.cli.console import closing, say, show_table
from risctl.cli.documents import Document, Ending, versioned, write_json
from risctl.cli.options import Common, common_options
from risctl.cli.runs import CONFIG, RUNS, STATUS, read_document
from risctl.errors import CheckFailedError, DamagedFileError, DivergedError, InputError

if TYPE_CHECKING:
    from risctl.cli.gate import Check, Gate
    from risctl.cli.training_report import Trained
    from risctl.cli.training_run import Prepared, TrainingRequest
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
    from risctl.cli.training_run import TrainingRequest, follow, prepare
    from risctl.training import launched_rank

    chosen = common if resume is not None else common.with_preset(PRESET)
    request = TrainingRequest(chosen, "overfit", resume=resume, tensorboard=tensorboard)
    prepared = prepare(request)
    check_gate_settings(prepared.config)
    if common.dry_run:
        return dry_run_training(request, prepared)
    if launched_rank() > 0:
        raise typer.Exit(follow(prepared))
    return train_and_judge(request, prepared)


def train_and_judge(request: TrainingRequest, prepared: Prepared) -> Document | Ending:
    """Train and judge; a training that fails its own checks is judged by what it recorded until then.

    Raises:
        CheckFailedError: what was trained is not what would be evaluated; nothing was trained.
    """
    from risctl.cli.training_run import train_into_run

    before = _runs()
    try:
        return train_into_run(request, prepared, finish)
    except (DivergedError, CheckFailedError) as error:
        earlier = prepared.earlier
        runs = _new_runs(before, prepared.config) if earlier is None else [earlier.path]
        failed = [run for run in runs if _ended_with(run, error)]
        if not failed:
            raise
        return finish(_until_failure(failed[-1], prepared.config), str(error))


def _runs() -> set[Path]:
    return set(RUNS.glob("overfit/*"))


def _new_runs(before: set[Path], config: Config) -> list[Path]:
    """Return the runs of these settings that were made since, in order of time."""
    wanted = config.model_dump(mode="json")
    return [run for run in sorted(_runs() - before) if _read(run / CONFIG) == wanted]


def _ended_with(run: Path, error: Exception) -> bool:
    """Whether `status.json` says that this error ended the run."""
    status = _read(run / STATUS)
    return status.get("state") == "failed" and status.get("message") == str(error)


def _read(path: Path) -> Document:
    try:
        return read_document(path)
    except DamagedFileError:  # of another process, which is still making it
        return {}


def _until_failure(run: Path, config: Config) -> Trained:
    """Return what is known of a training that an error ended: what it recorded."""
    from risctl.cli.training_records import METRICS, read_metrics, recorded_outcome
    from risctl.cli.training_report import Trained

    path = run / METRICS
    records = read_metrics(path) if path.exists() else []
    return Trained(run, config, recorded_outcome(run, records), records)


def check_gate_settings(config: Config) -> None:
    """Refuse settings under which a pass would mean nothing."""
    from risctl.cli.gate import MAX_EPOCHS

    if config.data.validate_on != "train" or not config.data.repeat:
        expected = 'data.validate_on = "train" and data.repeat = true (the same scenes again and again)'
        raise InputError("overfit", "data", expected, "other scenes (start from --preset overfit)")
    if config.data.val_scenes != config.data.train_scenes:
        expected = f"data.train_scenes, {config.data.train_scenes}: the same scenes"
        raise InputError("overfit", "data.val_scenes", expected, config.data.val_scenes)
    if config.training.epochs > MAX_EPOCHS:
        raise InputError("overfit", "training.epochs", f"at most {MAX_EPOCHS}", config.training.epochs)


def finish(trained: Trained, failure: str | None = None) -> Document | Ending:
    """Judge, draw, write the verdict, say it; `failure` is the error that ended the training early."""
    from risctl.cli.gate import READY_BELOW, VERDICT_FILE, gate_document, judge
    from risctl.cli.training_report import draw_curves, outcome_document, outcome_sentence

    gate = judge(trained.outcome, trained.epochs, failure)
    verdict = gate_document(gate, trained.config, trained.outcome, failure)
    write_json(trained.run / VERDICT_FILE, versioned(verdict))
    curves = [draw_curves(trained, READY_BELOW)] if trained.epochs else []
    _report(gate)
    ready = gate.verdict == "ready"
    caveat = _caveat(trained.config)
    passed = "risctl overfit" if caveat else "risctl train --preset quick"
    again = passed if ready else "risctl overfit training.lr=1e-4"
    closing(trained.run, f"{gate.verdict}{caveat}: {outcome_sentence(trained)}", again)
    files = [*curves, trained.run / VERDICT_FILE]
    document = {"command": "overfit"} | outcome_document(trained, files) | verdict
    if ready:
        return document
    return Ending(
        document, CheckFailedError.exit_status, f"overfit: {gate.verdict}{caveat}: {failure or gate.missed}"
    )


def _caveat(config: Config) -> str:
    """Return in what the run was not the gate, in brackets; nothing if it was."""
    from risctl.cli.gate import departures

    found = departures(config)
    return f" (not the gate: {', '.join(found)})" if found else ""


def _report(gate: Gate) -> None:
    show_table("The overfit gate, at the best epoch", COLUMNS, [_row(check) for check in gate.checks])
    say("  ready: everything met; debug: something missed; broken: loss above 1, NaN, or an explosion")
    say()


def _row(check: Check) -> tuple[str, ...]:
    found = "–" if check.value is None else f"{check.value:.4g}"
    return check.name, found, check.wanted, "yes" if check.met else "NO"
