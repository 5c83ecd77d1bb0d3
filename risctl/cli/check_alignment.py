"""`risctl check-alignment`: proof that training and inference compute the same covariances."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from risctl import runs
from risctl.cli.completion import complete_run_or_setting
from risctl.cli.console import closing, dry_run, progress, say, show_table
from risctl.cli.eval import split_target
from risctl.cli.options import Common, Ending, common_options
from risctl.errors import CheckFailedError, require_range
from risctl.text import ABSENT, Document

if TYPE_CHECKING:
    from risctl.evaluation.alignment import Finding, MutantResult, Report
    from risctl.runs import Alignment

COLUMNS = ("part", "what", "training", "inference", "expected", "")
MUTANT_COLUMNS = ("altered on one side", "side", "", "noticed by")


@common_options
def check_alignment_command(
    common: Common,
    target: Annotated[
        str | None,
        typer.Argument(
            metavar="RUN|CHECKPOINT",
            help="Trained model; absent: a fresh network.",
            autocompletion=complete_run_or_setting,
        ),
    ] = None,
    self_test: Annotated[
        bool, typer.Option("--self-test", help="Alter one thing at a time: is every alteration noticed?")
    ] = False,
    scenes: Annotated[int, typer.Option(help="Scenes of the batch that both sides are given.")] = 8,
) -> Document | Ending:
    """Prove that training and inference compute the same.

    The covariances of both sides are compared; exit status 3 if they differ.
    """
    require_range("scenes", scenes, 2, 1024)
    common, target = split_target(common, target)
    prepared = runs.prepare_check(common.layers, target, common.machine)
    if common.dry_run:
        return dry_run(
            "check-alignment",
            prepared.config,
            prepared.needs(scenes),
            "runs/check-alignment/<utc-time>_<name>_<id>/",
        )
    run, found = runs.check_in_run(prepared, scenes, self_test, progress)
    words = f"{'' if target is None else ' ' + shlex.quote(target)}{common.again}"
    _show(run, found, f"risctl eval{words}" if self_test else f"risctl check-alignment{words} --self-test")
    document = {"command": "check-alignment", "run": str(run)} | found.document()
    if found.failure is None:
        return document
    return Ending(document, CheckFailedError.exit_status, found.failure)


def _show(run: Path, found: Alignment, following: str) -> None:
    report, verdicts = found.report, found.verdicts
    show_table(f"Alignment of training and inference: {found.name}", COLUMNS, _rows(report))
    for name, value in found.fingerprints.items():
        say(f"  covariance fingerprint {value}  {name}")
    if verdicts:
        say()
        noticed = [(v.mutant, v.side, "noticed" if v.caught else "SURVIVED", _first(v)) for v in verdicts]
        show_table("Alterations of one side", MUTANT_COLUMNS, noticed)
    good = sum(f.passed for f in report.findings)
    headline = f"{good} of {len(report.findings)} lines as they should be"
    if verdicts:
        headline += f"; {sum(v.caught for v in verdicts)} of {len(verdicts)} alterations noticed"
    closing(run, headline, following)


def _rows(report: Report) -> list[tuple[object, ...]]:
    """One row per line; a line that was checked on both sides has both figures in one row."""
    rows: dict[tuple[str, str], dict[str, Finding]] = {}
    for f in report.findings:
        rows.setdefault((f.group, f.name), {})[f.side or "training"] = f
    shown: list[tuple[object, ...]] = []
    for (group, name), sides in rows.items():
        good = "ok" if all(f.passed for f in sides.values()) else "FAILED"
        got = [sides[side].got if side in sides else "" for side in ("training", "inference")]
        shown.append((group, name, *got, sides["training"].expected, good))
    return shown


def _first(verdict: MutantResult) -> str:
    if not verdict.caught:
        return ABSENT
    more = len(verdict.caught_by) - 1
    return verdict.caught_by[0].label + (f" and {more} more" if more > 0 else "")
