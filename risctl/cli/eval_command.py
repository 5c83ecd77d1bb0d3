"""`risctl eval`: estimators on scenes, beside the Cramer-Rao bound."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from risctl.cli.documents import Document
from risctl.cli.estimators import parse_estimators
from risctl.cli.options import Common, common_options, require_range
from risctl.errors import InputError

OVERRIDE = re.compile(r"[A-Za-z_]\w*(\.\w+)+=.*", re.DOTALL)
MAX_SCENES = 100_000_000


@common_options
def evaluate_command(
    common: Common,
    target: Annotated[
        str | None,
        typer.Argument(metavar="RUN|CHECKPOINT", help="Trained model: the learned estimator."),
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="Dataset directory; absent: scenes made on the way, equal cells.")
    ] = None,
    estimators: Annotated[str | None, typer.Option(help="Comma-separated: learned,nomp,music,sbl.")] = None,
    scenes: Annotated[
        int | None, typer.Option(help="Scenes; the preset's (or all of --data) if absent.")
    ] = None,
    known_num_sources: Annotated[
        bool, typer.Option("--known-num-sources", help="Tell the estimators how many sources there are.")
    ] = False,
    workers: Annotated[int, typer.Option(help="Worker processes of one thread each.")] = 1,
    batch: Annotated[int, typer.Option(help="Scenes estimated at once.")] = 16,
    plots: Annotated[bool, typer.Option("--plots/--no-plots", help="Draw PNGs.")] = True,
) -> Document:
    """Evaluate estimators: sources found, errors beside the bound, counts, time; tables, CSV, pictures."""
    from risctl.cli.evaluation_run import Request, dry_run_evaluation, run_evaluation

    common, target = split_target(common, target)
    names = None if estimators is None else parse_estimators("--estimators", estimators, target is not None)
    require_range("--scenes", scenes, 1, MAX_SCENES)
    require_range("--workers", workers, 1, 256)
    require_range("--batch", batch, 1, 100_000)
    if data is not None and any(word.startswith("physics.") for word in common.overrides):
        raise InputError("--data", "", "no physics.* override (a dataset has its own physics)", "one")
    request = Request(common, data, names, scenes, known_num_sources, workers, batch, plots, target)
    return dry_run_evaluation(request) if common.dry_run else run_evaluation(request)


def split_target(common: Common, target: str | None) -> tuple[Common, str | None]:
    """Hand the first word to the overrides if it is one: the parser took it for the target."""
    if target is None or not OVERRIDE.fullmatch(target) or Path(target).exists():
        return common, target
    return common.with_override(target), None
