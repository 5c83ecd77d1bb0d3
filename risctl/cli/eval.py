"""`risctl eval`: estimators on scenes, beside the Cramer-Rao bound."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from risctl import runs
from risctl.cli.completion import complete_run_or_setting
from risctl.cli.console import closing, dry_run, note, progress, say, show_pictures, show_table
from risctl.cli.options import (
    Common,
    FormatOption,
    NameOption,
    OutOption,
    SurfaceOption,
    WorkersOption,
    common_options,
)
from risctl.errors import InputError
from risctl.registry import estimator_names
from risctl.text import Document, counted

if TYPE_CHECKING:
    from risctl.config import Config
    from risctl.evaluation import Evaluation, TextTable
    from risctl.runs import EvaluationRequest

KEY = re.compile(r"(physics|data|covariance|model|loss|training|inference|evaluation|search)(\.\w+)+")
OVERRIDE = re.compile(r"[A-Za-z_]\w*(\.\w+)+=.*", re.DOTALL)
WRITES = "runs/eval/<utc-time>_<preset>_<id>/"


Scenes = Annotated[int | None, typer.Option(help="Scenes; the preset's (or all of --data) if absent.")]
Known = Annotated[
    bool, typer.Option("--known-num-sources", help="Tell the estimators how many sources there are.")
]
Sweeps = Annotated[
    list[str] | None,
    typer.Option(
        metavar="KEY=V1,V2,...",
        help="Evaluate at each value of a setting instead (physics.snr_db: the SNR); repeatable.",
    ),
]
Answers = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME=FILE",
        help="Score answers of another program, JSON as locate writes it, on --data; repeatable.",
    ),
]
Target = Annotated[
    str | None,
    typer.Argument(
        metavar="RUN|CHECKPOINT",
        help="Trained model; absent: the one that comes with risctl.",
        autocompletion=complete_run_or_setting,
    ),
]


@common_options
def evaluate_command(
    common: Common,
    target: Target = None,
    data: Annotated[
        Path | None, typer.Option(help="Dataset directory; absent: scenes made on the way, equal cells.")
    ] = None,
    estimators: Annotated[
        str | None, typer.Option(help=f"Comma-separated: {','.join(estimator_names())}.")
    ] = None,
    answers: Answers = None,
    scenes: Scenes = None,
    known_num_sources: Known = False,
    workers: WorkersOption = None,
    batch: Annotated[int, typer.Option(help="Scenes estimated at once.")] = 128,
    plots: Annotated[
        bool, typer.Option("--plots/--no-plots", help="Draw pictures; write report.html.")
    ] = True,
    pictures: FormatOption = "png",
    tables: Annotated[bool, typer.Option("--tables", help="Print every table of report.html.")] = False,
    surface: SurfaceOption = None,
    sweep: Sweeps = None,
    name: NameOption = None,
    out: OutOption = None,
    resume: Annotated[
        Path | None, typer.Option(metavar="RUN", help="Go on with an interrupted --sweep.")
    ] = None,
) -> Document:
    """Evaluate estimators beside the Cramer-Rao bound.

    Writes report.html, JSON, CSV and pictures.
    """
    if resume is not None:
        stated = (target, data, estimators, answers, scenes, surface, sweep, name, out, workers)
        for value in (*stated, known_num_sources or None, tables or None):
            if value is not None:
                raise InputError("resume", "", "nothing beside it (the run has its own settings)", value)
        return _sweep(runs.resumed_request(common.layers, resume, common.machine), common.dry_run, resume)
    common, target = split_target(common, target)
    if data is not None and any(word.startswith("physics.") for word in common.layers.overrides):
        raise InputError("data", "", "no physics.* override (a dataset has its own physics)", "one")
    request = runs.EvaluationRequest(
        layers=common.layers,
        data=data,
        estimators=None if estimators is None else runs.parse_estimators(estimators),
        answers=runs.parse_answers(answers or ()),
        scenes=scenes,
        known_num_sources=known_num_sources,
        workers=workers or runs.evaluation_workers(common.layers, scenes, common.machine),
        batch=batch,
        plots=plots,
        pictures=pictures,
        model_path=target,
        axes=runs.parse_sweeps(sweep or ()),
        surface=surface,
        machine=common.machine,
        place=runs.run_place("eval", name, out),
    )
    if request.axes:
        return _sweep(request, common.dry_run)
    return _evaluate(request, common.dry_run, tables)


def _evaluate(request: EvaluationRequest, dry: bool, tables: bool) -> Document:
    config = request.resolve()
    say_left_out(request)
    if dry:
        return _dry_run(request, config)
    evaluated = runs.evaluate(request, progress)
    show_figures(evaluated.evaluation, evaluated.files, tables)
    closing(evaluated.run, runs.headline(evaluated.evaluation.results), _next_command(request))
    return {"command": "eval"} | evaluated.document()


def is_override(word: str) -> bool:
    """Whether a word is a setting and no file."""
    return OVERRIDE.fullmatch(word) is not None and not Path(word).exists()


def _dry_run(request: EvaluationRequest, config: Config) -> Document:
    seconds = runs.seconds_of_evaluation(request, config)
    work = f"{counted(config.evaluation.scenes, 'scene')} by {', '.join(config.evaluation.estimators)}"
    return dry_run("eval", config, request.needs(config), request.place or WRITES, seconds, work)


def split_target(common: Common, target: str | None) -> tuple[Common, str | None]:
    """Hand the first word to the overrides if it is one: the parser took it for the target."""
    if target is not None and KEY.fullmatch(target) and not Path(target).exists():
        raise InputError("override", "", "section.key=value", target)
    if target is None or not is_override(target):
        return common, target
    return common.with_override(target, first=True), None


def say_left_out(request: EvaluationRequest) -> None:
    """Say what was not expected: scenes of another split than test, the shipped model left out."""
    if request.split_note is not None:
        say(request.split_note)
    if request.left_out is not None:
        say(f"estimator learned left out: {request.left_out}")


def _next_command(request: EvaluationRequest) -> str:
    if request.model_path is not None:
        return f"risctl locate FILE --model {shlex.quote(request.model_path)}"
    return "risctl locate FILE" if request.model is not None else "risctl locate FILE --estimator nomp"


def show_figures(evaluation: Evaluation, files: Sequence[Path], tables: bool = False) -> None:
    """Show the small table, all others if `tables`, and which pictures there are."""
    _show(runs.summary_table(evaluation.results))
    for table in runs.evaluation_tables(evaluation.results) if tables else ():
        if table.rows:
            _show(table)
    show_pictures(runs.pictures(files))


def _show(table: TextTable) -> None:
    show_table(table.title, table.columns, table.rows)
    if table.note:
        say(f"  {table.note}")
    say()


def _sweep(request: EvaluationRequest, dry: bool, resume: Path | None = None) -> Document:
    if dry:
        return _dry_run_sweeps(request)
    again = "what interrupts it loses nothing: risctl eval --resume"
    swept = runs.sweep(
        request,
        resume,
        progress,
        announce=lambda run: note(f"run: {run} ({again} {shlex.quote(str(run))})"),
        reused=lambda label: note(f"{label}: done before"),
    )
    for sweep in swept.sweeps:
        _show(runs.sweep_table(sweep))
    show_pictures(runs.pictures(swept.files))
    closing(swept.run, " | ".join(map(runs.sweep_headline, swept.sweeps)), _next_command(request))
    return {"command": "eval"} | swept.document()


def _dry_run_sweeps(request: EvaluationRequest) -> Document:
    _ = runs.plan_sweeps(request)
    config = request.resolve()
    values = sum(len(axis.values) for axis in request.axes)
    seconds = runs.seconds_of_evaluation(request, config, values)
    words = ", ".join(axis.word for axis in request.axes)
    work = f"{words}: {counted(values, 'value')}, {counted(config.evaluation.scenes, 'scene')} each"
    needs = runs.needs_of_sweeps(request, config)
    document = dry_run("eval", config, needs, request.place or WRITES, seconds, work)
    return document | {"sweeps": [{"key": a.key, "values": list(a.values)} for a in request.axes]}
