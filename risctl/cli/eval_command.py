"""`risctl eval`: estimators on scenes, beside the Cramer-Rao bound."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from risctl.cli.documents import Document
from risctl.cli.estimators import parse_estimators
from risctl.cli.options import Common, common_options, require_range
from risctl.cli.sweeps import parse_sweeps
from risctl.errors import InputError
from risctl.registry import estimator_names

if TYPE_CHECKING:
    from risctl.cli.evaluation_run import Request

OVERRIDE = re.compile(r"[A-Za-z_]\w*(\.\w+)+=.*", re.DOTALL)
MAX_SCENES = 100_000_000


@common_options
def evaluate_command(
    common: Common,
    target: Annotated[
        str | None,
        typer.Argument(
            metavar="RUN|CHECKPOINT", help="Trained model; absent: the one that comes with risctl."
        ),
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="Dataset directory; absent: scenes made on the way, equal cells.")
    ] = None,
    estimators: Annotated[
        str | None,
        typer.Option(help=f"Comma-separated: {', '.join(estimator_names())}."),
    ] = None,
    scenes: Annotated[
        int | None, typer.Option(help="Scenes; the preset's (or all of --data) if absent.")
    ] = None,
    known_num_sources: Annotated[
        bool, typer.Option("--known-num-sources", help="Tell the estimators how many sources there are.")
    ] = False,
    workers: Annotated[int, typer.Option(help="Worker processes of one thread each.")] = 1,
    batch: Annotated[int, typer.Option(help="Scenes estimated at once.")] = 64,
    plots: Annotated[bool, typer.Option("--plots/--no-plots", help="Draw PNGs.")] = True,
    sweep: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=V1,V2,...",
            help="Evaluate at each value of a setting instead (physics.snr_db: the SNR); repeatable.",
        ),
    ] = None,
    resume: Annotated[
        Path | None, typer.Option(metavar="RUN", help="Go on with an interrupted --sweep.")
    ] = None,
) -> Document:
    """Evaluate estimators: sources found, errors beside the bound, counts, time; tables, CSV, pictures."""
    from risctl.cli.evaluation_run import Request, dry_run_evaluation, run_evaluation

    if resume is not None:
        stated = (target, data, estimators, scenes, sweep, known_num_sources or None)
        return _resume(common, resume, stated)
    common, target = split_target(common, target)
    names = None if estimators is None else parse_estimators("--estimators", estimators)
    require_range("--scenes", scenes, 1, MAX_SCENES)
    require_range("--workers", workers, 1, 256)
    require_range("--batch", batch, 1, 100_000)
    if data is not None and any(word.startswith("physics.") for word in common.overrides):
        raise InputError("--data", "", "no physics.* override (a dataset has its own physics)", "one")
    axes = parse_sweeps(sweep or ())
    request = Request(common, data, names, scenes, known_num_sources, workers, batch, plots, target, axes)
    if axes:
        return _sweep(request)
    return dry_run_evaluation(request) if common.dry_run else run_evaluation(request)


def split_target(common: Common, target: str | None) -> tuple[Common, str | None]:
    """Hand the first word to the overrides if it is one: the parser took it for the target."""
    if target is None or not OVERRIDE.fullmatch(target) or Path(target).exists():
        return common, target
    return common.with_override(target), None


def _sweep(request: Request) -> Document:
    from risctl.cli.sweep_run import dry_run_sweeps, run_sweeps

    return dry_run_sweeps(request) if request.common.dry_run else run_sweeps(request)


def _resume(common: Common, run: Path, stated: tuple[object, ...]) -> Document:
    from risctl.cli.sweep_resume import resumed_request
    from risctl.cli.sweep_run import dry_run_sweeps, run_sweeps

    for value in stated:
        if value is not None:
            raise InputError("--resume", "", "nothing beside it (the run has its own settings)", value)
    request = resumed_request(common, run)
    return dry_run_sweeps(request) if common.dry_run else run_sweeps(request, run)
