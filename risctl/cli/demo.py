"""`risctl demo`: everything at work, offline: a training, estimates beside the bound, a measurement file."""

from __future__ import annotations

import shlex
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Annotated

import typer

from risctl import runs
from risctl.cli.console import closing, dry_run, progress, say, show_table
from risctl.cli.eval import say_left_out, show_figures
from risctl.cli.options import Common, Ending, FormatOption, NameOption, OutOption, common_options
from risctl.cli.screens.training import training_screen
from risctl.cli.signals import stop_on_signals
from risctl.cli.train import announce, interrupted, outcome_sentence, state_of
from risctl.errors import InputError, require_range
from risctl.registry import estimator_names
from risctl.text import Document, counted, decimals

if TYPE_CHECKING:
    from risctl.config import Config
    from risctl.evaluation import SourceRows
    from risctl.runs import EvaluationRequest, PreparedTraining, RunDirectory, Trained

BASELINES = estimator_names("classical")
TRAINED = "just trained"  # the name of the demo's own model in the tables
COLUMNS = ("scene", "azimuth deg", "elevation deg", "range m", "off by m", "bound")


@common_options
def demo(
    common: Common,
    scenes: Annotated[int, typer.Option(help="Scenes evaluated, spread over SNR and source count.")] = 90,
    workers: Annotated[int, typer.Option(help="Worker processes of one thread each.")] = 2,
    batch: Annotated[int, typer.Option(help="Scenes estimated at once.")] = 10,
    epochs: Annotated[
        int | None, typer.Option(help="Epochs of the training; the preset's if absent (minutes).")
    ] = None,
    name: NameOption = None,
    out: OutOption = None,
    pictures: FormatOption = "png",
) -> Document | Ending:
    """Show everything at work, offline.

    A short training, estimates beside the bound, pictures, a measurement file.
    """
    require_range("scenes", scenes, 1, 100_000)
    require_range("workers", workers, 1, 256)
    require_range("batch", batch, 1, 100_000)
    require_range("epochs", epochs, 1, 100_000)
    if common.machine.device not in ("auto", "cpu"):
        raise InputError("device", "", "cpu (eval and locate use accelerators)", common.machine.device)
    common = replace(common, machine=replace(common.machine, device="cpu"))
    if epochs is not None:
        common = common.with_override(f"training.epochs={epochs}", first=True)
    place = runs.run_place("demo", name, out)
    request = runs.EvaluationRequest(
        common.layers,
        scenes=scenes,
        workers=workers,
        batch=batch,
        pictures=pictures,
        machine=common.machine,
        place=place,
    )
    say_left_out(request)
    config = replace(
        request, estimators=BASELINES
    ).resolve()  # the network to be trained, not the shipped one
    shipped = () if request.model is None else ("learned",)
    request = replace(request, estimators=(*shipped, *BASELINES))
    training = runs.prepare_training(common.layers, machine=common.machine)
    training = replace(training, pictures=pictures)
    if common.dry_run:
        return _dry_run(request, training, config)
    with runs.reported(runs.demo_directory(request, config)) as run:
        return _demo(run, request, training, config)


def _demo(
    run: RunDirectory, request: EvaluationRequest, training: PreparedTraining, config: Config
) -> Document | Ending:
    say(f"[1/4] scenes: {request.scenes} simulated, written as a dataset, read back with hashes checked")
    summary = runs.generate(config, run.path / "data", "test", config.evaluation.scenes, progress=progress)
    epochs = counted(config.training.epochs, "epoch")
    say(f"[2/4] training: {epochs} of scenes made on the way, none of those above")
    trained = _train(training)
    if trained.outcome.stopped_by is not None:
        ending = interrupted("train", trained)
        run.end("interrupted", ending.exit_status, ending.message)
        return ending
    request = replace(request, beside={TRAINED: str(trained.run)})
    at = replace(request, data=run.path / "data", scenes=None)
    config, source = runs.open_source(at, request.resolve())
    names = ", ".join((TRAINED, *config.evaluation.estimators))
    say(f"[3/4] estimates: {names}, number of sources not given, beside the Cramer-Rao bound")
    evaluation, files = runs.evaluate_into(run.path, request, config, source, progress)
    show_figures(evaluation, files)
    say("[4/4] a measurement file (y, H and codes, nothing else): where the sources are")
    name = "nomp" if request.model is None else "learned"
    chosen = runs.Chosen(name, config, request.model)
    located = runs.locate_example(run.path, chosen, source, request.batch, progress)
    show_table(f"{located.file}: {name}", COLUMNS, _rows(located.rows))
    say("  ±: the estimator's own standard deviation; off by: distance from the true")
    say("  position, beside its Cramer-Rao bound")
    found = runs.Located.from_found(chosen, located.found)
    answer = runs.answer_document(found, chosen, located.file)
    runs.write_json(run.path / "positions.json", answer)
    own = "" if request.model is not None else f" --model {shlex.quote(str(trained.run))}"
    again = f"risctl locate {shlex.quote(str(located.file))}{own}"
    closing(run.path, runs.headline(evaluation.results), again)
    written = (*trained.files, *files, located.file, run.path / "positions.json")
    return {
        "command": "demo",
        "run": str(run.path),
        "dataset": asdict(summary) | {"directory": str(run.path / "data")},
        "training": trained.document(),
        "files": [str(path) for path in written],
        "results": evaluation.results.model_dump(mode="json"),
        "located": answer,
    }


def _train(training: PreparedTraining) -> Trained:
    """Train in a run of its own, under `runs/train`."""
    with stop_on_signals() as stop, training_screen(state_of(training), stop) as screen:
        trained = runs.train(training, [screen], stop, announce)
    if trained.outcome.stopped_by is None:
        say(f"      {outcome_sentence(trained)}")
        say(f"      curves: {trained.files[0]}")
        say()
    return trained


def _rows(rows: SourceRows) -> list[tuple[str, ...]]:
    """One row per source: estimate and deviation of each coordinate; error and bound of the position."""
    shown = []
    for i in range(len(rows)):
        pairs = zip(rows.estimate[i], rows.std[i], strict=True)
        cells = (f"{decimals(value)} ± {decimals(std):>5}" for value, std in pairs)
        shown.append((str(rows.scene[i]), *cells, decimals(rows.error[i, 3]), decimals(rows.bound[i, 3])))
    return shown


def _dry_run(request: EvaluationRequest, training: PreparedTraining, config: Config) -> Document:
    evaluation, data = request.needs(config), runs.needs_of_dataset(config, config.evaluation.scenes)
    needs = runs.Needs(
        disk_bytes=evaluation.disk_bytes + training.needs.disk_bytes + data.disk_bytes,
        memory_bytes=max(evaluation.memory_bytes, training.needs.memory_bytes),
        parameters=training.needs.parameters,
    )
    trained = runs.seconds_of_training(training)
    seconds = None if trained is None else trained + runs.seconds_of_evaluation(request, config)
    places = f"{request.place or 'runs/demo/<utc-time>_<preset>_<id>/'}, runs/train/..."
    return dry_run("demo", config, needs, places, seconds)
